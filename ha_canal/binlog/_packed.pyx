# cython: language_level=3
"""Runs of small plain transactions, packed, and their entries: no object per transaction.

The compiled half of `ha_canal.model.run`, which says what each method means.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

from ha_canal.binlog._buffer cimport Buffer, put_bytes, put_integer, written
from ha_canal.binlog._digits cimport put_unsigned
from ha_canal.binlog._header cimport Header, Text, put_decimal_field
from ha_canal.binlog._packed_rows cimport (
    ITEM_OVERHEAD,
    PackedRows,
    RowsEvent,
    Scratch,
    borrow,
    empty,
    given_back,
    put_entry,
    text_of,
)

from uuid import UUID

from ha_canal.model.change import Begin, Commit, Transaction
from ha_canal.model.gtid import MariadbGtidPosition, MysqlGtidSet

cdef enum:
    BEGIN = 1, END = 3  # EntryType


cdef class Packed(PackedRows):
    """Whole transactions, back to back; what `ha_canal.model.run.Run` stands on. Indexes count transactions from 0."""

    def __cinit__(self):
        self.sources = []

    def __dealloc__(self):
        free(self.txs)

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

    cdef int finish(self, tuple plans) except -1:
        """Take the plans that rows refer to, and give back the room that was not needed."""
        cdef void* less
        self.file_utf8, self.uuid_utf8 = self.file.encode(), self.server_uuid.encode()
        if self.count:
            less = realloc(self.txs, self.count * sizeof(Tx))
            if less != NULL:
                self.txs = <Tx*>less
                self.tx_room = self.count
        self.finish_rows(plans)
        self.size_bytes += self.count * sizeof(Tx)
        return 0

    cdef Tx* tx(self, Py_ssize_t index) except NULL:
        if not 0 <= index < self.count:
            raise IndexError(f"transaction {index} of {self.count}")
        return &self.txs[index]

    cdef str gtid_of(self, Tx* tx):
        if tx.source >= 0:
            return f"{self.sources[tx.source].decode()}:{tx.number}"
        return f"{tx.domain}-{tx.server_id}-{tx.number}" if tx.source == OF_MARIADB else ""

    cdef object transaction_of(self, Tx* tx):
        return Transaction(
            self.gtid_of(tx), self.file, tx.start_offset, self.server_uuid, tx.server_id, tx.timestamp_s, tx.commit_us
        )

    cdef object owner(self, RowsEvent* event):
        cdef Py_ssize_t index = 0
        while self.txs[index].rows_to <= event - self.rows:
            index += 1
        return self.transaction_of(&self.txs[index])

    def commit(self, Py_ssize_t index):
        """Return the end of a transaction."""
        cdef Tx* tx = self.tx(index)
        return self.commit_of(tx, self.transaction_of(tx))

    cdef object commit_of(self, Tx* tx, object transaction):
        return Commit(
            transaction, tx.last_offset, tx.last_bytes, tx.last_timestamp_s, tx.last_offset + tx.last_bytes, tx.used,
            tx.xid, empty=tx.rows_from == tx.rows_to,
        )

    def items(self, Py_ssize_t index):
        """Return a transaction as items."""
        cdef Tx* tx = self.tx(index)
        transaction = self.transaction_of(tx)
        items = []
        if tx.rows_from < tx.rows_to:
            items.append(Begin(transaction, tx.begin_offset, tx.begin_bytes, tx.thread_id))
        for at in range(tx.rows_from, tx.rows_to):
            items.append(self.rows_of(&self.rows[at], transaction))
        items.append(self.commit_of(tx, transaction))
        return items

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

    def encode(self, Py_ssize_t first, Py_ssize_t end, bytes wanted, int64_t epoch, *, bint lean=False):
        """Return the entries of these transactions as serialized ``messages`` fields of a ``Messages``."""
        cdef Scratch scratch = borrow()
        cdef Header header
        cdef const char* mask = PyBytes_AS_STRING(wanted)
        cdef Py_ssize_t index
        cdef Tx* tx
        if len(wanted) < len(self.plans):
            raise IndexError("a byte per plan")
        self.compile_plans()
        header.file, header.uuid, header.epoch = text_of(self.file_utf8), text_of(self.uuid_utf8), epoch
        for index in range(first, end):
            tx = self.tx(index)
            if self.wanted_rows(tx, mask):
                self.put_tx(tx, mask, lean, &header, &scratch.out, &scratch.change)
        return given_back(scratch)

    cdef int put_tx(
        self, Tx* tx, const char* mask, bint lean, Header* header, Buffer* out, Buffer* change
    ) except -1:
        cdef uint8_t gtid[120]
        cdef int32_t at
        header.gtid = Text(<char*>gtid, self.put_gtid(gtid, tx) - gtid)
        header.start_offset, header.server_id, header.commit_us = tx.start_offset, tx.server_id, tx.commit_us
        if not lean:
            header.place, header.offset = Text(b"begin", 5), tx.begin_offset
            header.event_length, header.timestamp_s = tx.begin_bytes, tx.timestamp_s
            empty(change, 32)
            written(change, put_integer(change.data, 4 << 3, tx.thread_id))
            put_mark(out, header, BEGIN, change)
        for at in range(tx.rows_from, tx.rows_to):
            if mask[self.rows[at].plan]:
                self.put_rows(&self.rows[at], lean, header, out, change)
        if not lean:
            header.place, header.offset = Text(b"end", 3), tx.last_offset
            header.event_length, header.timestamp_s = tx.last_bytes, tx.last_timestamp_s
            empty(change, 32)
            written(change, put_decimal_field(change.data, 0x12, tx.xid))
            put_mark(out, header, END, change)
        return 0

    cdef uint8_t* put_gtid(self, uint8_t* at, Tx* tx) except NULL:
        cdef bytes source
        if tx.source >= 0:
            source = self.sources[tx.source]
            at = put_bytes(at, PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))
            at[0] = c':'
            return put_unsigned(at + 1, tx.number)
        if tx.source == OF_MARIADB:
            at = put_unsigned(at, tx.domain)
            at[0] = c'-'
            at = put_unsigned(at + 1, tx.server_id)
            at[0] = c'-'
            at = put_unsigned(at + 1, tx.number)
        return at


cdef int put_mark(Buffer* out, Header* header, int kind, const Buffer* store_value) except -1:
    """Put an entry that begins or ends a transaction, which has no table."""
    header.rows = header.kind = header.names.size = 0
    return put_entry(out, header, kind, store_value)
