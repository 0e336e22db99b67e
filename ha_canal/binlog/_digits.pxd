# cython: language_level=3
"""Integers, DECIMAL, FLOAT and DOUBLE to text, in C. The contract is that of `ha_canal.binlog.values` and `decimal`.

``put_…`` writes at ``at`` and returns the end of the text, or NULL for bytes that are no value (the twin says why) or
that only the twin reads. At most `TEXT_BYTES` and a little are written. Who calls has seen that all raw bytes exist.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    typedef unsigned __int128 ha_canal_u128;
    static const char ha_canal_pairs[201] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    static const double ha_canal_tens[23] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
        1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    static const unsigned long long ha_canal_units[20] = {1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull,
        1000000ull, 10000000ull, 100000000ull, 1000000000ull, 10000000000ull, 100000000000ull, 1000000000000ull,
        10000000000000ull, 100000000000000ull, 1000000000000000ull, 10000000000000000ull, 100000000000000000ull,
        1000000000000000000ull, 10000000000000000000ull};
    static const unsigned char ha_canal_decimal_bytes[10] = {0, 1, 1, 2, 2, 3, 3, 4, 4, 4};
    """
    ctypedef uint64_t u128 "ha_canal_u128"
    const char* PAIRS "ha_canal_pairs"
    const double* TENS "ha_canal_tens"
    const uint64_t* UNITS "ha_canal_units"
    const uint8_t* DECIMAL_BYTES "ha_canal_decimal_bytes"

cdef enum:
    TEXT_BYTES = 128
    LOWEST_TEN = -292
    TENS_COUNT = 617


cdef struct Tens:  # 10**k for k from `LOWEST_TEN` on, as 128 bits of which the highest is 1, rounded up.
    uint64_t high[617]
    uint64_t low[617]


cdef inline uint64_t little(const uint8_t* raw, int size) noexcept nogil:
    cdef uint64_t value = 0
    while size > 0:
        size -= 1
        value = value << 8 | raw[size]
    return value


cdef inline uint64_t big(const uint8_t* raw, int size) noexcept nogil:
    cdef uint64_t value = 0
    cdef int at
    for at in range(size):
        value = value << 8 | raw[at]
    return value


cdef inline uint8_t* put_two(uint8_t* at, uint64_t value) noexcept nogil:
    """Two digits of a number below 100."""
    memcpy(at, PAIRS + 2 * value, 2)
    return at + 2


cdef inline int digits_of(uint64_t value) noexcept nogil:
    cdef int digits = 1
    while digits < 20 and value >= UNITS[digits]:
        digits += 1
    return digits


cdef inline uint8_t* put_digits(uint8_t* at, uint64_t value, int digits) noexcept nogil:
    """Exactly as many digits as ``value`` has, or more with zeros in front."""
    cdef uint8_t* end = at + digits
    cdef uint8_t* place = end
    while place - at >= 2:
        place -= 2
        memcpy(place, PAIRS + 2 * (value % 100), 2)
        value //= 100
    if place > at:
        at[0] = <uint8_t>(48 + value % 10)
    return end


cdef inline uint8_t* put_unsigned(uint8_t* at, uint64_t value) noexcept nogil:
    if value < 10:
        at[0] = <uint8_t>(48 + value)
        return at + 1
    return put_digits(at, value, digits_of(value))


cdef inline uint8_t* put_padded(uint8_t* at, uint64_t value, int width) noexcept nogil:
    """At least ``width`` digits."""
    cdef int digits = digits_of(value)
    return put_digits(at, value, width if width > digits else digits)


cdef inline uint8_t* put_signed(uint8_t* at, const uint8_t* raw, int size) noexcept nogil:
    cdef int shift = 64 - 8 * size
    cdef int64_t value = <int64_t>(little(raw, size) << shift) >> shift
    if value >= 0:
        return put_unsigned(at, <uint64_t>value)
    at[0] = c'-'
    return put_unsigned(at + 1, 0 - <uint64_t>value)


cdef inline int decimal_bytes(int precision, int scale) noexcept nogil:
    cdef int whole = precision - scale
    return (whole // 9 + scale // 9) * 4 + DECIMAL_BYTES[whole % 9] + DECIMAL_BYTES[scale % 9]


cdef inline uint8_t* put_decimal(uint8_t* at, const uint8_t* raw, int precision, int scale) noexcept nogil:
    """A DECIMAL of at most 81 digits; NULL where a group holds more digits than it should."""
    cdef uint8_t bytes_[40]
    cdef int size = decimal_bytes(precision, scale), used = 0, digits, left = precision - scale, part
    cdef uint8_t flip = 0 if raw[0] & 0x80 else 0xFF
    cdef bint begun = False, in_fraction = False
    cdef uint64_t group
    for part in range(size):
        bytes_[part] = raw[part] ^ flip
    bytes_[0] ^= 0x80
    if flip:
        at[0] = c'-'
        at += 1
    while True:
        while left > 0:
            digits = 9 if in_fraction or left % 9 == 0 else left % 9
            digits = left if left < digits else digits
            group = big(bytes_ + used, DECIMAL_BYTES[digits])
            used += DECIMAL_BYTES[digits]
            left -= digits
            if group >= UNITS[digits]:
                return NULL
            if begun:
                at = put_digits(at, group, digits)
            elif group:
                at = put_unsigned(at, group)
                begun = True
        if in_fraction:
            return at
        if not begun:
            at[0] = c'0'
            at += 1
        if scale == 0:
            return at
        at[0] = c'.'
        at += 1
        left, begun, in_fraction = scale, True, True


cdef inline uint8_t* put_floating(uint8_t* at, uint64_t digits, int exponent) noexcept nogil:
    """``digits * 10**exponent`` as Python's ``repr`` shows a float; ``digits`` is not 0."""
    cdef int count, point
    cdef uint8_t* end
    while digits % 10 == 0:
        digits //= 10
        exponent += 1
    count = digits_of(digits)
    point = count + exponent
    if -4 < point <= 0:
        memcpy(at, b"0.0000", 6)
        return put_digits(at + 2 - point, digits, count)
    if 0 < point <= 16:
        if exponent >= 0:
            end = put_digits(at, digits, count)
            for point in range(exponent):
                end[point] = c'0'
            memcpy(end + exponent, b".0", 2)
            return end + exponent + 2
        end = put_digits(at + 1, digits, count)
        for count in range(point):
            at[count] = at[count + 1]
        at[point] = c'.'
        return end
    end = put_digits(at + 1, digits, count)
    at[0] = at[1]
    at[1] = c'.'
    if count == 1:
        end = at + 1
    end[0] = c'e'
    end[1] = c'-' if point < 1 else c'+'
    return put_padded(end + 2, <uint64_t>(1 - point if point < 1 else point - 1), 2)


cdef inline uint8_t* put_float(uint8_t* at, const uint8_t* raw) noexcept nogil:
    """The first of 6, 7, 8 digits that reads back as the same float32, else 9: exact arithmetic within 128 bits.

    NULL for what does not fit into them, and for what is no number.
    """
    cdef float value, back
    cdef uint32_t bits = <uint32_t>little(raw, 4)
    cdef int binary = <int>(bits >> 23 & 0xFF), digits, tens, decimal
    cdef u128 mantissa = bits & 0x7FFFFF | 0x800000, scaled, rest, unit
    memcpy(&value, &bits, 4)
    if bits >> 31:
        at[0] = c'-'
        at += 1
        value = -value
    if value == 0:
        memcpy(at, b"0.0", 3)
        return at + 3
    if not 1e-12 < value < 1e22:
        return NULL
    binary -= 150
    decimal = floor_log10(binary + 23)
    decimal += TENS[decimal + 1] <= value if decimal >= -1 else value * TENS[-1 - decimal] >= 1
    for digits in range(6, 10):
        tens = digits - 1 - decimal  # the value times 10**tens has so many digits
        if tens >= 0:
            scaled = mantissa * UNITS[tens if tens < 19 else 19]
            if tens > 19:
                scaled *= UNITS[tens - 19]
            unit = <u128>1 << (-binary if binary < 0 else 0)
            scaled <<= binary if binary > 0 else 0
            rest = scaled & (unit - 1)
            scaled >>= -binary if binary < 0 else 0
        else:
            unit = <u128>UNITS[-tens] << (-binary if binary < 0 else 0)
            scaled = mantissa << (binary if binary > 0 else 0)
            rest = scaled % unit
            scaled //= unit
        if 2 * rest > unit or (2 * rest == unit and scaled & 1):
            scaled += 1
        back = <float>(<double><uint64_t>scaled / TENS[tens] if tens >= 0 else <double><uint64_t>scaled * TENS[-tens])
        if back == value or digits == 9:
            return put_floating(at, <uint64_t>scaled, -tens)
    return NULL


cdef inline int floor_log10(int binary) noexcept nogil:
    """floor(log10(2**binary)), for what a double can hold."""
    return (binary * 1262611) >> 22


cdef inline uint64_t rounded_to_odd(uint64_t high, uint64_t low, uint64_t factor) noexcept nogil:
    cdef u128 upper = <u128>high * factor + <uint64_t>((<u128>low * factor) >> 64)
    return <uint64_t>(upper >> 64) | (<uint64_t>upper > 1)


cdef inline uint8_t* put_double(uint8_t* at, const uint8_t* raw, const Tens* tens) noexcept nogil:
    """The shortest digits that read back as the same double, of them the nearest. NULL for what is no number.

    The way is that of Raffaello Giulietti, "The Schubfach way to render doubles" (2020), whose names these are.
    """
    cdef uint64_t bits = little(raw, 8)
    cdef uint64_t c = bits & ((<uint64_t>1 << 52) - 1), odd, s, lower, vb, upper, g1, g0
    cdef int q = <int>(bits >> 52 & 0x7FF), k, h
    cdef bint closer, low_inside, high_inside
    if q == 0x7FF:
        return NULL
    if bits >> 63:
        at[0] = c'-'
        at += 1
    if bits << 1 == 0:
        memcpy(at, b"0.0", 3)
        return at + 3
    closer = c == 0 and q > 1
    if q:
        c |= <uint64_t>1 << 52
        q -= 1075
    else:
        q = -1074
    if -53 < q <= 0 and c & ((<uint64_t>1 << -q) - 1) == 0:
        return put_floating(at, c >> -q, 0)
    k = (q * 1262611 - (524031 if closer else 0)) >> 22
    h = q + ((-k * 1741647) >> 19) + 1
    g1, g0 = tens.high[-k - LOWEST_TEN], tens.low[-k - LOWEST_TEN]
    odd = c & 1
    lower = rounded_to_odd(g1, g0, (4 * c - (1 if closer else 2)) << h) + odd
    vb = rounded_to_odd(g1, g0, (4 * c) << h)
    upper = rounded_to_odd(g1, g0, (4 * c + 2) << h) - odd
    s = vb >> 2
    if s >= 10:
        low_inside = lower <= 40 * (s // 10)
        high_inside = 40 * (s // 10) + 40 <= upper
        if low_inside != high_inside:
            return put_floating(at, s // 10 + high_inside, k + 1)
    low_inside = lower <= 4 * s
    high_inside = 4 * s + 4 <= upper
    if low_inside != high_inside:
        return put_floating(at, s + high_inside, k)
    if vb > 4 * s + 2 or (vb == 4 * s + 2 and s & 1 == 1):
        s += 1
    return put_floating(at, s, k)
