# What stands in front of an entry's rows.

cdef struct Header:
    Text file, schema, table, gtid, event_id
    int64_t offset, executed_ms, committed_us
    int32_t kind


cdef int read_header(Text raw, Header* header) except -1:
    cdef Bytes at = raw.data
    cdef Bytes end = at + raw.size
    cdef Field field
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


cdef object utc_of(int64_t us):
    """Microseconds since 1970 to a datetime: whole days, which make eras of 400 years of the civil calendar."""
    cdef int64_t days, era, day_of_era, year_of_era, day_of_year, month
    cdef int seconds
    days = (us + 62135596800000000) // 86400000000  # since 0001-01-01
    us -= days * 86400000000 - 62135596800000000
    seconds = <int>(us // 1000000)
    days += 306  # since 0000-03-01: the leap day ends a year
    era = days // 146097
    day_of_era = days - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    return datetime_new(
        <int>(era * 400 + year_of_era + (1 if month >= 10 else 0)),
        <int>(month + 3 if month < 10 else month - 9),
        <int>(day_of_year - (153 * month + 2) // 5 + 1),
        seconds // 3600, seconds // 60 % 60, seconds % 60, <int>(us % 1000000), ZONE,
    )


cdef object numbered(object event_id, Py_ssize_t row):
    """``f"{event_id}.{row}"``."""
    cdef char[24] digits
    cdef int at = 24
    cdef Py_ssize_t size
    if not event_id.isascii():
        return f"{event_id}.{row}"
    while True:
        at -= 1
        digits[at] = 48 + row % 10
        row //= 10
        if not row:
            break
    at -= 1
    digits[at] = 46
    size = len(event_id)
    cdef object made = PyUnicode_New(size + 24 - at, 127)
    cdef char* to = <char*>PyUnicode_1BYTE_DATA(made)
    memcpy(to, PyUnicode_1BYTE_DATA(event_id), size)
    memcpy(to + size, digits + at, 24 - at)
    return made
