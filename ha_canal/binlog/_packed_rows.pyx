# cython: language_level=3
"""Rows events, packed, and their entries: no object per event.

The compiled half of `ha_canal.model.stretch`, which says what each method means.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, realloc

from ha_canal.binlog._buffer cimport SLACK, Buffer, put_bytes, put_integer, put_varint, reserve, set_length, written
from ha_canal.binlog._digits cimport put_unsigned
from ha_canal.binlog._header cimport Header, Text, most_bytes, put_header
from ha_canal.binlog._plans cimport CompiledPlan, compiled_plan
from ha_canal.binlog._rows cimport encode_rows_into

from ha_canal.binlog.encode_twin import row_change_pieces
from ha_canal.model.change import ChangeKind, Rows

cdef enum:
    ROWS = 2  # EntryType
    KEPT_BYTES = 8 << 20  # of a scratch at rest

KINDS = (None, ChangeKind.INSERT, ChangeKind.UPDATE, ChangeKind.DELETE)


cdef class PackedRows:
    """Rows events, in their order; what `ha_canal.model.stretch.Stretch` stands on. Indexes count events from 0."""

    def __cinit__(self):
        self.plans = ()

    def __dealloc__(self):
        free(self.rows)
        free(self.data.data)

    @property
    def rows_events(self):
        return self.rows_count

    cdef RowsEvent* next_rows(self) except NULL:
        cdef void* grown
        if self.rows_count == self.rows_room:
            self.rows_room = max(64, 2 * self.rows_room)
            grown = realloc(self.rows, self.rows_room * sizeof(RowsEvent))
            if grown == NULL:
                raise MemoryError
            self.rows = <RowsEvent*>grown
        return &self.rows[self.rows_count]

    cdef int finish_rows(self, tuple plans) except -1:
        """Take the plans that rows refer to, and give back the room that was not needed."""
        cdef void* less
        self.plans = plans
        if self.rows_count:
            less = realloc(self.rows, self.rows_count * sizeof(RowsEvent))
            if less != NULL:
                self.rows = <RowsEvent*>less
                self.rows_room = self.rows_count
        trim(&self.data)
        self.size_bytes = ITEM_OVERHEAD + self.data.size + self.rows_count * sizeof(RowsEvent)
        return 0

    cdef RowsEvent* event(self, Py_ssize_t index) except NULL:
        if not 0 <= index < self.rows_count:
            raise IndexError(f"rows event {index} of {self.rows_count}")
        return &self.rows[index]

    def ordinal(self, Py_ssize_t index):
        """Return the ordinal of an event."""
        return self.event(index).ordinal

    def offset(self, Py_ssize_t index):
        """Return where an event starts in its file."""
        return self.event(index).offset

    def body_bytes(self, Py_ssize_t first, Py_ssize_t end):
        """Return how many bytes the rows of events ``first`` to ``end`` (exclusive) have."""
        cdef Py_ssize_t index, size = 0
        for index in range(first, end):
            size += self.event(index).body_bytes
        return size

    def item(self, Py_ssize_t index):
        """Return an event as an item."""
        cdef RowsEvent* event = self.event(index)
        return self.rows_of(event, self.owner(event))

    cdef object owner(self, RowsEvent* event):
        """Return the transaction of an event."""
        return self.transaction

    cdef object rows_of(self, RowsEvent* event, object transaction):
        cdef bytes before = b"", after = b""
        cdef const char* at = <const char*>self.data.data + event.at
        if event.kind != 1:
            before = at[:event.bitmap_bytes]
            at += event.bitmap_bytes
        if event.kind != 3:
            after = at[:event.bitmap_bytes]
            at += event.bitmap_bytes
        return Rows(
            transaction, event.ordinal, event.offset, event.event_bytes, event.timestamp_s, KINDS[event.kind],
            self.plans[event.plan], before, after, at[:event.body_bytes],
        )

    def cut_rows(self, Py_ssize_t index, Py_ssize_t most_events, Py_ssize_t most_bytes):
        """Return (end, bytes) of the events from ``index`` on that fit, which may be none."""
        cdef Py_ssize_t end = index, size = 0, more
        while end < self.rows_count and end - index < most_events:
            more = ITEM_OVERHEAD + self.event(end).body_bytes
            if size + more > most_bytes:
                break
            size += more
            end += 1
        return end, size

    def encode_rows(self, Py_ssize_t first, Py_ssize_t end, int64_t epoch, *, bint lean=False):
        """Return the entries of these events as serialized ``messages`` fields of a ``Messages``."""
        cdef Scratch scratch = borrow()
        transaction = self.transaction
        cdef bytes file = transaction.file.encode(), uuid = transaction.server_uuid.encode()
        cdef bytes gtid = transaction.gtid.encode()
        cdef Header header
        cdef Py_ssize_t index
        header.file, header.uuid, header.gtid, header.epoch = text_of(file), text_of(uuid), text_of(gtid), epoch
        header.start_offset, header.server_id = transaction.start_offset, transaction.server_id
        header.commit_us = transaction.commit_timestamp_us
        self.compile_plans()
        for index in range(first, end):
            self.put_rows(self.event(index), lean, &header, &scratch.out, &scratch.change)
        return given_back(scratch)

    cdef int compile_plans(self) except -1:
        if self.compiled is None:
            self.compiled = [compiled_plan(plan) for plan in self.plans]
        return 0

    cdef int put_rows(self, RowsEvent* event, bint lean, Header* header, Buffer* out, Buffer* change) except -1:
        """Put the entry of an event. ``header`` has what is the transaction's; ``change`` is scratch."""
        cdef CompiledPlan plan = self.compiled[event.plan]
        cdef const uint8_t* before = self.data.data + event.at
        cdef const uint8_t* after = before
        cdef const uint8_t* body = before + event.bitmap_bytes
        cdef uint8_t ordinal[24]
        if event.kind == 2:
            after, body = body, body + event.bitmap_bytes
        empty(change, 0)
        header.rows = encode_rows_into(
            change, plan, event.kind, NULL if event.kind == 1 else before, NULL if event.kind == 3 else after,
            event.bitmap_bytes, body, event.body_bytes, None, lean,
        )
        if header.rows < 0:  # what cannot be read has its error there
            pieces, header.rows = row_change_pieces(self.rows_of(event, self.owner(event)))
            for piece in pieces:
                append(change, piece)
        header.names, header.kind = text_of(plan.names), event.kind
        header.place = Text(<char*>ordinal, put_unsigned(ordinal, event.ordinal) - ordinal)
        header.offset, header.event_length, header.timestamp_s = event.offset, event.event_bytes, event.timestamp_s
        return put_entry(out, header, ROWS, change)


cdef class Scratch:
    """Where entries are made before their size is known."""

    def __dealloc__(self):
        free(self.out.data)
        free(self.change.data)


cdef list spare = []
"""At rest, to be used again: fresh memory costs more than what is written into it."""


cdef Scratch borrow():
    cdef Scratch scratch = spare.pop() if spare else Scratch.__new__(Scratch)
    scratch.out.size = 0
    return scratch


cdef bytes given_back(Scratch scratch):
    """Return what was made."""
    cdef bytes made = PyBytes_FromStringAndSize(<char*>scratch.out.data, scratch.out.size)
    give_back(scratch)
    return made


cdef int give_back(Scratch scratch) except -1:
    """Keep it for the next who borrows. After an error nobody gives it back, and that is all."""
    if len(spare) < 2 and scratch.out.room + scratch.change.room <= KEPT_BYTES:
        spare.append(scratch)
    return 0


cdef Text text_of(bytes source) noexcept:
    return Text(PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))


cdef int empty(Buffer* out, size_t room) except -1:
    out.size = 0
    if reserve(out, room):
        raise MemoryError
    return 0


cdef int append(Buffer* out, bytes source) except -1:
    if reserve(out, PyBytes_GET_SIZE(source)):
        raise MemoryError
    written(out, put_bytes(out.data + out.size, PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source)))
    return 0


cdef int put_entry(Buffer* out, const Header* header, int kind, const Buffer* store_value) except -1:
    """Put an entry, as one of the ``messages`` of a batch."""
    cdef size_t header_most = most_bytes(header)
    cdef uint8_t* start
    cdef uint8_t* at
    if reserve(out, header_most + store_value.size + 50):
        raise MemoryError
    start = out.data + out.size
    start[0] = 0x12
    at = start + 3  # a length of two bytes is the usual one
    at[0] = 0x0A
    at = set_length(at + 1, 2, put_header(at + 3, header))
    at = put_integer(at, 2 << 3, kind)
    if store_value.size:
        at[0] = 0x1A
        at = put_bytes(put_varint(at + 1, store_value.size), store_value.data, store_value.size)
    written(out, set_length(start + 1, 2, at))
    return 0


cdef void trim(Buffer* data) noexcept:
    cdef void* less = realloc(data.data, data.size + SLACK)
    if less != NULL:
        data.data = <uint8_t*>less
        data.room = data.size
