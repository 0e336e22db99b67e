"""What tests of the stream share: reading it to its end, items as lines of text, and events made by hand."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ha_canal.binlog.events import EventType
from ha_canal.binlog.file import frame_payload, read_binlog_file
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement
from ha_canal.model.table import Column, RowPlan

CAPTURED = Path(__file__).parent / "captured"

Planner = Callable[[PlanNeeded], RowPlan | None]


def captured(name: str) -> list[bytes]:
    """Return the events of a captured file as framed packets."""
    return list(read_binlog_file(CAPTURED / f"{name}.binlog"))


def plan_for(needed: PlanNeeded) -> RowPlan:
    """Return a plan of as many columns as the table has; nobody decodes with it here."""
    table = needed.table_map
    columns = tuple(Column(f"c{i}", code, 0, "", 0) for i, code in enumerate(table.type_codes))
    return RowPlan(table.schema, table.table, table.table_id, columns)


def drain(stream: BinlogStream, planner: Planner = plan_for, max_items: int = 1024) -> list[Item]:
    """Take items until the stream wants more bytes."""
    taken: list[Item] = []
    while got := stream.next_items(max_items):
        if isinstance(got, PlanNeeded):
            stream.supply_plan(got, planner(got))
        else:
            taken += got
    return taken


def new_stream(file: str = "mysql-bin.000001", offset: int = 4, *, by_gtid: bool = False) -> BinlogStream:
    return BinlogStream(file=file, offset=offset, server_uuid="", by_gtid=by_gtid)


def read_all(chunks: Iterable[bytes], stream: BinlogStream | None = None, planner: Planner = plan_for) -> list[Item]:
    stream = stream or new_stream()
    items: list[Item] = []
    for chunk in chunks:
        stream.feed(chunk)
        items += drain(stream, planner)
    return items


def describe(item: Item) -> str:
    """Return one line that says all that matters of an item."""
    at = f"{item.offset}+{item.event_length}"
    match item:
        case Begin():
            t = item.transaction
            who = f"server {t.server_id} at {t.timestamp_s} {t.commit_timestamp_us}"
            return f"BEGIN {at} {t.gtid or '-'} from {t.start_offset} {who} thread {item.thread_id}"
        case Rows():
            images = f"{item.present_before.hex() or '-'} {item.present_after.hex() or '-'}"
            json = " partial" if item.partial_json else ""
            name = f"{item.plan.schema}.{item.plan.table}"
            return f"  {item.ordinal} {at} {item.kind.name}{json} {name} {images} {item.body.hex()}"
        case Statement():
            text = f"[{item.schema}][{item.table}] in [{item.database}] {item.sql!r}"
            return f"  {item.ordinal} {at} {item.kind.name} {text}"
        case Commit():
            empty = " empty" if item.empty else ""
            return f"COMMIT {at} until {item.end_offset} of {item.count} xid {item.xid}{empty}"


MYSQL_FORMAT = bytearray(41)
for _code, _size in {2: 13, 4: 8, 19: 8, 23: 8, 24: 8, 25: 8, 30: 10, 31: 10, 32: 10}.items():
    MYSQL_FORMAT[_code - 1] = _size


class Writer:
    """Writes events as a server would, each behind the last, and frames them as packets."""

    def __init__(self, *, offset: int = 4, checksum: bool = True, sequence: int = 1) -> None:
        self.offset = offset
        self.checksum = checksum
        self.sequence = sequence

    def packet(self, payload: bytes) -> bytes:
        framed, self.sequence = frame_payload(payload, self.sequence)
        return framed

    def event(self, code: int, body: bytes, *, flags: int = 0, log_pos: int | None = None, server_id: int = 1) -> bytes:
        """Return an event that ends where the file says, or at ``log_pos`` if it is given (0: in no file)."""
        checksum = self.checksum or code == EventType.FORMAT_DESCRIPTION
        size = 19 + len(body) + 4 * checksum
        if log_pos is None:
            self.offset += size
            log_pos = self.offset
        event = struct.pack("<IBIIIH", 1_700_000_000, code, server_id, size, log_pos & 0xFFFFFFFF, flags) + body
        if checksum:
            event += struct.pack("<I", zlib.crc32(event))
        return self.packet(b"\0" + event)

    def rotate(self, file: str, offset: int = 4, *, artificial: bool = True) -> bytes:
        body = struct.pack("<Q", offset) + file.encode()
        if artificial:
            return self.event(EventType.ROTATE, body, flags=0x20, log_pos=0)
        packet = self.event(EventType.ROTATE, body)
        self.offset = offset
        return packet

    def format(self, version: str = "9.7.4", *, log_pos: int | None = None) -> bytes:
        body = struct.pack("<H50sIB", 4, version.encode(), 0, 19) + bytes(MYSQL_FORMAT) + bytes((self.checksum,))
        return self.event(EventType.FORMAT_DESCRIPTION, body, log_pos=log_pos)

    def gtid(self, number: int) -> bytes:
        return self.event(EventType.GTID, struct.pack("<B16sq", 1, bytes(range(16)), number))

    def query(self, sql: str | bytes, database: str = "shop", status: bytes = b"") -> bytes:
        raw = sql.encode() if isinstance(sql, str) else sql
        name = database.encode()
        head = struct.pack("<IIBHH", 7, 0, len(name), 0, len(status))
        return self.event(EventType.QUERY, head + status + name + b"\0" + raw)

    def table_map(self, table_id: int = 1, table: str = "goods") -> bytes:
        name = table.encode()
        names = b"\x04shop\0" + bytes((len(name),)) + name + b"\0"
        return self.event(EventType.TABLE_MAP, table_id.to_bytes(6, "little") + b"\1\0" + names + b"\x01\x03\x00\x00")

    def rows(self, table_id: int = 1, rows: bytes = b"\0\1\0\0\0", code: int = EventType.WRITE_ROWS) -> bytes:
        head = table_id.to_bytes(6, "little") + b"\1\0\x02\0\x01"
        return self.event(code, head + (b"\xff\xff" if code == EventType.UPDATE_ROWS else b"\xff") + rows)

    def xid(self, number: int = 1) -> bytes:
        return self.event(EventType.XID, struct.pack("<Q", number))

    def one_row(self, number: int) -> bytes:
        """Return a whole transaction."""
        return b"".join((self.gtid(number), self.query("BEGIN"), self.table_map(), self.rows(), self.xid(number)))


def captured_from(name: str, offset: int) -> list[bytes]:
    """Return a captured file as a dump that starts at ``offset`` gives it: without the events before.

    The head of the file would come as a copy that states no position; here it simply says so.
    """
    raw = (CAPTURED / f"{name}.binlog").read_bytes()
    writer = Writer()
    version = "10.11.19-MariaDB-log" if name.startswith("mariadb") else "9.7.4"
    packets = [writer.rotate("mysql-bin.000001", offset), writer.format(version, log_pos=0)]
    while offset < len(raw):
        size = int.from_bytes(raw[offset + 9 : offset + 13], "little")
        packets.append(writer.packet(b"\0" + raw[offset : offset + size]))
        offset += size
    return packets
