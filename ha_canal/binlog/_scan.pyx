# cython: language_level=3, cdivision=True
"""Runs of small plain transactions: found in a chunk and kept packed, without an object per transaction.

The compiled half of `ha_canal.model.run`. `Scan.run` takes whole transactions from the front of a chunk as long as they
have the plain shape (GTID, BEGIN, tables and rows, XID or COMMIT) and every check holds; in front of anything else it
stops. Inside a transaction that is not taken whole, `RowsScan.stretch` takes its rows.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp

from ha_canal.binlog._crc cimport u32, u64
from ha_canal.binlog._packed cimport NO_GTID, OF_MARIADB, Packed, Tx
from ha_canal.binlog._rows_scan cimport Event, Place, RowsScan

cdef enum:
    QUERY = 2
    XID = 16
    GTID = 33
    ANONYMOUS_GTID = 34
    MARIADB_GTID = 162


cdef inline uint64_t u56(const uint8_t* at) noexcept nogil:
    return u32(at) | <uint64_t>at[4] << 32 | <uint64_t>at[5] << 40 | <uint64_t>at[6] << 48


cdef class Scan(RowsScan):
    """Looks for runs, and for stretches."""

    cdef str server_uuid
    cdef Packed packed

    def __init__(self, dict plans, str server_uuid):
        super().__init__(plans)
        self.server_uuid = server_uuid

    def run(
        self, const uint8_t[::1] buffer not None, Py_ssize_t at, Py_ssize_t end, int sequence, str file, int64_t offset, *,
        bint mariadb, bint checksums,
    ):
        """Return the transactions that stand in ``buffer`` from ``at`` on, or None; what is done is in the attributes.

        ``sequence`` is the next packet's number, ``offset`` the place of the next event in ``file``.
        """
        cdef Place before
        cdef size_t was_bytes
        cdef Py_ssize_t was_rows
        cdef Packed packed = Packed()
        self.start(buffer, at, end, sequence, offset, mariadb, checksums, packed)
        packed.file, packed.server_uuid = file, self.server_uuid
        self.packed = packed
        while True:
            self.is_cut = False
            before = self.place()
            was_bytes, was_rows = packed.data.size, packed.rows_count
            if not self.transaction():
                self.go_back(&before)
                packed.data.size, packed.rows_count = was_bytes, was_rows
                break
        self.packed = self.kept = None
        if not packed.count:
            return None
        packed.finish(self.kept_plans())
        return packed

    cdef int transaction(self) except -1:
        """Take one transaction; 0: there is none that is plain and whole, and what was taken of it is to be undone."""
        cdef Event event
        cdef Tx* tx
        cdef Py_ssize_t began_at = self.at
        if not self.event(&event):
            return 0
        tx = self.packed.next_tx()
        tx.start_offset, tx.timestamp_s, tx.server_id = event.offset, event.timestamp_s, event.server_id
        tx.begin_offset, tx.begin_bytes, tx.thread_id = event.offset, event.size, 0
        tx.commit_us, tx.xid, tx.domain = 0, 0, 0
        tx.rows_from = self.packed.rows_count
        self.table_count, self.used = 0, 0
        if event.code == MARIADB_GTID and self.mariadb:
            if not self.mariadb_gtid(&event, tx):
                return 0
        elif (event.code == GTID or event.code == ANONYMOUS_GTID) and not self.mariadb:
            if not self.gtid(&event, tx) or not self.event(&event) or not self.begin(&event, tx):
                return 0
        else:
            return 0
        while self.event(&event):
            if event.code == XID or event.code == QUERY:
                # Only now, since most of a large transaction is not here.
                return self.checksums_hold(began_at) and self.ended(&event, tx)
            if not self.inside(&event):
                return 0
        return 0

    cdef int gtid(self, Event* event, Tx* tx) except -1:
        """MySQL's: flags (1), uuid (16), number (8), clock (17), times of commit (7 each)."""
        cdef const uint8_t* body = event.body
        if event.body_bytes < 25:
            return 0
        tx.source = NO_GTID
        if event.code == GTID:
            tx.number = u64(body + 17)
            if tx.number < 1 or tx.number >> 63:
                return 0
            tx.source = self.packed.source_index(body + 1)
            if tx.source < 0:
                return 0
        if event.body_bytes >= 49:
            tx.commit_us = u56(body + 42)
            if tx.commit_us >> 55 & 1:
                if event.body_bytes < 56:
                    return 0
                tx.commit_us = u56(body + 49)
        return 1

    cdef int mariadb_gtid(self, Event* event, Tx* tx) except -1:
        """Number (8), domain (4), flags (1), a group commit's number (8) if flag 2 says so, more flags."""
        cdef Py_ssize_t at = 13
        if event.body_bytes < 19:
            return 0
        tx.source, tx.number, tx.domain = OF_MARIADB, u64(event.body), u32(event.body + 8)
        if event.body[12] & (1 | 64 | 128):  # standalone, XA
            return 0
        if event.body[12] & 2:
            at += 8
        return at >= event.body_bytes or not event.body[at] & 10

    cdef int begin(self, Event* event, Tx* tx) except -1:
        if event.code != QUERY or not is_statement(event, b"BEGIN", 5):
            return 0
        tx.begin_offset, tx.begin_bytes, tx.thread_id = event.offset, event.size, u32(event.body)
        return 1

    cdef int ended(self, Event* event, Tx* tx) except -1:
        if event.code == XID:
            if event.body_bytes < 8:
                return 0
            tx.xid = u64(event.body)
        elif not is_statement(event, b"COMMIT", 6):
            return 0
        tx.last_offset, tx.last_bytes, tx.last_timestamp_s = event.offset, event.size, event.timestamp_s
        tx.rows_to, tx.used = self.packed.rows_count, self.used
        self.packed.count += 1
        return 1

cdef bint is_statement(Event* event, const char* text, Py_ssize_t size) noexcept:
    """Whether the text of a QUERY event is ``text``: behind 13 bytes, status variables, and the database's name."""
    cdef const uint8_t* body = event.body
    cdef Py_ssize_t at
    if event.body_bytes < 13:
        return False
    at = 13 + (body[11] | body[12] << 8) + body[8] + 1
    return at + size == event.body_bytes and memcmp(body + at, text, size) == 0
