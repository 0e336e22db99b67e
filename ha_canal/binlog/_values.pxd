# cython: language_level=3
"""One value of a row to one ``Column`` of protobuf, in C: its text goes straight to its place in the output.

Nothing is read outside of the body: each value is measured against what is left of it before it is touched. Functions
return where the value ends in the body, or `DECLINED`, `FAILED` or `NO_MEMORY`; then the output is as it was.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from ha_canal.binlog._buffer cimport (
    Buffer,
    put_bytes,
    put_short,
    put_varint,
    reserve,
    set_length,
    varint_bytes,
    written,
)
from ha_canal.binlog._characters cimport ascii_bytes, is_utf8, mapped_bytes, put_mapped
from ha_canal.binlog._digits cimport (
    TEXT_BYTES,
    big,
    little,
    put_decimal,
    put_double,
    put_float,
    put_signed,
    put_unsigned,
)
from ha_canal.binlog._plans cimport (
    BIT,
    DATE,
    DATETIME,
    DATETIME2,
    DECIMAL,
    DOUBLE,
    ENUM,
    FLOAT,
    PADDED,
    PYTHON,
    SET,
    SIGNED,
    TIME,
    TIME2,
    TIMESTAMP,
    TIMESTAMP2,
    UNSIGNED,
    UTF8,
    YEAR,
    Step,
)
from ha_canal.binlog._temporal cimport (
    put_date,
    put_datetime2,
    put_old_datetime,
    put_old_time,
    put_old_timestamp,
    put_time2,
    put_timestamp2,
    put_year,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(PyObject* text, Py_ssize_t* size)

cdef enum:
    DECLINED = -1  # the twin shall have the event
    FAILED = -2  # an exception waits in `Reading.failure`
    NO_MEMORY = -3

cdef enum:  # how a column is written, as indexes into its prefixes
    BEFORE, AFTER, UPDATED

cdef enum:  # what a before image had of a column
    ABSENT, NULLED, VALUED


cdef struct Seen:  # A column of the before image. Its bytes are at ``at`` of the output, its text at ``text_at``.
    int state
    size_t at, size, text_at, text_size
    Py_ssize_t raw_at, raw_size


cdef struct Reading:
    Buffer* out
    const Step* steps
    Py_ssize_t count
    const uint8_t* body
    Py_ssize_t size
    PyObject* body_object
    bint body_is_ours
    PyObject* failure
    Seen* seen


cdef inline Py_ssize_t put_value(Reading* r, const Step* step, int variant, Py_ssize_t at, Seen* seen) noexcept nogil:
    """Put a column whose value starts at ``at``, note it in ``seen``, and return where the value ends."""
    cdef Py_ssize_t end
    seen.state = VALUED
    seen.raw_at = at
    seen.at = r.out.size
    if step.code < ENUM:
        end = put_sized(r, step, variant, at, seen)
    elif step.code == ENUM or step.code == SET:
        end = put_labels(r, step, variant, at, seen)
    elif step.code != PYTHON:
        end = put_characters(r, step, variant, at, seen)
    else:
        end = put_in_python(r, step, variant, at, seen)
    seen.size = r.out.size - seen.at
    seen.raw_size = end - at
    return end


cdef inline uint8_t* put_text(uint8_t* at, const uint8_t* raw, const Step* step) noexcept nogil:
    """Put the text of a value of known size; NULL for what only the twin reads."""
    if step.code == SIGNED:
        return put_signed(at, raw, step.size)
    elif step.code == UNSIGNED:
        return put_unsigned(at, little(raw, step.size))
    elif step.code == FLOAT:
        return put_float(at, raw)
    elif step.code == DOUBLE:
        return put_double(at, raw, step.tens)
    elif step.code == DECIMAL:
        return put_decimal(at, raw, step.digits, step.scale)
    elif step.code == BIT:
        return put_unsigned(at, big(raw, step.size))
    elif step.code == YEAR:
        return put_year(at, raw)
    elif step.code == DATE:
        return put_date(at, raw)
    elif step.code == TIMESTAMP2:
        return put_timestamp2(at, raw, step.digits)
    elif step.code == DATETIME2:
        return put_datetime2(at, raw, step.digits)
    elif step.code == TIME2:
        return put_time2(at, raw, step.digits)
    elif step.code == TIMESTAMP:
        return put_old_timestamp(at, raw, step.digits)
    elif step.code == DATETIME:
        return put_old_datetime(at, raw, step.digits)
    elif step.code == TIME:
        return put_old_time(at, raw, step.digits)
    return NULL


cdef inline Py_ssize_t put_sized(Reading* r, const Step* step, int variant, Py_ssize_t at, Seen* seen) noexcept nogil:
    """A value of known size: its text, never empty and below 128 bytes, goes straight to its place."""
    cdef Buffer* out = r.out
    cdef uint8_t* place
    cdef uint8_t* text
    cdef uint8_t* end
    cdef size_t size
    if r.size - at < step.size:
        return DECLINED
    if reserve(out, step.prefix_bytes[variant] + step.tail_bytes + TEXT_BYTES + 16):
        return NO_MEMORY
    place = out.data + out.size
    text = put_short(place, step.prefix[variant], step.prefix_bytes[variant])
    end = put_text(text, r.body + at, step)
    if end == NULL:
        return put_in_python(r, step, variant, at, seen)
    seen.text_size = end - text
    (text - 1)[0] = <uint8_t>seen.text_size
    end = put_short(end, step.tail, step.tail_bytes)
    size = end - place - 2
    if size < 0x80:
        place[1] = <uint8_t>size
    else:
        text += varint_bytes(size) - 1
        end = set_length(place + 1, 1, end)
    seen.text_at = text - out.data
    written(out, end)
    return at + step.size


cdef inline uint8_t* opened(Buffer* out, const Step* step, int variant, size_t text_size, Seen* seen) noexcept nogil:
    """Put all of a column that stands in front of its text, and return the place of the text; NULL without memory."""
    cdef size_t head = step.prefix_bytes[variant] - 4
    cdef size_t value = 1 + varint_bytes(text_size) + text_size if text_size else 0
    cdef uint8_t* place
    if reserve(out, head + value + step.tail_bytes + 32):
        return NULL
    place = out.data + out.size
    place[0] = step.prefix[variant][0]
    place = put_varint(place + 1, head + value + step.tail_bytes)
    place = put_short(place, step.prefix[variant] + 2, head)
    if text_size:
        place[0] = 0x42
        place = put_varint(place + 1, text_size)
    seen.text_at, seen.text_size = place - out.data, text_size
    return place


cdef inline void closed(Buffer* out, const Step* step, uint8_t* end) noexcept nogil:
    written(out, put_short(end, step.tail, step.tail_bytes))


cdef inline Py_ssize_t put_labels(Reading* r, const Step* step, int variant, Py_ssize_t at, Seen* seen) noexcept nogil:
    cdef uint64_t bits, left
    cdef size_t size = 0
    cdef uint8_t* place
    cdef int label
    if r.size - at < step.size:
        return DECLINED
    bits = little(r.body + at, step.size)
    if step.code == ENUM:
        if bits >= step.labels_count:
            return DECLINED
        size = step.labels[bits + 1] - step.labels[bits]
        place = opened(r.out, step, variant, size, seen)
        if place == NULL:
            return NO_MEMORY
        closed(r.out, step, put_bytes(place, step.labels[bits], size))
        return at + step.size
    if step.labels_count < 64 and bits >> step.labels_count:
        return DECLINED
    for label in range(<int>step.labels_count):
        if bits >> label & 1:
            size += step.labels[label + 1] - step.labels[label] + 1
    place = opened(r.out, step, variant, size - 1 if size else 0, seen)
    if place == NULL:
        return NO_MEMORY
    for label in range(<int>step.labels_count):
        if bits >> label & 1:
            place = put_bytes(place, step.labels[label], step.labels[label + 1] - step.labels[label])
            bits ^= <uint64_t>1 << label
            if bits:
                place[0] = c','
                place += 1
    closed(r.out, step, place)
    return at + step.size


cdef inline Py_ssize_t put_characters(Reading* r, const Step* step, int variant, Py_ssize_t at, Seen* seen) noexcept nogil:
    """A value behind its length."""
    cdef Py_ssize_t left = r.size - at - step.size, size, ascii_
    cdef const uint8_t* raw = r.body + at + step.size
    cdef uint8_t* place
    cdef size_t text_size
    if left < 0:
        return DECLINED
    size = <Py_ssize_t>little(r.body + at, step.size)
    if size > left:
        return DECLINED
    ascii_ = ascii_bytes(raw, size)
    text_size = size
    if ascii_ == size and (step.code == UTF8 or step.plain) and (step.code != PADDED or size >= step.digits):
        pass
    elif step.code == UTF8:
        if not is_utf8(raw + ascii_, size - ascii_):
            return put_in_python(r, step, variant, at, seen)
    else:
        text_size = mapped_bytes(raw, size, step.map_)
        if step.code == PADDED and size < step.digits:
            text_size += step.digits - size
        place = opened(r.out, step, variant, text_size, seen)
        if place == NULL:
            return NO_MEMORY
        place = put_mapped(place, raw, size, step.map_)
        if step.code == PADDED and size < step.digits:
            memset(place, 0, step.digits - size)
            place += step.digits - size
        closed(r.out, step, place)
        return at + step.size + size
    place = opened(r.out, step, variant, text_size, seen)
    if place == NULL:
        return NO_MEMORY
    closed(r.out, step, put_bytes(place, raw, text_size))
    return at + step.size + size


cdef inline Py_ssize_t put_in_python(Reading* r, const Step* step, int variant, Py_ssize_t at, Seen* seen) noexcept with gil:
    """A value that the plan's own reader reads. What it raises, the twin meets too, and places."""
    cdef Py_ssize_t end, text_size
    cdef const char* text
    cdef uint8_t* place
    try:
        if r.body_object == NULL:
            body = PyBytes_FromStringAndSize(<const char*>r.body, r.size)
            Py_INCREF(body)
            r.body_object, r.body_is_ours = <PyObject*>body, True
        value, end = (<object>step.reader)(<object>r.body_object, at)
        if not at <= end <= r.size or type(value) is not str:
            return DECLINED
        text = PyUnicode_AsUTF8AndSize(<PyObject*>value, &text_size)
        if text == NULL:
            PyErr_Clear()
            return DECLINED
        place = opened(r.out, step, variant, text_size, seen)
        if place == NULL:
            return NO_MEMORY
        closed(r.out, step, put_bytes(place, text, text_size))
        return end
    except MemoryError:
        return NO_MEMORY
    except Exception:
        return DECLINED
    except BaseException as error:
        Py_INCREF(error)
        r.failure = <PyObject*>error
        return FAILED
