"""`ha-canal tail`: an embedded node and a client of it, in one process.

Nothing here is a short cut: the node elects itself, keeps the cursor in SQLite, and serves gRPC on a free loopback
port; the client is the SDK. What `tail` shows is what any client would get. Only the first look at the database is our
own, so that what cannot work ends at once with one message; later, a database that is away is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

import click

from ha_canal.cli.json_line import json_line
from ha_canal.client import Client
from ha_canal.config import ClusterSection, InstanceSection, NodeConfig, NodeSection, SourceSection, source_from_url
from ha_canal.errors import FilterError, StaleEpochError
from ha_canal.mysql.connection import inspect, session
from ha_canal.node import node
from ha_canal.sink.filter import glob_to_filter

_INSTANCE = "tail"
_CLIENT_ID = "1001"


def run_tail(url: str, *, tables: tuple[str, ...], state: Path | None, start: str, count: int | None) -> None:
    """Print changes until Ctrl-C or SIGTERM, or until ``count`` were printed. Raises our errors."""
    source = source_from_url(url)
    patterns = _filter(tables)
    with contextlib.ExitStack() as stack:
        if state is None:
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ha_canal_"))) / "state.db"
        asyncio.run(_look_at(source))
        stop = stack.enter_context(_signals())
        config = NodeConfig(
            node=NodeSection(listen="127.0.0.1:0"),
            cluster=ClusterSection(mode="embedded", state_file=state),
            instance=(
                InstanceSection(
                    name=_INSTANCE,
                    source=source,
                    filter=patterns,
                    start=cast("Literal['latest', 'earliest']", start),
                ),
            ),
        )
        address = stack.enter_context(_embedded_node(config))
        # With a count, one entry per batch: a batch can only be remembered as a whole.
        client = Client([address], instance=_INSTANCE, client_id=_CLIENT_ID, batch_size=1 if count else 0)
        stack.enter_context(client)
        stop.closes(client)
        _print_changes(client, count)


def _filter(tables: Sequence[str]) -> str:
    patterns = [glob_to_filter(table) for table in tables]
    if not all(patterns):
        raise FilterError("an empty --table names no table: write schema.table, such as 'shop.orders' or 'shop.*'")
    return ",".join(patterns) or r".*\..*"


async def _look_at(source: SourceSection) -> None:
    """Raise what makes this database unreadable: no way to it, no rights, no binlog."""
    async with session(source) as db:
        await inspect(db, source)


class _Stop:
    """Ends the client's iteration between two batches, so that what was printed is remembered."""

    def __init__(self) -> None:
        self._asked = False
        self._client: Client | None = None
        self._closers: list[threading.Thread] = []

    def closes(self, client: Client) -> None:
        """Name the client that is closed when the stop comes: at once, if it came already."""
        self._client = client
        if self._asked:
            self.ask()

    def ask(self, *_: object) -> None:
        """Stop; this is the signal handler, so the closing is another thread's."""
        self._asked = True
        if self._client is not None:
            self._closers.append(threading.Thread(target=self._client.close, name="tail closer"))
            self._closers[-1].start()

    def join(self) -> None:
        for closer in self._closers:
            closer.join()


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    """Let SIGINT and SIGTERM ask for the stop, while the block runs."""
    stop = _Stop()
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.join()


def _print_changes(client: Client, count: int | None) -> None:
    printed = 0
    for batch in client:
        for change in batch.changes:
            if printed == count:
                return  # inside the rows of one statement: they come again
            click.echo(json_line(change))
            printed += 1
        with contextlib.suppress(StaleEpochError):  # it comes again
            batch.ack(wait=False)
        if printed == count:
            return


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
