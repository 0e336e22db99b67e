"""Text of every character set, against the server's own CONVERT."""

from __future__ import annotations

import random

import pytest

from ha_canal.binlog import charsets
from ha_canal.binlog.ddl_types import parse_ddl_type
from ha_canal.testing.database import Database

_SEED = random.SystemRandom().randrange(1 << 32)


def test_the_collation_table_is_the_servers(database: Database) -> None:
    if database.server.flavor == "mariadb":
        source = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
    else:
        source = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS"
    for number, charset in database.run_sql(source):
        assert charsets.charset_of_collation(number) == charset, number
    for charset, longest in database.run_sql(
        "SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS"
    ):
        assert charsets.bytes_per_character(charset) == longest, charset
        assert charsets.is_known_charset(charset)


def test_bytes_become_the_characters_of_the_server(database: Database) -> None:
    print(f"seed {_SEED}")
    rng = random.Random(_SEED)
    for (charset,) in database.run_sql(
        "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME <> 'binary'"
    ):
        decode = charsets.text_decoder(charset)
        for stored, text in _samples(database, charset, rng):
            if text not in ("?", "\ufffd") or stored == b"?":
                assert decode(stored) == text, (charset, stored.hex())


def _samples(database: Database, charset: str, rng: random.Random) -> list[tuple[bytes, str]]:
    """Characters as the server stores them, and as it reads them back."""
    if charsets.bytes_per_character(charset) == 1:
        stored = [bytes((byte,)) for byte in range(256)]
    else:
        points = [point for point in rng.sample(range(0x80, 0xFFFE), 3000) if not 0xD800 <= point < 0xE000]
        points += rng.sample(range(0x4E00, 0x9FA0), 2000)
        stored = _convert(database, [chr(point).encode("utf-32-be") for point in points], "utf32", charset)
        stored = [value for value in stored if value != b"?"]
    back = _convert(database, stored, charset, "utf32")
    return [(value, text.decode("utf-32-be")) for value, text in zip(stored, back, strict=True)]


def _convert(database: Database, values: list[bytes], source: str, target: str) -> list[bytes]:
    converted: list[bytes] = []
    for start in range(0, len(values), 1000):
        columns = (
            f"HEX(CONVERT(CONVERT(CAST(x'{value.hex()}' AS BINARY) USING {source}) USING {target}))"
            for value in values[start : start + 1000]
        )
        (row,) = database.run_sql("SELECT " + ", ".join(columns))
        converted += [bytes.fromhex(value) for value in row]
    return converted


def test_labels_in_binary_are_text_where_they_can_be() -> None:
    decode = charsets.label_decoder("binary")
    assert (decode("ä".encode()), decode(b"a\xff")) == ("ä", "aÿ")
    assert charsets.label_decoder("gbk")("漢".encode("gbk")) == "漢"
    assert parse_ddl_type("enum(x'61ff','b','x''y')").labels == ("aÿ", "b", "x'y")


@pytest.mark.parametrize(
    ("charset", "stored", "text"),
    [
        ("latin1", b"\x80\x81\xe4", "€\x81ä"),
        ("utf16", b"\xd8\x3d\xde\x42", "🙂"),
        ("ucs2", b"\x00a\x6f\x22", "a漢"),
        ("utf16le", b"a\x00", "a"),
        ("ujis", b"a\xf5\xa1\x8f\xf5\xa1\xa4\xa2", "a\ue000\ue3acあ"),
        ("eucjpms", b"\xad\xa1\x8f\xf4\xfe\x8f\xa2\xb7~", "①黑\uff5e~"),
        ("gb18030", b"\xa8\xbc\x81\x35\xf4\x37", "\u1e3f\ue7c7"),
        ("big5", b"\xf9\xd6\xa4\xa4", "碁中"),
        ("swe7", b"{|}", "äöå"),
        ("sjis", b"\x81\x5f\x5c\x95\x5c", "\\\\表"),
        ("tis620", b"\xa0\xa1", "\ufffdก"),
        ("binary", b"\x00\xff", "\x00ÿ"),
        ("utf8mb4", b"a\xffb", "a\ufffdb"),
        ("gbk", b"\xff\xff", "\ufffd\ufffd"),
    ],
)
def test_bytes_to_text(charset: str, stored: bytes, text: str) -> None:
    assert charsets.text_decoder(charset)(stored) == text
