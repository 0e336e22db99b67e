"""The commands. Each is a thin shell; what it shows comes from the SDK or from a node's Describe.

Errors that we raise on purpose end a command with one clear message and exit status 1 (2: wrong usage); a user never
sees a traceback for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ha_canal import __version__
from ha_canal.cli.decode_command import decode
from ha_canal.cli.position_command import position
from ha_canal.errors import CanalError


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except CanalError as error:
        raise click.ClickException(str(error)) from None


@click.group()
@click.version_option(__version__, prog_name="ha-canal")
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def main(log_level: str) -> None:
    """Highly available change data capture for MySQL and MariaDB."""
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.getLogger("kazoo").setLevel(logging.ERROR)
    # gRPC writes failed connects to stderr on its own; the SDK says them once, in our words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


_GC_THRESHOLDS = (20_000, 20, 20)
"""A node makes many objects and few cycles: Python's own 700 has it look for them all the time."""


@main.command()
@click.option("--config", "path", required=True, type=click.Path(path_type=Path))
def serve(path: Path) -> None:
    """Run one node until it is stopped by SIGTERM or Ctrl-C."""
    from ha_canal.cli.allocator import keep_freed_memory
    from ha_canal.config import load_config
    from ha_canal.node import node

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        serving = asyncio.create_task(serve_until_cancelled(), name="node")
        stopping = asyncio.create_task(stop.wait(), name="stop signal")
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        serving.cancel()  # also while it still waits for ZooKeeper
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def serve_until_cancelled() -> None:
        async with node(config) as running:
            gc.collect()
            gc.freeze()  # what imports made stays: no collection has to look through it
            gc.set_threshold(*_GC_THRESHOLDS)
            logging.getLogger("ha_canal").info("node %s is up; Ctrl-C stops it", running.address)
            await asyncio.Event().wait()

    with _plain_errors():
        config = load_config(path)
        keep_freed_memory()
        asyncio.run(run())


@main.command()
@click.argument("url")
@click.option("--table", "tables", multiple=True, help="schema.table, with * and ?; may be given several times")
@click.option("--state", type=click.Path(path_type=Path), help="remember here how far we are, and go on from there")
@click.option("--start", type=click.Choice(["latest", "earliest"]), default="latest", help="where a first run starts")
@click.option("--count", type=click.IntRange(min=1), help="end after so many changes")
def tail(url: str, tables: tuple[str, ...], state: Path | None, start: str, count: int | None) -> None:
    """Print the changes of mysql://USER:PASSWORD@HOST:PORT as JSON lines, with nothing to set up.

    Without a password in the URL the variable HA_CANAL_PASSWORD is used. Ctrl-C ends it. A run with --state goes on
    behind the last change that was printed; one that --count ended among the rows of one statement prints these again.
    """
    from ha_canal.cli.tail import run_tail

    logging.getLogger("ha_canal").setLevel(logging.WARNING)
    logging.getLogger("ha_canal.client").setLevel(logging.ERROR)  # what troubles it, the node beside it says
    with _plain_errors(), contextlib.suppress(KeyboardInterrupt):  # while it still connects; later it is expected
        run_tail(url, tables=tables, state=state, start=start, count=count)


@main.command()
@click.option("--node", "nodes", multiple=True, default=["127.0.0.1:11111"], show_default=True, help="any node")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def status(nodes: tuple[str, ...], as_json: bool) -> None:
    """Show nodes, instances, who runs what, positions, lag and clients."""
    from ha_canal.cli.status import print_status

    with _plain_errors():
        print_status(nodes, as_json=as_json)


@main.command()
@click.argument("instance")
@click.option("--to", default="", help="the node's name or host:port")
@click.option("--auto", is_flag=True, help="take an earlier move back: the cluster chooses again")
@click.option("--node", "nodes", multiple=True, default=["127.0.0.1:11111"], show_default=True, help="any node")
def move(instance: str, to: str, auto: bool, nodes: tuple[str, ...]) -> None:
    """Hand INSTANCE over to another node, which keeps it until it is moved again."""
    from ha_canal.cli.orders import order_move

    if bool(to) == auto:
        raise click.UsageError("give either --to NODE or --auto")
    with _plain_errors():
        order_move(nodes, instance, to)


@main.command()
@click.argument("name", metavar="NODE")
@click.option("--off", is_flag=True, help="let it have instances again")
@click.option("--node", "nodes", multiple=True, default=["127.0.0.1:11111"], show_default=True, help="any node")
def drain(name: str, off: bool, nodes: tuple[str, ...]) -> None:
    """Hand over all instances of NODE (a name or host:port); it takes none until --off."""
    from ha_canal.cli.orders import order_drain

    with _plain_errors():
        order_drain(nodes, name, off=off)


@main.command("switch-source")
@click.argument("instance")
@click.option("--to", required=True, metavar="HOST:PORT", help="the source, or a standby of its configuration")
@click.option("--accept-lost", is_flag=True, help="also if it lacks what was delivered: that is lost for good")
@click.option("--node", "nodes", multiple=True, default=["127.0.0.1:11111"], show_default=True, help="any node")
def switch_source(instance: str, to: str, accept_lost: bool, nodes: tuple[str, ...]) -> None:
    """Read INSTANCE from another of its servers, if that has what clients still need."""
    from ha_canal.cli.switch import order_switch

    with _plain_errors():
        order_switch(nodes, instance, to, accept_lost=accept_lost)


@main.command("check-config")
@click.argument("path", type=click.Path(path_type=Path))
def check_config(path: Path) -> None:
    """Check a node's configuration file; print all faults at once."""
    from ha_canal.config import load_config

    with _plain_errors():
        config = load_config(path)
    click.echo(f"{path}: good: node {config.address}, {len(config.instance)} instance(s)")


main.add_command(decode)
main.add_command(position)
