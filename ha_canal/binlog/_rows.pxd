# cython: language_level=3
"""Rows events to ``RowChange`` bytes in a `Buffer`, for other extensions."""

from libc.stdint cimport uint8_t

from ha_canal.binlog._buffer cimport Buffer
from ha_canal.binlog._plans cimport CompiledPlan
from ha_canal.binlog._values cimport DECLINED, FAILED


cdef Py_ssize_t encode_rows_into(
    Buffer* out, CompiledPlan plan, int kind, const uint8_t* before, const uint8_t* after, Py_ssize_t bitmap_bytes,
    const uint8_t* body, Py_ssize_t size, object body_or_none, bint lean,
) except -2
"""Append the serialized RowChange of a rows event that is no partial JSON one; return the number of its rows.

``kind`` is that of `ChangeKind`; ``before`` and ``after`` are its column bitmaps, each of ``bitmap_bytes``, NULL where
the kind has none. ``body_or_none`` are the same bytes as ``body``, where they are an object already: columns which only
Python reads need one. ``lean``: rows behind the first one do not repeat what that says of the columns (`lean_frame`).
`DECLINED` for bytes that are no rows of the plan: nothing was written and no exception is set; give the event to
`ha_canal.binlog.encode_twin`.
"""
