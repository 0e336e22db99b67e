"""The options of `ha-canal position`; what it does stands in `ha_canal.cli.position`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ha_canal.errors import CanalError

Command = TypeVar("Command", bound=Callable[..., Any])

_NODE = click.option("--node", "nodes", multiple=True, default=["127.0.0.1:11111"], show_default=True, help="any node")
_JSON = click.option("--json", "as_json", is_flag=True, help="for programs")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="only say what would come again or be missed")


def _common(command: Command) -> Command:
    return _NODE(_JSON(command))


def _plainly(work: Callable[[], None]) -> None:
    try:
        work()
    except CanalError as error:
        raise click.ClickException(str(error)) from None


@click.group()
def position() -> None:
    """Look at positions, and move the cursor of a client that is not connected.

    Everything goes through the node that runs the instance, so that no acknowledgement writes over what you set.
    """


@position.command()
@click.argument("instance")
@_common
def show(instance: str, nodes: tuple[str, ...], as_json: bool) -> None:
    """Show where the clients of INSTANCE are, and from where to where the binlog goes."""
    from ha_canal.cli.position import print_positions

    _plainly(lambda: print_positions(nodes, instance, as_json=as_json))


@position.command("find-time")
@click.argument("instance")
@click.argument("time")
@_common
def find_time(instance: str, time: str, nodes: tuple[str, ...], as_json: bool) -> None:
    """Find the last place such that everything before it is older than TIME (2026-01-31T12:00:00Z)."""
    from ha_canal.cli.position import print_found

    _plainly(lambda: print_found(nodes, instance, time, as_json=as_json))


@position.command("set")
@click.argument("instance")
@click.argument("client_id")
@click.option("--place", help="FILE:OFFSET, where a transaction begins or ends")
@click.option("--gtid", help="the GTIDs that are done")
@click.option("--time", help="before everything that is not older, such as 2026-01-31T12:00:00Z")
@click.option("--earliest", is_flag=True, help="the start of the oldest binlog file")
@click.option("--latest", is_flag=True, help="the end of the binlog: all that was not delivered is missed")
@_DRY_RUN
@_common
def set_position(
    instance: str,
    client_id: str,
    place: str | None,
    gtid: str | None,
    time: str | None,
    earliest: bool,
    latest: bool,
    dry_run: bool,
    nodes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Move the cursor of CLIENT_ID of INSTANCE; the client must not be connected."""
    from ha_canal.cli.position import move, wanted_place

    def work() -> None:
        wanted = wanted_place(place, gtid, time, earliest=earliest, latest=latest)
        move(nodes, instance, client_id, wanted, dry_run=dry_run, as_json=as_json)

    _plainly(work)


@position.command()
@click.argument("instance")
@click.argument("client_id")
@click.option("--by", "span", required=True, help="how far before the time of its cursor: 90s, 15m, 2h, 1d")
@_DRY_RUN
@_common
def rewind(instance: str, client_id: str, span: str, dry_run: bool, nodes: tuple[str, ...], as_json: bool) -> None:
    """Move the cursor of CLIENT_ID of INSTANCE back in time, so that what was acknowledged since comes again."""
    from ha_canal.cli.position import move, parse_span_s
    from ha_canal.protos import canal_pb2

    def work() -> None:
        wanted = canal_pb2.MovePositionRequest(back_s=parse_span_s(span))
        move(nodes, instance, client_id, wanted, dry_run=dry_run, as_json=as_json)

    _plainly(work)
