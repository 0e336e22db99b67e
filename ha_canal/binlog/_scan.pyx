# cython: language_level=3, cdivision=True
"""Runs of small plain transactions: found in a chunk, kept packed, and encoded, without an object per transaction.

The compiled half of `ha_canal.model.run`. `scan` takes whole transactions from the front of a chunk as long as they
have the plain shape (GTID, BEGIN, tables and rows, XID or COMMIT) and every check holds; in front of anything else it
stops, and the event by event path of `ha_canal.binlog.stream` goes on there, which also says what is wrong. So this
file decides nothing: what it does not know it leaves. Layouts of events: see `ha_canal.binlog.events` and its kin.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from uuid import UUID

from ha_canal.binlog.encode import _row_change
from ha_canal.binlog.wire import message_field, text_field
from ha_canal.model.change import Begin, ChangeKind, Commit, Rows, Transaction
from ha_canal.model.gtid import MariadbGtidPosition, MysqlGtidSet

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
    MOST_SOURCES = 16  # servers whose GTIDs one run holds
    ITEM_OVERHEAD = 200  # as `ha_canal.model.change` counts

MISSING = object()
KINDS = (None, ChangeKind.INSERT, ChangeKind.UPDATE, ChangeKind.DELETE)


cdef struct Tx:
    int64_t start_offset, begin_offset, last_offset, commit_us
    uint64_t number, xid
    uint32_t server_id, timestamp_s, begin_bytes, last_bytes, last_timestamp_s, thread_id, used, domain
    int32_t source  # index of the uuid; -1: no GTID; -2: MariaDB's
    int32_t rows_from, rows_to


cdef struct RowsEvent:
    int64_t offset
    uint64_t at  # the bitmaps, then the rows
    uint32_t ordinal, bytes_, timestamp_s, body_bytes, bitmap_bytes
    int32_t plan, kind


cdef struct Event:
    const uint8_t* body
    Py_ssize_t body_bytes
    uint32_t timestamp_s, server_id, size, flags
    int code
    int64_t offset


# CRC-32 as zlib has it, eight bytes at a time ("slicing by 8"; Kounavis and Berry, Intel, 2005).
cdef uint32_t CRC[8][256]


cdef void fill_crc_tables() noexcept:
    cdef uint32_t value
    cdef int i, j
    for i in range(256):
        value = i
        for j in range(8):
            value = (value >> 1) ^ (0xEDB88320u if value & 1 else 0)
        CRC[0][i] = value
    for i in range(256):
        for j in range(1, 8):
            CRC[j][i] = (CRC[j - 1][i] >> 8) ^ CRC[0][CRC[j - 1][i] & 0xFF]


fill_crc_tables()


cdef uint32_t crc32(const uint8_t* at, Py_ssize_t size) noexcept nogil:
    cdef uint32_t crc = 0xFFFFFFFFu, low, high
    while size >= 8:
        low = crc ^ u32(at)
        high = u32(at + 4)
        crc = (
            CRC[7][low & 0xFF] ^ CRC[6][low >> 8 & 0xFF] ^ CRC[5][low >> 16 & 0xFF] ^ CRC[4][low >> 24]
            ^ CRC[3][high & 0xFF] ^ CRC[2][high >> 8 & 0xFF] ^ CRC[1][high >> 16 & 0xFF] ^ CRC[0][high >> 24]
        )
        at += 8
        size -= 8
    while size > 0:
        crc = (crc >> 8) ^ CRC[0][(crc ^ at[0]) & 0xFF]
        at += 1
        size -= 1
    return ~crc


def checksum_of(const uint8_t[::1] data):
    """Return zlib's CRC-32 of ``data``."""
    return crc32(&data[0], data.shape[0]) if data.shape[0] else 0


cdef inline uint32_t u32(const uint8_t* at) noexcept nogil:
    return at[0] | <uint32_t>at[1] << 8 | <uint32_t>at[2] << 16 | <uint32_t>at[3] << 24


cdef inline uint64_t u64(const uint8_t* at) noexcept nogil:
    return u32(at) | <uint64_t>u32(at + 4) << 32


cdef inline uint64_t u56(const uint8_t* at) noexcept nogil:
    return u32(at) | <uint64_t>at[4] << 32 | <uint64_t>at[5] << 40 | <uint64_t>at[6] << 48


cdef class Growing:
    """Bytes that grow at their end."""

    cdef uint8_t* data
    cdef Py_ssize_t size, room

    def __dealloc__(self):
        free(self.data)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t room
        cdef void* grown
        if self.size + more > self.room:
            room = max(2 * self.room, self.size + more, 1024)
            grown = realloc(self.data, room)
            if grown == NULL:
                raise MemoryError
            self.data = <uint8_t*>grown
            self.room = room
        return 0

    cdef int put(self, const void* source, Py_ssize_t size) except -1:
        self.reserve(size)
        memcpy(self.data + self.size, source, size)
        self.size += size
        return 0

    cdef int put_bytes(self, bytes source) except -1:
        return self.put(PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))

    cdef int varint(self, uint64_t value) except -1:
        self.reserve(10)
        while value > 0x7F:
            self.data[self.size] = value & 0x7F | 0x80
            self.size += 1
            value >>= 7
        self.data[self.size] = value
        self.size += 1
        return 0

    cdef int integer(self, int number, uint64_t value) except -1:
        if value:
            self.varint(number << 3)
            self.varint(value)
        return 0

    cdef int text(self, int number, const void* source, Py_ssize_t size) except -1:
        if size:
            self.varint(number << 3 | 2)
            self.varint(size)
            self.put(source, size)
        return 0

    cdef int decimal(self, uint64_t value) except -1:
        cdef uint8_t digits[20]
        cdef int at = 20
        while True:
            at -= 1
            digits[at] = 48 + value % 10
            value //= 10
            if not value:
                break
        return self.put(digits + at, 20 - at)

    cdef bytes taken(self):
        return PyBytes_FromStringAndSize(<char*>self.data, self.size)


cdef class Packed:
    """Whole transactions, back to back; what `ha_canal.model.run.Run` stands on. Indexes count transactions from 0."""

    cdef Tx* txs
    cdef RowsEvent* rows
    cdef bytes data
    cdef Py_ssize_t tx_room, rows_room, rows_count
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t size_bytes
    cdef readonly tuple plans
    cdef list sources, names
    cdef uint8_t source_ids[MOST_SOURCES][16]
    cdef str file, server_uuid
    cdef bytes head

    def __cinit__(self):
        self.sources = []
        self.plans = ()

    def __dealloc__(self):
        free(self.txs)
        free(self.rows)

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
        self.sources.append(str(UUID(bytes=uuid[:16])))
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

    cdef int shrink(self) except -1:
        """Give back the room that was not needed."""
        cdef void* less
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
        self.size_bytes = (
            ITEM_OVERHEAD + len(self.data) + self.count * sizeof(Tx) + self.rows_count * sizeof(RowsEvent)
        )
        return 0

    cdef Tx* tx(self, Py_ssize_t index) except NULL:
        if not 0 <= index < self.count:
            raise IndexError(f"transaction {index} of {self.count}")
        return &self.txs[index]

    cdef str gtid_of(self, Tx* tx):
        if tx.source >= 0:
            return f"{self.sources[tx.source]}:{tx.number}"
        return f"{tx.domain}-{tx.server_id}-{tx.number}" if tx.source == -2 else ""

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
        cdef uint64_t at = event.at
        if event.kind != 1:
            before = self.data[at : at + event.bitmap_bytes]
            at += event.bitmap_bytes
        if event.kind != 3:
            after = self.data[at : at + event.bitmap_bytes]
            at += event.bitmap_bytes
        return Rows(
            transaction, event.ordinal, event.offset, event.bytes_, event.timestamp_s, KINDS[event.kind],
            self.plans[event.plan], before, after, self.data[at : at + event.body_bytes],
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
            if tx.source == -1:
                continue
            if tx.source == -2:
                if index + 1 < end and self.txs[index + 1].source == -2 and self.txs[index + 1].domain == tx.domain:
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
                found.add_range(self.sources[source], low, high)
            source, low, high = tx.source, tx.number, tx.number
        if source >= 0:
            found.add_range(self.sources[source], low, high)
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
        cdef Growing out = Growing(), header = Growing(), change = Growing()
        cdef Py_ssize_t index
        cdef const char* mask = PyBytes_AS_STRING(wanted)
        cdef Tx* tx
        if len(wanted) < len(self.plans):
            raise IndexError("a byte per plan")
        for index in range(first, end):
            tx = self.tx(index)
            if self.wanted_rows(tx, mask):
                self.encode_tx(tx, mask, epoch, out, header, change)
        return out.taken()

    cdef int encode_tx(
        self, Tx* tx, const char* mask, int64_t epoch, Growing out, Growing header, Growing change
    ) except -1:
        cdef bytes gtid = self.gtid_of(tx).encode()
        cdef bytes prefix = gtid or f"{self.server_uuid or tx.server_id}/{self.file}:{tx.start_offset}".encode()
        cdef int32_t at
        self.header_start(header, tx, tx.begin_offset, tx.timestamp_s)
        self.header_end(header, tx, tx.begin_bytes, 0, b"", gtid, prefix, b"begin", epoch)
        change.size = 0
        change.integer(4, tx.thread_id)
        entry(out, header, 1, change)
        for at in range(tx.rows_from, tx.rows_to):
            if mask[self.rows[at].plan]:
                self.encode_rows(tx, &self.rows[at], gtid, prefix, epoch, out, header, change)
        self.header_start(header, tx, tx.last_offset, tx.last_timestamp_s)
        self.header_end(header, tx, tx.last_bytes, 0, b"", gtid, prefix, b"end", epoch)
        change.size = 0
        decimal_field(change, 2, tx.xid)
        return entry(out, header, 3, change)

    cdef int encode_rows(
        self, Tx* tx, RowsEvent* event, bytes gtid, bytes prefix, int64_t epoch,
        Growing out, Growing header, Growing change,
    ) except -1:
        pieces, count = _row_change(self.rows_of(event, self.transaction(tx)))
        change.size = 0
        for piece in pieces:
            change.put_bytes(piece)
        self.header_start(header, tx, event.offset, event.timestamp_s)
        header.put_bytes(self.names[event.plan])
        props = b"\x0a\x09rowsCount" + text_field(2, str(count))
        self.header_end(
            header, tx, event.bytes_, event.kind, message_field(12, props), gtid, prefix, b"%d" % event.ordinal, epoch
        )
        return entry(out, header, 2, change)

    cdef int header_start(self, Growing header, Tx* tx, int64_t offset, uint64_t timestamp_s) except -1:
        """Put the fields of a header up to where a table's names come; the order is that of their numbers."""
        header.size = 0
        header.put_bytes(self.head)
        header.integer(3, offset)
        header.integer(4, tx.server_id)
        header.put(b"\x2a\x05UTF-8", 7)
        header.integer(6, timestamp_s * 1000)
        return header.put(b"\x38\x02", 2)

    cdef int header_end(
        self, Growing header, Tx* tx, uint32_t event_bytes, int kind, bytes props, bytes gtid, bytes prefix,
        bytes place, int64_t epoch,
    ) except -1:
        cdef Py_ssize_t prefix_bytes = PyBytes_GET_SIZE(prefix), place_bytes = PyBytes_GET_SIZE(place)
        header.integer(10, event_bytes)
        header.integer(11, kind)
        header.put_bytes(props)
        header.text(13, PyBytes_AS_STRING(gtid), PyBytes_GET_SIZE(gtid))
        header.put(b"\x92\x03", 2)  # field 50
        header.varint(prefix_bytes + 1 + place_bytes)
        header.put_bytes(prefix)
        header.put(b"#", 1)
        header.put_bytes(place)
        header.integer(51, epoch)
        return header.integer(52, tx.commit_us)


cdef int decimal_field(Growing out, int number, uint64_t value) except -1:
    cdef Py_ssize_t at
    out.varint(number << 3 | 2)
    out.varint(0)
    at = out.size
    out.decimal(value)
    out.data[at - 1] = out.size - at  # at most 20
    return 0


cdef int entry(Growing out, Growing header, int kind, Growing store_value) except -1:
    """Put an entry, as one of the ``messages`` of a batch."""
    cdef Py_ssize_t size = 1 + varint_bytes(header.size) + header.size + 2
    if store_value.size:
        size += 1 + varint_bytes(store_value.size) + store_value.size
    out.put(b"\x12", 1)
    out.varint(size)
    out.put(b"\x0a", 1)
    out.varint(header.size)
    out.put(header.data, header.size)
    out.integer(2, kind)
    return out.text(3, store_value.data, store_value.size)


cdef Py_ssize_t varint_bytes(uint64_t value) noexcept:
    cdef Py_ssize_t size = 1
    while value > 0x7F:
        value >>= 7
        size += 1
    return size


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
    # Of the chunk that is looked through:
    cdef const uint8_t* data
    cdef Py_ssize_t end
    cdef Packed packed
    cdef Growing kept
    cdef dict index_of_plan, index_of_source
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
        self, bytes buffer, Py_ssize_t at, Py_ssize_t end, int sequence, str file, int64_t offset, *,
        bint mariadb, bint checksums,
    ):
        """Return the transactions that stand in ``buffer`` from ``at`` on, or None; what is done is in the attributes.

        ``sequence`` is the next packet's number, ``offset`` the place of the next event in ``file``.
        """
        cdef Py_ssize_t was_at, was_events
        cdef int was_sequence
        cdef int64_t was_offset
        cdef uint32_t was_timestamp_s
        if not 0 <= at <= end <= len(buffer):
            raise IndexError(f"{at} to {end} of {len(buffer)} bytes")
        self.data = <const uint8_t*>PyBytes_AS_STRING(buffer)
        self.end = end
        self.at, self.sequence, self.offset, self.events = at, sequence, offset, 0
        self.mariadb, self.checksums = mariadb, checksums
        self.packed = Packed()
        self.packed.file, self.packed.server_uuid = file, self.server_uuid
        self.kept = Growing()
        self.index_of_plan, self.index_of_source = {}, {}
        self.seen_count = 0
        while True:
            was_at, was_sequence, was_offset = self.at, self.sequence, self.offset
            was_events, was_timestamp_s = self.events, self.timestamp_s
            was_kept, was_rows = self.kept.size, self.packed.rows_count
            if not self.transaction():
                self.at, self.sequence, self.offset = was_at, was_sequence, was_offset
                self.events, self.timestamp_s = was_events, was_timestamp_s
                self.kept.size, self.packed.rows_count = was_kept, was_rows
                break
        packed, self.packed = self.packed, None
        return self.finished(packed) if packed.count else None

    cdef Packed finished(self, Packed packed):
        packed.plans = tuple([held.plan for held in self.index_of_plan])
        packed.names = [text_field(8, plan.schema) + text_field(9, plan.table) for plan in packed.plans]
        packed.head = b"\x08\x01" + text_field(2, packed.file)
        packed.data = self.kept.taken()
        packed.shrink()
        return packed

    cdef int event(self, Event* event) except -1:
        """Read the next event, checked as `ha_canal.binlog.event_reader` does but for its checksum; 0: not whole, or
        not plain."""
        cdef const uint8_t* at = self.data + self.at
        cdef Py_ssize_t size
        if self.end - self.at < PACKET_BYTES + HEADER_BYTES:
            return 0
        size = at[0] | at[1] << 8 | at[2] << 16
        if self.end - self.at - 4 < size or size < 1 + HEADER_BYTES or size == 0xFFFFFF:
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
        tx.source = -1
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
        tx.source, tx.number, tx.domain = -2, u64(event.body), u32(event.body + 8)
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
        rows.offset, rows.bytes_, rows.timestamp_s = event.offset, event.size, event.timestamp_s
        rows.ordinal, rows.plan = tx.used - 1, self.table_plans[index]
        rows.at, rows.bitmap_bytes = self.kept.size, bitmap_bytes
        rows.body_bytes = event.body_bytes - at - images
        self.kept.put(body + at, event.body_bytes - at)
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
