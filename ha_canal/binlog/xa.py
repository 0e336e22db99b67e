"""XA transactions: their rows are logged at ``XA PREPARE``, and ``XA COMMIT`` or ``XA ROLLBACK`` is a group of its own.

What is prepared is no change yet: its group counts as a transaction without changes, and the rows are delivered as
those of the transaction that commits them, in the order of the commits (docs/adr/0004). Rows of small groups are kept
until then; those of the others, and those that were prepared before reading began, are read again when they are needed.
So what is kept here is a convenience, and losing it loses nothing.

Both servers write ``XA COMMIT X'67',X'62',1`` (global id, branch qualifier, format), and end a prepared group with an
XA_PREPARE event: one phase (1 byte), format (4), lengths of global id and qualifier (4 each), both (MySQL:
control_events.h, XA_prepare_event; MariaDB: log_event.h, XA_prepare_log_event).
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from ha_canal.binlog.events import Bytes, take
from ha_canal.errors import DecodeError
from ha_canal.model.change import Item, Transaction
from ha_canal.model.position import Position

MOST_KEPT_BYTES = 16 * 1024 * 1024
"""Rows of all undecided transactions together that one stream keeps, as `Item.size_bytes` counts."""
_MOST_GROUPS = 100_000
"""Undecided transactions whose places one stream keeps."""

_HEAD = struct.Struct("<BIII")
_WRITTEN = re.compile(r"XA\s+[A-Z]+\s+X'([0-9A-F]*)'\s*,\s*X'([0-9A-F]*)'\s*,\s*(\d+)", re.IGNORECASE | re.ASCII)
_FORMAT_BITS = 0xFFFFFFFF

Order = tuple[tuple[int, str], int]
"""A place in the binlog as `ha_canal.model.position.Position.order` gives it."""


class XaRows(enum.Enum):
    """What a stream does with the rows of XA transactions."""

    HOLD = "hold"
    """Deliver at the commit what was kept since the prepare; a commit whose rows were not kept is an error."""
    ASK = "ask"
    """The same, but ask for the rows that were not kept (`ha_canal.binlog.stream.PreparedNeeded`)."""
    DROP = "drop"
    """Deliver none. For who wants no rows."""
    FIND = "find"
    """Deliver none, and pass over what could not be delivered. For who looks only for what was prepared."""
    REPLAY = "replay"
    """Deliver what was prepared at once, and nothing at the commit. For who reads one prepared group again."""


class Xid(NamedTuple):
    """The name of an XA transaction; it may be used again once the transaction is decided."""

    global_id: bytes
    qualifier: bytes
    format_id: int

    def __str__(self) -> str:
        return f"X'{self.global_id.hex()}',X'{self.qualifier.hex()}',{self.format_id}"


class PrepareEnd(NamedTuple):
    """What an XA_PREPARE event says. ``one_phase``: prepared and committed in one step."""

    xid: Xid
    one_phase: bool


def parse_xa_prepare(body: Bytes) -> PrepareEnd:
    one_phase, format_id, global_bytes, qualifier_bytes = _HEAD.unpack(take(body, 0, _HEAD.size))
    global_id = bytes(take(body, _HEAD.size, global_bytes))
    qualifier = bytes(take(body, _HEAD.size + global_bytes, qualifier_bytes))
    return PrepareEnd(Xid(global_id, qualifier, format_id), bool(one_phase))


def parse_xid(sql: str) -> Xid:
    """Read the name out of an XA statement as servers write it to their binlog."""
    found = _WRITTEN.match(sql)
    if found is None:
        raise DecodeError(f"{sql[:200]!r} names no XA transaction")
    return Xid(bytes.fromhex(found[1]), bytes.fromhex(found[2]), int(found[3]) & _FORMAT_BITS)


@dataclass(frozen=True, slots=True)
class PreparedGroup:
    """One ``XA PREPARE``: where it is, and its `Begin` and changes, or None where they are not kept.

    ``count`` is the number of ordinals it used.
    """

    transaction: Transaction
    count: int
    items: tuple[Item, ...] | None
    size_bytes: int

    @property
    def order(self) -> Order:
        return Position(self.transaction.file, self.transaction.start_offset).order


class PreparedGroups:
    """What is prepared and undecided, as far as one stream has seen.

    With ``before`` it looks back instead: what begins there or later is left out, and what was decided is remembered
    as None.
    """

    def __init__(self, *, before: Order | None = None) -> None:
        self._before = before
        self._groups: dict[Xid, PreparedGroup | None] = {}
        self._kept_bytes = 0

    @property
    def kept_bytes(self) -> int:
        return self._kept_bytes

    def known(self) -> dict[Xid, PreparedGroup | None]:
        """Return what was seen of each XA transaction last: prepared, or (None) decided."""
        return dict(self._groups)

    def add(self, xid: Xid, group: PreparedGroup) -> None:
        """Note a prepare; one of the same name before it was decided without a word in the binlog."""
        if self._before is not None and group.order >= self._before:
            return
        self._remove(xid)
        self._groups[xid] = group
        self._kept_bytes += group.size_bytes
        self._shrink()

    def learn(self, xid: Xid, transaction: Transaction) -> None:
        """Note the place of one that was prepared before all that was seen here."""
        self._groups.setdefault(xid, PreparedGroup(transaction, 0, None, 0))

    def decide(self, xid: Xid, at: Transaction) -> PreparedGroup | None:
        """Return what was prepared, or None if that was not seen; ``at`` commits it or rolls it back."""
        if self._before is not None and Position(at.file, at.start_offset).order >= self._before:
            return None
        group = self._remove(xid)
        if self._before is not None:
            self._groups[xid] = None
        return group

    def _remove(self, xid: Xid) -> PreparedGroup | None:
        group = self._groups.pop(xid, None)
        if group is not None:
            self._kept_bytes -= group.size_bytes
        return group

    def _shrink(self) -> None:
        """Let go of rows, the oldest first, and at last of places."""
        if self._kept_bytes > MOST_KEPT_BYTES:
            for xid, group in self._groups.items():
                if group is not None and group.items is not None:
                    self._kept_bytes -= group.size_bytes
                    self._groups[xid] = PreparedGroup(group.transaction, group.count, None, 0)
                if self._kept_bytes <= MOST_KEPT_BYTES:
                    break
        if len(self._groups) > _MOST_GROUPS and self._before is None:
            self._remove(next(iter(self._groups)))
