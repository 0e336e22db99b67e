# cython: language_level=3
"""Row plans as C arrays of steps, one step per column: what `ha_canal.binlog._rows` runs through for each row.

What C reads is decided here, once per plan: a type, or a character set, that has no code of its own is given to the
plan's reader for it. Steps agree with `ha_canal.binlog.values`, whose readers are the contract.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from ha_canal.binlog._digits cimport LOWEST_TEN, TENS_COUNT, Tens, decimal_bytes
from ha_canal.binlog._temporal cimport HIRES_DATETIME_BYTES, HIRES_FRACTION_BYTES, HIRES_TIME_BYTES

from functools import cache

from ha_canal.binlog import encode_twin as twin
from ha_canal.binlog import type_codes as t
from ha_canal.binlog import wire
from ha_canal.binlog.charsets import bytes_per_character, text_decoder
from ha_canal.binlog.ddl_types import FIXED_BINARIES
from ha_canal.binlog.frames import lean_frame
from ha_canal.binlog.rows import value_readers

cdef Tens TENS_OF_TEN  # for `put_double`


cdef int fill_tens() except -1:
    for index in range(TENS_COUNT):
        exponent = index + LOWEST_TEN
        if exponent >= 0:
            exact, shift = 10**exponent, (10**exponent).bit_length() - 128
            rounded = -(-exact >> shift) if shift > 0 else exact << -shift
        else:
            divisor = 10**-exponent
            rounded = -(-(1 << 127 + divisor.bit_length()) // divisor)
        TENS_OF_TEN.high[index], TENS_OF_TEN.low[index] = rounded >> 64, rounded & 0xFFFFFFFFFFFFFFFF
    return 0


fill_tens()


_INTEGER_BYTES = {t.TINY: 1, t.SHORT: 2, t.INT24: 3, t.LONG: 4, t.LONGLONG: 8}
_BLOBS = frozenset((t.TINY_BLOB, t.BLOB, t.MEDIUM_BLOB, t.LONG_BLOB, t.GEOMETRY))
_STRINGS = frozenset((t.STRING, t.VAR_STRING, t.VARCHAR))


@cache
def _map_of(charset):
    """Return the UTF-8 of each byte of an 8-bit character set as (bytes, three bytes)."""
    decode = text_decoder(charset)
    encoded = [decode(bytes((byte,))).encode() for byte in range(256)]
    if max(map(len, encoded)) > 3:
        raise ValueError(f"{charset} has characters beyond the basic plane")
    return b"".join([bytes((len(one),)) + one.ljust(3, b"\0") for one in encoded])


def _is_8_bit(charset):
    return charset not in ("utf8mb3", "utf8mb4") and bytes_per_character(charset) == 1


def _characters(charset, size):
    if charset in ("utf8mb3", "utf8mb4"):
        return UTF8, size, 0, 0
    return (MAPPED if _is_8_bit(charset) else PYTHON), size, 0, 0


def _string_step(column):
    size = 1 if column.type_meta < 256 else 2
    if column.type_code == t.STRING and FIXED_BINARIES.get(column.mysql_type.lower()) == column.type_meta:
        return PYTHON, 0, 0, 0
    if column.fixed_length:
        return PADDED, size, column.fixed_length, 0
    return _characters(column.charset, size)


def _decimal_step(precision, scale):
    if not (1 <= precision <= 81 and scale <= precision):
        return PYTHON, 0, 0, 0
    return DECIMAL, decimal_bytes(precision, scale), precision, scale


def _temporal_step(code, digits):
    if not 0 <= digits <= 6:
        return PYTHON, 0, 0, 0
    half = (digits + 1) // 2
    if code == t.TIMESTAMP2:
        return TIMESTAMP2, 4 + half, digits, 0
    if code == t.DATETIME2:
        return DATETIME2, 5 + half, digits, 0
    if code == t.TIME2:
        return TIME2, 3 + half, digits, 0
    if code == t.TIMESTAMP:
        return TIMESTAMP, 4 + HIRES_FRACTION_BYTES[digits], digits, 0
    if code == t.DATETIME:
        return DATETIME, HIRES_DATETIME_BYTES[digits] if digits else 8, digits, 0
    return TIME, HIRES_TIME_BYTES[digits], digits, 0


def _step_of(column):
    """Return (code, size, digits, scale) of a column's step."""
    code, meta = column.type_code, column.type_meta
    if code in _INTEGER_BYTES:
        return (UNSIGNED if column.unsigned else SIGNED), _INTEGER_BYTES[code], 0, 0
    if code in (t.FLOAT, t.DOUBLE):
        return (FLOAT, 4, 0, 0) if code == t.FLOAT else (DOUBLE, 8, 0, 0)
    if code == t.NEWDECIMAL:
        return _decimal_step(meta >> 8, meta & 255)
    if code == t.BIT and 1 <= meta <= 64:
        return BIT, (meta + 7) // 8, 0, 0
    if code in (t.YEAR, t.DATE, t.NEWDATE):
        return (YEAR, 1, 0, 0) if code == t.YEAR else (DATE, 3, 0, 0)
    if code in (t.TIMESTAMP, t.DATETIME, t.TIME, t.TIMESTAMP2, t.DATETIME2, t.TIME2):
        return _temporal_step(code, meta)
    if code in (t.ENUM, t.SET) and 1 <= meta <= 8 and (code == t.ENUM or len(column.labels) <= 64):
        return (ENUM if code == t.ENUM else SET), meta, 0, 0
    if code in _STRINGS:
        return _string_step(column)
    if code in _BLOBS and 1 <= meta <= 4:
        return _characters("binary" if code == t.GEOMETRY else column.charset, meta)
    return PYTHON, 0, 0, 0


def _labels_of(column, code):
    if code == ENUM:
        return ["".encode(), *[label.encode() for label in column.labels]]
    return [label.encode() for label in column.labels] if code == SET else []


cdef class CompiledPlan:
    """A plan as an array of steps, one per column. All they point to is in ``arena`` and ``kept``."""

    def __cinit__(self, plan):
        readers = value_readers(plan)
        self.count = len(plan.columns)
        self.names = wire.text_field(8, plan.schema) + wire.text_field(9, plan.table)
        table = wire.integer_field(1, plan.table_id)
        self.starts = tuple([table + wire.integer_field(2, kind) for kind in range(4)])
        self.kept = [readers]
        self.steps = <Step*>calloc(self.count + 1, sizeof(Step))
        self.lean_steps = <Step*>calloc(self.count + 1, sizeof(Step))
        if self.steps == NULL or self.lean_steps == NULL:
            raise MemoryError
        labels = []
        for index, column in enumerate(plan.columns):
            self.make_step(&self.steps[index], column, readers[index], labels)
        frames = twin.column_frames(plan) + tuple([lean_frame(index) for index in range(self.count)])
        self.point([pieces_of(frame) for frame in frames], labels)

    def __dealloc__(self):
        free(self.steps)
        free(self.lean_steps)
        free(self.labels)

    cdef int make_step(self, Step* step, column, reader, list labels) except -1:
        step.code, step.size, step.digits, step.scale = _step_of(column)
        if step.code == MAPPED or step.code == PADDED:
            table = _map_of(column.charset if step.code == MAPPED and column.type_code != t.GEOMETRY else "binary")
            self.kept.append(table)
            step.map_ = <const uint8_t*>PyBytes_AS_STRING(table)
            step.plain = all([table[4 * byte : 4 * byte + 2] == bytes((1, byte)) for byte in range(128)])
        step.reader = <PyObject*>reader
        step.tens = &TENS_OF_TEN
        own = _labels_of(column, step.code)
        step.labels_count = len(own)
        labels.append(own)
        return 0

    cdef int point(self, list pieces, list labels) except -1:
        """Put all bytes into the arena, and let the steps point there. ``pieces``: per step, then per lean one."""
        cdef Py_ssize_t index, label = 0
        cdef const uint8_t* data
        self.arena = b"".join([one for own in pieces + labels for one in own]) + bytes(128)
        self.labels = <const uint8_t**>calloc(sum([len(own) + 1 for own in labels]) + 1, sizeof(uint8_t*))
        if self.labels == NULL:
            raise MemoryError
        data = self.point_pieces(self.steps, pieces[:self.count], <const uint8_t*>PyBytes_AS_STRING(self.arena))
        memcpy(self.lean_steps, self.steps, self.count * sizeof(Step))
        data = self.point_pieces(self.lean_steps, pieces[self.count:], data)
        for index in range(self.count):
            self.steps[index].labels = self.lean_steps[index].labels = self.labels + label
            for one in labels[index]:
                self.labels[label] = data
                label += 1
                data += len(one)
            self.labels[label] = data
            label += 1
        return 0

    cdef const uint8_t* point_pieces(self, Step* steps, list pieces, const uint8_t* data) except NULL:
        cdef Py_ssize_t index
        cdef int variant
        cdef Step* step
        for index in range(self.count):
            step = &steps[index]
            for variant in range(3):
                step.prefix[variant], step.prefix_bytes[variant] = data, len(pieces[index][variant])
                data += step.prefix_bytes[variant]
            for variant in range(3):
                step.null_[variant], step.null_bytes[variant] = data, len(pieces[index][3 + variant])
                data += step.null_bytes[variant]
            step.tail, step.tail_bytes = data, len(pieces[index][6])
            data += step.tail_bytes
        return data


def pieces_of(frame):
    """Return a frame as a step needs it: prefixes, NULLs, tail."""
    head, updated, tail, null, updated_null = frame
    prefixes = [tag + b"\0" + start + b"\x42\0" for tag, start in ((b"\x0a", head), (b"\x12", head), (b"\x12", updated))]
    return [*prefixes, b"\x0a" + null, b"\x12" + null, b"\x12" + updated_null, tail]


cdef CompiledPlan compiled_plan(object plan):
    cdef dict memo = plan.compiled
    made = memo.get("rows")
    if made is None:
        made = memo["rows"] = CompiledPlan(plan)
    return made
