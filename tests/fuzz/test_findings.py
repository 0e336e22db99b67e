"""Hostile inputs made by hand that once did harm: errors of another kind, runaway time, runaway memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard

from ha_canal.binlog.compression import TransactionPayload, inflate_block
from ha_canal.binlog.ddl_types import parse_ddl_type
from ha_canal.binlog.events import EventType
from ha_canal.binlog.gtid_events import parse_gtid_tagged
from ha_canal.binlog.json_diff import apply_json_diffs
from ha_canal.binlog.jsonb import json_text
from ha_canal.binlog.statement import StatementRole, classify
from ha_canal.binlog.table_map import parse_table_map
from ha_canal.binlog.values import inflate
from ha_canal.cluster.layout import RunningNode
from ha_canal.cursor.record import cursor_from_json
from ha_canal.errors import CursorFormatError, DecodeError, UsageError
from ha_canal.model.change import ChangeKind
from ha_canal.model.gtid import MysqlGtidSet
from ha_canal.model.position import file_sequence
from tests.fuzz.limits import bounded_memory, bounded_time
from tests.fuzz.seeds import bodies

_UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
_EMPTY_OBJECT, _EMPTY_ARRAY, _ONE = b"\x00\x00\x00\x04\x00", b"\x02\x00\x00\x04\x00", b"\x05\x01\x00"


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    with bounded_memory(), bounded_time(5):
        yield


def _payload(plain_bytes: int, compressed: bytes) -> bytes:
    sizes = b"\x01\x09\xfe%b\x02\x01\x00\x03\x09\xfe%b\x00"
    return sizes % (len(compressed).to_bytes(8, "little"), plain_bytes.to_bytes(8, "little")) + compressed


def _zeros(plain_bytes: int, head: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    piece = bytes(1 << 20)
    return b"".join((compressor.compress(head), *(compressor.compress(piece) for _ in range(plain_bytes >> 20)))) + (
        compressor.flush()
    )


def test_a_bomb_of_one_event_is_not_inflated() -> None:
    size = 3 << 30
    bomb = _zeros(64 << 20, bytes(9) + size.to_bytes(4, "little") + bytes(6))
    for announced in (1000, 64 << 20, size + 19, 1 << 62):
        payload = TransactionPayload(_payload(announced, bomb))
        with pytest.raises(DecodeError):
            payload.next_event()


def test_a_compressed_block_holds_no_more_than_its_bytes_can() -> None:
    block = zlib.compress(bytes(1 << 20))
    with pytest.raises(DecodeError, match="cannot hold"):
        inflate_block(b"\x84\xff\xff\xff\xff" + block)
    with pytest.raises(ValueError, match="cannot hold"):
        inflate(b"\x87\x04\x00\x00\x00\x00\x00\x00" + block)


@pytest.mark.parametrize("quote", ["'", '"', "`", '"\\', "'\\", "\"'`"])
def test_quotes_without_end_are_read_once(quote: str) -> None:
    found = classify("CREATE TABLE t " + quote * 3_000_001)
    assert (found.role, found.kind, found.table) == (StatementRole.DDL, ChangeKind.CREATE, "t")


def test_json_texts_that_share_their_bytes_do_not_multiply() -> None:
    count, size = 50_000, 60_000
    place = 8 + 5 * count
    text = b"\xe0\xd4\x03" + b"x" * size
    array = struct.pack("<II", count, place + len(text)) + (b"\x0c" + struct.pack("<I", place)) * count + text
    with pytest.raises(ValueError, match="share their bytes"):
        json_text(b"\x03" + array)
    place = 8 + 11 * count
    keys = b"".join(struct.pack("<IH", place + index, size) for index in range(count))
    members = struct.pack("<II", count, place + size + count) + keys + b"\x04\0\0\0\0" * count + bytes(size + count)
    with pytest.raises(ValueError, match="share their bytes"):
        json_text(b"\x01" + members)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_json_has_no_number_without_end(number: str) -> None:
    with pytest.raises(ValueError, match="in JSON"):
        json_text(b"\x0b" + struct.pack("<d", float(number)))


def _diff(path: str, value: bytes) -> bytes:
    raw = path.encode()
    return b"\x01\xfd" + len(raw).to_bytes(3, "little") + raw + bytes((len(value),)) + value


def test_many_json_diffs_take_linear_time() -> None:
    names = [f"k{number}" for number in range(20_000)]
    document = apply_json_diffs(_EMPTY_OBJECT, b"".join(_diff(f"$.{name}", _ONE) for name in reversed(names)))
    assert document.startswith('{"k0": 1, "k1": 1, "k2": 1')
    assert document.endswith('"k19999": 1}')


def test_json_diffs_cannot_nest_without_end() -> None:
    diffs = b"".join(_diff("$" + ".a" * depth, _EMPTY_OBJECT) for depth in range(1, 1500))
    with pytest.raises(ValueError, match="101 legs"):
        apply_json_diffs(_EMPTY_OBJECT, diffs)
    with pytest.raises(ValueError, match="legs"):
        apply_json_diffs(_EMPTY_ARRAY, _diff("$" + "[0]" * 200_000, _ONE))


def _varlen(value: int) -> bytes:
    return b"\xff" + value.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("tag", "time_us"), [(b"a-b", 5), (b"A", 5), (b"x" * 33, 5), (b"ok", 1 << 55), (b"", 2**64 - 1)]
)
def test_a_tag_or_a_time_that_cannot_be(tag: bytes, time_us: int) -> None:
    numbers = [0, 1, 1, *range(16), 2, 14, 3, len(tag)]
    fields = b"".join(map(_varlen, numbers)) + tag + _varlen(6) + _varlen(time_us)
    body = _varlen(1) + _varlen(27 + len(fields)) + _varlen(8) + fields
    with pytest.raises(DecodeError, match=r"no tag|microseconds after 1970"):
        parse_gtid_tagged(body)


def test_a_primary_key_of_more_parts_than_columns() -> None:
    def lenenc(size: int) -> bytes:
        return b"\xfd" + size.to_bytes(3, "little")

    count, key = 4000, b"\x01" * 1_000_000
    head = bytes(8) + b"\x04shop\0\x01t\0" + lenenc(count) + b"\x03" * count + b"\0" + bytes(count // 8)
    with pytest.raises(DecodeError, match="primary key"):
        parse_table_map(head + b"\x08" + lenenc(len(key)) + key)


def test_sets_of_gtids_with_many_holes() -> None:
    numbers = range(1, 120_000, 4)
    left = MysqlGtidSet.parse(f"{_UUID}:" + ":".join(map(str, numbers)))
    right = MysqlGtidSet.parse(f"{_UUID}:" + ":".join(str(number + 2) for number in numbers))
    assert not left.intersection(right)
    assert left.difference(right) == left
    assert left.issubset(left.copy())


@pytest.mark.parametrize(("name", "key"), [("a." + "9" * 5000, 0), ("a.٣", 0), ("a.000012", 12)])
def test_numbers_of_files_that_are_none(name: str, key: int) -> None:
    assert file_sequence(name)[0] == key


@pytest.mark.parametrize("text", [f"varchar({'9' * 5000})", f"decimal({'9' * 5000},1)"])
def test_lengths_of_columns_that_are_none(text: str) -> None:
    assert parse_ddl_type(text).length is None


_NO_JSON = (b"[" * 100_000, b'{"a":' * 100_000, b'{"address": "\\ud800"}', b'{"epoch": ' + b"9" * 5000 + b"}", b"\xff")


@pytest.mark.parametrize("data", _NO_JSON, ids=lambda data: data[:12].hex())
@pytest.mark.parametrize(
    ("read", "error"),
    [(lambda data: RunningNode.from_json(data, "x"), UsageError), (cursor_from_json, CursorFormatError)],
)
def test_payloads_in_the_coordinator(read: Callable[[bytes], object], error: type[Exception], data: bytes) -> None:
    with pytest.raises(error):
        read(data)


def test_a_file_name_in_a_cursor_that_cannot_be_sent() -> None:
    with pytest.raises(CursorFormatError, match="surrogates"):
        cursor_from_json(b'{"postion": {"journalName": "\\ud800", "position": 4}}')


def test_an_event_larger_than_its_payload() -> None:
    body = bodies(EventType.TRANSACTION_PAYLOAD)[0]
    inner = TransactionPayload(body).next_event()
    assert inner is not None
    event = bytearray(inner)
    event[9:13] = (len(event) + 1).to_bytes(4, "little")
    with pytest.raises(DecodeError, match="does not fit"):
        TransactionPayload(_payload(len(event), zstandard.compress(bytes(event)))).next_event()
