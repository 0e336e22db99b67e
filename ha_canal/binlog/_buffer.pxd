# cython: language_level=3
"""Bytes that grow at their end, in C, and protobuf's varints.

Inline, so that every extension which cimports this has its own copy. Writers reserve first and write through a
pointer then: `SLACK` bytes more than asked are always there, so that short copies may write whole blocks.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport abort, realloc
from libc.string cimport memcpy, memmove

cdef extern from *:
    """
    #ifndef HA_CANAL_CHECKED
    #define HA_CANAL_CHECKED 0
    #endif
    """
    const bint HA_CANAL_CHECKED

cdef enum:
    SLACK = 96


cdef struct Buffer:
    uint8_t* data
    size_t size  # in use
    size_t room  # without the slack


cdef inline int reserve(Buffer* out, size_t more) noexcept nogil:
    """Make room for ``more`` bytes behind the last one. 0, or -1 where there is no memory; pointers into it change."""
    cdef size_t room
    cdef void* grown
    if out.room - out.size >= more:
        return 0
    room = out.size + more + (out.size >> 1) + 4096
    grown = realloc(out.data, room + SLACK)
    if grown == NULL:
        return -1
    out.data = <uint8_t*>grown
    out.room = room
    return 0


cdef inline void written(Buffer* out, const uint8_t* end) noexcept nogil:
    """Note that the bytes in use end at ``end``."""
    out.size = end - out.data
    if HA_CANAL_CHECKED and out.size > out.room:
        abort()


cdef inline size_t varint_bytes(uint64_t value) noexcept nogil:
    cdef size_t size = 1
    while value > 0x7F:
        value >>= 7
        size += 1
    return size


cdef inline uint8_t* put_varint(uint8_t* at, uint64_t value) noexcept nogil:
    while value > 0x7F:
        at[0] = <uint8_t>(value & 0x7F | 0x80)
        at += 1
        value >>= 7
    at[0] = <uint8_t>value
    return at + 1


cdef inline uint8_t* put_integer(uint8_t* at, uint64_t tag, uint64_t value) noexcept nogil:
    """An integer field, where it is not 0. ``tag`` is the field's number << 3."""
    if value == 0:
        return at
    return put_varint(put_varint(at, tag), value)


cdef inline uint8_t* put_bytes(uint8_t* at, const void* source, size_t size) noexcept nogil:
    if size:  # of nothing ``source`` may be NULL, which C forbids memcpy
        memcpy(at, source, size)
    return at + size


cdef inline uint8_t* put_short(uint8_t* at, const uint8_t* source, size_t size) noexcept nogil:
    """`put_bytes` for what is mostly short. ``source`` must have `SLACK` readable bytes behind its end."""
    if size > 64:
        return put_bytes(at, source, size)
    memcpy(at, source, 32)
    if size > 32:
        memcpy(at + 32, source + 32, 32)
    return at + size


cdef inline uint8_t* set_length(uint8_t* place, size_t reserved, uint8_t* end) noexcept nogil:
    """Write how many bytes stand between ``place + reserved`` and ``end`` at ``place``, and move them to fit.

    Returns their new end, at most nine bytes on.
    """
    cdef size_t size = end - place - reserved
    cdef size_t needed = varint_bytes(size)
    if needed != reserved:
        memmove(place + needed, place + reserved, size)
    put_varint(place, size)
    return place + needed + size
