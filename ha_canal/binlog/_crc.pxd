# cython: language_level=3
"""Checksums and little-endian words of events."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef uint32_t crc32(const uint8_t* at, Py_ssize_t size) noexcept nogil


cdef inline uint32_t u32(const uint8_t* at) noexcept nogil:
    return at[0] | <uint32_t>at[1] << 8 | <uint32_t>at[2] << 16 | <uint32_t>at[3] << 24


cdef inline uint64_t u64(const uint8_t* at) noexcept nogil:
    return u32(at) | <uint64_t>u32(at + 4) << 32
