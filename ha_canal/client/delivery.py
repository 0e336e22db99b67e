"""A batch as it came from a node: its head is read at once, its entries when somebody asks.

Compiled where the extension was built (``_entries``), else by the twin in `ha_canal.client.entries`; both say the same.
What the extension finds unusual goes to the twin as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Protocol

from google.protobuf.message import DecodeError as ParseError

from ha_canal.client.entries import changes_of
from ha_canal.compiled import PURE
from ha_canal.errors import DecodeError
from ha_canal.protos.canal_pb2 import Messages, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ha_canal.client.change import Change


class Delivery(Protocol):
    """``messages`` are the serialized entries, ``count`` how many; `changes` raises DecodeError.

    Iteration gives the same changes, decoded as it goes on.
    """

    @property
    def batch_id(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def partial_transaction(self) -> bool: ...
    @property
    def place(self) -> Place: ...
    @property
    def count(self) -> int: ...
    @property
    def messages(self) -> Sequence[bytes]: ...
    def changes(self) -> tuple[Change, ...]: ...
    def __iter__(self) -> Iterator[Change]: ...


class PureDelivery:
    """The twin."""

    __slots__ = ("_message", "batch_id", "count", "epoch", "partial_transaction")

    def __init__(self, message: Messages) -> None:
        self._message = message
        self.batch_id = message.batch_id
        self.epoch = message.epoch
        self.partial_transaction = message.partial_transaction
        self.count = len(message.messages)

    @property
    def place(self) -> Place:
        return self._message.place

    @property
    def messages(self) -> Sequence[bytes]:
        return self._message.messages

    def changes(self) -> tuple[Change, ...]:
        return tuple(self)

    def __iter__(self) -> Iterator[Change]:
        return changes_of(self._message.messages)


def pure_delivery(raw: bytes, start: int = 0) -> Delivery:
    """Read a serialized ``Messages``, which is all of ``raw`` from ``start`` on. Raises DecodeError."""
    try:
        return PureDelivery(Messages.FromString(raw[start:]))
    except ParseError as wrong:
        raise DecodeError(
            f"a batch of {len(raw) - start} bytes cannot be read ({wrong}): it was damaged on its way, or its node "
            "speaks another protocol; look at the versions of both"
        ) from None


@cache
def _warn(missing: str) -> None:
    logging.getLogger("ha_canal.client").warning(
        "changes are decoded in Python, many times slower: ha_canal.client._entries was not compiled (%s)", missing
    )


def _chosen() -> tuple[Callable[[bytes, int], Delivery], bool]:
    if PURE:
        return pure_delivery, False
    try:
        from ha_canal.client._entries import CompiledDelivery, UnusualError
    except ImportError as failure:
        missing = str(failure)

        def missed(raw: bytes, start: int) -> Delivery:
            _warn(missing)
            return pure_delivery(raw, start)

        return missed, False

    def compiled(raw: bytes, start: int) -> Delivery:
        try:
            return CompiledDelivery(raw, start)
        except UnusualError:
            return pure_delivery(raw, start)

    return compiled, True


_read, COMPILED = _chosen()


def delivery(raw: bytes, start: int = 0) -> Delivery:
    """Do what `pure_delivery` does, compiled if ``COMPILED``."""
    return _read(raw, start)
