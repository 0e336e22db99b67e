# cython: language_level=3
"""Events in a chunk: checked, and the rows among them kept. What `_scan` stands on."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from ha_canal.binlog._packed_rows cimport PackedRows

cdef enum:
    MOST_TABLES = 16  # at a time


cdef struct Event:
    const uint8_t* body
    Py_ssize_t body_bytes
    uint32_t timestamp_s, server_id, size, flags
    int code
    int64_t offset


cdef struct Place:  # between two events
    Py_ssize_t at, events
    int64_t offset
    int sequence
    uint32_t timestamp_s, used


cdef enum:
    UNWANTED = -1  # instead of a plan's index
    NOT_KEPT = -2  # so far there are no rows of it


cdef struct Table:
    uint64_t id
    int32_t plan  # its index among those kept
    int layout  # which of `RowsScan.seen`; negative: none
    uint32_t columns


cdef struct Layout:
    const uint8_t* key
    Py_ssize_t key_bytes
    int32_t plan
    uint32_t columns


cdef class RowsScan:
    cdef dict plans
    cdef bint mariadb, checksums
    cdef readonly Py_ssize_t at  # in the chunk
    cdef readonly int sequence  # of the next packet
    cdef readonly int64_t offset  # in the file
    cdef readonly Py_ssize_t events
    cdef readonly uint32_t timestamp_s  # of the last event
    cdef readonly bint is_cut  # the event ahead is not here whole
    cdef readonly uint32_t used  # the next ordinal
    # Of the chunk that is looked through:
    cdef const uint8_t* data
    cdef Py_ssize_t end
    cdef PackedRows kept
    cdef dict index_of_plan
    # Tables of the transaction, by their ids; in an open one, those of earlier chunks too:
    cdef Table[MOST_TABLES] tables
    cdef list table_plans
    cdef int table_count
    cdef dict named
    # The last layouts, so that most need no lookup:
    cdef Layout[MOST_TABLES] seen
    cdef int seen_count
    cdef list seen_plans
    cdef int start(
        self, const uint8_t[::1] buffer, Py_ssize_t at, Py_ssize_t end, int sequence, int64_t offset, bint mariadb,
        bint checksums, PackedRows kept,
    ) except -1
    cdef int event(self, Event* event) except -1
    cdef bint checksums_hold(self, Py_ssize_t at) noexcept
    cdef int table(self, Event* event) except -1
    cdef int put_table(self, uint64_t table_id, plan, int layout) except -1
    cdef int find_table(self, uint64_t table_id) noexcept
    cdef int look_up(self, const uint8_t* key, Py_ssize_t key_bytes) except -2
    cdef int keep_plan(self, int index) except -1
    cdef int known_table(self, uint64_t table_id) except -2
    cdef Place place(self) noexcept
    cdef void go_back(self, const Place* place) noexcept
    cdef int inside(self, Event* event) except -1
    cdef int rows(self, Event* event) except -1
    cdef tuple kept_plans(self)


cdef inline bint is_rows(const Event* event) noexcept:
    """Whether it holds plain rows: neither compressed ones, nor JSON diffs."""
    return 23 <= event.code <= 25 or 30 <= event.code <= 32


cdef inline uint64_t uint48(const uint8_t* at) noexcept:
    return at[0] | at[1] << 8 | at[2] << 16 | <uint64_t>at[3] << 24 | <uint64_t>at[4] << 32 | <uint64_t>at[5] << 40
