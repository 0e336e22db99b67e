# cython: language_level=3
"""Compiled plans, for the extensions that run them."""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t

from ha_canal.binlog._digits cimport Tens

cdef enum:  # what a step does; those in front of UTF8 have a size that is known
    SIGNED, UNSIGNED, FLOAT, DOUBLE, DECIMAL, BIT, YEAR, DATE, TIMESTAMP, DATETIME, TIME,
    TIMESTAMP2, DATETIME2, TIME2, ENUM, SET, UTF8, MAPPED, PADDED, PYTHON


cdef struct Step:
    int code
    int size  # bytes of the value, or of the length in front of it
    int digits  # of a temporal type; precision of a DECIMAL; signedness of an integer; bytes that a BINARY is padded to
    int scale
    const uint8_t* prefix[3]  # tag, room for a length, head, tag of the value, room for its length
    const uint8_t* tail
    const uint8_t* null_[3]  # whole columns, with their tags
    uint32_t prefix_bytes[3]
    uint32_t null_bytes[3]
    uint32_t tail_bytes
    uint32_t labels_count
    const uint8_t* map_  # of an 8-bit character set: 256 times (bytes, three bytes); or NULL
    bint plain  # the map leaves ASCII as it is
    const uint8_t** labels  # labels[i] is where label i starts, and ends label i - 1
    const Tens* tens
    PyObject* reader  # of the plan


cdef class CompiledPlan:
    cdef Step* steps
    cdef Step* lean_steps  # the same, of columns without what a row in front of theirs has told
    cdef Py_ssize_t count
    cdef const uint8_t** labels
    cdef bytes arena  # all that the steps point to, and `kept`
    cdef list kept
    cdef readonly bytes names  # fields 8 and 9 of a Header
    cdef readonly tuple starts  # of a RowChange, per kind: its fields 1 and 2
    cdef int make_step(self, Step* step, column, reader, list labels) except -1
    cdef int point(self, list pieces, list labels) except -1
    cdef const uint8_t* point_pieces(self, Step* steps, list pieces, const uint8_t* data) except NULL


cdef CompiledPlan compiled_plan(object plan)
"""Return the compiled form of a `RowPlan`: made at the first call, kept by the plan."""
