"""Serialized ``Messages`` and ``Entry`` to changes with typed values, from the bytes: the fast half of the SDK.

Same contract as the twin, `ha_canal.client.entries`, which also reads every entry that is unusual: no wire format,
text that is not UTF-8, a message in pieces, a column that comes twice. So whatever is wrong gets the same error from
both, and what is here can be short. Unknown fields are skipped, and fields may come in any order.

What is constant in many rows is found by comparing bytes: a column's message but for its value is kept with what it
says (`ColumnPlan`), in the places where it was seen last.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.datetime cimport date_new, datetime_new, import_datetime, timedelta_new
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from datetime import UTC
from decimal import Decimal

from google.protobuf.message import DecodeError as ParseError

from ha_canal.client._change cimport Change, Origin, Row
from ha_canal.client.entries import KINDS, changes_of
from ha_canal.client.values import CONVERTERS
from ha_canal.client.values import family as family_of
from ha_canal.protos.canal_pb2 import Place

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, uint32_t largest)
    void* PyUnicode_1BYTE_DATA(object text)
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    object PyLong_FromLongLong(long long number)
    double PyOS_string_to_double(const char* text, char** end, PyObject* overflow) except? -1.0
    object PyTuple_New(Py_ssize_t size)
    void Py_DECREF(PyObject* item)
    void PyTuple_SET_ITEM(object made, Py_ssize_t place, object item)
    PyObject* PyTuple_GET_ITEM(object items, Py_ssize_t place)
    Py_ssize_t PyTuple_GET_SIZE(object items)
    int PyObject_IS_GC(PyObject* item)
    void PyObject_GC_UnTrack(PyObject* item)
    int PyGC_Enable()
    int PyGC_Disable()

cdef extern from *:
    """
    static inline PyObject *ha_canal_new(PyObject *type, PyObject *args)
    {
        return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, args, NULL);
    }
    """
    object new_of "ha_canal_new"(object kind, tuple arguments)


cdef object DECIMAL_TYPE = Decimal, ZONE = UTC
"""Not looked up again for each row."""


class UnusualError(Exception):
    """What is left to the twin."""


include "_wire.pxi"
include "_floats.pxi"
include "_texts.pxi"
include "_columns.pxi"
include "_header.pxi"
include "_reader.pxi"


import_datetime()


@cython.final
cdef class CompiledDelivery:
    """A serialized ``Messages``, scanned but not decoded: see `ha_canal.client.delivery.Delivery`.

    ``raw`` holds it from ``start`` to its end. Raises UnusualError.
    """

    cdef bytes raw
    cdef Py_ssize_t start
    cdef readonly int64_t batch_id, epoch
    cdef readonly bint partial_transaction
    cdef readonly Py_ssize_t count
    cdef readonly object place

    def __init__(self, bytes raw not None, Py_ssize_t start=0):
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(raw)
        cdef Bytes end = at + len(raw)
        cdef Field field
        cdef bytes place = b""
        if not 0 <= start <= len(raw):
            raise IndexError(start)
        self.raw, self.start = raw, start
        at += start
        while at < end:
            at = read_field(at, end, &field)
            if at == NULL:
                raise UnusualError
            if field.tag == 0x12:
                self.count += 1
            elif field.tag == 0x08:
                self.batch_id = <int64_t>field.number
            elif field.tag == 50 << 3:
                self.epoch = <int64_t>field.number
            elif field.tag == 51 << 3:
                self.partial_transaction = field.number != 0
            elif field.tag == (52 << 3 | 2):
                place += field.text.data[:field.text.size]  # messages are merged by joining them
        try:
            self.place = Place.FromString(place)
        except ParseError:
            raise UnusualError

    @property
    def messages(self):
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(self.raw)
        cdef Bytes end = at + len(self.raw)
        cdef Field field
        cdef list found = []
        at += self.start
        while at < end:
            at = read_field(at, end, &field)
            if field.tag == 0x12:
                found.append(field.text.data[:field.text.size])
        return found

    def changes(self):
        cdef Reader reader = borrow()
        cdef Py_ssize_t place = 0
        cdef list found = []
        cdef bint collects = PyGC_Disable()
        try:
            reader.read_some(self.raw, self.start, len(self.raw), &place, found)
            return tuple(found)
        finally:
            if collects:
                PyGC_Enable()
            give_back(reader)

    def __iter__(self):
        return Changes(self)


cdef enum:
    AT_A_TIME = 64 << 10  # bytes of entries: what they become stays in the processor's cache


@cython.final
cdef class Changes:
    """The changes of a delivery, a few entries at a time; no more of them is kept here."""

    cdef CompiledDelivery delivery
    cdef Py_ssize_t offset, entry, taken
    cdef list found

    def __init__(self, CompiledDelivery delivery not None):
        self.delivery, self.offset = delivery, delivery.start
        self.found = []

    def __iter__(self):
        return self

    def __next__(self):
        cdef object change
        while self.taken == len(self.found):
            self.taken = 0
            self.found = []
            if self.offset == len(self.delivery.raw):
                raise StopIteration
            self.read_on()
        change = self.found[self.taken]
        self.taken += 1
        return change

    cdef int read_on(self) except -1:
        cdef Reader reader = borrow()
        cdef bint collects = PyGC_Disable()
        try:
            self.offset = reader.read_some(self.delivery.raw, self.offset, AT_A_TIME, &self.entry, self.found)
        except BaseException:
            self.offset, self.found = len(self.delivery.raw), []  # it has ended, as a generator would
            raise
        finally:
            if collects:
                PyGC_Enable()
            give_back(reader)
        return 0


def changes_of_compiled(entries):
    """Return the changes of serialized entries, as `ha_canal.client.entries.changes_of` does."""
    cdef Reader reader = borrow()
    cdef list found = []
    cdef Text text
    cdef bytes raw
    cdef Py_ssize_t place = 0
    try:
        for raw in entries:
            text.data, text.size = <Bytes>PyBytes_AS_STRING(raw), len(raw)
            reader.read_or_leave(text, place, found)
            place += 1
    finally:
        give_back(reader)
    return found


cdef list spare = []
"""Readers with what they know, one for each thread that decodes at the same time."""


cdef Reader borrow():
    return spare.pop() if spare else Reader.__new__(Reader)


cdef int give_back(Reader reader) except -1:
    if len(spare) < 8:
        spare.append(reader)
    return 0
