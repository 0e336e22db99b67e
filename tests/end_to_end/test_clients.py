"""Clients of a running cluster: one holder per client id, filters of their own, and what a stranger cannot break."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import grpc
import pytest

from ha_canal.binlog.scan import scan_for
from ha_canal.client import Batch, Client
from ha_canal.errors import LockedError
from ha_canal.protos import canal_pb2, canal_pb2_grpc
from ha_canal.protos.entry_pb2 import ROWDATA, TRANSACTIONBEGIN, TRANSACTIONEND, Entry
from ha_canal.testing.eventually import eventually
from ha_canal.testing.nodes import NodeProcess
from tests.end_to_end.cluster import PATIENCE_S, Cluster

_HOLDER = """
import sys
from ha_canal.client import Batch, Client

nodes, client_id, table = sys.argv[1:]
for batch in Client(nodes.split(","), instance="shop", client_id=client_id, filter=table, batch_size=3):
    for change in batch.changes:
        if change.kind == "insert":
            print(change.event_id, flush=True)
"""
"""A client that never acknowledges."""


def _fill(quiet: Cluster, table: str, rows: range) -> None:
    quiet.source.run_sql(f"CREATE TABLE IF NOT EXISTS {table} (id INT PRIMARY KEY)", database=quiet.schema)
    for number in rows:
        quiet.source.run_sql(f"INSERT INTO {table} VALUES (%s)", number, database=quiet.schema)


def _leader(quiet: Cluster) -> NodeProcess:
    return asyncio.run(quiet.leader())


def _follower(quiet: Cluster) -> NodeProcess:
    leader = _leader(quiet)
    return next(node for node in quiet.nodes if node is not leader)


def _client(quiet: Cluster, client_id: str, table: str, **options: float) -> Client:
    return Client(
        quiet.addresses,
        instance="shop",
        client_id=client_id,
        filter=rf"{quiet.schema}\.{table}",
        **options,  # type: ignore[arg-type] # only floats are given
    )


def _ids(client: Client, count: int) -> list[object]:
    """Read and acknowledge until ``count`` rows came; returns their ids."""
    found: list[object] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < deadline_s:
        if batch := client.get(timeout_s=1.0):
            found += [change.row["id"] for change in batch.changes if change.kind == "insert"]
            client.ack(batch)
    return found


def _holder(quiet: Cluster, client_id: str) -> str:
    said = quiet.instance(_leader(quiet).address)
    return next((one.holder for one in said.clients if one.client_id == client_id), "") if said else ""


def test_the_batches_of_a_killed_holder_go_to_the_one_who_waits_first_to_last(quiet: Cluster, tmp_path: Path) -> None:
    _fill(quiet, "killed", range(0))
    taken = tmp_path / "taken"
    argv = [sys.executable, "-c", _HOLDER, ",".join(quiet.addresses), "killed", rf"{quiet.schema}\.killed"]
    given: list[str] = []
    with taken.open("wb") as output:
        holder = subprocess.Popen(argv, stdout=output)
    try:
        _wait(lambda: bool(_holder(quiet, "killed")), "the child holds the lock")
        with quiet.reader(client_id="killed", on_batch=lambda batch: given.extend(_event_ids(batch))):
            _fill(quiet, "killed", range(20))
            _wait(lambda: len(taken.read_text().split()) == 20, "the child got all rows")
            assert given == []
            holder.kill()
            killed_at = time.monotonic()
            _wait(lambda: bool(given), "the waiting client gets the lock")
            waited_s = time.monotonic() - killed_at
            _wait(lambda: len(given) >= 20, "the waiting client gets all rows")
    finally:
        holder.kill()
        holder.wait()
    assert given == taken.read_text().split()
    assert waited_s < quiet.plan.lease_s + 1


def _event_ids(batch: Batch) -> list[str]:
    return [change.event_id for change in batch.changes if change.kind == "insert"]


def test_a_second_client_is_refused_with_the_name_of_the_holder(quiet: Cluster) -> None:
    with _client(quiet, "locked", "locked") as first, _client(quiet, "locked", "locked", wait_s=0) as second:
        first.subscribe()
        with pytest.raises(LockedError) as refused:
            second.subscribe()
    assert f":{os.getpid()}:" in refused.value.holder
    assert socket.gethostname() in refused.value.holder


def test_a_follower_says_who_leads(quiet: Cluster) -> None:
    with grpc.insecure_channel(_follower(quiet).address) as channel:
        stub = canal_pb2_grpc.CanalStub(channel)
        request = canal_pb2.SubscribeRequest(instance="shop", client_id="lost")
        refused = _refused(lambda: stub.Subscribe(request, timeout=5))
    said = dict(cast("tuple[tuple[str, str], ...]", refused.trailing_metadata()))
    assert said["ha-canal-reason"] == "NOT_LEADER"
    assert said["ha-canal-leader"] == _leader(quiet).address


def test_two_clients_with_filters_of_their_own_read_independently(quiet: Cluster) -> None:
    with _client(quiet, "left", "left_.*") as left, _client(quiet, "right", "right_.*") as right:
        left.subscribe()
        right.subscribe()
        _fill(quiet, "left_t", range(5))
        _fill(quiet, "right_t", range(100, 105))
        assert _ids(left, 5) == list(range(5))
        _fill(quiet, "left_t", range(5, 10))
        assert _ids(left, 5) == list(range(5, 10))  # whatever the other one has not read
        assert _ids(right, 5) == list(range(100, 105))


def test_the_marks_of_transactions_come_to_whoever_asks_for_them(quiet: Cluster) -> None:
    _fill(quiet, "marked", range(0))
    with _client(quiet, "plain", "marked") as plain, _client(quiet, "marks", "marked", whole_entries=True) as marks:
        for client in (plain, marks):
            client.subscribe()
            client.close()
    with _client(quiet, "plain", "marked") as plain, _client(quiet, "marks", "marked", whole_entries=True) as marks:
        _fill(quiet, "marked", range(30))
        entries, ids = _iterated(marks, 30)
        assert entries == [TRANSACTIONBEGIN, ROWDATA, TRANSACTIONEND] * 30
        unmarked, same_ids = _iterated(plain, 30)
    assert same_ids == ids
    assert [kind for kind in unmarked if kind == ROWDATA] == [ROWDATA] * 30
    assert len(unmarked) < 90 or scan_for({}, "") is None  # where nothing is compiled, all are sent


def _iterated(client: Client, count: int) -> tuple[list[int], list[str]]:
    """Read ``count`` inserted rows, and what was not read with them of the last transaction; return types and ids."""
    types: list[int] = []
    ids: list[str] = []
    for batch in client:
        types += [Entry.FromString(raw).entryType for raw in batch.entries]
        ids += _event_ids(batch)
        done = len(ids) >= count and not batch.partial_transaction
        batch.ack(wait=done)
        if done:
            return types, ids
    raise AssertionError("the stream ended")


@pytest.mark.parametrize(
    "garbage",
    [
        random.Random(1).randbytes(100_000),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + random.Random(2).randbytes(100_000),
        b"",
    ],
    ids=["random", "http", "http2", "silence"],
)
def test_garbage_on_the_port_does_no_harm(quiet: Cluster, garbage: bytes) -> None:
    leader = _leader(quiet)
    with _client(quiet, "garbage", "garbage") as client:
        client.subscribe()
        with _connected(leader.address) as link:
            _send(link, garbage)
            _fill(quiet, "garbage", rows := range(number := _rows(quiet), number + 2))
            assert _ids(client, 2) == list(rows)
    assert leader.process.running
    assert "Traceback" not in leader.process.log_text()


def test_garbage_in_a_call_is_answered_as_bad_input(quiet: Cluster) -> None:
    leader = _leader(quiet)
    with grpc.insecure_channel(leader.address) as channel:
        for name in ("Subscribe", "Get", "Ack", "Rollback", "Unsubscribe", "Describe"):
            call = channel.unary_unary(f"/ha_canal.protocol.Canal/{name}", _as_it_is, _as_it_is)
            assert _refused(lambda: call(b"\xff" * 100, timeout=5)).code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: B023 - called at once
    assert "Traceback" not in leader.process.log_text()


def test_status_shows_the_cluster_and_nobody_ever_shows_the_password(quiet: Cluster) -> None:
    with _client(quiet, "shown", "shown") as client:
        client.subscribe()
        _fill(quiet, "shown", range(3))
        assert _ids(client, 3) == [0, 1, 2]
        table = _status(_follower(quiet).address)
        shown = json.loads(_status(_follower(quiet).address, "--json"))
    for word in (*(node.name for node in quiet.nodes), *quiet.addresses, "shop", "running", "shown", str(os.getpid())):
        assert word in table, word
    (instance,) = shown["instances"]
    assert instance["leader"] == _leader(quiet).address
    assert instance["state"] == "running"
    assert sorted(instance["candidates"]) == sorted(quiet.addresses)
    assert instance["source"] == quiet.source.host + f":{quiet.source.port}"
    (holder,) = [one["holder"] for one in instance["clients"] if one["client_id"] == "shown"]
    assert f":{os.getpid()}:" in holder
    assert {node["address"] for node in shown["nodes"]} == set(quiet.addresses)
    for text in (table, json.dumps(shown), *(node.process.log_text() for node in quiet.nodes)):
        assert quiet.plan.password not in text


def _status(node: str, *options: str) -> str:
    argv = [sys.executable, "-m", "ha_canal.cli", "status", "--node", node, *options]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=20, env={**os.environ, "COLUMNS": "400"}
    )
    assert done.stderr == ""
    return done.stdout


def _refused(call: Callable[[], object]) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return cast("grpc.Call", refused.value)


def _as_it_is(message: bytes) -> bytes:
    return message


def _rows(quiet: Cluster) -> int:
    _fill(quiet, "garbage", range(0))
    return int(quiet.source.run_sql("SELECT COUNT(*) FROM garbage", database=quiet.schema)[0][0])


@contextmanager
def _connected(address: str) -> Iterator[socket.socket]:
    host, _, port = address.partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=5)) as link:
        yield link


def _send(link: socket.socket, data: bytes) -> None:
    try:
        link.sendall(data)
    except OSError:  # the node has hung up already
        return


def _wait(condition: Callable[[], bool], what: str) -> None:
    asyncio.run(eventually(lambda: asyncio.to_thread(condition), within_s=PATIENCE_S, what=what))
