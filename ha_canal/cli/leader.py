"""Calls that the leader of an instance alone answers: find it, ask it, and say its refusals in its own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from ha_canal.cli.status import describe
from ha_canal.errors import LinkError, RefusedError, UnknownInstanceError
from ha_canal.protos import canal_pb2_grpc

_TIMEOUT_S = 120.0

Reply = TypeVar("Reply", bound=Message)


@contextmanager
def leader(nodes: Sequence[str], instance: str) -> Iterator[canal_pb2_grpc.CanalStub]:
    """Connect to the node that runs ``instance``, as any of ``nodes`` names it. Raises our errors."""
    shown = {one.name: one for one in describe(nodes).instances}
    if instance not in shown:
        raise UnknownInstanceError(f"there is no instance {instance!r}; there are: {', '.join(sorted(shown))}")
    address = shown[instance].leader
    if not address:
        raise LinkError(f"no node runs {instance!r} just now; try again when one leads")
    with grpc.insecure_channel(address) as channel:
        yield canal_pb2_grpc.CanalStub(channel)


def ask(call: Callable[..., Reply], request: Message) -> Reply:
    """Return the answer. Raises RefusedError with what was said instead."""
    try:
        return call(request, timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        details = getattr(error, "details", None)  # RpcError says it only when it is a Call as well
        raise RefusedError(str(details() if callable(details) else error)) from None
