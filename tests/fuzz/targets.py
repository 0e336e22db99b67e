"""What is fuzzed: per decoder its seeds, how it is called, and the errors that it may raise.

Parsers of single bodies may raise what the stream around them turns into a DecodeError with its place; whatever is
called from outside may raise its documented errors alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from ha_canal.binlog import charsets, compression, decimal, events, gtid_events, json_diff, jsonb, query, temporal
from ha_canal.binlog.ddl_types import parse_ddl_type, sql_type, wire_types
from ha_canal.binlog.events import EventType
from ha_canal.binlog.packets import PacketReader, ServerError
from ha_canal.binlog.rows_events import ROWS_SHAPES, parse_rows_header
from ha_canal.binlog.statement import classify
from ha_canal.binlog.table_map import parse_table_map
from ha_canal.cluster.layout import RunningClient, RunningNode, epoch_from_bytes
from ha_canal.cursor.record import cursor_from_json, cursor_to_json
from ha_canal.errors import CursorFormatError, SourceLostError, StreamError, UsageError
from ha_canal.model.gtid import parse_gtid_set
from ha_canal.model.position import Position, file_sequence
from tests.fuzz import rows, stream
from tests.fuzz.seeds import bodies, rows_seeds

PLACED_BY_CALLER = (StreamError, struct.error, IndexError, ValueError)
IN_VALUES = (*PLACED_BY_CALLER, OverflowError, zlib.error)


@dataclass(frozen=True, slots=True)
class Target:
    """``call`` gets mutated ``seeds``; ``allowed`` are the errors that are an outcome like any other."""

    seeds: Sequence[bytes]
    call: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = PLACED_BY_CALLER


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _payload(data: bytes) -> int:
    payload = compression.TransactionPayload(data)
    count = 0
    while payload.next_event() is not None:
        count += 1
    return count


def _plain_payload(data: bytes) -> int:
    """The events as they are, so that mutations meet what is inside."""
    size = b"\xfe" + len(data).to_bytes(8, "little")
    return _payload(b"\x01\x09" + size + b"\x02\x03\xfc\xff\x00\x00" + data)


def _packets(data: bytes) -> list[int]:
    reader = PacketReader()
    sizes = []
    for at in range(0, len(data), 1000):
        reader.feed(data[at : at + 1000])
        while (event := reader.next_event()) is not None:
            sizes.append(len(event))
    return sizes


def _rows_head(data: bytes) -> object:
    shapes = list(ROWS_SHAPES.values())
    return parse_rows_header(data[1:], shapes[data[0] % len(shapes)]) if data else None


def _diffed(data: bytes) -> str:
    size = int.from_bytes(data[:2], "big")
    return json_diff.apply_json_diffs(data[2 : 2 + size], data[2 + size :])


def _ddl(data: bytes) -> object:
    ddl = parse_ddl_type(_text(data))
    return wire_types(ddl, "utf8mb4"), sql_type(ddl)


def _values(data: bytes) -> None:
    if len(data) < 3:
        return
    digits, precision = data[0] % 7, data[1] % 65 + 1
    decoders = (
        temporal.year,
        temporal.date,
        *(make(digits) for make in _TEMPORAL),
        decimal.decimal_decoder(precision, min(data[2] % 39, precision)),
    )
    for decode in decoders:
        for offset in (0, 3, len(data)):
            try:
                _, end = decode(data, offset)
            except IN_VALUES:
                continue
            assert end >= offset


_TEMPORAL = (
    temporal.timestamp2_decoder, temporal.datetime2_decoder, temporal.time2_decoder,
    temporal.old_timestamp_decoder, temporal.old_datetime_decoder, temporal.old_time_decoder,
)  # fmt: skip
_CHARSETS = sorted(set(charsets._COLLATIONS))


def _charset(data: bytes) -> None:
    """Decoding text never fails, and never makes more than a character of a byte."""
    if data:
        assert len(charsets.text_decoder(_CHARSETS[data[0] % len(_CHARSETS)])(data[1:])) <= len(data)


def _documents() -> tuple[bytes, ...]:
    return tuple(rows.json_documents())


def _with_diffs() -> tuple[bytes, ...]:
    """Documents behind their length, and diffs of them."""
    scalar = b"\x05\x07\x00"
    diffs = [
        bytes((operation, len(path))) + path + (b"" if operation == 2 else bytes((len(scalar),)) + scalar)
        for operation in (0, 1, 2)
        for path in (b"$", b"$.a", b"$.b[1]", b'$."new name"', b"$[0]", b"$.b[99]")
    ]
    seeds = [
        len(document).to_bytes(2, "big") + document + several
        for document in _documents()
        for several in (*diffs, b"".join(diffs[1:12:2]), diffs[1] + diffs[7] + diffs[7])
    ]
    return tuple(seed for seed in seeds if _applies(seed))


def _applies(seed: bytes) -> bool:
    try:
        _diffed(seed)
    except IN_VALUES:
        return False
    return True


_CURSOR = cursor_to_json(
    Position("mysql-bin.000007", 4711, "3e11fa47-71ca-11e1-9e33-c80aa9429562", 1, 1_700_000_000_000, "0-1-5,7-2-9"),
    source_host="db.example", source_port=3306, epoch=9,
)  # fmt: skip
_SQL = (
    b"CREATE TABLE `a``b`.\"c\" (a INT) /* x */ -- y\n",
    b"/*!80016 ALTER */ TABLE t ADD COLUMN 'it''s' INT # end",
    b"SET STATEMENT max_statement_time=1 FOR DROP TABLE IF EXISTS a, b",
    b"((((WITH x AS (SELECT '\\'' ) DELETE FROM t",
    b"ROLLBACK TO SAVEPOINT `x`", b"XA COMMIT 'a',x'01',1", b"RENAME TABLE a TO b",
    b"CREATE OR REPLACE INDEX i ON t (a)",
)  # fmt: skip
_GTIDS = (
    b"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:import_1:1-3,4e11fa47-71ca-11e1-9e33-c80aa9429562:1-9223372036854775807",
    b"0-1-100,5-2-7",
)
_DDL = (
    b"int(11) unsigned", b"decimal(65,30)", b"enum('a','it''s','\\'','\xe8\x8c\xb6')", b"timestamp(3)", b"bit(64)",
    b"varchar(300) /*M!100301 COMPRESSED*/", b"datetime(6)", b"set('a','b')",
)  # fmt: skip

_NODE = RunningNode("10.0.0.1:11111", "a", "0x1").to_json()
_CLIENT = RunningClient("10.0.0.1", "1001", 3).to_json()

_FORMATS = [body + bytes(4) for body in bodies(EventType.FORMAT_DESCRIPTION)]  # with a checksum behind it

TARGETS: dict[str, Target] = {
    "format description": Target(
        [body + bytes(4) for body in bodies(EventType.FORMAT_DESCRIPTION)], events.parse_format_description
    ),
    "rotate": Target(bodies(EventType.ROTATE), events.parse_rotate),
    "heartbeat": Target((b"\x01\x10mysql-bin.000002\x02\x03\xfc\x00\x10\x00",), events.parse_heartbeat_v2),
    "incident": Target((b"\x01\x00\x05hello",), events.parse_incident),
    "query": Target(bodies(EventType.QUERY), query.parse_query),
    "compressed query": Target(
        bodies(EventType.QUERY_COMPRESSED), lambda data: query.parse_query(data, compressed=True)
    ),
    "gtid": Target(bodies(EventType.GTID), gtid_events.parse_gtid),
    "tagged gtid": Target(bodies(EventType.GTID_TAGGED), gtid_events.parse_gtid_tagged),
    "mariadb gtid": Target(
        (
            *bodies(EventType.MARIADB_GTID),
            bytes(12) + b"\x40\x01\x00\x00\x00\x03\x02abcde",
            bytes(12) + b"\x02" + bytes(30),
        ),
        lambda data: gtid_events.parse_mariadb_gtid(data, 1),
    ),
    "table map": Target(
        bodies(EventType.TABLE_MAP),
        lambda data: [parse_table_map(data, mariadb=mariadb) for mariadb in (None, True, False)],
        (StreamError,),
    ),
    "rows head": Target([bytes((index % 13,)) + seed.rows for index, seed in enumerate(rows_seeds())], _rows_head),
    "rows": Target(rows.SEEDS, rows.read, (StreamError,)),
    "payload": Target(bodies(EventType.TRANSACTION_PAYLOAD), _payload),
    "payload as it is": Target(rows.inner_events(bodies(EventType.TRANSACTION_PAYLOAD)), _plain_payload),
    "block": Target([*map(rows.compressed_block, rows_seeds())], compression.inflate_block),
    "packets": Target(stream.FRAMED, _packets, (StreamError, ServerError, SourceLostError)),
    "json": Target(_documents(), jsonb.json_text, IN_VALUES),
    "json diffs": Target(_with_diffs(), _diffed, IN_VALUES),
    "values": Target([seed.rows[10:200] for seed in rows_seeds()], _values, ()),
    "texts": Target(
        [bytes((number,)) + "é日本語茶 one 中".encode(codec, "replace") for number, codec in enumerate(stream.CODECS)],
        _charset,
        (),
    ),
    "statement": Target(_SQL, lambda data: classify(_text(data), "shop"), ()),
    "column type": Target(_DDL, _ddl, ()),
    "stream": Target(stream.SEEDS, stream.read, ()),
    "stream of a damaged file": Target(stream.FRAMED, stream.read_packets, ()),
    "cursor": Target((_CURSOR,), cursor_from_json, (CursorFormatError,)),
    "gtid set": Target(_GTIDS, lambda data: str(parse_gtid_set(_text(data))), (ValueError,)),
    "file name": Target((b"mysql-bin.000001", b"mysql-bin.9999999"), lambda data: file_sequence(_text(data)), ()),
    "running node": Target((_NODE,), lambda data: RunningNode.from_json(data, "x"), (UsageError,)),
    "running client": Target((_CLIENT,), lambda data: RunningClient.from_json(data, "x"), (UsageError,)),
    "epoch": Target((b"12",), lambda data: epoch_from_bytes(data, "x"), (UsageError,)),
}
SPLICES = tuple(chain.from_iterable(target.seeds for target in TARGETS.values()))
