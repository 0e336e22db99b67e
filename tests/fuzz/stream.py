"""Whole streams: one event of a real binlog mutated and sealed with a good checksum, or damage anywhere in the packets.

A sealed event passes every check of the frame, so that what reads its body has to stand for itself.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from ha_canal.binlog.encode import encode_entry
from ha_canal.binlog.events import EventType
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.stream import BinlogStream
from ha_canal.errors import SourceLostError, StreamError
from ha_canal.model.change import Item
from ha_canal.model.run import unpacked
from tests.binlog.streams import describe
from tests.fuzz.rows import plan_of
from tests.fuzz.seeds import BINLOGS, RawEvent, stream_of

CODECS = (
    "utf-8", "gbk", "big5", "shift_jis", "euc_jp", "gb18030", "utf-16-be", "utf-16-le", "utf-32-be", "koi8_u",
    "latin-1", "euc_kr",
)  # fmt: skip
_STARTS = (EventType.GTID, EventType.ANONYMOUS_GTID, EventType.GTID_TAGGED, EventType.MARIADB_GTID)
_EVENTS_BEHIND = 12
_HEAD = struct.Struct(">BHBH")
_FILE = "mysql-bin.000001"

SEEDS = tuple(
    _HEAD.pack(number, index, event.code, event.flags) + event.body
    for number, binlog in enumerate(BINLOGS)
    for index, event in enumerate(binlog)
)
FRAMED = tuple(stream_of(binlog)[0] for binlog in BINLOGS)

Outcome = tuple[list[str], str]
"""The items as text, and the error behind them."""


def read(data: bytes) -> Outcome:
    """Read a transaction with one event changed, and a few events behind it."""
    if len(data) < _HEAD.size:
        return [], ""
    number, index, code, flags = _HEAD.unpack_from(data)
    binlog = BINLOGS[number % len(BINLOGS)]
    index %= len(binlog)
    changed = replace(binlog[index], code=code, flags=flags, body=data[_HEAD.size :])
    packets, _ = stream_of(_around(binlog, index, changed))
    return read_packets(packets)


def _around(binlog: list[RawEvent], index: int, changed: RawEvent) -> list[RawEvent]:
    if index == 0:
        return [changed, *binlog[1:_EVENTS_BEHIND]]
    start = next((at for at in range(index, 0, -1) if binlog[at].code in _STARTS), 1)
    return [binlog[0], *binlog[start:index], changed, *binlog[index + 1 : index + _EVENTS_BEHIND]]


def read_packets(packets: bytes) -> Outcome:
    """Read item by item and in runs: both must come to the same."""
    single = _drained(packets, runs=False)
    assert _drained(packets, runs=True) == single
    return single


def _drained(packets: bytes, *, runs: bool) -> Outcome:
    stream = BinlogStream(file=_FILE, offset=4, server_uuid="")
    lines: list[str] = []
    stream.feed(packets)
    try:
        while items := _next(stream, runs=runs):
            lines += map(describe, items)
            _encode(items)
    except (ServerError, SourceLostError) as error:
        return lines, str(error)
    except StreamError as error:
        return lines, _placed(error)
    assert stream.pending_bytes <= len(packets)
    return lines, ""


def _placed(error: StreamError) -> str:
    assert error.file, error
    assert error.offset >= 0, error
    return str(error)


def _assert_at(error: StreamError, item: Item) -> None:
    assert (error.file, error.offset) == (item.transaction.file, item.offset), error


def _next(stream: BinlogStream, *, runs: bool) -> list[Item]:
    while True:
        got = stream.next_parcels() if runs else stream.next_items()
        if not got and runs:  # what is cut is read as far as it goes
            got = stream.next_items()
        if not isinstance(got, PlanNeeded):
            return list(unpacked(got))
        stream.supply_plan(got, plan_of(got.table_map))


def _encode(items: list[Item]) -> None:
    for item in items:
        try:
            encode_entry(item, epoch=1)
        except StreamError as error:
            _assert_at(error, item)
