# cython: language_level=3
"""Rows events, packed: what `_scan` fills, and what runs and stretches keep their rows in."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from ha_canal.binlog._buffer cimport Buffer
from ha_canal.binlog._header cimport Header, Text

cdef enum:
    ITEM_OVERHEAD = 200  # as `ha_canal.model.change` counts


cdef struct RowsEvent:
    int64_t offset
    uint64_t at  # in the data: the bitmaps, then the rows
    uint32_t ordinal, event_bytes, timestamp_s, body_bytes, bitmap_bytes
    int32_t plan, kind


cdef class PackedRows:
    cdef RowsEvent* rows
    cdef Buffer data
    cdef Py_ssize_t rows_room, rows_count
    cdef readonly Py_ssize_t size_bytes
    cdef readonly tuple plans
    cdef list compiled
    cdef readonly object transaction  # of all events here; a run has many, and None
    cdef RowsEvent* next_rows(self) except NULL
    cdef RowsEvent* event(self, Py_ssize_t index) except NULL
    cdef int finish_rows(self, tuple plans) except -1
    cdef object owner(self, RowsEvent* event)
    cdef object rows_of(self, RowsEvent* event, object transaction)
    cdef int compile_plans(self) except -1
    cdef int put_rows(self, RowsEvent* event, bint lean, Header* header, Buffer* out, Buffer* change) except -1


cdef class Scratch:
    cdef Buffer out, change


cdef Scratch borrow()
cdef bytes given_back(Scratch scratch)
cdef int give_back(Scratch scratch) except -1
cdef Text text_of(bytes source) noexcept
cdef int empty(Buffer* out, size_t room) except -1
cdef int put_entry(Buffer* out, const Header* header, int kind, const Buffer* store_value) except -1
