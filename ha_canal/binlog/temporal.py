"""Dates and times as the binlog holds them, to the text that the server prints (TIMESTAMP in UTC).

Formats: MySQL's my_time.cc (``my_*_packed_from_binary``) for the types with 2 in their name; the manual's "Data Type
Storage Requirements" for those before 5.6; MariaDB's sql/compat56.h and field.cc (``Field_*_hires``) for its own
fractional seconds, which ``mysql56_temporal_format=OFF`` still makes. Zero and partial dates keep their zeros.

Each function returned takes (bytes, offset) and returns (text, offset behind the value).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

Decode = Callable[[bytes, int], tuple[str, int]]

_ZERO = "0000-00-00 00:00:00"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HIRES_TIME_BYTES = (3, 4, 4, 5, 5, 5, 6)
_HIRES_DATETIME_BYTES = (5, 6, 6, 7, 7, 7, 8)
_HIRES_TIMESTAMP_FRACTION_BYTES = (0, 1, 1, 2, 2, 3, 3)
_HIRES_TIME_ZERO_S = 838 * 3600 + 59 * 60 + 59 + 1


def year(data: bytes, offset: int) -> tuple[str, int]:
    byte = data[offset]
    return (str(1900 + byte) if byte else "0000"), offset + 1


def date(data: bytes, offset: int) -> tuple[str, int]:
    packed = int.from_bytes(data[offset : offset + 3], "little")
    return f"{packed >> 9:04}-{packed >> 5 & 15:02}-{packed & 31:02}", offset + 3


def timestamp2_decoder(digits: int) -> Decode:
    """TIMESTAMP(digits): seconds since 1970 as four bytes, unsigned (MariaDB 11.5 goes beyond 2038), and a fraction."""
    read_fraction, size = _fraction(digits), (digits + 1) // 2

    def decode(data: bytes, offset: int) -> tuple[str, int]:
        seconds = int.from_bytes(data[offset : offset + 4], "big")
        fraction = int.from_bytes(data[offset + 4 : offset + 4 + size], "big")
        text = utc_text(seconds) if seconds or fraction else _ZERO
        return text + read_fraction(fraction), offset + 4 + size

    return decode


def datetime2_decoder(digits: int) -> Decode:
    """DATETIME(digits): five bytes of year-month, day, hour, minute, second, and a fraction."""
    read_fraction, size = _fraction(digits), (digits + 1) // 2

    def decode(data: bytes, offset: int) -> tuple[str, int]:
        packed = int.from_bytes(data[offset : offset + 5], "big") - 0x8000000000
        if packed < 0:
            raise ValueError("a DATETIME before the year 0")
        fraction = int.from_bytes(data[offset + 5 : offset + 5 + size], "big")
        return datetime_text(packed) + read_fraction(fraction), offset + 5 + size

    return decode


def time2_decoder(digits: int) -> Decode:
    """TIME(digits): three bytes and a fraction which together are one number, so that negative ones sort right."""
    read_fraction, size = _fraction(digits), (digits + 1) // 2
    fraction_bits = 8 * size
    zero, mask = 0x800000 << fraction_bits, (1 << fraction_bits) - 1

    def decode(data: bytes, offset: int) -> tuple[str, int]:
        end = offset + 3 + size
        packed = int.from_bytes(data[offset:end], "big") - zero
        magnitude = abs(packed)
        text = time_text(magnitude >> fraction_bits) + read_fraction(magnitude & mask)
        return ("-" + text if packed < 0 else text), end

    return decode


def old_timestamp_decoder(digits: int) -> Decode:
    """TIMESTAMP before 5.6: little-endian seconds. With digits, MariaDB's own: big-endian, and a fraction."""
    if digits == 0:
        return _old_timestamp
    size = _HIRES_TIMESTAMP_FRACTION_BYTES[digits]

    def decode(data: bytes, offset: int) -> tuple[str, int]:
        seconds = int.from_bytes(data[offset : offset + 4], "big")
        fraction = int.from_bytes(data[offset + 4 : offset + 4 + size], "big")
        text = utc_text(seconds) if seconds or fraction else _ZERO
        return f"{text}.{fraction:0{digits}}", offset + 4 + size

    return decode


def old_datetime_decoder(digits: int) -> Decode:
    """DATETIME before 5.6: the digits YYYYMMDDhhmmss as one number. With digits, MariaDB's packed format."""
    if digits == 0:
        return _old_datetime
    size, unit = _HIRES_DATETIME_BYTES[digits], 10**digits

    def decode(data: bytes, offset: int) -> tuple[str, int]:
        packed, fraction = divmod(int.from_bytes(data[offset : offset + size], "big"), unit)
        days, seconds = divmod(packed, 86400)
        months, day = divmod(days, 32)
        text = f"{months // 13:04}-{months % 13:02}-{day:02} {_clock(seconds)}"
        return f"{text}.{fraction:0{digits}}", offset + size

    return decode


def old_time_decoder(digits: int) -> Decode:
    """TIME before 5.6: the digits hhmmss as one signed number. With digits, MariaDB's: units from a zero point."""
    if digits == 0:
        return _old_time
    size, unit = _HIRES_TIME_BYTES[digits], 10**digits

    def decode(data: bytes, offset: int) -> tuple[str, int]:
        packed = int.from_bytes(data[offset : offset + size], "big") - _HIRES_TIME_ZERO_S * unit
        seconds, fraction = divmod(abs(packed), unit)
        text = f"{_clock(seconds)}.{fraction:0{digits}}"
        return ("-" + text if packed < 0 else text), offset + size

    return decode


def utc_text(seconds: int) -> str:
    """Seconds since 1970 as ``YYYY-MM-DD hh:mm:ss`` in UTC."""
    day, second = divmod(seconds, 86400)
    return f"{_day_text(day)} {_clock(second)}"


def datetime_text(packed: int) -> str:
    """MySQL's packed date and time, without fraction: (year*13+month) << 22 | day << 17 | time."""
    months = packed >> 22
    return f"{months // 13:04}-{months % 13:02}-{packed >> 17 & 31:02} {time_text(packed & 0x1FFFF)}"


def time_text(packed: int) -> str:
    """MySQL's packed time, without sign and fraction: hour << 12 | minute << 6 | second."""
    return f"{packed >> 12:02}:{packed >> 6 & 63:02}:{packed & 63:02}"


@lru_cache(maxsize=4096)
def _day_text(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _fraction(digits: int) -> Callable[[int], str]:
    """Print a fraction, which is stored in an even number of digits."""
    if digits == 0:
        return lambda _fraction: ""
    stored = digits + digits % 2
    if stored == digits:
        return lambda fraction: f".{fraction:0{stored}}"
    return lambda fraction: f".{fraction:0{stored}}"[:-1]


def _old_timestamp(data: bytes, offset: int) -> tuple[str, int]:
    seconds = int.from_bytes(data[offset : offset + 4], "little")
    return (utc_text(seconds) if seconds else _ZERO), offset + 4


def _old_datetime(data: bytes, offset: int) -> tuple[str, int]:
    digits = f"{int.from_bytes(data[offset : offset + 8], 'little'):014}"
    clock = f"{digits[-6:-4]}:{digits[-4:-2]}:{digits[-2:]}"
    return f"{digits[:-10]}-{digits[-10:-8]}-{digits[-8:-6]} {clock}", offset + 8


def _old_time(data: bytes, offset: int) -> tuple[str, int]:
    packed = int.from_bytes(data[offset : offset + 3], "little", signed=True)
    magnitude = abs(packed)
    text = f"{magnitude // 10000:02}:{magnitude // 100 % 100:02}:{magnitude % 100:02}"
    return ("-" + text if packed < 0 else text), offset + 3
