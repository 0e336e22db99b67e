# cython: language_level=3, cdivision=True
"""Events in a chunk: checked as `ha_canal.binlog.event_reader` does, and the rows among them kept, without an object each.

What is not known here, not whole or not right is left for the event by event path of `ha_canal.binlog.stream`, which
also says what is wrong. So this file decides nothing. Layouts of events: see `ha_canal.binlog.events` and its kin.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from ha_canal.binlog._buffer cimport put_bytes, reserve, written
from ha_canal.binlog._crc cimport crc32, u32
from ha_canal.binlog._packed_rows cimport PackedRows, RowsEvent

cdef enum:
    PACKET_BYTES = 5  # its header, and 0x00 in front of the event
    HEADER_BYTES = 19
    TABLE_MAP = 19
    ROWS_QUERY = 29
    ANNOTATE_ROWS = 160
    ARTIFICIAL = 0x20
    NO_TABLE = 0xFFFFFF
    MOST_EVENT_BYTES = 1 << 20  # of rows: encoding more at once takes too long for the loop
    MOST_STRETCH_BYTES = 1 << 20

MISSING = object()


cdef class RowsScan:
    """Looks through chunks. ``plans`` is shared with the stream: layouts (TABLE_MAP bodies behind their id) to plans."""

    def __init__(self, dict plans):
        self.plans = plans

    cdef int start(
        self, const uint8_t[::1] buffer, Py_ssize_t at, Py_ssize_t end, int sequence, int64_t offset, bint mariadb,
        bint checksums, PackedRows kept,
    ) except -1:
        if not 0 <= at <= end <= buffer.shape[0]:
            raise IndexError(f"{at} to {end} of {buffer.shape[0]} bytes")
        self.data = &buffer[0] if end else NULL
        self.end = end
        self.at, self.sequence, self.offset, self.events = at, sequence, offset, 0
        self.mariadb, self.checksums = mariadb, checksums
        self.is_cut = False
        self.timestamp_s = 0
        self.used = 0
        self.kept = kept
        self.index_of_plan = {}
        self.named = None
        self.table_count = self.seen_count = 0
        self.seen_plans = [None] * MOST_TABLES
        self.table_plans = [None] * MOST_TABLES
        return 0

    def stretch(
        self, const uint8_t[::1] buffer not None, Py_ssize_t at, Py_ssize_t end, int sequence, int64_t offset, *,
        transaction, uint32_t ordinal, dict named, bint mariadb, bint checksums,
    ):
        """Return the rows events that stand in ``buffer`` from ``at`` on, or None; what is done is in the attributes.

        They are of ``transaction``, which is open: ``ordinal`` is the next one in it, ``named`` has the plans of its
        tables by their ids, to which those named here are added. Otherwise see `Scan.run`.
        """
        cdef Place before
        cdef PackedRows kept = PackedRows()
        cdef Event event
        self.start(buffer, at, end, sequence, offset, mariadb, checksums, kept)
        self.used, self.named = ordinal, named
        while kept.data.size < MOST_STRETCH_BYTES:
            before = self.place()
            if not self.event(&event):
                break
            if not self.checksums_hold(before.at) or not self.inside(&event):
                self.go_back(&before)
                break
        self.kept = self.named = None
        if not kept.rows_count:
            return None
        kept.transaction = transaction
        kept.finish_rows(self.kept_plans())
        return kept

    cdef Place place(self) noexcept:
        return Place(self.at, self.events, self.offset, self.sequence, self.timestamp_s, self.used)

    cdef void go_back(self, const Place* place) noexcept:
        self.at, self.events, self.offset = place.at, place.events, place.offset
        self.sequence, self.timestamp_s, self.used = place.sequence, place.timestamp_s, place.used

    cdef int inside(self, Event* event) except -1:
        """Take an event that stands inside a transaction; 0: it is not known here."""
        if event.code == TABLE_MAP:
            return self.table(event)
        if event.code == ROWS_QUERY or event.code == ANNOTATE_ROWS:
            return 1
        return self.rows(event) if is_rows(event) else 0

    cdef int event(self, Event* event) except -1:
        """Read the next event, checked but for its checksum; 0: not whole, or not plain."""
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

    cdef bint checksums_hold(self, Py_ssize_t at) noexcept:
        """Check the events from ``at`` on, which are whole."""
        cdef Py_ssize_t size
        while self.checksums and at < self.at:
            size = (self.data[at] | self.data[at + 1] << 8 | self.data[at + 2] << 16) - 1
            at += PACKET_BYTES
            if crc32(self.data + at, size - 4) != u32(self.data + at + size - 4):
                return False
            at += size
        return True

    cdef int table(self, Event* event) except -1:
        """Find the plan of a TABLE_MAP; 0: its layout is new."""
        cdef const uint8_t* key = event.body + 8
        cdef Py_ssize_t key_bytes = event.body_bytes - 8
        cdef uint64_t table_id
        cdef int index
        if key_bytes < 0:
            return 0
        for index in range(self.seen_count):
            if self.seen[index].key_bytes == key_bytes and memcmp(self.seen[index].key, key, key_bytes) == 0:
                break
        else:
            index = self.look_up(key, key_bytes)
            if index < 0:
                return 0
        table_id = uint48(event.body)
        if not self.put_table(table_id, self.seen_plans[index], index):
            return 0
        if self.named is not None:
            self.named[table_id] = self.seen_plans[index]
        return 1

    cdef int put_table(self, uint64_t table_id, plan, int layout) except -1:
        """Note what a table id means from here on; 0: there are too many of them."""
        cdef int index = self.find_table(table_id)
        if index < 0:
            if self.table_count == MOST_TABLES:
                return 0
            index = self.table_count
            self.table_count += 1
        self.table_plans[index] = plan
        if layout >= 0:
            self.tables[index] = Table(table_id, self.seen[layout].plan, layout, self.seen[layout].columns)
        elif plan is None:
            self.tables[index] = Table(table_id, UNWANTED, -1, 0)
        else:
            self.tables[index] = Table(table_id, NOT_KEPT, -1, len(plan.columns))
        return 1

    cdef int find_table(self, uint64_t table_id) noexcept:
        cdef int index
        for index in range(self.table_count - 1, -1, -1):
            if self.tables[index].id == table_id:
                return index
        return -1

    cdef int look_up(self, const uint8_t* key, Py_ssize_t key_bytes) except -2:
        """Return which of the layouts seen this is, now that its plan is known; -1: it has none."""
        cdef int index
        plan = self.plans.get(PyBytes_FromStringAndSize(<const char*>key, key_bytes), MISSING)
        if plan is MISSING:
            return -1
        if self.seen_count < MOST_TABLES:
            self.seen_count += 1
        index = self.seen_count - 1
        self.seen[index] = Layout(
            key, key_bytes, UNWANTED if plan is None else NOT_KEPT, 0 if plan is None else len(plan.columns)
        )
        self.seen_plans[index] = plan
        return index

    cdef int keep_plan(self, int index) except -1:
        """Rows of a table are kept: its plan is, too."""
        cdef int layout = self.tables[index].layout
        plan = self.table_plans[index]
        self.tables[index].plan = self.index_of_plan.setdefault(Held(plan), len(self.index_of_plan))
        if layout >= 0 and self.seen_plans[layout] is plan:  # another layout may have taken its place
            self.seen[layout].plan = self.tables[index].plan
        return 0

    cdef tuple kept_plans(self):
        return tuple([held.plan for held in self.index_of_plan])

    cdef int known_table(self, uint64_t table_id) except -2:
        """Return where a table stands that was named before this chunk; -1: it was not."""
        if self.named is None:
            return -1
        plan = self.named.get(table_id, MISSING)
        if plan is MISSING or not self.put_table(table_id, plan, -1):
            return -1
        return self.find_table(table_id)

    cdef int rows(self, Event* event) except -1:
        """Keep the bitmaps and the rows; layouts as `ha_canal.binlog.rows_events` tells."""
        cdef const uint8_t* body = event.body
        cdef uint64_t table_id
        cdef uint32_t columns, bitmap_bytes
        cdef Py_ssize_t at = 8, images
        cdef int index
        cdef PackedRows kept = self.kept
        cdef RowsEvent* rows
        if event.body_bytes < 12 or event.body_bytes > MOST_EVENT_BYTES:
            return 0
        table_id = uint48(body)
        if table_id == NO_TABLE:
            return 1
        index = self.find_table(table_id)
        if index < 0:
            index = self.known_table(table_id)
            if index < 0:
                return 0
        self.used += 1
        if self.tables[index].plan == UNWANTED:
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
        if columns != self.tables[index].columns:
            return 0
        bitmap_bytes = columns + 7 >> 3
        rows = kept.next_rows()
        rows.kind = event.code - (29 if event.code >= 30 else 22)
        images = 2 * bitmap_bytes if rows.kind == 2 else bitmap_bytes
        if at + images > event.body_bytes:
            return 0
        rows.offset, rows.event_bytes, rows.timestamp_s = event.offset, event.size, event.timestamp_s
        if self.tables[index].plan == NOT_KEPT:
            self.keep_plan(index)
        rows.ordinal, rows.plan = self.used - 1, self.tables[index].plan
        rows.at, rows.bitmap_bytes = kept.data.size, bitmap_bytes
        rows.body_bytes = event.body_bytes - at - images
        if kept.data.data == NULL and reserve(&kept.data, self.data + self.end - event.body):
            raise MemoryError  # all that there can be is this, so that nothing is copied again
        if reserve(&kept.data, event.body_bytes - at):
            raise MemoryError
        written(&kept.data, put_bytes(kept.data.data + kept.data.size, body + at, event.body_bytes - at))
        kept.rows_count += 1
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
