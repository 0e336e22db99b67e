# cython: language_level=3
"""Whole transactions, packed: what `_scan` fills and the rooms above ask."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from ha_canal.binlog._buffer cimport Buffer
from ha_canal.binlog._header cimport Header
from ha_canal.binlog._packed_rows cimport PackedRows

cdef enum:
    MOST_SOURCES = 16  # servers whose GTIDs one run holds
    NO_GTID = -1
    OF_MARIADB = -2


cdef struct Tx:
    int64_t start_offset, begin_offset, last_offset, commit_us
    uint64_t number, xid
    uint32_t server_id, timestamp_s, begin_bytes, last_bytes, last_timestamp_s, thread_id, used, domain
    int32_t source  # index of the uuid in front of ``number``; or `NO_GTID`, `OF_MARIADB`
    int32_t rows_from, rows_to


cdef class Packed(PackedRows):
    cdef Tx* txs
    cdef Py_ssize_t tx_room
    cdef readonly Py_ssize_t count
    cdef list sources
    cdef uint8_t source_ids[MOST_SOURCES][16]
    cdef str file, server_uuid
    cdef bytes file_utf8, uuid_utf8
    cdef Tx* next_tx(self) except NULL
    cdef int32_t source_index(self, const uint8_t* uuid) except -2
    cdef int finish(self, tuple plans) except -1
    cdef Tx* tx(self, Py_ssize_t index) except NULL
    cdef str gtid_of(self, Tx* tx)
    cdef object transaction_of(self, Tx* tx)
    cdef object commit_of(self, Tx* tx, object transaction)
    cdef Py_ssize_t wanted_rows(self, Tx* tx, const char* mask) noexcept
    cdef uint8_t* put_gtid(self, uint8_t* at, Tx* tx) except NULL
    cdef int put_tx(
        self, Tx* tx, const char* mask, bint lean, Header* header, Buffer* out, Buffer* change
    ) except -1
