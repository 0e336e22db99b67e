"""`ha-canal status`: what Describe says, as tables for people or as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click
import grpc
from google.protobuf import json_format
from rich.console import Console
from rich.table import Table

from ha_canal.errors import LinkError
from ha_canal.protos import canal_pb2, canal_pb2_grpc

_TIMEOUT_S = 5.0
_NOTICES_SHOWN = 3


def describe(nodes: Sequence[str]) -> canal_pb2.DescribeReply:
    """Ask the first node that answers. Raises LinkError when none does."""
    reasons = []
    for node in nodes:
        with grpc.insecure_channel(node) as channel:
            try:
                return canal_pb2_grpc.CanalStub(channel).Describe(canal_pb2.DescribeRequest(), timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                details = getattr(error, "details", None)  # RpcError says it only when it is a Call as well
                reasons.append(f"{node}: {details() if callable(details) else error}")
    raise LinkError("no node answers; is one running there? --node host:port names another\n  " + "\n  ".join(reasons))


def print_status(nodes: Sequence[str], *, as_json: bool) -> None:
    reply = describe(nodes)
    if as_json:
        click.echo(
            json_format.MessageToJson(
                reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )
        return
    console = Console(soft_wrap=True)
    console.print(_nodes(reply))
    console.print(_instances(reply))
    console.print(_clients(reply))
    for instance in reply.instances:
        if instance.detail:
            console.print(f"{instance.name}: {instance.detail}", markup=False)
        if instance.start and instance.start not in instance.detail:
            console.print(f"{instance.name} began: {instance.start}", markup=False)
        if instance.HasField("runway"):
            console.print(f"{instance.name}, binlog left: {instance.runway.detail}", markup=False)
        if instance.HasField("source_choice"):
            console.print(f"{instance.name}, source: {_source(instance)}", markup=False)
        for notice in instance.notices[-_NOTICES_SHOWN:]:
            console.print(f"{instance.name}, on record: {_notice(notice)}", markup=False)


def _source(instance: canal_pb2.Instance) -> str:
    choice = instance.source_choice
    since = f" since {_time(choice.since_ms)}" if choice.since_ms else ""
    before = f", before {choice.before}" if choice.before else ""
    others = ", ".join(
        f"{one} (failed lately)" if one in choice.avoided else one for one in choice.sources if one != instance.source
    )
    return f"{instance.source}{since} ({choice.why}){before}; it is {choice.state}; others: {others}"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _notice(notice: canal_pb2.Notice) -> str:
    return f"{_time(notice.time_ms)} {notice.kind}: {notice.text}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _nodes(reply: canal_pb2.DescribeReply) -> Table:
    table = _table("Nodes", "node", "address", "runs", "version", "trouble")
    for node in reply.nodes:
        table.add_row(node.name, node.address, ", ".join(node.running), node.version, node.error)
    return table


def _instances(reply: canal_pb2.DescribeReply) -> Table:
    table = _table("Instances", "instance", "state", "leader", "epoch", "source", "read up to", "lag", "ring")
    for one in reply.instances:
        lag = f"{one.lag_s:.0f} s" if one.lag_s >= 0 else "?"
        ring = f"{one.ring_items} items, {one.ring_bytes / 1048576:.1f} MiB"
        table.add_row(one.name, one.state, one.leader, str(one.epoch), one.source, _place(one.read_place), lag, ring)
    return table


def _clients(reply: canal_pb2.DescribeReply) -> Table:
    table = _table("Clients", "instance", "client", "held by", "filter", "acknowledged up to", "in flight", "behind")
    for one in reply.instances:
        for client in one.clients:
            table.add_row(
                one.name,
                client.client_id,
                client.holder or "nobody",
                client.filter,
                _place(client.cursor),
                f"{client.batches_in_flight} batches",
                f"{client.behind_items} items",
            )
    return table


def _place(place: canal_pb2.Place) -> str:
    return f"{place.file}:{place.offset}" + (f" {place.gtid_set}" if place.gtid_set else "") if place.file else ""
