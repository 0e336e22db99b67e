# cython: language_level=3
"""Headers of entries, in C; inline, so that every extension which cimports this has its own copy."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from ha_canal.binlog._buffer cimport put_bytes, put_integer, put_varint, set_length
from ha_canal.binlog._digits cimport put_unsigned

cdef enum:
    NUMBERS_BYTES = 300  # the most that a header takes beside its texts


cdef struct Text:
    const char* data
    Py_ssize_t size


cdef struct Header:
    Text file, gtid, uuid, names, place
    int64_t offset, server_id, start_offset, timestamp_s, event_length, commit_us, epoch, rows
    int kind


cdef inline size_t most_bytes(const Header* header) noexcept:
    """How much `put_header` writes at most."""
    return NUMBERS_BYTES + 2 * (header.file.size + header.gtid.size + header.uuid.size) + header.names.size


cdef inline uint8_t* put_field(uint8_t* at, uint8_t tag, const Text* text) noexcept:
    if text.size == 0:
        return at
    at[0] = tag
    return put_bytes(put_varint(at + 1, text.size), text.data, text.size)


cdef inline uint8_t* put_decimal_field(uint8_t* at, uint8_t tag, uint64_t value) noexcept:
    """A string field with a number of at most 20 digits."""
    cdef uint8_t* end = put_unsigned(at + 2, value)
    at[0], at[1] = tag, <uint8_t>(end - at - 2)
    return end


cdef inline uint8_t* put_event_id(uint8_t* at, const Header* header) noexcept:
    """What `Transaction.event_id_prefix` says, and the place of the item in the transaction."""
    if header.gtid.size:
        at = put_bytes(at, header.gtid.data, header.gtid.size)
    else:
        if header.uuid.size:
            at = put_bytes(at, header.uuid.data, header.uuid.size)
        else:
            at = put_unsigned(at, header.server_id)
        at[0] = c'/'
        at = put_bytes(at + 1, header.file.data, header.file.size)
        at[0] = c':'
        at = put_unsigned(at + 1, header.start_offset)
    at[0] = c'#'
    return put_bytes(at + 1, header.place.data, header.place.size)


cdef inline uint8_t* put_header(uint8_t* at, const Header* header) noexcept:
    cdef uint8_t* start
    at = put_field(put_bytes(at, b"\x08\x01", 2), 0x12, &header.file)
    at = put_integer(at, 3 << 3, header.offset)
    at = put_integer(at, 4 << 3, header.server_id)
    at = put_bytes(at, b"\x2a\x05UTF-8", 7)
    at = put_integer(at, 6 << 3, header.timestamp_s * 1000)
    at = put_bytes(at, b"\x38\x02", 2)
    at = put_bytes(at, header.names.data, header.names.size)
    at = put_integer(at, 10 << 3, header.event_length)
    at = put_integer(at, 11 << 3, header.kind)
    if header.rows:
        start = put_bytes(at + 2, b"\x0a\x09rowsCount", 11)
        start = put_decimal_field(start, 0x12, header.rows)
        at[0], at[1] = 0x62, <uint8_t>(start - at - 2)
        at = start
    at = put_field(at, 0x6A, &header.gtid)
    start = put_bytes(at, b"\x92\x03", 2)  # field 50
    at = set_length(start, 1, put_event_id(start + 1, header))
    at = put_integer(at, 51 << 3, header.epoch)
    return put_integer(at, 52 << 3, header.commit_us)
