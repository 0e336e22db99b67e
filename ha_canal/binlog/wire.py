"""The few protobuf primitives that entries need, as bytes: no message objects, no copies of what is known ahead.

Encoding: protobuf.dev, "Encoding". Fields that hold their default are left out, as proto3 does.
"""

from __future__ import annotations

import re

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_VARINT, _BYTES = 0, 2
_SMALL = tuple(bytes((value,)) for value in range(128))


def varint(value: int) -> bytes:
    """Return a base-128 varint; a negative number is its 64-bit two's complement, ten bytes."""
    if 0 <= value < 128:
        return _SMALL[value]
    rest = value & 0xFFFFFFFFFFFFFFFF
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def integer_field(number: int, value: int) -> bytes:
    """Return an int32, int64, bool or enum field; nothing for 0."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def text_field(number: int, value: str) -> bytes:
    """Return a string field; nothing for ``""``.

    A lone surrogate (a byte of a statement or name that its character set does not know) becomes U+FFFD: readers
    refuse a message with a string that is no UTF-8.
    """
    return message_field(number, _utf8(value)) if value else b""


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        return _LONE_SURROGATE.sub("\ufffd", value).encode()


def message_field(number: int, value: bytes) -> bytes:
    """Return a field that holds ``value``, even an empty one: sub-messages and elements of repeated fields."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value
