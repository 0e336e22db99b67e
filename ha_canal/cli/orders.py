"""`ha-canal move` and `ha-canal drain`: orders to the cluster, given to any node, and followed until they are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import click
import grpc

from ha_canal.cli.status import describe
from ha_canal.errors import CanalError, LinkError
from ha_canal.protos import canal_pb2, canal_pb2_grpc

_TIMEOUT_S = 10.0
_DONE_WITHIN_S = 15.0
_POLL_S = 0.05
Reply = TypeVar("Reply")


def order_move(nodes: Sequence[str], instance: str, to: str) -> None:
    """Have ``instance`` run on the node ``to`` ("": wherever the cluster chooses), and wait until it does."""
    reply = _ask(nodes, lambda stub: stub.Move(canal_pb2.MoveRequest(instance=instance, to=to), timeout=_TIMEOUT_S))
    if not reply.to:
        click.echo(f"{instance}: the cluster chooses where it runs; now on {reply.leader or 'no node'}")
        return
    began_s = time.monotonic()
    leaders = _until(nodes, lambda leaders: leaders.get(instance) == reply.to)
    if leaders.get(instance) != reply.to:
        raise CanalError(
            f"{instance} still runs on {leaders.get(instance) or 'no node'}; the order stays, and is followed as soon "
            f"as {to} can take it: `ha-canal status` and that node's log say more"
        )
    click.echo(f"{instance}: {reply.leader or 'no node'} -> {reply.to}, {time.monotonic() - began_s:.1f} s")


def order_drain(nodes: Sequence[str], node: str, *, off: bool) -> None:
    """Take all instances from ``node`` and wait until they run elsewhere; ``off``: let it have some again."""
    reply = _ask(nodes, lambda stub: stub.Drain(canal_pb2.DrainRequest(node=node, off=off), timeout=_TIMEOUT_S))
    if off:
        click.echo(f"{reply.node}: may have instances again")
        return
    leaders = _until(nodes, lambda leaders: reply.node not in leaders.values())
    left = sorted(name for name, leader in leaders.items() if leader == reply.node)
    if left:
        raise CanalError(f"{reply.node} is drained, but nobody else can take {', '.join(left)}: they stay on it")
    click.echo(f"{reply.node}: drained, {len(reply.running)} instance(s) handed over; `drain {node} --off` ends that")


def _until(nodes: Sequence[str], done: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Return who leads what, as soon as that is ``done``, or after a while."""
    deadline_s = time.monotonic() + _DONE_WITHIN_S
    while True:
        leaders = {one.name: one.leader for one in describe(nodes).instances}
        if done(leaders) or time.monotonic() > deadline_s:
            return leaders
        time.sleep(_POLL_S)


def _ask(nodes: Sequence[str], call: Callable[[canal_pb2_grpc.CanalStub], Reply]) -> Reply:
    """Return what the first node answers that can be reached. Raises what it refuses, and LinkError."""
    reasons = []
    for node in nodes:
        with grpc.insecure_channel(node) as channel:
            try:
                return call(canal_pb2_grpc.CanalStub(channel))
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
                if code is not grpc.StatusCode.UNAVAILABLE:
                    raise CanalError(f"{node}: {details}") from None
                reasons.append(f"{node}: {details}")
    raise LinkError("no node answers; is one running there? --node host:port names another\n  " + "\n  ".join(reasons))
