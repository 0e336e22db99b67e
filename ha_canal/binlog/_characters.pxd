# cython: language_level=3
"""Bytes of character sets to UTF-8, in C: UTF-8 itself is checked, 8-bit sets go through a map.

A map is 256 times (how many bytes, three bytes): `ha_canal.binlog._plans` makes it of what `charsets` decodes.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define HA_CANAL_HIGH_BITS 0x8080808080808080ull
    """
    const uint64_t HIGH_BITS "HA_CANAL_HIGH_BITS"


cdef inline Py_ssize_t ascii_bytes(const uint8_t* raw, Py_ssize_t size) noexcept nogil:
    """Return how many bytes in front are ASCII, or a few less."""
    cdef Py_ssize_t at = 0
    cdef uint64_t block
    while size - at >= 8:
        memcpy(&block, raw + at, 8)
        if block & HIGH_BITS:
            return at
        at += 8
    while at < size and raw[at] < 0x80:
        at += 1
    return at


cdef inline bint is_utf8(const uint8_t* raw, Py_ssize_t size) noexcept nogil:
    """Whether these bytes are UTF-8 as Python decodes it (RFC 3629: no surrogates, nothing beyond U+10FFFF)."""
    cdef Py_ssize_t at = 0
    cdef uint8_t lead, low, high
    cdef int more
    while at < size:
        lead = raw[at]
        at += 1
        if lead < 0x80:
            at += ascii_bytes(raw + at, size - at)
            continue
        low, high, more = 0x80, 0xBF, 1
        if lead < 0xC2 or lead > 0xF4:
            return False
        if lead >= 0xF0:
            low, high, more = 0x90 if lead == 0xF0 else 0x80, 0x8F if lead == 0xF4 else 0xBF, 3
        elif lead >= 0xE0:
            low, high, more = 0xA0 if lead == 0xE0 else 0x80, 0x9F if lead == 0xED else 0xBF, 2
        if size - at < more or not low <= raw[at] <= high:
            return False
        at += 1
        for more in range(more - 1):
            if raw[at] & 0xC0 != 0x80:
                return False
            at += 1
    return True


cdef inline size_t mapped_bytes(const uint8_t* raw, Py_ssize_t size, const uint8_t* map_) noexcept nogil:
    cdef size_t total = 0
    cdef Py_ssize_t at
    for at in range(size):
        total += map_[4 * raw[at]]
    return total


cdef inline uint8_t* put_mapped(uint8_t* place, const uint8_t* raw, Py_ssize_t size, const uint8_t* map_) noexcept nogil:
    """Write up to two bytes beyond the end, which are within the slack."""
    cdef Py_ssize_t at
    cdef const uint8_t* one
    for at in range(size):
        one = map_ + 4 * <size_t>raw[at]
        memcpy(place, one + 1, 3)
        place += one[0]
    return place
