"""DECIMAL as the binlog holds it: big-endian groups of nine digits (``decimal2bin`` in MySQL's strings/decimal.cc).

Nine digits take four bytes; the digits left over at both ends take ``_BYTES_FOR_DIGITS`` bytes. The highest bit is
inverted, and all bits of a negative number are. The text is plain: all digits of the scale, no exponent.
JSON documents hold the same format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_BYTES_FOR_DIGITS: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def decimal_size_bytes(precision: int, scale: int) -> int:
    """Return the bytes that any DECIMAL(precision, scale) takes."""
    whole, fraction = precision - scale, scale
    return (whole // 9 + fraction // 9) * 4 + _BYTES_FOR_DIGITS[whole % 9] + _BYTES_FOR_DIGITS[fraction % 9]


def decimal_decoder(precision: int, scale: int) -> Callable[[bytes, int], tuple[str, int]]:
    """Return the function that reads a DECIMAL(precision, scale) at an offset, as (text, offset behind it)."""
    size = decimal_size_bytes(precision, scale)
    whole_groups = _groups(precision - scale, leading_rest=True)
    fraction_groups = _groups(scale, leading_rest=False)

    def decode(data: bytes, offset: int) -> tuple[str, int]:
        end = offset + size
        negative, groups = _sign_and_magnitude(data[offset:end], size)
        whole, used = _digits(groups, 0, whole_groups)
        fraction, _ = _digits(groups, used, fraction_groups)
        text = whole.lstrip("0") or "0"
        if fraction:
            text = f"{text}.{fraction}"
        return ("-" + text if negative else text), end

    return decode


def _sign_and_magnitude(data: bytes, size: int) -> tuple[bool, bytes]:
    if len(data) != size:
        raise ValueError(f"a DECIMAL of {size} bytes ends after {len(data)}")
    if data[0] & 0x80:
        return False, bytes((data[0] ^ 0x80,)) + data[1:]
    flipped = bytes(byte ^ 0xFF for byte in data)
    return True, bytes((flipped[0] ^ 0x80,)) + flipped[1:]


def _groups(digits: int, *, leading_rest: bool) -> tuple[tuple[int, int], ...]:
    """(digits, bytes) of each group, in the order in which they are stored."""
    full = ((9, 4),) * (digits // 9)
    rest = ((digits % 9, _BYTES_FOR_DIGITS[digits % 9]),) if digits % 9 else ()
    return rest + full if leading_rest else full + rest


def _digits(data: bytes, offset: int, groups: tuple[tuple[int, int], ...]) -> tuple[str, int]:
    pieces: list[str] = []
    for digits, size in groups:
        text = str(int.from_bytes(data[offset : offset + size], "big")).zfill(digits)
        if len(text) > digits:
            raise ValueError(f"{text} where {digits} digits of a DECIMAL belong")
        pieces.append(text)
        offset += size
    return "".join(pieces), offset
