# cython: language_level=3
"""Dates and times to text, in C. The contract, and where the formats come from, is `ha_canal.binlog.temporal`.

``put_…`` writes at ``at`` and returns the end of the text, or NULL for bytes that are no value. Who calls has seen that
all raw bytes exist, and that ``digits`` is 0 to 6.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from ha_canal.binlog._digits cimport UNITS, big, little, put_digits, put_padded, put_two

cdef extern from *:
    """
    static const unsigned char ha_canal_hires_time_bytes[7] = {3, 4, 4, 5, 5, 5, 6};
    static const unsigned char ha_canal_hires_datetime_bytes[7] = {5, 6, 6, 7, 7, 7, 8};
    static const unsigned char ha_canal_hires_fraction_bytes[7] = {0, 1, 1, 2, 2, 3, 3};
    """
    const uint8_t* HIRES_TIME_BYTES "ha_canal_hires_time_bytes"
    const uint8_t* HIRES_DATETIME_BYTES "ha_canal_hires_datetime_bytes"
    const uint8_t* HIRES_FRACTION_BYTES "ha_canal_hires_fraction_bytes"

cdef enum:
    HIRES_TIME_ZERO_S = 3020400  # 838:59:59 and a second


cdef inline uint8_t* put_dashed(uint8_t* at, uint64_t year, uint64_t month, uint64_t day) noexcept nogil:
    """Month and day are below 100."""
    at = put_digits(at, year, 4) if year < 10000 else put_padded(at, year, 4)
    at[0] = c'-'
    at = put_two(at + 1, month)
    at[0] = c'-'
    return put_two(at + 1, day)


cdef inline uint8_t* put_clock(uint8_t* at, uint64_t hour, uint64_t minute, uint64_t second) noexcept nogil:
    """Minute and second are below 100."""
    at = put_two(at, hour) if hour < 100 else put_padded(at, hour, 2)
    at[0] = c':'
    at = put_two(at + 1, minute)
    at[0] = c':'
    return put_two(at + 1, second)


cdef inline uint8_t* put_clock_of(uint8_t* at, uint64_t seconds) noexcept nogil:
    return put_clock(at, seconds // 3600, seconds // 60 % 60, seconds % 60)


cdef inline uint8_t* put_zero(uint8_t* at) noexcept nogil:
    memcpy(at, b"0000-00-00 00:00:00", 19)
    return at + 19


cdef inline uint8_t* put_fraction(uint8_t* at, uint64_t fraction, int digits) noexcept nogil:
    """A fraction as the types with 2 in their name store it: in an even number of digits."""
    if digits == 0:
        return at
    at[0] = c'.'
    return put_padded(at + 1, fraction, digits + (digits & 1)) - (digits & 1)


cdef inline uint8_t* put_point(uint8_t* at, uint64_t fraction, int digits) noexcept nogil:
    at[0] = c'.'
    return put_padded(at + 1, fraction, digits)


cdef inline uint8_t* put_utc(uint8_t* at, uint64_t seconds) noexcept nogil:
    """Seconds since 1970, below 2**32. Days are counted from 1 March of the year 0, so that leap days come last."""
    cdef uint64_t days = seconds // 86400 + 719468
    cdef uint64_t in_era = days % 146097
    cdef uint64_t year = (in_era - in_era // 1460 + in_era // 36524 - in_era // 146096) // 365
    cdef uint64_t in_year = in_era - (365 * year + year // 4 - year // 100)
    cdef uint64_t month = (5 * in_year + 2) // 153
    cdef uint64_t day = in_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    at = put_dashed(at, year + 400 * (days // 146097) + (month <= 2), month, day)
    at[0] = c' '
    return put_clock_of(at + 1, seconds % 86400)


cdef inline uint8_t* put_year(uint8_t* at, const uint8_t* raw) noexcept nogil:
    return put_digits(at, 1900 + raw[0] if raw[0] else 0, 4)


cdef inline uint8_t* put_date(uint8_t* at, const uint8_t* raw) noexcept nogil:
    cdef uint64_t packed = little(raw, 3)
    return put_dashed(at, packed >> 9, packed >> 5 & 15, packed & 31)


cdef inline uint8_t* put_timestamp2(uint8_t* at, const uint8_t* raw, int digits) noexcept nogil:
    cdef uint64_t seconds = big(raw, 4), fraction = big(raw + 4, (digits + 1) // 2)
    at = put_utc(at, seconds) if seconds or fraction else put_zero(at)
    return put_fraction(at, fraction, digits)


cdef inline uint8_t* put_datetime2(uint8_t* at, const uint8_t* raw, int digits) noexcept nogil:
    cdef uint64_t packed = big(raw, 5), months
    if packed >> 39 == 0:
        return NULL
    packed ^= <uint64_t>1 << 39
    months = packed >> 22
    at = put_dashed(at, months // 13, months % 13, packed >> 17 & 31)
    at[0] = c' '
    at = put_clock(at + 1, packed >> 12 & 31, packed >> 6 & 63, packed & 63)
    return put_fraction(at, big(raw + 5, (digits + 1) // 2), digits)


cdef inline uint8_t* put_time2(uint8_t* at, const uint8_t* raw, int digits) noexcept nogil:
    cdef int size = (digits + 1) // 2
    cdef int64_t packed = <int64_t>big(raw, 3 + size) - (<int64_t>0x800000 << 8 * size)
    cdef uint64_t magnitude, seconds
    if packed < 0:
        at[0] = c'-'
        at += 1
    magnitude = <uint64_t>(-packed if packed < 0 else packed)
    seconds = magnitude >> 8 * size
    at = put_clock(at, seconds >> 12, seconds >> 6 & 63, seconds & 63)
    return put_fraction(at, magnitude & ((<uint64_t>1 << 8 * size) - 1), digits)


cdef inline uint8_t* put_old_timestamp(uint8_t* at, const uint8_t* raw, int digits) noexcept nogil:
    cdef uint64_t seconds, fraction
    if digits == 0:
        seconds = little(raw, 4)
        return put_utc(at, seconds) if seconds else put_zero(at)
    seconds, fraction = big(raw, 4), big(raw + 4, HIRES_FRACTION_BYTES[digits])
    at = put_utc(at, seconds) if seconds or fraction else put_zero(at)
    return put_point(at, fraction, digits)


cdef inline uint8_t* put_old_datetime(uint8_t* at, const uint8_t* raw, int digits) noexcept nogil:
    cdef uint64_t packed, days
    if digits == 0:
        packed = little(raw, 8)
        at = put_dashed(at, packed // UNITS[10], packed // 100000000 % 100, packed // 1000000 % 100)
        at[0] = c' '
        return put_clock(at + 1, packed // 10000 % 100, packed // 100 % 100, packed % 100)
    packed = big(raw, HIRES_DATETIME_BYTES[digits])
    days = packed // UNITS[digits] // 86400
    at = put_dashed(at, days // 32 // 13, days // 32 % 13, days % 32)
    at[0] = c' '
    at = put_clock_of(at + 1, packed // UNITS[digits] % 86400)
    return put_point(at, packed % UNITS[digits], digits)


cdef inline uint8_t* put_old_time(uint8_t* at, const uint8_t* raw, int digits) noexcept nogil:
    cdef int64_t packed
    cdef uint64_t magnitude
    if digits == 0:
        packed = <int64_t>(little(raw, 3) << 40) >> 40
    else:
        packed = <int64_t>big(raw, HIRES_TIME_BYTES[digits]) - HIRES_TIME_ZERO_S * <int64_t>UNITS[digits]
    if packed < 0:
        at[0] = c'-'
        at += 1
    magnitude = <uint64_t>(-packed if packed < 0 else packed)
    if digits == 0:
        return put_clock(at, magnitude // 10000, magnitude // 100 % 100, magnitude % 100)
    at = put_clock_of(at, magnitude // UNITS[digits])
    return put_point(at, magnitude % UNITS[digits], digits)
