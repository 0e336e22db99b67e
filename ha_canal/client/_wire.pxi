# protobuf's wire format (protobuf.dev, "Encoding"), read without a byte beyond the end.
# A reader returns where it stopped, or NULL: what is there is cut off, or no wire format.

ctypedef const unsigned char* Bytes

cdef struct Text:  # not its own: bytes inside the message that is being read
    Bytes data
    Py_ssize_t size

cdef struct Field:
    uint32_t tag
    uint64_t number
    Text text

cdef Text EMPTY
EMPTY.data, EMPTY.size = <Bytes>b"", 0


cdef inline Bytes read_varint(Bytes at, Bytes end, uint64_t* number) noexcept nogil:
    cdef uint64_t result = 0
    cdef unsigned int shift = 0
    cdef unsigned char byte
    while at < end:
        byte = at[0]
        at += 1
        if shift == 63 and byte > 1:
            return NULL
        result |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            number[0] = result
            return at
        shift += 7
    return NULL


cdef inline Bytes read_text(Bytes at, Bytes end, Text* text) noexcept nogil:
    """Read a length and so many bytes."""
    cdef uint64_t size
    if at < end and at[0] < 0x80:
        size = at[0]
        at += 1
    else:
        at = read_varint(at, end, &size)
        if at == NULL:
            return NULL
    if size > <uint64_t>(end - at):
        return NULL
    text.data = at
    text.size = <Py_ssize_t>size
    return at + size


cdef inline Bytes read_field(Bytes at, Bytes end, Field* field) noexcept nogil:
    """Read a tag and what it announces, known or not. Groups (wire types 3 and 4) are refused: nobody writes them."""
    cdef uint64_t tag
    if at < end and at[0] < 0x80:
        tag = at[0]
        at += 1
    else:
        at = read_varint(at, end, &tag)
        if at == NULL:
            return NULL
    if tag < 8 or tag > 0xFFFFFFFFULL:
        return NULL
    field.tag = <uint32_t>tag
    field.number = 0
    cdef int kind = tag & 7
    if kind == 2:
        return read_text(at, end, &field.text)
    if kind == 0:
        return read_varint(at, end, &field.number)
    cdef Py_ssize_t size = 8 if kind == 1 else 4
    if kind not in (1, 5) or end - at < size:
        return NULL
    return at + size


cdef inline bint equal(Bytes one, Bytes other, Py_ssize_t size) noexcept nogil:
    """Compare bytes that are few as a rule, or differ soon."""
    cdef Py_ssize_t at
    if size > 8:
        return memcmp(one, other, size) == 0
    for at in range(size):
        if one[at] != other[at]:
            return False
    return True


cdef inline bint same(Text one, Text other) noexcept nogil:
    return one.size == other.size and memcmp(one.data, other.data, one.size) == 0


cdef inline bint is_ascii(Text text) noexcept nogil:
    cdef uint64_t bits = 0
    cdef uint64_t eight
    cdef Py_ssize_t at = 0
    while at + 8 <= text.size:
        memcpy(&eight, text.data + at, 8)
        bits |= eight
        at += 8
    while at < text.size:
        bits |= text.data[at]
        at += 1
    return not bits & 0x8080808080808080ULL


cdef inline object str_of(Text text):
    """Raises UnicodeDecodeError where protobuf would refuse the text."""
    if text.size > 512 or not is_ascii(text):
        return PyUnicode_DecodeUTF8(<const char*>text.data, text.size, NULL)
    return ascii_str(text)


cdef inline object ascii_str(Text text):
    """For ASCII only."""
    cdef object made = PyUnicode_New(text.size, 127)
    if text.size:
        memcpy(PyUnicode_1BYTE_DATA(made), text.data, text.size)
    return made


cdef inline int check_text(Text text) except -1:
    if not is_ascii(text):
        PyUnicode_DecodeUTF8(<const char*>text.data, text.size, NULL)
    return 0


cdef int check_pair(Text pair) except -1:
    """Check what protobuf would check of a ``Pair`` that nobody reads."""
    cdef Bytes at = pair.data
    cdef Bytes end = at + pair.size
    cdef Field field
    while at < end:
        at = read_field(at, end, &field)
        if at == NULL:
            raise UnusualError
        if field.tag == 0x0A or field.tag == 0x12:
            check_text(field.text)
    return 0
