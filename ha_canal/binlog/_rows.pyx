# cython: language_level=3
"""Rows events to serialized ``RowChange`` messages, without an object per value: the heart of the compiled encoder.

The bytes are those of its twin, `ha_canal.binlog.encode_twin`, to the last one. Bytes that are no rows of the plan are
declined: the twin says what is wrong, and where, so that nothing is judged in two places. A value of a type that C does
not know (JSON, multi-byte character sets other than UTF-8, …) is read by the plan's own reader.

Nothing is read outside of the body: each value is measured against what is left of it before it is touched. The twin
reads fixed sizes without looking, and checks at the end of an image; where it fails then, here a value is missing.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from ha_canal.binlog._buffer cimport (
    HA_CANAL_CHECKED,
    Buffer,
    put_bytes,
    put_short,
    reserve,
    set_length,
    varint_bytes,
    written,
)
from ha_canal.binlog._plans cimport CompiledPlan, Step
from ha_canal.binlog._values cimport (
    AFTER,
    BEFORE,
    NO_MEMORY,
    NULLED,
    UPDATED,
    VALUED,
    Reading,
    Seen,
    put_value,
)

cdef enum:
    GIL_FREE_BYTES = 1 << 16  # bodies of more are read without the interpreter's lock: it is not worth it for less


cdef struct Image:  # Which columns an image holds (``whole``: all), and how they are written.
    const uint8_t* present
    Py_ssize_t null_bytes
    bint whole
    int variant


cdef Py_ssize_t encode_rows_into(
    Buffer* out, CompiledPlan plan, int kind, const uint8_t* before, const uint8_t* after, Py_ssize_t bitmap_bytes,
    const uint8_t* body, Py_ssize_t size, object body_or_none, bint lean,
) except -2:
    cdef const Step* then_steps = plan.lean_steps if lean else plan.steps
    cdef Reading reading = Reading(out, plan.steps, plan.count, body, size, NULL, False, NULL, NULL)
    cdef Image old = image_of(before, plan.count, BEFORE)
    cdef Image new = image_of(after, plan.count, UPDATED)
    cdef size_t start = out.size
    cdef Py_ssize_t rows
    cdef uint8_t* exact = NULL
    if not 1 <= kind <= 3 or bitmap_bytes < (plan.count + 7) // 8:
        return DECLINED
    if kind == 2:
        reading.seen = <Seen*>calloc(plan.count + 1, sizeof(Seen))
    if (kind == 2 and reading.seen == NULL) or put_start(out, plan.starts[kind]):
        raise MemoryError
    if body_or_none is not None:
        reading.body_object = <PyObject*>body_or_none
    if HA_CANAL_CHECKED:
        reading.body = exact = own_block(body, size)
    if size > GIL_FREE_BYTES:
        with nogil:
            rows = encode_all(&reading, then_steps, NULL if kind == 1 else &old, NULL if kind == 3 else &new)
    else:
        rows = encode_all(&reading, then_steps, NULL if kind == 1 else &old, NULL if kind == 3 else &new)
    free(reading.seen)
    free(exact)
    if reading.body_is_ours:
        Py_DECREF(<object>reading.body_object)
    if rows < 0:
        out.size = start
    if rows == NO_MEMORY:
        raise MemoryError
    if rows == FAILED:
        error = <object>reading.failure
        Py_DECREF(error)
        raise error
    return rows


cdef uint8_t* own_block(const uint8_t* body, Py_ssize_t size) except NULL:
    """Return a copy in a block of just this size: there, a sanitizer sees each read behind the end."""
    cdef uint8_t* block = <uint8_t*>malloc(size if size else 1)
    if block == NULL:
        raise MemoryError
    memcpy(block, body, size)
    return block


cdef int put_start(Buffer* out, bytes start) except -2:
    if reserve(out, PyBytes_GET_SIZE(start)):
        return -1
    written(out, put_bytes(out.data + out.size, PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start)))
    return 0


cdef Image image_of(const uint8_t* present, Py_ssize_t columns, int variant) noexcept nogil:
    cdef Image image = Image(present, 0, False, variant)
    cdef Py_ssize_t index, held = 0
    if present != NULL:
        for index in range(columns):
            held += present[index >> 3] >> (index & 7) & 1
    image.null_bytes = (held + 7) // 8
    image.whole = held == columns
    return image


cdef Py_ssize_t encode_all(Reading* r, const Step* then_steps, const Image* old, const Image* new) noexcept nogil:
    """Put all rows, those behind the first one by ``then_steps``; return their number, or what is wrong."""
    cdef Buffer* out = r.out
    cdef Py_ssize_t at = 0, start, rows = 0
    cdef size_t row_at, room_for_size = 2
    while True:
        start = at
        row_at = out.size
        if reserve(out, 16):
            return NO_MEMORY
        out.data[row_at] = 0x62
        out.size = row_at + 1 + room_for_size
        if old != NULL:
            at = put_image(r, old, at)
        if new != NULL and at >= 0:
            at = put_new_image(r, new, at) if old != NULL else put_image(r, new, at)
        if at < 0:
            return at
        if reserve(out, 16):
            return NO_MEMORY
        written(out, set_length(out.data + row_at + 1, room_for_size, out.data + out.size))
        room_for_size = varint_bytes(out.size - row_at - 1)
        rows += 1
        r.steps = then_steps
        if at >= r.size:
            return rows
        if at == start:
            return DECLINED


cdef inline bint held(const uint8_t* bits, Py_ssize_t index) noexcept nogil:
    return bits[index >> 3] >> (index & 7) & 1


cdef Py_ssize_t put_image(Reading* r, const Image* image, Py_ssize_t at) noexcept nogil:
    """Put the columns of the one image of a row, or of the first of two; return where it ends in the body."""
    cdef const uint8_t* nulls = r.body + at
    cdef Py_ssize_t index, bit = 0
    cdef Seen* seen
    cdef Seen unused
    if r.size - at < image.null_bytes:
        return DECLINED
    at += image.null_bytes
    for index in range(r.count):
        if not image.whole and not held(image.present, index):
            continue
        seen = &r.seen[index] if r.seen != NULL else &unused
        if held(nulls, bit):
            seen.state = NULLED
            if put_null(r.out, &r.steps[index], image.variant):
                return NO_MEMORY
        else:
            at = put_value(r, &r.steps[index], image.variant, at, seen)
            if at < 0:
                return at
        bit += 1
    return at


cdef Py_ssize_t put_new_image(Reading* r, const Image* image, Py_ssize_t at) noexcept nogil:
    """Put an after image: what did not change is copied from the before image, which has just been put."""
    cdef const uint8_t* nulls = r.body + at
    cdef Py_ssize_t index, bit = 0
    cdef Seen* seen
    if r.size - at < image.null_bytes:
        return DECLINED
    at += image.null_bytes
    for index in range(r.count):
        if not image.whole and not held(image.present, index):
            continue
        seen = &r.seen[index]
        if held(nulls, bit):
            if put_null(r.out, &r.steps[index], AFTER if seen.state == NULLED else UPDATED):
                return NO_MEMORY
        elif (
            seen.state == VALUED and r.size - at >= seen.raw_size
            and memcmp(r.body + at, r.body + seen.raw_at, seen.raw_size) == 0
        ):
            at += seen.raw_size
            if put_again(r.out, seen):
                return NO_MEMORY
        else:
            at = put_changed(r, &r.steps[index], at, seen)
            if at < 0:
                return at
        bit += 1
    return at


cdef Py_ssize_t put_changed(Reading* r, const Step* step, Py_ssize_t at, const Seen* seen) noexcept nogil:
    """Put a value whose bytes changed, unless its text did not."""
    cdef Seen new
    cdef Buffer* out = r.out
    at = put_value(r, step, UPDATED, at, &new)
    if (
        at >= 0 and seen.state == VALUED and new.text_size == seen.text_size
        and memcmp(out.data + new.text_at, out.data + seen.text_at, new.text_size) == 0
    ):
        out.size = new.at
        if put_again(out, seen):
            return NO_MEMORY
    return at


cdef int put_again(Buffer* out, const Seen* seen) noexcept nogil:
    """Put a column of the before image as one of the after image."""
    cdef uint8_t* place
    if reserve(out, seen.size):
        return -1
    place = out.data + out.size
    written(out, put_bytes(place, out.data + seen.at, seen.size))
    place[0] = 0x12
    return 0


cdef int put_null(Buffer* out, const Step* step, int variant) noexcept nogil:
    if reserve(out, step.null_bytes[variant]):
        return -1
    written(out, put_short(out.data + out.size, step.null_[variant], step.null_bytes[variant]))
    return 0
