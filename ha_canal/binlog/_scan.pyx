# cython: language_level=3, cdivision=True
"""Runs of small plain transactions: found in a chunk, kept packed, and encoded, without an object per transaction.

The compiled half of `ha_canal.model.run`. `scan` takes whole transactions from the front of a chunk as long as they
have the plain shape (GTID, BEGIN, tables and rows, XID or COMMIT) and every check holds; in front of anything else it
stops, and the event by event path of `ha_canal.binlog.stream` goes on there, which also says what is wrong. So this
file decides nothing: what it does not know it leaves. Layouts of events: see `ha_canal.binlog.events` and its kin.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from ha_canal.binlog._buffer cimport put_bytes, reserve, written
from ha_canal.binlog._crc cimport crc32, u32, u64
from ha_canal.binlog._packed cimport NO_GTID, OF_MARIADB, Packed, RowsEvent, Tx

cdef enum:
    PACKET_BYTES = 5  # its header, and 0x00 in front of the event
    HEADER_BYTES = 19
    QUERY = 2
    XID = 16
    TABLE_MAP = 19
    ROWS_QUERY = 29
    GTID = 33
    ANONYMOUS_GTID = 34
    ANNOTATE_ROWS = 160
    MARIADB_GTID = 162
    ARTIFICIAL = 0x20
    MOST_TABLES = 16  # of one transaction

MISSING = object()


cdef struct Event:
    const uint8_t* body
    Py_ssize_t body_bytes
    uint32_t timestamp_s, server_id, size, flags
    int code
    int64_t offset


cdef inline uint64_t u56(const uint8_t* at) noexcept nogil:
    return u32(at) | <uint64_t>at[4] << 32 | <uint64_t>at[5] << 40 | <uint64_t>at[6] << 48


cdef class Scan:
    """Looks for runs. ``plans`` is shared with the stream: layouts (TABLE_MAP bodies behind their id) to plans."""

    cdef dict plans
    cdef str server_uuid
    cdef bint mariadb, checksums
    cdef readonly Py_ssize_t at  # in the chunk
    cdef readonly int sequence  # of the next packet
    cdef readonly int64_t offset  # in the file
    cdef readonly Py_ssize_t events
    cdef readonly uint32_t timestamp_s  # of the last event
    cdef readonly bint is_cut  # behind the run, what is here of a transaction is plain, and the rest is to come
    # Of the chunk that is looked through:
    cdef const uint8_t* data
    cdef Py_ssize_t end
    cdef Packed packed
    cdef dict index_of_plan
    # Tables of the transaction:
    cdef uint64_t table_ids[MOST_TABLES]
    cdef int32_t table_plans[MOST_TABLES]
    cdef uint32_t table_columns[MOST_TABLES]
    cdef int tables
    # The last layouts, so that most need no lookup:
    cdef const uint8_t* seen[MOST_TABLES]
    cdef Py_ssize_t seen_bytes[MOST_TABLES]
    cdef int32_t seen_plans[MOST_TABLES]
    cdef uint32_t seen_columns[MOST_TABLES]
    cdef int seen_count

    def __init__(self, dict plans, str server_uuid):
        self.plans = plans
        self.server_uuid = server_uuid

    def run(
        self, const uint8_t[::1] buffer not None, Py_ssize_t at, Py_ssize_t end, int sequence, str file, int64_t offset, *,
        bint mariadb, bint checksums,
    ):
        """Return the transactions that stand in ``buffer`` from ``at`` on, or None; what is done is in the attributes.

        ``sequence`` is the next packet's number, ``offset`` the place of the next event in ``file``.
        """
        cdef Py_ssize_t was_at, was_events
        cdef int was_sequence
        cdef int64_t was_offset
        cdef uint32_t was_timestamp_s
        cdef size_t was_bytes
        cdef Py_ssize_t was_rows
        cdef Packed packed
        if not 0 <= at <= end <= buffer.shape[0]:
            raise IndexError(f"{at} to {end} of {buffer.shape[0]} bytes")
        self.data = &buffer[0] if end else NULL
        self.end = end
        self.at, self.sequence, self.offset, self.events = at, sequence, offset, 0
        self.mariadb, self.checksums = mariadb, checksums
        self.packed = Packed()
        self.packed.file, self.packed.server_uuid = file, self.server_uuid
        self.index_of_plan = {}
        self.seen_count = 0
        while True:
            self.is_cut = False
            was_at, was_sequence, was_offset = self.at, self.sequence, self.offset
            was_events, was_timestamp_s = self.events, self.timestamp_s
            was_bytes, was_rows = self.packed.data.size, self.packed.rows_count
            if not self.transaction():
                self.at, self.sequence, self.offset = was_at, was_sequence, was_offset
                self.events, self.timestamp_s = was_events, was_timestamp_s
                self.packed.data.size, self.packed.rows_count = was_bytes, was_rows
                break
        packed, self.packed = self.packed, None
        if not packed.count:
            return None
        packed.finish(tuple([held.plan for held in self.index_of_plan]))
        return packed

    cdef int event(self, Event* event) except -1:
        """Read the next event, checked as `ha_canal.binlog.event_reader` does but for its checksum; 0: not whole, or
        not plain."""
        cdef const uint8_t* at = self.data + self.at
        cdef Py_ssize_t size
        size = at[0] | at[1] << 8 | at[2] << 16 if self.end - self.at >= 4 else 0
        if self.end - self.at < 4 + size or size == 0:
            self.is_cut = size != 0xFFFFFF
            return 0
        if size < 1 + HEADER_BYTES or size == 0xFFFFFF:
            return 0
        if at[3] != self.sequence or at[4] != 0:
            return 0
        at += PACKET_BYTES
        size -= 1
        event.size = u32(at + 9)
        event.flags = at[17] | at[18] << 8
        if event.size != size or event.flags & ARTIFICIAL:
            return 0
        if <uint32_t>(self.offset + size) != u32(at + 13):
            return 0
        event.timestamp_s, event.code, event.server_id = u32(at), at[4], u32(at + 5)
        event.body, event.body_bytes = at + HEADER_BYTES, size - HEADER_BYTES
        if self.checksums:
            if event.body_bytes < 4:
                return 0
            event.body_bytes -= 4
        event.offset = self.offset
        self.offset += size
        self.at += 4 + 1 + size
        self.sequence = self.sequence + 1 & 0xFF
        self.events += 1
        if event.timestamp_s:
            self.timestamp_s = event.timestamp_s
        return 1

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
        tx.commit_us, tx.xid, tx.used, tx.domain = 0, 0, 0, 0
        tx.rows_from = self.packed.rows_count
        self.tables = 0
        if event.code == MARIADB_GTID and self.mariadb:
            if not self.mariadb_gtid(&event, tx):
                return 0
        elif (event.code == GTID or event.code == ANONYMOUS_GTID) and not self.mariadb:
            if not self.gtid(&event, tx) or not self.event(&event) or not self.begin(&event, tx):
                return 0
        else:
            return 0
        while self.event(&event):
            if event.code == TABLE_MAP:
                if not self.table(&event):
                    return 0
            elif event.code == XID or event.code == QUERY:
                return self.checksums_hold(began_at) and self.ended(&event, tx)
            elif event.code == ROWS_QUERY or event.code == ANNOTATE_ROWS:
                continue
            elif 23 <= event.code <= 25 or 30 <= event.code <= 32:
                if not self.rows(&event, tx):
                    return 0
            else:
                return 0
        return 0

    cdef bint checksums_hold(self, Py_ssize_t at) noexcept:
        """Check the events from ``at`` on, which are whole: only now, since most of a large transaction is not here."""
        cdef Py_ssize_t size
        while self.checksums and at < self.at:
            size = (self.data[at] | self.data[at + 1] << 8 | self.data[at + 2] << 16) - 1
            at += PACKET_BYTES
            if crc32(self.data + at, size - 4) != u32(self.data + at + size - 4):
                return False
            at += size
        return True

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
        tx.rows_to = self.packed.rows_count
        self.packed.count += 1
        return 1

    cdef int table(self, Event* event) except -1:
        """Find the plan of a TABLE_MAP; 0: its layout is new."""
        cdef const uint8_t* key = event.body + 8
        cdef Py_ssize_t key_bytes = event.body_bytes - 8
        cdef int index
        if key_bytes < 0 or self.tables == MOST_TABLES:
            return 0
        for index in range(self.seen_count):
            if self.seen_bytes[index] == key_bytes and memcmp(self.seen[index], key, key_bytes) == 0:
                break
        else:
            index = self.look_up(key, key_bytes)
            if index < 0:
                return 0
        self.table_ids[self.tables] = u32(event.body) | <uint64_t>(event.body[4] | event.body[5] << 8) << 32
        self.table_plans[self.tables] = self.seen_plans[index]
        self.table_columns[self.tables] = self.seen_columns[index]
        self.tables += 1
        return 1

    cdef int look_up(self, const uint8_t* key, Py_ssize_t key_bytes) except -2:
        cdef int index
        plan = self.plans.get(PyBytes_FromStringAndSize(<const char*>key, key_bytes), MISSING)
        if plan is MISSING:
            return -1
        if self.seen_count < MOST_TABLES:
            self.seen_count += 1
        index = self.seen_count - 1
        self.seen[index], self.seen_bytes[index] = key, key_bytes
        self.seen_plans[index] = -1
        if plan is not None:
            self.seen_columns[index] = len(plan.columns)
            self.seen_plans[index] = self.index_of_plan.setdefault(Held(plan), len(self.index_of_plan))
        return index

    cdef int rows(self, Event* event, Tx* tx) except -1:
        """Keep the bitmaps and the rows; layouts as `ha_canal.binlog.rows_events` tells."""
        cdef const uint8_t* body = event.body
        cdef uint64_t table_id
        cdef uint32_t columns, bitmap_bytes
        cdef Py_ssize_t at = 8, images
        cdef int index
        cdef RowsEvent* rows
        if event.body_bytes < 12:
            return 0
        table_id = u32(body) | <uint64_t>(body[4] | body[5] << 8) << 32
        if table_id == 0xFFFFFF:
            return 1
        for index in range(self.tables - 1, -1, -1):
            if self.table_ids[index] == table_id:
                break
        else:
            return 0
        tx.used += 1
        if self.table_plans[index] < 0:
            return 1
        if event.code >= 30:
            at += body[8] | body[9] << 8
            if at < 10 or at + 4 > event.body_bytes:
                return 0
        if body[at] < 0xFB:
            columns = body[at]
            at += 1
        elif body[at] == 0xFC:
            columns = body[at + 1] | body[at + 2] << 8
            at += 3
        else:
            return 0
        if columns != self.table_columns[index]:
            return 0
        bitmap_bytes = columns + 7 >> 3
        rows = self.packed.next_rows()
        rows.kind = event.code - (29 if event.code >= 30 else 22)
        images = 2 * bitmap_bytes if rows.kind == 2 else bitmap_bytes
        if at + images > event.body_bytes:
            return 0
        rows.offset, rows.event_bytes, rows.timestamp_s = event.offset, event.size, event.timestamp_s
        rows.ordinal, rows.plan = tx.used - 1, self.table_plans[index]
        rows.at, rows.bitmap_bytes = self.packed.data.size, bitmap_bytes
        rows.body_bytes = event.body_bytes - at - images
        if self.packed.data.data == NULL and reserve(&self.packed.data, self.data + self.end - event.body):
            raise MemoryError  # all that there can be is this, so that nothing is copied again
        if reserve(&self.packed.data, event.body_bytes - at):
            raise MemoryError
        written(
            &self.packed.data,
            put_bytes(self.packed.data.data + self.packed.data.size, body + at, event.body_bytes - at),
        )
        self.packed.rows_count += 1
        return 1


class Held:
    """A plan as a key: by identity, since comparing plans compares columns."""

    __slots__ = ("plan",)

    def __init__(self, plan):
        self.plan = plan

    def __eq__(self, other):
        return self.plan is other.plan

    def __hash__(self):
        return id(self.plan)


cdef bint is_statement(Event* event, const char* text, Py_ssize_t size) noexcept:
    """Whether the text of a QUERY event is ``text``: behind 13 bytes, status variables, and the database's name."""
    cdef const uint8_t* body = event.body
    cdef Py_ssize_t at
    if event.body_bytes < 13:
        return False
    at = 13 + (body[11] | body[12] << 8) + body[8] + 1
    return at + size == event.body_bytes and memcmp(body + at, text, size) == 0
