# cython: language_level=3
"""Items of the ring to serialized ``Entry`` messages: the compiled twin of `ha_canal.binlog.encode_twin`, called per item.

Members of items are read where their slots are, not by name: for one-row transactions that is a third of the work.
What is unusual (JSON diffs, statements, numbers beyond 64 bits, text that is no UTF-8, rows that cannot be read) goes to
the twin as a whole.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memmove

from ha_canal.binlog._buffer cimport Buffer, put_bytes, put_integer, put_varint, reserve, set_length, varint_bytes, written
from ha_canal.binlog._digits cimport put_unsigned
from ha_canal.binlog._header cimport Header, Text, most_bytes, put_decimal_field, put_header
from ha_canal.binlog._packed_rows cimport Scratch, borrow, give_back
from ha_canal.binlog._plans cimport CompiledPlan, compiled_plan
from ha_canal.binlog._rows cimport DECLINED, encode_rows_into

from types import MemberDescriptorType

from ha_canal.binlog import encode_twin as twin
from ha_canal.model.change import Begin, ChangeKind, Commit, Rows, Transaction

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(PyObject* text, Py_ssize_t* size)
    bint PyUnicode_Check(PyObject* value)
    bint PyLong_Check(PyObject* value)
    int64_t PyLong_AsLongLongAndOverflow(PyObject* value, int* overflow)
    PyObject* Py_False

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset

    ctypedef struct PyMemberDescrObject:
        PyMemberDef* d_member

cdef enum:
    BEGIN = 1, ROWS, END  # EntryType


# --- members of items -------------------------------------------------------------------------------------------------


cdef Py_ssize_t offset_of(type owner, str name) except -1:
    """Return where in its objects a slot of a class is."""
    member = getattr(owner, name)
    if type(member) is not MemberDescriptorType:
        raise ImportError(f"{owner.__name__}.{name} is no slot")
    return (<PyMemberDescrObject*><PyObject*>member).d_member.offset


cdef enum:
    TX_GTID, TX_FILE, TX_START, TX_UUID, TX_SERVER, TX_TIMESTAMP, TX_COMMIT
    ITEM_TX = 0, ITEM_OFFSET, ITEM_LENGTH, ITEM_FIRST
    BEGIN_THREAD = ITEM_FIRST
    COMMIT_TIMESTAMP = ITEM_FIRST, COMMIT_XID, COMMIT_EMPTY
    ROWS_TIMESTAMP = ITEM_FIRST, ROWS_ORDINAL, ROWS_KIND, ROWS_PLAN, ROWS_BEFORE, ROWS_AFTER, ROWS_BODY, ROWS_PARTIAL
    MOST_MEMBERS = 16

cdef Py_ssize_t[MOST_MEMBERS] TRANSACTION_AT, BEGIN_AT, COMMIT_AT, ROWS_AT


cdef int fill(Py_ssize_t* offsets, type owner, str names) except -1:
    for index, name in enumerate(names.split()):
        offsets[index] = offset_of(owner, name)
    return 0


fill(TRANSACTION_AT, Transaction, "gtid file start_offset server_uuid server_id timestamp_s commit_timestamp_us")
fill(BEGIN_AT, Begin, "transaction offset event_length thread_id")
fill(COMMIT_AT, Commit, "transaction offset event_length timestamp_s xid empty")
fill(
    ROWS_AT,
    Rows,
    "transaction offset event_length timestamp_s ordinal kind plan present_before present_after body partial_json",
)

cdef object INSERT = ChangeKind.INSERT, UPDATE = ChangeKind.UPDATE, DELETE = ChangeKind.DELETE
cdef object BEGIN_TYPE = Begin, COMMIT_TYPE = Commit, ROWS_TYPE = Rows, TRANSACTION_TYPE = Transaction


cdef inline PyObject* member(PyObject* item, Py_ssize_t offset) noexcept:
    """Return what a slot holds, NULL for nothing."""
    return (<PyObject**>(<char*>item + offset))[0]


cdef bint get_number(PyObject* value, int64_t* number) noexcept:
    """Whether this is an int of 64 bits."""
    cdef int overflow = 0
    if value == NULL or not PyLong_Check(value):
        return False
    number[0] = PyLong_AsLongLongAndOverflow(value, &overflow)
    return overflow == 0


cdef bint get_text(PyObject* value, Text* text) noexcept:
    """Whether this is a str without lone surrogates."""
    if value == NULL or not PyUnicode_Check(value):
        return False
    text.data = PyUnicode_AsUTF8AndSize(value, &text.size)
    if text.data == NULL:
        PyErr_Clear()
        return False
    return True


cdef bint get_bytes(PyObject* value, Text* text) noexcept:
    if value == NULL or not PyBytes_CheckExact(<object>value):
        return False
    text.data, text.size = PyBytes_AS_STRING(<object>value), PyBytes_GET_SIZE(<object>value)
    return True


# --- headers ----------------------------------------------------------------------------------------------------------


cdef bint get_header(PyObject* item, const Py_ssize_t* at, Header* header) noexcept:
    """Take what all items have from ``item``; False where it is not as it should be."""
    cdef PyObject* transaction = member(item, at[ITEM_TX])
    if transaction == NULL or type(<object>transaction) is not TRANSACTION_TYPE:
        return False
    header.names.size = header.rows = header.kind = 0
    return (
        get_number(member(item, at[ITEM_OFFSET]), &header.offset)
        and get_number(member(item, at[ITEM_LENGTH]), &header.event_length)
        and get_text(member(transaction, TRANSACTION_AT[TX_GTID]), &header.gtid)
        and get_text(member(transaction, TRANSACTION_AT[TX_FILE]), &header.file)
        and get_text(member(transaction, TRANSACTION_AT[TX_UUID]), &header.uuid)
        and get_number(member(transaction, TRANSACTION_AT[TX_START]), &header.start_offset)
        and get_number(member(transaction, TRANSACTION_AT[TX_SERVER]), &header.server_id)
        and get_number(member(transaction, TRANSACTION_AT[TX_TIMESTAMP]), &header.timestamp_s)
        and get_number(member(transaction, TRANSACTION_AT[TX_COMMIT]), &header.commit_us)
        and header.server_id >= 0
        and header.start_offset >= 0
    )


# --- entries ----------------------------------------------------------------------------------------------------------

def encode_entry(item, *, epoch, bint lean=False):
    """As `ha_canal.binlog.encode_twin.encode_entry`, byte for byte; ``lean`` where it can be."""
    entry = compiled_entry(item, epoch, lean)
    return entry if entry is not None else twin.encode_entry(item, epoch=epoch)


def encode_row_change(rows):
    """As `ha_canal.binlog.encode_twin.encode_row_change`, byte for byte."""
    change = compiled_row_change(rows)
    return change if change is not None else twin.encode_row_change(rows)


def compiled_entry(item, epoch, bint lean=False):
    """Return the entry of an item; None for what is left to the twin."""
    return with_scratch(item, epoch, False, lean)


def compiled_row_change(rows):
    """Return the RowChange of a rows event; None for what is left to the twin."""
    return with_scratch(rows, 0, True, False)


cdef object with_scratch(object item, object epoch, bint change_only, bint lean):
    cdef Scratch scratch = borrow()  # threads encode large bodies beside this one
    cdef object made = row_change(&scratch.out, item) if change_only else entry_of(&scratch.out, item, epoch, lean)
    give_back(scratch)
    return made


cdef object entry_of(Buffer* out, object item, object epoch, bint lean):
    cdef Header header
    cdef object kind = type(item)
    if not get_number(<PyObject*>epoch, &header.epoch):
        return None
    if kind is ROWS_TYPE:
        return rows_entry(out, <PyObject*>item, lean, &header)
    if kind is BEGIN_TYPE:
        return begin_entry(out, <PyObject*>item, &header)
    if kind is COMMIT_TYPE:
        return commit_entry(out, <PyObject*>item, &header)
    return None


cdef object row_change(Buffer* out, object rows):
    if type(rows) is not ROWS_TYPE or put_rows(out, <PyObject*>rows, False, NULL) < 0:
        return None
    return PyBytes_FromStringAndSize(<char*>out.data, out.size)


cdef object rows_entry(Buffer* out, PyObject* item, bint lean, Header* header):
    cdef int64_t ordinal
    cdef uint8_t digits[24]
    if not (
        get_header(item, ROWS_AT, header)
        and get_number(member(item, ROWS_AT[ROWS_TIMESTAMP]), &header.timestamp_s)
        and get_number(member(item, ROWS_AT[ROWS_ORDINAL]), &ordinal)
        and ordinal >= 0
    ):
        return None
    header.place = Text(<char*>digits, put_unsigned(digits, ordinal) - digits)
    header.rows = put_rows(out, item, lean, header)
    return entry(out, header, ROWS) if header.rows > 0 else None


cdef object begin_entry(Buffer* out, PyObject* item, Header* header):
    cdef int64_t thread_id
    cdef uint8_t* start
    if not (get_header(item, BEGIN_AT, header) and get_number(member(item, BEGIN_AT[BEGIN_THREAD]), &thread_id)):
        return None
    header.place = Text(b"begin", 5)
    start = store_value(out, header, 32)
    written(out, put_integer(start, 4 << 3, thread_id))
    return entry(out, header, BEGIN)


cdef object commit_entry(Buffer* out, PyObject* item, Header* header):
    cdef int64_t xid
    cdef uint8_t* start
    if not (
        get_header(item, COMMIT_AT, header)
        and get_number(member(item, COMMIT_AT[COMMIT_TIMESTAMP]), &header.timestamp_s)
        and get_number(member(item, COMMIT_AT[COMMIT_XID]), &xid)
        and xid >= 0
        and member(item, COMMIT_AT[COMMIT_EMPTY]) == Py_False
    ):
        return None
    header.place = Text(b"end", 3)
    start = store_value(out, header, 32)
    written(out, put_decimal_field(start, 0x12, xid))
    return entry(out, header, END)


cdef Py_ssize_t put_rows(Buffer* out, PyObject* item, bint lean, Header* header_or_null) except -2:
    """Put a RowChange, behind room for ``header_or_null``, and return the number of its rows, or `DECLINED`."""
    cdef object kind = <object>member(item, ROWS_AT[ROWS_KIND])
    cdef int number = 1 if kind is INSERT else 2 if kind is UPDATE else 3 if kind is DELETE else 0
    cdef Text before, after, body
    cdef Py_ssize_t bitmap_bytes
    cdef CompiledPlan plan
    if number == 0 or (number == 2 and member(item, ROWS_AT[ROWS_PARTIAL]) != Py_False):
        return DECLINED
    if not (
        get_bytes(member(item, ROWS_AT[ROWS_BEFORE]), &before)
        and get_bytes(member(item, ROWS_AT[ROWS_AFTER]), &after)
        and get_bytes(member(item, ROWS_AT[ROWS_BODY]), &body)
    ):
        return DECLINED
    bitmap_bytes = after.size if number == 1 or (number == 2 and after.size < before.size) else before.size
    plan = compiled_plan(<object>member(item, ROWS_AT[ROWS_PLAN]))
    if header_or_null != NULL:
        header_or_null.kind = number
        get_bytes(<PyObject*>plan.names, &header_or_null.names)
        store_value(out, header_or_null, 0)
    return encode_rows_into(
        out, plan, number, <uint8_t*>before.data, <uint8_t*>after.data, bitmap_bytes, <uint8_t*>body.data, body.size,
        <object>member(item, ROWS_AT[ROWS_BODY]), lean,
    )


cdef uint8_t* store_value(Buffer* out, const Header* header, size_t more) except NULL:
    """Return where the store value of an entry begins: behind room for all that comes in front of it."""
    cdef size_t room = most_bytes(header)
    if reserve(out, room + more):
        raise MemoryError
    out.size = room
    return out.data + room


cdef object entry(Buffer* out, const Header* header, int kind):
    """Put the header directly in front of the store value, which ends the buffer, and return all of it."""
    cdef size_t room = most_bytes(header)
    cdef size_t value = out.size - room, tag = 1 + varint_bytes(value) if value else 0
    cdef size_t size = put_header(out.data, header) - out.data
    cdef uint8_t* at = out.data + room - tag - 2 - size
    cdef uint8_t* start = at - 1 - varint_bytes(size)
    memmove(at, out.data, size)
    start[0] = 0x0A
    put_varint(start + 1, size)
    at += size
    at[0], at[1] = 0x10, <uint8_t>kind
    if value:
        at[2] = 0x1A
        put_varint(at + 3, value)
    return PyBytes_FromStringAndSize(<char*>start, out.data + out.size - start)
