"""Binary JSON and its diffs: bytes from MySQL 9.7, numbers, and documents that are none."""

from __future__ import annotations

import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.binlog.json_diff import apply_json_diffs
from ha_canal.binlog.jsonb import double_text, json_text, quoted
from ha_canal.errors import DecodeError

# {"a": [1, 2], "b": "xxx…"} and [1, 2, 3], then the diffs of JSON_SET(j, '$.a[0]', 7, '$.c', 8) and of
# JSON_REMOVE(l, '$[1]'); MySQL 9.7.
_OBJECT = bytes.fromhex("0002003d0012000100130001000214000c1e00616202000a00050100050200" + "1e" + "78" * 30)
_ARRAY = bytes.fromhex("0203000d00050100050200050300")
_OBJECT_DIFFS = bytes.fromhex("0006242e615b305d030507000103242e6303050800")
_ARRAY_DIFFS = bytes.fromhex("0204245b315d")


def test_documents_of_a_server() -> None:
    assert json_text(_OBJECT) == '{"a": [1, 2], "b": "' + "x" * 30 + '"}'
    assert json_text(_ARRAY) == "[1, 2, 3]"


def test_diffs_of_a_server() -> None:
    assert apply_json_diffs(_OBJECT, _OBJECT_DIFFS) == '{"a": [7, 2], "b": "' + "x" * 30 + '", "c": 8}'
    assert apply_json_diffs(_ARRAY, _ARRAY_DIFFS) == "[1, 3]"
    assert apply_json_diffs(_ARRAY, b"") == "[1, 2, 3]"


@pytest.mark.parametrize("diffs", ["0204245b395d", "0202245d", "0706245b315d", "0201240304", "00"])
def test_diffs_that_do_not_fit(diffs: str) -> None:
    with pytest.raises((ValueError, DecodeError)):
        apply_json_diffs(_ARRAY, bytes.fromhex(diffs))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (100.0, "100.0"),
        (1e14, "100000000000000.0"),
        (1e15, "1e15"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (1.5e300, "1.5e300"),
        (123456.789, "123456.789"),
        (2026563078559264.5, "2026563078559264.5"),
        (-1567866561575095.2, "-1567866561575095.2"),
        (1234567890123456.0, "1.234567890123456e15"),
        (12345678901234567.0, "1.2345678901234568e16"),
        (5e-324, "5e-324"),
        (-2.5e-9, "-0.0000000025"),
    ],
)
def test_doubles_are_laid_out_as_the_server_does(value: float, text: str) -> None:
    assert double_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_read_back(value: float) -> None:
    assert struct.pack("<d", float(double_text(value))) == struct.pack("<d", value)


@given(st.text())
def test_strings_read_back(text: str) -> None:
    assert json.loads(quoted(text)) == text


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    _read_or_refuse(data)


@given(st.sampled_from((_OBJECT, _ARRAY)), st.data())
def test_damage_is_refused_or_read(document: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(document) - 1))
    _read_or_refuse(document[:place] + data.draw(st.binary(min_size=1, max_size=2)) + document[place + 1 :])


def test_a_document_that_shares_its_parts_ends() -> None:
    levels = b"".join(b"\x02\x00" + struct.pack("<H", 0) + (b"\x02" + struct.pack("<H", 10)) * 2 for _ in range(90))
    size = len(levels) + 4
    levels = levels.replace(struct.pack("<HH", 2, 0), struct.pack("<HH", 2, 10))
    with pytest.raises((ValueError, IndexError, struct.error)):
        json_text(b"\x02" + levels + bytes(size))


def _read_or_refuse(data: bytes) -> None:
    try:
        json_text(data)
    except (ValueError, IndexError, struct.error, zlib.error):
        return
