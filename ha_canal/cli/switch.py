"""`ha-canal switch-source`: have an instance read from another of its sources, and wait until it does."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from ha_canal.cli.leader import ask, leader
from ha_canal.cli.status import describe
from ha_canal.errors import CanalError
from ha_canal.protos import canal_pb2

_DONE_WITHIN_S = 30.0
_POLL_S = 0.05
_READS = ("running", "waiting")


def order_switch(nodes: Sequence[str], instance: str, to: str, *, accept_lost: bool = False) -> None:
    """Switch ``instance`` to the source ``to`` (host:port), and return when it is read. Raises our errors."""
    request = canal_pb2.SwitchSourceRequest(instance=instance, to=to, accept_lost=accept_lost)
    with leader(nodes, instance) as stub:
        reply = ask(stub.SwitchSource, request)
    began_s = time.monotonic()
    shown = _shown(nodes, instance)
    while not (shown.source == reply.to and shown.state in _READS):
        if time.monotonic() > began_s + _DONE_WITHIN_S:
            raise CanalError(
                f"{instance} was switched to {reply.to}, and does not read there yet: {shown.state}, {shown.detail}"
            )
        time.sleep(_POLL_S)
        shown = _shown(nodes, instance)
    click.echo(f"{instance}: {reply.before} -> {reply.to}, {time.monotonic() - began_s:.1f} s; {reply.detail}")


def _shown(nodes: Sequence[str], instance: str) -> canal_pb2.Instance:
    found = [one for one in describe(nodes).instances if one.name == instance]
    return found[0] if found else canal_pb2.Instance(name=instance)
