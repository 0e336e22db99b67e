"""MySQL's binary JSON: to a tree of Python values, and the tree to the text that the server prints.

Format: the head comment of MySQL's sql-common/json_binary.h. Keys keep the stored order, which is the server's own
(shorter first, then by bytes). Integers stay exact, doubles are printed as `my_gcvt` does, and what JSON cannot say
(decimals, dates, bytes) is kept as the text that the server prints for it (``Json_wrapper::to_string``).

A tree is made of dict, list, str, int, float, bool, None and `JsonText`.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ha_canal.binlog import temporal
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.decimal import decimal_decoder, decimal_size_bytes

_MAX_DEPTH: Final = 100
_LITERALS: Final = (None, True, False)
_F_FORMAT_EXPONENTS: Final = range(-14, 16)
_INT16, _UINT16 = struct.Struct("<h"), struct.Struct("<H")
_INT32, _UINT32 = struct.Struct("<i"), struct.Struct("<I")
_NUMBERS: Final = {
    0x05: _INT16,
    0x06: _UINT16,
    0x07: _INT32,
    0x08: _UINT32,
    0x09: struct.Struct("<q"),
    0x0A: struct.Struct("<Q"),
    0x0B: struct.Struct("<d"),
}
_LITERAL, _STRING, _OPAQUE = 0x04, 0x0C, 0x0F
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class JsonText:
    """A scalar that Python's types cannot hold without loss; ``text`` is how the server prints it, quotes included."""

    text: str


JsonNode = dict[str, "JsonNode"] | list["JsonNode"] | str | int | float | bool | JsonText | None


def parse_json(data: bytes) -> JsonNode:
    """Return the tree of a binary document. ValueError, IndexError or struct.error if it is none.

    No bytes at all are the literal null: that is what a NOT NULL column added without a default holds.
    """
    return _Document(data).value(data[0], 1, 1) if data else None


def json_text(data: bytes) -> str:
    """Return the text of a binary document, as the server prints it. Raises as `parse_json` does."""
    return render_json(parse_json(data))


def render_json(node: JsonNode) -> str:
    """Return the text of a tree, as the server prints it."""
    return "".join(_pieces(node))


def quoted(text: str) -> str:
    """Return ``text`` as a JSON string; only what JSON forbids is escaped, as in the server."""
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def double_text(value: float) -> str:
    """Return the shortest text that reads back the same, laid out as the server does (``my_gcvt``), always a double."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    digits, point = _shortest_digits(abs(value))
    if point not in _F_FORMAT_EXPONENTS and not 0 < point < len(digits):
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    whole = digits[:point].ljust(point, "0")
    return f"{sign}{whole}.{digits[point:] or '0'}"


def _shortest_digits(value: float) -> tuple[str, int]:
    """The digits d and the power p for which the value is 0.d * 10**p."""
    if value == 0:
        return "0", 1
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point = len(digits) - len(fraction) + int(exponent or 0)
    return digits.rstrip("0") or "0", point


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return _ESCAPES.get(character) or f"\\u{ord(character):04x}"


def _pieces(node: JsonNode) -> Iterator[str]:
    match node:
        case dict():
            separator = "{"
            for key, child in node.items():
                yield f"{separator}{quoted(key)}: "
                yield from _pieces(child)
                separator = ", "
            yield "}" if node else "{}"
        case list():
            separator = "["
            for child in node:
                yield separator
                yield from _pieces(child)
                separator = ", "
            yield "]" if node else "[]"
        case _:
            yield _scalar_text(node)


def _scalar_text(node: str | float | JsonText | None) -> str:
    match node:
        case None:
            return "null"
        case bool():
            return "true" if node else "false"
        case int():
            return str(node)
        case float():
            return double_text(node)
        case JsonText():
            return node.text
        case _:
            return quoted(node)


class _Document:
    """One document being read.

    ``_left`` bounds the values read, and ``_bytes_left`` the texts, so that garbage cannot multiply by sharing parts.
    """

    __slots__ = ("_bytes_left", "_data", "_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = len(data)
        self._bytes_left = len(data)

    def value(self, kind: int, offset: int, depth: int) -> JsonNode:
        self._left -= 1
        if depth > _MAX_DEPTH + 1 or self._left < 0:
            raise ValueError("a JSON document nested too deep, or into itself")
        if kind <= 3:
            return self._container(offset, depth, large=bool(kind & 1), is_object=kind < 2)
        if number := _NUMBERS.get(kind):
            value: int | float = number.unpack_from(self._data, offset)[0]
            if not math.isfinite(value):
                raise ValueError(f"the number {value} in JSON")
            return value
        if kind == _LITERAL:
            return _LITERALS[self._data[offset]]
        if kind == _STRING:
            return str(self._sized(offset), "utf-8", "replace")
        if kind == _OPAQUE:
            return _opaque(self._data[offset], self._sized(offset + 1))
        raise ValueError(f"0x{kind:02x} is no JSON type")

    def _container(self, start: int, depth: int, *, large: bool, is_object: bool) -> JsonNode:
        number = _UINT32 if large else _UINT16
        count, size = number.unpack_from(self._data, start)[0], number.unpack_from(self._data, start + number.size)[0]
        entries = start + 2 * number.size
        key_size = number.size + 2 if is_object else 0
        values = entries + count * key_size
        end = values + count * (1 + number.size)
        if end > start + size or start + size > len(self._data):
            raise ValueError(f"{count} JSON members cannot fit")
        read = self._member_reader(start, end, depth, number, inline_32=large)
        members = [read(values + index * (1 + number.size)) for index in range(count)]
        if not is_object:
            return members
        keys = [self._key(start, entries + index * key_size, number) for index in range(count)]
        return dict(zip(keys, members, strict=True))

    def _member_reader(
        self, start: int, floor: int, depth: int, number: struct.Struct, *, inline_32: bool
    ) -> Callable[[int], JsonNode]:
        """Read the value whose entry is at an offset: small ones stand in the entry, others at start + an offset."""
        inline = (_LITERAL, 0x05, 0x06, 0x07, 0x08) if inline_32 else (_LITERAL, 0x05, 0x06)

        def read(entry: int) -> JsonNode:
            kind = self._data[entry]
            if kind in inline:
                return self.value(kind, entry + 1, depth + 1)
            place = start + number.unpack_from(self._data, entry + 1)[0]
            if place < floor:
                raise ValueError("a JSON value that points back into its container's head")
            return self.value(kind, place, depth + 1)

        return read

    def _key(self, start: int, entry: int, number: struct.Struct) -> str:
        place = start + number.unpack_from(self._data, entry)[0]
        length = _UINT16.unpack_from(self._data, entry + number.size)[0]
        return str(self._slice(place, length), "utf-8", "replace")

    def _sized(self, offset: int) -> bytes:
        """Bytes behind a length of one to five bytes, seven bits each, the lowest first."""
        length = 0
        for shift in range(0, 35, 7):
            byte = self._data[offset]
            offset += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                return self._slice(offset, length)
        raise ValueError("a JSON length of more than five bytes")

    def _slice(self, offset: int, length: int) -> bytes:
        if offset + length > len(self._data):
            raise ValueError("a JSON value beyond the end of its document")
        self._bytes_left -= length
        if self._bytes_left < 0:
            raise ValueError("JSON values that share their bytes")
        return self._data[offset : offset + length]


def _opaque(code: int, data: bytes) -> JsonText:
    match code:
        case t.NEWDECIMAL:
            precision, scale = data[0], data[1]
            if not scale <= precision <= 81 or len(data) != 2 + decimal_size_bytes(precision, scale):
                raise ValueError(f"DECIMAL({precision},{scale}) in {len(data)} bytes of JSON")
            return JsonText(decimal_decoder(precision, scale)(data, 2)[0])
        case t.DATE | t.DATETIME | t.TIMESTAMP | t.TIME if len(data) == 8:
            return JsonText(f'"{_temporal_text(code, int.from_bytes(data, "little", signed=True))}"')
        case _:
            return JsonText(f'"base64:type{code}:{base64.b64encode(data).decode()}"')


def _temporal_text(code: int, packed: int) -> str:
    """The packed form of my_time.cc in eight bytes: the whole above, microseconds in the lowest 24 bits."""
    whole, fraction = abs(packed) >> 24, abs(packed) & 0xFFFFFF
    sign = "-" if packed < 0 else ""
    if code == t.TIME:
        return f"{sign}{temporal.time_text(whole)}.{fraction:06}"
    text = sign + temporal.datetime_text(whole)
    return text.partition(" ")[0] if code == t.DATE else f"{text}.{fraction:06}"
