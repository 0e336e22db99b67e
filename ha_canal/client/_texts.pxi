# Texts of columns to values: the plain form of each family here, all others by the converters of `values`.
# A reader returns None for a text that it leaves to them.

cdef enum Kind:
    TEXT, INTEGER, DECIMAL, FLOAT, BYTES, DATE, DATETIME, TIMESTAMP, TIME, OTHER

cdef dict KIND_OF = {
    "text": TEXT, "integer": INTEGER, "decimal": DECIMAL, "float": FLOAT, "bytes": BYTES, "date": DATE,
    "datetime": DATETIME, "timestamp": TIMESTAMP, "time": TIME,
}

cdef int[13] DAYS = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


cdef inline bint is_digit(unsigned char byte) noexcept nogil:
    return <unsigned char>(byte - 48) < 10


cdef inline object integer_of(Text text):
    cdef Bytes at = text.data
    cdef Bytes end = at + text.size
    cdef bint negative = at < end and at[0] == 45
    cdef uint64_t number = 0
    if negative:
        at += 1
    if not 0 < end - at <= 18:
        return None
    while at < end:
        if not is_digit(at[0]):
            return None
        number = number * 10 + (at[0] - 48)
        at += 1
    return PyLong_FromLongLong(-<int64_t>number if negative else <int64_t>number)


cdef inline bint is_plain_decimal(Text text) noexcept nogil:
    """Whether it is digits, with a sign in front and a point between or without."""
    cdef Bytes at = text.data
    cdef Bytes end = at + text.size
    if at < end and at[0] == 45:
        at += 1
    if at == end or not is_digit(at[0]):
        return False
    while at < end and is_digit(at[0]):
        at += 1
    if at == end:
        return True
    if at[0] != 46 or at + 1 == end:
        return False
    at += 1
    while at < end and is_digit(at[0]):
        at += 1
    return at == end


cdef object float_of(Text text):
    """Digits with sign, point and exponent."""
    cdef Bytes at = text.data
    cdef Bytes end = at + text.size
    cdef bint negative = at < end and at[0] == 45
    cdef bint exponent_negative
    cdef uint64_t digits = 0
    cdef int count = 0, scale = 0, exponent = 0
    cdef Bytes first
    cdef char[64] copy
    cdef double number
    if negative:
        at += 1
    first = at
    while at < end and is_digit(at[0]):
        digits = digits * 10 + (at[0] - 48)
        count += 1
        at += 1
    if at == first or text.size > 60:
        return None
    if at < end and at[0] == 46:
        at += 1
        first = at
        while at < end and is_digit(at[0]):
            digits = digits * 10 + (at[0] - 48)
            count += 1
            scale -= 1
            at += 1
        if at == first:
            return None
    if at < end and at[0] == 101:
        at += 1
        exponent_negative = at < end and at[0] == 45
        if at < end and (at[0] == 45 or at[0] == 43):
            at += 1
        first = at
        while at < end and is_digit(at[0]) and at - first < 4:
            exponent = exponent * 10 + (at[0] - 48)
            at += 1
        if at == first:
            return None
        scale += -exponent if exponent_negative else exponent
    if at != end:
        return None
    if count <= 19 and nearest_double(digits, scale, &number):
        return -number if negative else number
    memcpy(copy, text.data, text.size)
    copy[text.size] = 0
    return PyOS_string_to_double(copy, NULL, NULL)


cdef object bytes_of(Text text):
    """ISO-8859-1 in UTF-8: the characters beyond ASCII are C2 or C3 and one byte more."""
    cdef Bytes at = text.data
    cdef Bytes end = at + text.size
    cdef Py_ssize_t beyond = 0
    cdef bytes made
    cdef unsigned char* to
    if is_ascii(text):
        return PyBytes_FromStringAndSize(<const char*>text.data, text.size)
    while at < end:
        if at[0] >= 0x80:
            if not 0xC2 <= at[0] <= 0xC3 or at + 1 == end or at[1] & 0xC0 != 0x80:
                return None
            beyond += 1
            at += 1
        at += 1
    made = PyBytes_FromStringAndSize(NULL, text.size - beyond)
    to = <unsigned char*>PyBytes_AS_STRING(made)
    at = text.data
    while at < end:
        if at[0] < 0x80:
            to[0] = at[0]
        else:
            to[0] = (at[0] & 3) << 6 | at[1] & 0x3F
            at += 1
        at += 1
        to += 1
    return made


cdef inline int number_of(Bytes at, int digits) noexcept nogil:
    """Return the number of so many digits, -1 where there are others."""
    cdef int number = 0
    while digits:
        if not is_digit(at[0]):
            return -1
        number = number * 10 + (at[0] - 48)
        at += 1
        digits -= 1
    return number


cdef inline bint read_date(Bytes at, int* year, int* month, int* day) noexcept nogil:
    """Read ``YYYY-MM-DD``, ten bytes, if it is a day of Python's calendar."""
    year[0] = number_of(at, 4)
    month[0] = number_of(at + 5, 2)
    day[0] = number_of(at + 8, 2)
    if at[4] != 45 or at[7] != 45 or year[0] < 1 or not 1 <= month[0] <= 12 or day[0] < 1:
        return False
    if month[0] == 2 and day[0] == 29:
        return year[0] % 4 == 0 and (year[0] % 100 != 0 or year[0] % 400 == 0)
    return day[0] <= DAYS[month[0]]


cdef inline int fraction_of(Bytes at, Bytes end) noexcept nogil:
    """Return the microseconds of ``.`` and one to six digits, or of nothing; -1 for anything else."""
    cdef Py_ssize_t size = end - at
    cdef int number
    if size == 0:
        return 0
    if size < 2 or size > 7 or at[0] != 46:
        return -1
    number = number_of(at + 1, <int>size - 1)
    while number > 0 and size < 7:
        number *= 10
        size += 1
    return number


cdef inline object date_of(Text text):
    cdef int year, month, day
    if text.size != 10 or not read_date(text.data, &year, &month, &day):
        return None
    return date_new(year, month, day)


cdef inline object datetime_of(Text text, object zone):
    cdef Bytes at = text.data
    cdef int year, month, day, hour, minute, second, microsecond
    if text.size < 19 or at[10] != 32 or at[13] != 58 or at[16] != 58 or not read_date(at, &year, &month, &day):
        return None
    hour, minute, second = number_of(at + 11, 2), number_of(at + 14, 2), number_of(at + 17, 2)
    microsecond = fraction_of(at + 19, at + text.size)
    if not 0 <= hour <= 23 or not 0 <= minute <= 59 or not 0 <= second <= 59 or microsecond < 0:
        return None
    return datetime_new(year, month, day, hour, minute, second, microsecond, zone)


cdef object time_of(Text text):
    """``-HHH:MM:SS.ffffff``; hours have one to four digits here (the server's go to 838)."""
    cdef Bytes at = text.data
    cdef Bytes end = at + text.size
    cdef bint negative = at < end and at[0] == 45
    cdef Bytes first
    cdef int hours = 0, minutes, seconds, microseconds
    cdef long span
    if negative:
        at += 1
    first = at
    while at < end and is_digit(at[0]) and at - first < 4:
        hours = hours * 10 + (at[0] - 48)
        at += 1
    if at == first or end - at < 6 or at[0] != 58 or at[3] != 58:
        return None
    minutes, seconds, microseconds = number_of(at + 1, 2), number_of(at + 4, 2), fraction_of(at + 6, end)
    if minutes < 0 or seconds < 0 or microseconds < 0:
        return None
    span = hours * 3600 + minutes * 60 + seconds
    if negative:
        span, microseconds = -span, -microseconds
    return timedelta_new(0, <int>span, microseconds)
