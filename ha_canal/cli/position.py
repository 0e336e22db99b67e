"""`ha-canal position`: operators look at positions and move cursors. Everything is asked of the instance's leader."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from ha_canal.cli.leader import ask, leader
from ha_canal.errors import RefusedError, UsageError
from ha_canal.protos import canal_pb2 as pb

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_time_ms(text: str) -> int:
    """Read a time with its zone, such as ``2026-01-31T12:00:00Z``, or seconds since 1970. Raises UsageError."""
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
        return round(float(text) * 1000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time: write 2026-01-31T12:00:00Z, or seconds since 1970") from None
    if found.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone: write Z or +02:00 behind it")
    return round(found.timestamp() * 1000)


def parse_span_s(text: str) -> float:
    """Read a number of seconds, or one with s, m, h or d behind it. Raises UsageError."""
    match = _SPAN.fullmatch(text)
    if match is None or not float(match[1]):
        raise UsageError(f"{text!r} is no span of time: write 90, 90s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS_S[match[2]]


def parse_place(text: str) -> pb.Place:
    """Read ``FILE:OFFSET``. Raises UsageError."""
    file, _, offset = text.rpartition(":")
    if not file or not offset.isdecimal() or int(offset) < 4:
        raise UsageError(f"{text!r} is no place: write FILE:OFFSET, such as mysql-bin.000007:4")
    return pb.Place(file=file, offset=int(offset))


def wanted_place(
    place: str | None, gtid: str | None, time: str | None, *, earliest: bool, latest: bool
) -> pb.MovePositionRequest:
    """Return a request that says where to. Raises UsageError unless there is one place."""
    if sum([place is not None, gtid is not None, time is not None, earliest, latest]) != 1:
        raise UsageError("say where to with one of --place, --gtid, --time, --earliest and --latest")
    if place is not None:
        return pb.MovePositionRequest(place=parse_place(place))
    if gtid is not None:
        return pb.MovePositionRequest(place=pb.Place(gtid_set=gtid))
    if time is not None:
        return pb.MovePositionRequest(time_ms=parse_time_ms(time))
    return pb.MovePositionRequest(end="earliest" if earliest else "latest")


def print_positions(nodes: Sequence[str], instance: str, *, as_json: bool) -> None:
    with leader(nodes, instance) as stub:
        reply = ask(stub.Positions, pb.PositionsRequest(instance=instance))
    if as_json:
        _print_json(reply)
        return
    console = Console(soft_wrap=True)
    table = Table(title=f"Cursors of {instance}", title_justify="left")
    for column in ("client", "held by", "acknowledged up to", "time of that", "remembers"):
        table.add_column(column, overflow="fold")
    for client in reply.clients:
        table.add_row(
            client.client_id, client.holder or "nobody", place_text(client.cursor), _time_text(client.cursor),
            f"{client.remembered} transactions" if client.remembered else "",
        )  # fmt: skip
    console.print(table)
    console.print(f"the binlog goes from {place_text(reply.oldest)} to {place_text(reply.end)}", markup=False)
    if reply.HasField("first_start") and not reply.clients:
        console.print(f"the first client begins at {place_text(reply.first_start)}", markup=False)


def print_found(nodes: Sequence[str], instance: str, time: str, *, as_json: bool) -> None:
    request = pb.FindPositionRequest(instance=instance, time_ms=parse_time_ms(time))
    with leader(nodes, instance) as stub:
        reply = ask(stub.FindPosition, request)
    if as_json:
        _print_json(reply)
    elif reply.HasField("place"):
        click.echo(f"everything before {place_text(reply.place)} is older than {time}")
    else:
        raise RefusedError(f"all of the binlog is younger than {time}")


def move(
    nodes: Sequence[str],
    instance: str,
    client_id: str,
    wanted: pb.MovePositionRequest,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move a cursor, or tell what that would do, and print it."""
    request = pb.MovePositionRequest(instance=instance, client_id=client_id, dry_run=dry_run)
    request.MergeFrom(wanted)
    with leader(nodes, instance) as stub:
        reply = ask(stub.MovePosition, request)
    if as_json:
        _print_json(reply)
        return
    click.echo(f"from {place_text(reply.cursor)}  {_time_text(reply.cursor)}")
    click.echo(f"to   {place_text(reply.to)}  {_time_text(reply.to)}")
    click.echo(effect_text(reply))
    click.echo("the cursor was moved" if reply.moved else "nothing was changed: this was a dry run")


def effect_text(reply: pb.MovePositionReply) -> str:
    """Say what lies between the two places."""
    if reply.effect == "none":
        return "that is the same place: nothing comes again, nothing is missed"
    if reply.effect == "unknown":
        return "what that repeats or misses cannot be counted: the two places are not in the binlog of one server"
    least = "at least " if reply.at_least else ""
    rows = f"{reply.rows} rows" if reply.rows >= 0 else "rows that cannot be counted"
    verb = "come again" if reply.effect == "repeat" else "will be MISSED"
    return f"{least}{reply.transactions} transactions with {rows} {verb}"


def place_text(place: pb.Place) -> str:
    inside = f"+{place.ordinal}" if place.ordinal else ""
    gtids = f" ({place.gtid_set})" if place.gtid_set else ""
    return f"{place.file}:{place.offset}{inside}{gtids}"


def _time_text(place: pb.Place) -> str:
    if not place.timestamp_ms:
        return ""
    return datetime.fromtimestamp(place.timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _print_json(reply: Message) -> None:
    click.echo(
        json_format.MessageToJson(reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
