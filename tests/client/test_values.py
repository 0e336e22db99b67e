"""Texts to typed values, type by type."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from ha_canal.client.values import Value, converter

CASES: list[tuple[str, str, Value]] = [
    ("tinyint(1)", "1", 1),
    ("bigint(20) unsigned", "18446744073709551615", 2**64 - 1),
    ("int unsigned zerofill", "7", 7),
    ("year", "2024", 2024),
    ("year(4)", "0000", 0),
    ("bit(64)", "18446744073709551615", 2**64 - 1),
    ("decimal(10,2)", "10.50", Decimal("10.50")),
    ("decimal(65,30) unsigned", "1" * 35 + "." + "2" * 30, Decimal("1" * 35 + "." + "2" * 30)),
    ("float", "0.1", 0.1),
    ("double", "1e+300", 1e300),
    ("varchar(20)", "7", "7"),
    ("longtext", '{"a": 1}', '{"a": 1}'),
    ("char(36)", "é", "é"),
    ("uuid", "3e11fa47-71ca-11e1-9e33-c80aa9429562", "3e11fa47-71ca-11e1-9e33-c80aa9429562"),
    ("binary(4)", "a\xff\0\0", b"a\xff\0\0"),
    ("varbinary(10)", "", b""),
    ("mediumblob", "\x80", b"\x80"),
    ("blob compressed", "\x80", b"\x80"),
    ("point", "\0\0\0\0\1", b"\0\0\0\0\1"),
    ("date", "2024-02-29", date(2024, 2, 29)),
    ("date", "0000-00-00", "0000-00-00"),
    ("date", "2024-02-00", "2024-02-00"),
    ("datetime", "2024-02-29 01:02:03", datetime(2024, 2, 29, 1, 2, 3)),  # noqa: DTZ001 - DATETIME has no zone
    ("datetime(1)", "2024-02-29 01:02:03.5", datetime(2024, 2, 29, 1, 2, 3, 500_000)),  # noqa: DTZ001 - as above
    ("datetime(6)", "0000-00-00 00:00:00.000000", "0000-00-00 00:00:00.000000"),
    ("timestamp(3)", "2024-02-29 01:02:03.123", datetime(2024, 2, 29, 1, 2, 3, 123_000, tzinfo=UTC)),
    ("timestamp", "0000-00-00 00:00:00", "0000-00-00 00:00:00"),
    ("time", "-838:59:59", -timedelta(hours=838, minutes=59, seconds=59)),
    ("time(2)", "100:00:00.25", timedelta(hours=100, microseconds=250_000)),
    ("time(6)", "-00:00:00.000001", -timedelta(microseconds=1)),
    ("json", '{"a": [1, null, true]}', {"a": [1, None, True]}),
    ("json", "", ""),
    ("vector(2)", "[1.0, 0.25]", [1.0, 0.25]),
    ("enum('a','b')", "b", "b"),
    ("set('a','b','c')", "a,c", frozenset({"a", "c"})),
    ("set('a')", "", frozenset()),
    ("type 99", "?", "?"),
    ("", "?", "?"),
]


@pytest.mark.parametrize(("mysql_type", "text", "value"), CASES)
def test_value(mysql_type: str, text: str, value: Value) -> None:
    converted = converter(mysql_type)(text)
    assert converted == value
    assert type(converted) is type(value)
