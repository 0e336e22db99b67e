"""The SDK against served nodes: reading, fail-overs in every moment, the lock, and ending."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ha_canal import Client
from ha_canal.errors import (
    FilterError,
    LinkError,
    LockedError,
    NotLeaderError,
    NotOldestError,
    NotSubscribedError,
    SchemaMismatchError,
    StaleEpochError,
    UnknownBatchError,
    UnknownInstanceError,
    UsageError,
)
from tests.client.nodes import Nodes
from tests.server.memory import position_behind, silent, statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha_canal import Batch


def texts(batch: Batch | None) -> list[str]:
    return [change.sql for change in batch.changes] if batch else []


def client_of(nodes: Nodes, **options: Any) -> Client:
    return Client(nodes.addresses, instance="shop", **{"client_id": "1001", "batch_size": 1, **options})


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {what}"
        pause.wait(0.005)


def has_lock(client: Client) -> bool:
    """Whether it knows that it holds the lock."""
    link, flow = client._link, client._flow
    return bool(link and link.lease and (flow is None or flow.is_open))


def committed(nodes: Nodes, *numbers: int) -> None:
    nodes.commit(*(statement(number) for number in numbers))


def acked_behind(nodes: Nodes, number: int) -> bool:
    return nodes.source.cursors.get("1001") == position_behind(statement(number))


def test_iteration_gives_typed_changes_in_order_and_acks_are_durable() -> None:
    with Nodes() as nodes, client_of(nodes) as client:
        committed(nodes, 1, 2, 3)
        for number, batch in zip((1, 2, 3), client, strict=False):
            assert texts(batch) == [f"do {number}"]
            assert [change.event_id for change in batch] == [f"0-1-{number}#0"]
            assert list(batch.changes) == list(batch)
            assert batch.batch_id == number
            batch.ack()
            assert acked_behind(nodes, number)
            batch.ack()  # again: nothing happens


def test_many_batches_flow_with_little_credit_and_pipelined_acks() -> None:
    with Nodes() as nodes:
        committed(nodes, *range(1, 301))
        with client_of(nodes, credit=1) as client:
            for number, batch in zip(range(1, 301), client, strict=False):
                assert texts(batch) == [f"do {number}"]
                batch.ack(wait=False)
        assert acked_behind(nodes, 300)  # closing waits for the answers


def test_what_has_no_ack_comes_again_and_the_filter_is_kept() -> None:
    with Nodes() as nodes:
        committed(nodes, 1, 2)
        with client_of(nodes, filter="shop[.].*") as client:
            next(client).ack()
            next(client)
        with client_of(nodes) as client:
            assert texts(next(client)) == ["do 2"]
        assert nodes.source.filters == {"1001": "shop[.].*"}


def test_rollback() -> None:
    with Nodes() as nodes, client_of(nodes) as client:
        committed(nodes, 1, 2, 3, 4, 5, 6)
        first, second, third = next(client), next(client), next(client)
        second.rollback()
        with pytest.raises(StaleEpochError, match="come again"):
            third.ack()
        assert [texts(next(client))[0] for _ in range(3)] == ["do 2", "do 3", "do 4"]
        first.ack()
        assert acked_behind(nodes, 1)
        client.rollback()
        assert texts(next(client)) == ["do 2"]


def test_acks_out_of_order_are_refused_and_do_no_harm() -> None:
    with Nodes() as nodes, client_of(nodes) as client:
        committed(nodes, 1, 2)
        first, second = next(client), next(client)
        with pytest.raises(NotOldestError):
            second.ack()
        with pytest.raises(UnknownBatchError):
            client.ack(77)
        first.ack()
        second.ack()
        assert acked_behind(nodes, 2)


@pytest.mark.parametrize("hint", [True, False])
def test_a_hand_over_is_followed(hint: bool) -> None:
    with Nodes(3) as nodes, client_of(nodes) as client:
        committed(nodes, 1)
        next(client).ack()
        nodes.hand_over(0, 2, hint=hint)
        committed(nodes, 2)
        batch = next(client)
        assert (texts(batch), batch.epoch) == (["do 2"], 2)
        batch.ack()
        assert acked_behind(nodes, 2)


def test_a_node_that_is_stopped_in_mid_stream_is_left() -> None:
    with Nodes(2) as nodes, client_of(nodes) as client:
        committed(nodes, 1)
        next(client).ack()
        nodes.depose(0, NotLeaderError("shop"))
        nodes.stop(0)
        nodes.lead(1)
        committed(nodes, 2)
        assert texts(next(client)) == ["do 2"]


def test_a_batch_in_hand_during_a_fail_over_is_acknowledged_under_the_next_leader() -> None:
    with Nodes(2) as nodes, client_of(nodes, batch_size=3) as client:
        committed(nodes, 1, 2, 3, 4)
        batch = next(client)
        assert texts(batch) == ["do 1", "do 2", "do 3"]
        nodes.hand_over(0, 1)
        batch.ack()
        assert acked_behind(nodes, 3)
        assert texts(next(client)) == ["do 4"]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("iterates", [True, False])
def test_an_ack_that_died_with_its_node(stored: bool, more: bool, iterates: bool) -> None:
    with Nodes(2) as nodes, client_of(nodes, batch_size=2) as client:
        committed(nodes, 1, 2, 3)
        batch = next(client) if iterates else client.get(2, 5.0)
        assert batch
        nodes.change(0, lambda instance: instance.writes_go.clear())
        acking = threading.Thread(target=batch.ack)
        acking.start()
        wait_until(lambda: nodes.leader(0).writes_waiting, "the ack is being written")
        if stored:
            nodes.source.cursors["1001"] = position_behind(statement(2))
        if more:
            committed(nodes, 4, 5)
        nodes.hand_over(0, 1)
        acking.join(10)
        assert not acking.is_alive()
        nodes.change(0, lambda instance: instance.writes_go.set())
        assert acked_behind(nodes, 2)
        again = next(client) if iterates else client.get(2, 5.0)
        assert texts(again)[0] == "do 3"


def test_pipelined_acks_that_died_with_their_node_are_repeated_before_the_next_leader_is_read() -> None:
    with Nodes(2) as nodes, client_of(nodes) as client:
        committed(nodes, 1, 2)
        nodes.change(0, lambda instance: instance.writes_go.clear())
        for _ in range(2):
            next(client).ack(wait=False)
        nodes.hand_over(0, 1)
        nodes.change(0, lambda instance: instance.writes_go.set())
        committed(nodes, 3)
        assert texts(next(client)) == ["do 3"]
        assert acked_behind(nodes, 2)


def test_a_batch_of_an_earlier_session_cannot_be_acknowledged() -> None:
    with Nodes(2) as nodes, client_of(nodes, credit=1) as client:
        committed(nodes, 1)
        old = next(client)
        nodes.hand_over(0, 1)
        new = next(client)
        assert texts(new) == texts(old)
        with pytest.raises(StaleEpochError, match="come again"):
            old.ack()
        old.rollback()  # nothing to do: it came again already
        new.ack()


def test_a_batch_that_was_here_before_the_fail_over_can_still_be_acknowledged() -> None:
    with Nodes(2) as nodes, client_of(nodes) as client:
        committed(nodes, 1, 2, 3)
        for batch in (next(client), next(client)):
            batch.ack(wait=False)
        wait_until(lambda: acked_behind(nodes, 2), "the acks are durable")
        wait_until(lambda: len(nodes.leader(0).subscriptions["1001"].out) == 1, "the third batch is on its way")
        nodes.hand_over(0, 1)
        last = next(client)  # from the old stream or from the new one: it does not matter
        last.ack()
        assert texts(last) == ["do 3"]
        assert acked_behind(nodes, 3)


def test_a_lost_coordinator_delays_acks_and_loses_nothing() -> None:
    with Nodes() as nodes, client_of(nodes) as client:
        committed(nodes, 1)
        batch = next(client)
        fault = LinkError("no coordinator")
        nodes.change(0, lambda instance: setattr(instance, "write_fault", fault))
        healing = threading.Timer(0.2, lambda: nodes.change(0, lambda i: setattr(i, "write_fault", None)))
        healing.start()
        batch.ack()
        healing.join()
        assert acked_behind(nodes, 1)


def test_the_lock() -> None:
    with Nodes() as nodes:
        committed(nodes, 1, 2)
        with client_of(nodes) as first:
            next(first).ack()
            next(first)
            with client_of(nodes, wait_s=0) as second, pytest.raises(LockedError) as raised:
                next(second)
            assert ":" in raised.value.holder
            waiting = client_of(nodes)
            got: list[Batch] = []
            thread = threading.Thread(target=lambda: got.append(next(waiting)))
            thread.start()
        thread.join(10)
        assert texts(got[0]) == ["do 2"]
        waiting.close()


def test_a_lease_that_ran_out_between_plain_calls_is_taken_again() -> None:
    with Nodes(lease_s=0.05) as nodes, client_of(nodes) as client:
        committed(nodes, 1, 2)
        batch = client.get(timeout_s=5)
        assert batch
        wait_until(lambda: "1001" not in nodes.source.shown, "the lease ran out")
        batch.ack()
        assert acked_behind(nodes, 1)
        assert texts(client.get(timeout_s=5)) == ["do 2"]


def test_plain_calls() -> None:
    with Nodes() as nodes, client_of(nodes) as client:
        client.subscribe(filter="shop[.].*")
        assert client.get(5, 0.0) is None
        committed(nodes, 1, 2, 3)
        first = client.get(2, 5.0)
        assert first
        assert [texts(change) for change in [first]] == [["do 1", "do 2"]]
        assert len(first.transactions()) == 2
        second = client.get(2, 5.0)
        assert second
        client.rollback(second.batch_id)
        client.ack(first.batch_id)
        again = client.get(2, 5.0)
        assert again
        assert texts(again) == ["do 3"]
        client.rollback()
        with pytest.raises(StaleEpochError):
            client.ack(again.batch_id)
        client.unsubscribe(forget=True)
        assert not nodes.source.cursors
        assert texts(client.get(9, 5.0)) == ["do 1", "do 2", "do 3"]


def test_plain_calls_follow_a_hand_over_too() -> None:
    with Nodes(2) as nodes, client_of(nodes) as client:
        committed(nodes, 1, 2)
        first = client.get(timeout_s=5)
        nodes.hand_over(0, 1)
        again = client.get(timeout_s=5)
        assert first
        assert again
        assert texts(first) == texts(again) == ["do 1"]
        assert first.batch_id != again.batch_id
        with pytest.raises(StaleEpochError):
            client.ack(first.batch_id)
        client.ack(again.batch_id)
        assert acked_behind(nodes, 1)


def test_errors_that_nobody_else_can_mend_are_raised_with_their_words() -> None:
    with Nodes(2) as nodes:
        with client_of(nodes, filter="(") as client, pytest.raises(FilterError, match="no regular expression"):
            next(client)
        with Client(nodes.addresses, instance="none", client_id="1") as client, pytest.raises(UnknownInstanceError):
            next(client)
        with client_of(nodes, client_id="a/b") as client, pytest.raises(UsageError, match="cannot be a client id"):
            next(client)
        for index in range(2):
            nodes.trouble(index, SchemaMismatchError("3 columns, not 2", file="bin.000001", offset=4))
        with client_of(nodes) as client, pytest.raises(SchemaMismatchError, match=r"bin\.000001:4"):
            client.get()
        with client_of(nodes) as client:
            with pytest.raises(SchemaMismatchError):
                next(client)
            with pytest.raises(UsageError, match="make two clients"):
                client.get()


def test_nobody_there() -> None:
    nobody = Client(["127.0.0.1:1"], instance="shop", client_id="1", retry_for_s=0.3)
    with nobody as client, pytest.raises(LinkError, match=r"127\.0\.0\.1:1 cannot be reached"):
        next(client)
    with pytest.raises(UsageError):
        Client("127.0.0.1:1", instance="shop", client_id="1")


def test_batches_without_entries_are_not_given() -> None:
    with Nodes() as nodes, client_of(nodes) as client:
        nodes.commit(silent(1), statement(2))
        assert texts(next(client)) == ["do 2"]


@pytest.mark.parametrize("moment", ["it begins", "it has a link", "it has the lock"])
def test_close_finds_a_plain_call_at_any_moment(moment: str) -> None:
    """A call that is about to be made when `close` looks for one ends as well, not after its 60 seconds."""
    reached: dict[str, Callable[[Client], object]] = {
        "it begins": lambda _: True,
        "it has a link": lambda client: client._link,
        "it has the lock": lambda client: client._link and client._link.lease,
    }
    with Nodes() as nodes:
        for _ in range(20):
            client = client_of(nodes)

            def read(client: Client = client) -> None:
                with contextlib.suppress(NotSubscribedError):
                    client.get(1, 60.0)

            thread = threading.Thread(target=read)
            thread.start()
            while not reached[moment](client):
                pass  # no pause: what is looked for lasts for microseconds
            client.close()
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize("case", ["waits for a batch", "waits for the lock", "plain", "no node"])
def test_close_from_another_thread_ends_it_at_once_and_leaves_no_thread(case: str) -> None:
    before = set(threading.enumerate())
    with Nodes() as nodes, client_of(nodes) as holder:
        client = client_of(nodes, client_id="1001" if case == "waits for the lock" else "other")
        if case == "waits for the lock":
            committed(nodes, 1)
            next(holder)
        if case == "no node":
            nodes.trouble(0, NotLeaderError("shop"))
        failures: list[Exception] = []

        def read() -> None:
            try:
                _ = client.get(1, 60.0) if case == "plain" else list(itertools.islice(client, 2))
            except Exception as error:  # noqa: BLE001 - the edge of the thread; the test looks at it
                failures.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        if case in ("waits for a batch", "plain"):
            wait_until(lambda: has_lock(client), "it reads")  # before that it cannot say goodbye: its lease has to end
        started = time.monotonic()
        client.close()
        thread.join(10)
        assert time.monotonic() - started < 3
        assert [type(failure).__name__ for failure in failures] == (["NotSubscribedError"] if case == "plain" else [])
        if case in ("waits for a batch", "plain"):
            wait_until(lambda: "other" not in nodes.source.shown, "the lock is released")
    wait_until(
        lambda: not [t for t in set(threading.enumerate()) - before if "_poll_wrapper" not in t.name], "no threads"
    )


def test_the_sdk_loads_no_server_code() -> None:
    program = (
        "import sys; from ha_canal import Client\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('ha_canal.')}\n"
        "assert rooms <= {'client', 'model', 'protos', 'errors', 'backoff', 'compiled'}, rooms\n"
        "assert not {'kazoo', 'pymysql', 'pika'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
