# cython: language_level=3
"""Runs of small plain transactions, packed, and their entries: no object per transaction.

The compiled half of `ha_canal.model.run`, which says what each method means.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from ha_canal.binlog._buffer cimport (
    SLACK,
    Buffer,
    put_bytes,
    put_integer,
    put_varint,
    reserve,
    set_length,
    written,
)
from ha_canal.binlog._digits cimport put_unsigned
from ha_canal.binlog._header cimport Header, Text, most_bytes, put_decimal_field, put_header
from ha_canal.binlog._plans cimport CompiledPlan, compiled_plan
from ha_canal.binlog._rows cimport encode_rows_into

from uuid import UUID

from ha_canal.binlog.encode_twin import row_change_pieces
from ha_canal.model.change import Begin, ChangeKind, Commit, Rows, Transaction
from ha_canal.model.gtid import MariadbGtidPosition, MysqlGtidSet

cdef enum:
    BEGIN = 1, ROWS, END  # EntryType
    ITEM_OVERHEAD = 200  # as `ha_canal.model.change` counts

KINDS = (None, ChangeKind.INSERT, ChangeKind.UPDATE, ChangeKind.DELETE)


cdef class Packed:
    """Whole transactions, back to back; what `ha_canal.model.run.Run` stands on. Indexes count transactions from 0."""

    def __cinit__(self):
        self.sources = []
        self.plans = ()

    def __dealloc__(self):
        free(self.txs)
        free(self.rows)
        free(self.data.data)

    @property
    def rows_events(self):
        return self.rows_count

    cdef int32_t source_index(self, const uint8_t* uuid) except -2:
        """Return which source this is; -1: there are too many of them."""
        cdef int32_t index = len(self.sources)
        while index > 0:
            index -= 1
            if memcmp(self.source_ids[index], uuid, 16) == 0:
                return index
        if len(self.sources) == MOST_SOURCES:
            return -1
        memcpy(self.source_ids[len(self.sources)], uuid, 16)
        self.sources.append(str(UUID(bytes=uuid[:16])).encode())
        return len(self.sources) - 1

    cdef Tx* next_tx(self) except NULL:
        cdef void* grown
        if self.count == self.tx_room:
            self.tx_room = max(64, 2 * self.tx_room)
            grown = realloc(self.txs, self.tx_room * sizeof(Tx))
            if grown == NULL:
                raise MemoryError
            self.txs = <Tx*>grown
        return &self.txs[self.count]

    cdef RowsEvent* next_rows(self) except NULL:
        cdef void* grown
        if self.rows_count == self.rows_room:
            self.rows_room = max(64, 2 * self.rows_room)
            grown = realloc(self.rows, self.rows_room * sizeof(RowsEvent))
            if grown == NULL:
                raise MemoryError
            self.rows = <RowsEvent*>grown
        return &self.rows[self.rows_count]

    cdef int finish(self, tuple plans) except -1:
        """Take the plans that rows refer to, and give back the room that was not needed."""
        cdef void* less
        self.plans = plans
        self.file_utf8, self.uuid_utf8 = self.file.encode(), self.server_uuid.encode()
        if self.count:
            less = realloc(self.txs, self.count * sizeof(Tx))
            if less != NULL:
                self.txs = <Tx*>less
                self.tx_room = self.count
        if self.rows_count:
            less = realloc(self.rows, self.rows_count * sizeof(RowsEvent))
            if less != NULL:
                self.rows = <RowsEvent*>less
                self.rows_room = self.rows_count
        trim(&self.data)
        self.size_bytes = (
            ITEM_OVERHEAD + self.data.size + self.count * sizeof(Tx) + self.rows_count * sizeof(RowsEvent)
        )
        return 0

    cdef Tx* tx(self, Py_ssize_t index) except NULL:
        if not 0 <= index < self.count:
            raise IndexError(f"transaction {index} of {self.count}")
        return &self.txs[index]

    cdef str gtid_of(self, Tx* tx):
        if tx.source >= 0:
            return f"{self.sources[tx.source].decode()}:{tx.number}"
        return f"{tx.domain}-{tx.server_id}-{tx.number}" if tx.source == OF_MARIADB else ""

    cdef object transaction(self, Tx* tx):
        return Transaction(
            self.gtid_of(tx), self.file, tx.start_offset, self.server_uuid, tx.server_id, tx.timestamp_s, tx.commit_us
        )

    def commit(self, Py_ssize_t index):
        """Return the end of a transaction."""
        cdef Tx* tx = self.tx(index)
        return self.commit_of(tx, self.transaction(tx))

    cdef object commit_of(self, Tx* tx, object transaction):
        return Commit(
            transaction, tx.last_offset, tx.last_bytes, tx.last_timestamp_s, tx.last_offset + tx.last_bytes, tx.used,
            tx.xid, empty=tx.rows_from == tx.rows_to,
        )

    def items(self, Py_ssize_t index):
        """Return a transaction as items."""
        cdef Tx* tx = self.tx(index)
        transaction = self.transaction(tx)
        items = []
        if tx.rows_from < tx.rows_to:
            items.append(Begin(transaction, tx.begin_offset, tx.begin_bytes, tx.thread_id))
        for at in range(tx.rows_from, tx.rows_to):
            items.append(self.rows_of(&self.rows[at], transaction))
        items.append(self.commit_of(tx, transaction))
        return items

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

    def gtids(self, Py_ssize_t first, Py_ssize_t end):
        """Return the GTIDs of transactions ``first`` to ``end`` (exclusive) as a set; None: they have none."""
        cdef Py_ssize_t index
        cdef Tx* tx
        cdef uint64_t low = 0, high = 0
        cdef int32_t source = -1
        found = None
        for index in range(first, end):
            tx = self.tx(index)
            if tx.source == NO_GTID:
                continue
            if tx.source == OF_MARIADB:
                if index + 1 < end and self.txs[index + 1].source == OF_MARIADB and self.txs[index + 1].domain == tx.domain:
                    continue  # the next one takes its place
                if found is None:
                    found = MariadbGtidPosition()
                found.add(self.gtid_of(tx))
                continue
            if found is None:
                found = MysqlGtidSet()
            if tx.source == source and tx.number == high + 1:
                high += 1
                continue
            if source >= 0:
                found.add_range(self.sources[source].decode(), low, high)
            source, low, high = tx.source, tx.number, tx.number
        if source >= 0:
            found.add_range(self.sources[source].decode(), low, high)
        return found

    def index_of(self, str gtid):
        """Return which transaction has this GTID; -1: none."""
        cdef Py_ssize_t index
        head, _, number = gtid.rpartition("-" if ":" not in gtid else ":")
        cdef uint64_t wanted = int(number)
        for index in range(self.count):
            if self.txs[index].number == wanted and self.gtid_of(&self.txs[index]) == gtid:
                return index
        return -1

    def next_wanted(self, Py_ssize_t index, bytes wanted):
        """Return the first transaction from ``index`` on with rows of a plan whose byte in ``wanted`` is not 0."""
        cdef const char* mask = PyBytes_AS_STRING(wanted)
        if len(wanted) < len(self.plans):
            raise IndexError("a byte per plan")
        while index < self.count and not self.wanted_rows(&self.txs[index], mask):
            index += 1
        return index

    cdef Py_ssize_t wanted_rows(self, Tx* tx, const char* mask) noexcept:
        cdef Py_ssize_t count = 0
        cdef int32_t at
        for at in range(tx.rows_from, tx.rows_to):
            if mask[self.rows[at].plan]:
                count += 1
        return count

    def cut(self, Py_ssize_t index, bytes wanted, Py_ssize_t most_entries, Py_ssize_t most_bytes):
        """Return (end, entries, bytes) of the transactions from ``index`` on that fit, which may be none.

        What is not wanted is counted in, and costs nothing.
        """
        cdef const char* mask = PyBytes_AS_STRING(wanted)
        cdef Py_ssize_t entries = 0, size = 0, more, more_bytes
        cdef int32_t at
        cdef Tx* tx
        if len(wanted) < len(self.plans):
            raise IndexError("a byte per plan")
        while index < self.count:
            tx = &self.txs[index]
            more = more_bytes = 0
            for at in range(tx.rows_from, tx.rows_to):
                if mask[self.rows[at].plan]:
                    more += 1
                    more_bytes += ITEM_OVERHEAD + self.rows[at].body_bytes
            if more:
                more += 2
                more_bytes += 2 * ITEM_OVERHEAD
                if entries + more > most_entries or size + more_bytes > most_bytes:
                    break
            entries += more
            size += more_bytes
            index += 1
        return index, entries, size

    def encode(self, Py_ssize_t first, Py_ssize_t end, bytes wanted, int64_t epoch):
        """Return the entries of these transactions as serialized ``messages`` fields of a ``Messages``."""
        cdef Buffer out = Buffer(NULL, 0, 0), change = Buffer(NULL, 0, 0)
        cdef Header header
        cdef const char* mask = PyBytes_AS_STRING(wanted)
        cdef Py_ssize_t index
        cdef Tx* tx
        if len(wanted) < len(self.plans):
            raise IndexError("a byte per plan")
        if self.compiled is None:
            self.compiled = [compiled_plan(plan) for plan in self.plans]
        header.file, header.uuid, header.epoch = text_of(self.file_utf8), text_of(self.uuid_utf8), epoch
        try:
            for index in range(first, end):
                tx = self.tx(index)
                if self.wanted_rows(tx, mask):
                    self.put_tx(tx, mask, &header, &out, &change)
            return PyBytes_FromStringAndSize(<char*>out.data, out.size)
        finally:
            free(out.data)
            free(change.data)

    cdef int put_tx(self, Tx* tx, const char* mask, Header* header, Buffer* out, Buffer* change) except -1:
        cdef uint8_t gtid[120]
        cdef uint8_t* end = gtid
        cdef bytes source
        cdef int32_t at
        if tx.source >= 0:
            source = self.sources[tx.source]
            end = put_bytes(end, PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))
            end[0] = c':'
            end = put_unsigned(end + 1, tx.number)
        elif tx.source == OF_MARIADB:
            end = put_unsigned(end, tx.domain)
            end[0] = c'-'
            end = put_unsigned(end + 1, tx.server_id)
            end[0] = c'-'
            end = put_unsigned(end + 1, tx.number)
        header.gtid = Text(<char*>gtid, end - gtid)
        header.start_offset, header.server_id, header.commit_us = tx.start_offset, tx.server_id, tx.commit_us
        header.rows = header.kind = header.names.size = 0
        header.place, header.offset = Text(b"begin", 5), tx.begin_offset
        header.event_length, header.timestamp_s = tx.begin_bytes, tx.timestamp_s
        empty(change, 32)
        written(change, put_integer(change.data, 4 << 3, tx.thread_id))
        put_entry(out, header, BEGIN, change)
        for at in range(tx.rows_from, tx.rows_to):
            if mask[self.rows[at].plan]:
                self.put_rows(tx, &self.rows[at], header, out, change)
        header.rows = header.kind = header.names.size = 0
        header.place, header.offset = Text(b"end", 3), tx.last_offset
        header.event_length, header.timestamp_s = tx.last_bytes, tx.last_timestamp_s
        empty(change, 32)
        written(change, put_decimal_field(change.data, 0x12, tx.xid))
        return put_entry(out, header, END, change)

    cdef int put_rows(self, Tx* tx, RowsEvent* event, Header* header, Buffer* out, Buffer* change) except -1:
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
            event.bitmap_bytes, body, event.body_bytes, None,
        )
        if header.rows < 0:  # what cannot be read has its error there
            pieces, header.rows = row_change_pieces(self.rows_of(event, self.transaction(tx)))
            for piece in pieces:
                append(change, piece)
        header.names, header.kind = text_of(plan.names), event.kind
        header.place = Text(<char*>ordinal, put_unsigned(ordinal, event.ordinal) - ordinal)
        header.offset, header.event_length, header.timestamp_s = event.offset, event.event_bytes, event.timestamp_s
        return put_entry(out, header, ROWS, change)


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
