"""GTID events that the captured files do not hold, and statements in other character sets."""

from __future__ import annotations

import struct
from uuid import UUID

import pytest

from ha_canal.binlog.compression import inflate_block
from ha_canal.binlog.gtid_events import parse_gtid, parse_gtid_tagged, parse_mariadb_gtid
from ha_canal.binlog.query import parse_query
from ha_canal.errors import DecodeError

UUID_BYTES = bytes(range(0xF0, 0x100))
UUID_TEXT = str(UUID(bytes=UUID_BYTES))
PLAIN = struct.pack("<B16sq", 0, UUID_BYTES, 2**40)
CLOCK = b"\2" + bytes(16)


def test_gtid_events_of_all_ages() -> None:
    assert parse_gtid(PLAIN) == (f"{UUID_TEXT}:{2**40}", 0)  # 5.6
    assert parse_gtid(PLAIN + CLOCK) == (f"{UUID_TEXT}:{2**40}", 0)  # 5.7
    assert parse_gtid(PLAIN + CLOCK + (77).to_bytes(7, "little")) == (f"{UUID_TEXT}:{2**40}", 77)  # 8.0
    immediate = (77 | 1 << 55).to_bytes(7, "little")
    assert parse_gtid(PLAIN + CLOCK + immediate + (66).to_bytes(7, "little")).commit_timestamp_us == 66  # a replica
    with pytest.raises(DecodeError):
        parse_gtid(PLAIN + CLOCK + immediate)
    assert parse_gtid(bytes(25), anonymous=True).gtid == ""


def varlen(value: int) -> bytes:
    size = next(n for n in range(1, 9) if value < 1 << 7 * n)
    return (value << size | (1 << size - 1) - 1).to_bytes(size, "little")


def tagged(*, immediate: int, original: int | None, number: int = 2**33, tag: str = "import") -> bytes:
    fields = varlen(0) + varlen(0) + varlen(1) + b"".join(map(varlen, UUID_BYTES)) + varlen(2) + varlen(number * 2)
    fields += varlen(3) + varlen(len(tag)) + tag.encode() + varlen(4) + varlen(8) + varlen(5) + varlen(10)
    fields += varlen(6) + varlen(immediate)
    if original is not None:
        fields += varlen(7) + varlen(original)
    fields += varlen(8) + varlen(300)
    size = len(fields) + 3
    return varlen(1) + varlen(size) + varlen(8) + fields


def test_tagged_gtid_events() -> None:
    us = 1_795_215_039_732_460
    assert parse_gtid_tagged(tagged(immediate=us, original=None)) == (f"{UUID_TEXT}:import:{2**33}", us)
    assert parse_gtid_tagged(tagged(immediate=us, original=5, tag="")) == (f"{UUID_TEXT}:{2**33}", 5)
    whole = tagged(immediate=us, original=7)
    for size in range(len(whole)):
        with pytest.raises(DecodeError):
            parse_gtid_tagged(whole[:size])


def test_mariadb_gtid_events() -> None:
    plain = struct.pack("<QIB", 9, 1, 12) + bytes(6)
    assert parse_mariadb_gtid(plain, 3).gtid == "1-3-9"
    grouped = struct.pack("<QIBQ", 9, 1, 2 | 1, 5) + b"\x02"
    assert parse_mariadb_gtid(grouped, 3).standalone
    assert parse_mariadb_gtid(grouped, 3).not_done
    assert parse_mariadb_gtid(struct.pack("<QIB", 9, 1, 64) + b"\1\0\0\0\1\0a", 3).prepared_xa


@pytest.mark.parametrize(
    ("collation", "raw", "sql"),
    [
        (8, "é€".encode("cp1252"), "é€"),
        (28, "中".encode("gbk"), "中"),
        (28, b"\xff\xff", "\udcff\udcff"),
        (255, "ä".encode(), "ä"),
        (255, b"\xe4", "\udce4"),
    ],
)
def test_statements_are_read_in_the_character_set_of_their_session(collation: int, raw: bytes, sql: str) -> None:
    status = (
        b"\0" + bytes(4) + b"\1" + bytes(8) + b"\6\3std" + b"\4" + struct.pack("<HHH", collation, 0, 0) + b"\x7fnew"
    )
    body = struct.pack("<IIBHH", 7, 0, 1, 0, len(status)) + status + b"d\0" + raw
    assert parse_query(body) == (7, "d", sql)


def test_blocks_that_are_not_what_they_announce() -> None:
    for block in (b"", b"\x81", b"\x81\x05", b"\x81\x05x\x9c", b"\x01\x05", b"\x91\x05", b"\x80"):
        with pytest.raises(DecodeError):
            inflate_block(block)
