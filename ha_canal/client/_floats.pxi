# Decimal digits to the nearest double without C's strtod, which the seventeen digits of a shortest text cost a lot:
# Lemire, "Number parsing at a gigabyte per second" (2021), https://arxiv.org/abs/2101.11408.

cdef extern from *:
    """
    typedef unsigned __int128 ha_canal_u128;
    """
    ctypedef unsigned long long u128 "ha_canal_u128"
    int leading_zeros "__builtin_clzll"(unsigned long long number) nogil

cdef enum:
    LOWEST_TEN = -330
    HIGHEST_TEN = 308
    TENS_COUNT = HIGHEST_TEN - LOWEST_TEN + 1

cdef uint64_t[TENS_COUNT] TENS_HIGH
cdef uint64_t[TENS_COUNT] TENS_LOW
"""The highest 128 bits of 10**k, cut off; but one more where 5**-k has no more than 64 bits, so that exact products are
seen as such."""


cdef int fill_tens() except -1:
    for index in range(TENS_COUNT):
        exponent = index + LOWEST_TEN
        if exponent >= 0:
            bits = (5**exponent).bit_length()
            power = 5**exponent << 128 - bits if bits <= 128 else 5**exponent >> bits - 128
        else:
            bits = (5**-exponent).bit_length()
            power = (1 << bits + 127) // 5**-exponent + (bits <= 64)
        TENS_HIGH[index], TENS_LOW[index] = power >> 64, power & 0xFFFFFFFFFFFFFFFF
    return 0


fill_tens()


cdef bint nearest_double(uint64_t digits, int scale, double* number) noexcept nogil:
    """Find the double nearest to ``digits * 10**scale``, which is not negative; False: it is left to strtod."""
    cdef u128 product
    cdef uint64_t high, low, more, mantissa
    cdef int zeros, upper, shift, power
    if digits == 0:
        number[0] = 0.0
        return True
    if not LOWEST_TEN <= scale <= HIGHEST_TEN:
        return False
    zeros = leading_zeros(digits)
    digits <<= zeros
    product = <u128>digits * TENS_HIGH[scale - LOWEST_TEN]
    high, low = <uint64_t>(product >> 64), <uint64_t>product
    if high & 0x1FF == 0x1FF:  # the bits that were left out may matter
        more = <uint64_t>((<u128>digits * TENS_LOW[scale - LOWEST_TEN]) >> 64)
        low += more
        if low < more:
            high += 1
        if low == ~<uint64_t>0:
            return False
    upper = <int>(high >> 63)
    shift = upper + 9
    mantissa = high >> shift
    power = (217706 * scale >> 16) + 63 + upper - zeros + 1023
    if power <= 0:  # a subnormal one
        return False
    if low <= 1 and -4 <= scale <= 23 and mantissa & 3 == 1 and mantissa << shift == high:
        mantissa &= ~<uint64_t>1  # just between two: to the even one
    mantissa = (mantissa + (mantissa & 1)) >> 1
    if mantissa >> 53:
        mantissa = 1ULL << 52
        power += 1
    if power >= 0x7FF:
        return False
    mantissa = mantissa & (1ULL << 52) - 1 | <uint64_t>power << 52
    memcpy(number, &mantissa, 8)
    return True
