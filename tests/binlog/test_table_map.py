"""TABLE_MAP events as servers wrote them, plans made of them, and bytes that are none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.binlog import type_codes as t
from ha_canal.binlog.columns import ColumnVersion, TableVersion, compile_plan
from ha_canal.binlog.table_map import parse_table_map
from ha_canal.errors import DecodeError, SchemaMismatchError

# CREATE TABLE t(a int unsigned primary key, y year, d decimal(10,2) unsigned, f float unsigned, db double, b bit(9),
# c char(10), v varchar(100) character set latin1, bi binary(16), vb varbinary(300), tx text character set gbk, bl blob,
# e enum('a','b') character set gbk, s set('x','y'), u uuid, i6 inet6, i4 inet4, g point, j json,
# cv varchar(500) compressed, cb blob compressed, ct text compressed, ts timestamp(3) null, dt datetime(6), tm time(2),
# ty tinyint, bg bigint unsigned, h enum('q\\w','it''s','n\nl','t\tab')), MariaDB 10.11, utf8mb4, FULL.
_MARIADB = bytes.fromhex(
    "0b000000000001000178000174001c030df6040510fe0ffe0ffcfcfefefefefefffc8d8c8c1112130108fe250a0204080101fe286400fe10"
    "2c010202f701f801fe10fe10fe040404d1070202030602f701feffff0f0101f2020d3f002d0108041c0a2e0b2d0d2d070101044701610179"
    "0164016602646201620163017602626902766202747802626c0165017301750269360269340167016a026376026362026374027473026474"
    "02746d02747902626701680a032d001c05050201780179061802016101620403715c770469742773036e0a6c0474096162080100"
)

# CREATE TABLE t(id int unsigned primary key, y year, f float unsigned, g point, v varchar(10) character set latin1,
# tx text, g2 geometry, bb blob, j json, ch char(5) character set gbk, ve vector(3), b bit(3)), MySQL 9.7, FULL.
_MYSQL = bytes.fromhex(
    "6e000000000001000178000174000c030d04ff0ffcfffcf5fef2100d04040a0002040204fe0a040300fe0f0101e0030708fcff003f1c3f07"
    "0201000d0103041e0269640179016601670176027478026732026262016a02636802766501620801000c02fff0"
)


_MARIADB_NAMES = tuple("a y d f db b c v bi vb tx bl e s u i6 i4 g j cv cb ct ts dt tm ty bg h".split())  # noqa: SIM905  a list of 28 would hide the table


def test_mariadb_table_map() -> None:
    table_map = parse_table_map(_MARIADB, mariadb=True)
    assert (table_map.table_id, table_map.schema, table_map.table) == (11, "x", "t")
    assert table_map.names == _MARIADB_NAMES
    assert table_map.type_codes[:6] == (t.LONG, t.YEAR, t.NEWDECIMAL, t.FLOAT, t.DOUBLE, t.BIT)
    assert table_map.type_codes[12:15] == (t.ENUM, t.SET, t.STRING)
    assert table_map.type_codes[19:22] == (t.VARCHAR_COMPRESSED, t.BLOB_COMPRESSED, t.BLOB_COMPRESSED)
    assert table_map.type_metas[2] == 10 << 8 | 2
    assert table_map.type_metas[5:8] == (9, 40, 100)
    assert table_map.unsigned is not None
    assert [name for name, unsigned in zip(table_map.names, table_map.unsigned, strict=True) if unsigned] == [
        "a", "y", "d", "f", "bg",
    ]  # fmt: skip
    assert table_map.labels is not None
    assert table_map.labels[12:14] == (("a", "b"), ("x", "y"))
    assert table_map.labels[27] == ("q\\w", "it's", "n\nl", "t\tab")
    assert table_map.primary_key == (0,)
    assert not table_map.nullable[0]
    assert all(table_map.nullable[1:])


def test_geometry_shifts_character_sets_on_mariadb_only() -> None:
    in_gbk, latin1, json, utf8 = 10, 7, 18, 19
    collations = parse_table_map(_MARIADB, mariadb=True).collations
    assert collations is not None
    assert [collations[index] for index in (latin1, in_gbk, json, utf8)] == [8, 28, 46, 45]
    assert parse_table_map(_MARIADB, mariadb=None).collations != collations


def test_mysql_vector_counts_as_text_and_geometry_does_not() -> None:
    table_map = parse_table_map(_MYSQL, mariadb=False)
    assert table_map.collations == (0, 0, 0, 0, 8, 255, 0, 63, 0, 28, 63, 0)
    assert table_map.vector_dimensions is not None
    assert table_map.vector_dimensions[10] == 3
    assert table_map.geometry_types is not None
    assert table_map.geometry_types[3] == 1
    plan = compile_plan(table_map, None)
    assert [(column.name, column.mysql_type, column.sql_type) for column in plan.columns] == [
        ("id", "int unsigned", -5),
        ("y", "year", 12),
        ("f", "float unsigned", 7),
        ("g", "point", 2004),
        ("v", "varchar(10)", 12),
        ("tx", "text", 2005),
        ("g2", "geometry", 2004),
        ("bb", "blob", 2004),
        ("j", "json", 12),
        ("ch", "char(5)", 1),
        ("ve", "vector(3)", 12),
        ("b", "bit(3)", -7),
    ]
    assert [column.is_key for column in plan.columns] == [True] + [False] * 11


def test_unknown_fields_are_stepped_over() -> None:
    table_map = parse_table_map(_MYSQL + b"\x63\x02ab", mariadb=False)
    assert table_map.unknown_fields == (0x63,)
    assert table_map.names == parse_table_map(_MYSQL).names


def test_more_than_250_columns_have_long_lengths() -> None:
    count = 300
    names = b"".join(bytes((4,)) + b"c%03d" % index for index in range(count))
    body = (
        b"\x01\0\0\0\0\0\x01\0\x01d\0\x01t\0"
        b"\xfc\x2c\x01"
        + b"\x03" * count
        + b"\0"
        + b"\xff" * 38
        + b"\x04\xfc"
        + len(names).to_bytes(2, "little")
        + names
    )
    assert parse_table_map(body).names == tuple(f"c{index:03}" for index in range(count))


def test_multi_valued_index_metadata_is_understood() -> None:
    body = b"\x01\0\0\0\0\0\x01\0\x01d\0\x01t\0" + b"\x02\x03\xf4" + b"\x04\x0f\x50\0\0" + b"\0"
    assert parse_table_map(body).type_codes == (t.LONG, t.TYPED_ARRAY)


_VERSION = TableVersion(
    (
        ColumnVersion("id", "int", "", True),
        ColumnVersion("name", "varchar(10)", "utf8mb4", False),
        ColumnVersion("kind", "enum('it''s','q\\\\w')", "latin1", False),
        ColumnVersion("big", "bigint unsigned", "", False),
    )
)
_NO_METADATA = b"\x01\0\0\0\0\0\x01\0\x04shop\0\x01t\0" + b"\x04\x03\x0f\xfe\x08" + b"\x04\x28\0\xf7\x01" + b"\0"


def test_plan_of_a_version() -> None:
    plan = compile_plan(parse_table_map(_NO_METADATA), _VERSION)
    assert [column.name for column in plan.columns] == ["id", "name", "kind", "big"]
    assert plan.columns[2].labels == ("it's", "q\\w")
    assert plan.columns[3].unsigned
    assert plan.columns[0].is_key
    assert (plan.schema, plan.table, plan.table_id) == ("shop", "t", 1)


@pytest.mark.parametrize(
    ("index", "column", "words"),
    [
        (0, ColumnVersion("id", "bigint", "", True), "'bigint' at the source, and 'int' in the event"),
        (1, ColumnVersion("name", "varchar(11)", "utf8mb4", False), "at most 40 bytes"),
        (1, ColumnVersion("name", "varchar(10)", "latin1", False), "in latin1 at the source"),
        (1, ColumnVersion("name", "text", "utf8mb4", False), "'text' in utf8mb4"),
        (2, ColumnVersion("kind", "set('a')", "utf8mb4", False), "set"),
        (3, ColumnVersion("big", "geography", "", False), "geography"),
    ],
)
def test_a_version_that_does_not_fit_stops(index: int, column: ColumnVersion, words: str) -> None:
    columns = list(_VERSION.columns)
    columns[index] = column
    with pytest.raises(SchemaMismatchError) as raised:
        compile_plan(parse_table_map(_NO_METADATA), TableVersion(tuple(columns)))
    message = str(raised.value)
    assert words in message
    assert "shop.t" in message
    assert f"column {index} {column.name!r}" in message
    assert "binlog_row_metadata" in message


def test_a_version_with_another_number_of_columns_stops() -> None:
    with pytest.raises(SchemaMismatchError, match="the event has 4 columns, the source shows 3"):
        compile_plan(parse_table_map(_NO_METADATA), TableVersion(_VERSION.columns[:3]))
    with pytest.raises(SchemaMismatchError, match="no column names"):
        compile_plan(parse_table_map(_NO_METADATA), None)


# CREATE TABLE t(id int primary key, a int) WITH SYSTEM VERSIONING, MariaDB 10.11, NO_LOG.
_HISTORY = bytes.fromhex("1200000000000100017800017400040303111102060602")


def test_columns_that_the_source_hides() -> None:
    shown = TableVersion((ColumnVersion("id", "int(11)", "", True), ColumnVersion("a", "int(11)", "", False)))
    plan = compile_plan(parse_table_map(_HISTORY), shown)
    assert [(column.name, column.mysql_type) for column in plan.columns[2:]] == [
        ("row_start", "timestamp(6)"),
        ("row_end", "timestamp(6)"),
    ]
    nullable = replace(parse_table_map(_HISTORY), nullable=(False, True, False, True))
    with pytest.raises(SchemaMismatchError, match="the event has 4 columns, the source shows 2"):
        compile_plan(nullable, shown)


def test_a_label_that_the_source_cannot_show_stops() -> None:
    doubtful = ColumnVersion("kind", "enum('it''s','sun?')", "utf8mb4", False)
    table_map = parse_table_map(_NO_METADATA)
    columns = (*_VERSION.columns[:2], doubtful, _VERSION.columns[3])
    with pytest.raises(SchemaMismatchError, match=r"the label 'sun\?' of column 'kind' .* binlog_row_metadata"):
        compile_plan(table_map, TableVersion(columns))
    with pytest.raises(SchemaMismatchError, match="question mark"):
        compile_plan(table_map, TableVersion((*columns[:2], replace(doubtful, charset=""), columns[3])))
    known = replace(doubtful, charset="utf8mb3")
    assert compile_plan(table_map, TableVersion((*columns[:2], known, columns[3]))).columns[2].labels[1] == "sun?"


def test_logged_signs_and_charsets_are_checked_too() -> None:
    table_map = parse_table_map(_NO_METADATA)
    with pytest.raises(SchemaMismatchError, match="column 3 'big'"):
        compile_plan(replace(table_map, unsigned=(False,) * 4), _VERSION)
    with pytest.raises(SchemaMismatchError, match="in latin1 in the event"):
        compile_plan(replace(table_map, collations=(0, 8, 8, 0)), _VERSION)
    with pytest.raises(SchemaMismatchError, match="collation id 9999"):
        compile_plan(replace(table_map, collations=(0, 9999, 8, 0)), _VERSION)


def test_names_in_the_event_win_over_a_version_of_another_day() -> None:
    table_map = replace(
        parse_table_map(_NO_METADATA),
        names=("id", "old_name", "kind", "big"),
        collations=(0, 45, 8, 0),
        labels=((), (), ("x",), ()),
        unsigned=(False, False, False, True),
        primary_key=(0,),
    )
    plan = compile_plan(table_map, _VERSION)
    assert [(column.name, column.mysql_type) for column in plan.columns] == [
        ("id", "int"),
        ("old_name", "varchar(10)"),
        ("kind", "enum('x')"),
        ("big", "bigint unsigned"),
    ]


def test_errors_say_where() -> None:
    with pytest.raises(DecodeError, match="TABLE_MAP, byte 23: 40 bytes are wanted, 3 are left"):
        parse_table_map(_NO_METADATA[:21] + b"\x03\x28\0\xf7" + b"\0")


@given(st.binary(max_size=200))
def test_garbage_is_a_decode_error(data: bytes) -> None:
    _parse_or_refuse(data)


@given(st.sampled_from((_MYSQL, _MARIADB)), st.data())
def test_damaged_events_are_decode_errors(body: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(body) - 1))
    _parse_or_refuse(body[:place])
    _parse_or_refuse(body[:place] + data.draw(st.binary(min_size=1, max_size=3)) + body[place + 1 :])


def _parse_or_refuse(body: bytes) -> None:
    """Anything but these two errors fails the test."""
    with suppress(DecodeError, SchemaMismatchError):
        compile_plan(parse_table_map(body), None)
