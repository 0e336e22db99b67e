"""`ha-canal tail`: an embedded node and a client of it, in one process.

Nothing here is a short cut: the node elects itself, keeps the cursor in SQLite, and serves gRPC on a free loopback
port; the client is the SDK. What `tail` shows is what any client would get.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import tempfile
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, cast

import click

from ha_canal.client import Change, Client
from ha_canal.config import ClusterSection, InstanceSection, NodeConfig, NodeSection, source_from_url
from ha_canal.node import node
from ha_canal.sink.filter import glob_to_filter

_INSTANCE = "tail"
_CLIENT_ID = "1001"


def run_tail(url: str, *, tables: tuple[str, ...], state: Path | None, start: str, count: int | None) -> None:
    """Print changes until Ctrl-C, or until ``count`` were printed. Raises our errors."""
    with contextlib.ExitStack() as stack:
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ha_canal_"))) / "state.db"
        config = NodeConfig(
            node=NodeSection(listen="127.0.0.1:0"),
            cluster=ClusterSection(mode="embedded", state_file=state),
            instance=(
                InstanceSection(
                    name=_INSTANCE,
                    source=source_from_url(url),
                    filter=",".join(glob_to_filter(table) for table in tables) or r".*\..*",
                    start=cast("Literal['latest', 'earliest']", start),
                ),
            ),
        )
        address = stack.enter_context(_embedded_node(config))
        with contextlib.suppress(KeyboardInterrupt):
            _print_changes(address, count)


def _print_changes(address: str, count: int | None) -> None:
    printed = 0
    with Client([address], instance=_INSTANCE, client_id=_CLIENT_ID) as client:
        for batch in client:
            for change in batch.changes:
                click.echo(json_line(change))
                printed += 1
                if printed == count:
                    break
            if printed == count:
                if change is batch.changes[-1]:
                    batch.ack()
                return
            batch.ack()


@contextlib.contextmanager
def _embedded_node(config: NodeConfig) -> Iterator[str]:
    """Run a node in a thread of its own, with its own loop; yield its address."""
    ready = threading.Event()
    outcome: list[str | BaseException] = []
    control: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        control.append((asyncio.get_running_loop(), stop))
        async with node(config) as running:
            outcome.append(running.address)
            ready.set()
            await running.until(stop)

    def body() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 # a thread's outermost edge: the starter re-raises it
            outcome.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=body, name="ha_canal node")
    thread.start()
    ready.wait()
    try:
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        yield outcome[0]
    finally:
        loop, stop = control[0]
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if isinstance(outcome[-1], BaseException):
        raise outcome[-1]


def json_line(change: Change) -> str:
    """Return one change as a JSON object on one line.

    Integers and floats are numbers, DECIMAL is a string (exact), times are ISO 8601, intervals seconds, bytes base64.
    """
    values: dict[str, object] = {
        "kind": change.kind,
        "schema": change.schema,
        "table": change.table,
        "before": dict(change.before) if change.before is not None else None,
        "after": dict(change.after) if change.after is not None else None,
        "changed": list(change.changed),
        "event_id": change.event_id,
        "file": change.position.file,
        "offset": change.position.offset,
        "gtid": change.gtid,
        "commit_time": change.commit_time,
    }
    if change.sql:
        values["sql"] = change.sql
    return json.dumps(values, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case frozenset():
            return sorted(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
