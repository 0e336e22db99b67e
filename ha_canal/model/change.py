"""What flows from the source through the ring to the readers: transactions and their items.

The source makes items, the ring orders and bounds them, encoders turn them into what a reader speaks. Row changes
stay as the raw body of their binlog event together with the plan that can read it; nobody decodes a row before
a reader has asked for it.

A committed transaction flows as ``Begin, (Rows | Statement)*, Commit``. A transaction of which nothing passes
the filter flows as a lone ``Commit`` with ``empty=True``, so that positions move on.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ha_canal.model.table import RowPlan

_ITEM_OVERHEAD_BYTES = 200
"""About what one item costs in memory beside its body; measured with tracemalloc on CPython 3.11."""


class ChangeKind(enum.IntEnum):
    """The kinds of change, with the numbers of EventType in Canal's EntryProtocol."""

    INSERT = 1
    UPDATE = 2
    DELETE = 3
    CREATE = 4
    ALTER = 5
    ERASE = 6
    QUERY = 7
    TRUNCATE = 8
    RENAME = 9
    CREATE_INDEX = 10
    DROP_INDEX = 11


@dataclass(frozen=True, slots=True)
class Transaction:
    """What all items of one transaction share.

    ``gtid`` is ``uuid:gno``, ``uuid:tag:gno`` (MySQL), ``domain-server-sequence`` (MariaDB), or ``""``.
    ``start_offset`` is where its first event (the GTID event where there is one) starts in ``file``.
    ``timestamp_s`` is the header's time in whole seconds; ``commit_timestamp_us`` the source's own commit time in
    microseconds (0 where the server does not say).
    """

    gtid: str
    file: str
    start_offset: int
    server_uuid: str
    server_id: int
    timestamp_s: int
    commit_timestamp_us: int = 0

    @property
    def event_id_prefix(self) -> str:
        """The part of event ids that all entries of the transaction share: the same on replay and fail-over."""
        return self.gtid or f"{self.server_uuid or self.server_id}/{self.file}:{self.start_offset}"


@dataclass(frozen=True, slots=True)
class Begin:
    """The start of a transaction. ``offset`` and ``event_length`` (bytes) are those of the event that said so."""

    transaction: Transaction
    offset: int
    event_length: int
    thread_id: int = 0

    @property
    def size_bytes(self) -> int:
        return _ITEM_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one rows event, still as bytes.

    ``body`` is what ``plan`` reads: the row images of the event behind its column bitmaps, without checksum
    (for compressed events: after decompression). ``present_before`` and ``present_after`` are the column bitmaps
    of the event (bit i of byte i//8: column i is in the image); INSERT uses only ``present_after``, DELETE only
    ``present_before``. ``ordinal`` counts the rows events and statements of the transaction from 0 on, filtered
    ones included, so that it is the same on replay whatever the filter. ``partial_json`` marks an event whose
    after images may hold JSON diffs.
    """

    transaction: Transaction
    ordinal: int
    offset: int
    event_length: int
    timestamp_s: int
    kind: ChangeKind
    plan: RowPlan
    present_before: bytes
    present_after: bytes
    body: bytes
    partial_json: bool = False

    @property
    def size_bytes(self) -> int:
        return _ITEM_OVERHEAD_BYTES + len(self.body)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that the binlog holds as text: DDL. ``database`` is the session's default database.

    ``schema`` and ``table`` are the first table that the statement names, ``""`` where none was recognised.
    """

    transaction: Transaction
    ordinal: int
    offset: int
    event_length: int
    timestamp_s: int
    kind: ChangeKind
    sql: str
    database: str
    schema: str
    table: str

    @property
    def size_bytes(self) -> int:
        return _ITEM_OVERHEAD_BYTES + 2 * len(self.sql)


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a transaction. ``end_offset`` is where the next transaction starts in ``file``.

    ``file`` differs from the transaction's own only when a server closed the file inside (never for MySQL and
    MariaDB today, which keep a transaction in one file). ``count`` is the number of ordinals the transaction
    used. ``empty``: nothing of it passed the filter, and no `Begin` came before.
    """

    transaction: Transaction
    offset: int
    event_length: int
    timestamp_s: int
    end_offset: int
    count: int
    xid: int = 0
    empty: bool = False

    @property
    def size_bytes(self) -> int:
        return _ITEM_OVERHEAD_BYTES


Item = Begin | Rows | Statement | Commit
"""What the ring holds, in commit order."""
