# What stands in front of an entry's rows.

cdef struct Header:
    Text raw, file, schema, table, gtid, event_id
    int64_t offset, executed_ms, committed_us
    int32_t kind


cdef int read_header(Text raw, Header* header) except -1:
    cdef Bytes at = raw.data
    cdef Bytes end = at + raw.size
    cdef Field field
    header.raw = raw
    header.file = header.schema = header.table = header.gtid = header.event_id = EMPTY
    header.offset = header.executed_ms = header.committed_us = 0
    header.kind = 0
    while at < end:
        at = read_field(at, end, &field)
        if at == NULL:
            raise UnusualError
        if field.tag == 0x12:
            header.file = field.text
        elif field.tag == 0x18:
            header.offset = <int64_t>field.number
        elif field.tag == 0x30:
            header.executed_ms = <int64_t>field.number
        elif field.tag == 0x42:
            header.schema = field.text
        elif field.tag == 0x4A:
            header.table = field.text
        elif field.tag == 0x58:
            header.kind = <int32_t>field.number
        elif field.tag == 0x6A:
            header.gtid = field.text
        elif field.tag == (50 << 3 | 2):
            header.event_id = field.text
        elif field.tag == 52 << 3:
            header.committed_us = <int64_t>field.number
        elif field.tag == 0x62:
            check_pair(field.text)
            continue
        elif field.tag != 0x2A:
            continue
        if field.tag & 7 == 2:
            check_text(field.text)
    return 0


cdef int64_t commit_us_of(Header* header) except? -1:
    """Return the commit time in microseconds since 1970. Raises UnusualError where Python has no such year."""
    cdef int64_t us = header.committed_us
    if us == 0:
        if not -62135596800000 <= header.executed_ms < 253402300800000:
            raise UnusualError
        us = header.executed_ms * 1000
    if not -62135596800000000 <= us < 253402300800000000:
        raise UnusualError
    return us
