# Entries to changes.

cdef enum:
    ROWDATA = 2
    INSERT = 1
    UPDATE = 2
    DELETE = 3
    KEPT_BYTES = 32 << 20

cdef list KIND_NAMES = [KINDS.get(number, "query") for number in range(16)]

@cython.final
cdef class Reader:
    """Reads entries, one after another; keeps what is the same in many."""

    cdef Tables kept
    cdef tuple argument  # of Decimal: used again and again, as zip() does with its result
    # what the changes of one entry share:
    cdef object kind, schema, table
    cdef Origin origin
    # of the entry before, mostly the same in the next one:
    cdef bytes raw_file
    cdef str file
    cdef bint tracked  # the row that is being made holds something that the garbage collector must know of

    def __cinit__(self):
        self.kept = Tables.__new__(Tables)
        self.argument = (None,)
        self.raw_file = b""
        self.file = ""

    cdef Py_ssize_t read_some(
        self, bytes raw, Py_ssize_t start, Py_ssize_t enough, Py_ssize_t* place, list found
    ) except -1:
        """Add the changes of the entries of a ``Messages`` from ``start`` on; return where it stopped.

        It stops between two entries after ``enough`` bytes, or at the end. ``place`` counts the entries.
        """
        cdef Bytes first = <Bytes>PyBytes_AS_STRING(raw)
        cdef Bytes at = first + start
        cdef Bytes end = first + len(raw)
        cdef Field field
        while at < end and at - first - start < enough:
            at = read_field(at, end, &field)
            if at == NULL:
                raise UnusualError
            if field.tag == 0x12:
                self.read_or_leave(field.text, place[0], found)
                place[0] += 1
        return at - first

    cdef int read_or_leave(self, Text raw, Py_ssize_t place, list found) except -1:
        """Add the changes of an entry; the twin reads it when it is unusual. Raises what the twin raises."""
        cdef Py_ssize_t before = len(found)
        if self.kept.size > KEPT_BYTES:
            self.kept = Tables.__new__(Tables)
        try:
            self.read(raw, found)
        except (UnusualError, UnicodeDecodeError):
            self.kept = Tables.__new__(Tables)  # it was left in the middle of something
            del found[before:]
            found.extend(changes_of([raw.data[:raw.size]], first=place))
        return 0

    cdef int read(self, Text raw, list found) except -1:
        cdef Bytes at = raw.data
        cdef Bytes end = at + raw.size
        cdef Field field
        cdef Text raw_header = EMPTY
        cdef Text body = EMPTY
        cdef Header header
        cdef int32_t kind = 0
        while at < end:
            at = read_field(at, end, &field)
            if at == NULL:
                raise UnusualError
            if field.tag == 0x0A:
                if raw_header.data != EMPTY.data:
                    raise UnusualError
                raw_header = field.text
            elif field.tag == 0x10:
                kind = <int32_t>field.number
            elif field.tag == 0x1A:
                body = field.text
        read_header(raw_header, &header)
        if kind == ROWDATA:
            self.read_change(&header, body, found)
        return 0

    cdef int read_change(self, Header* header, Text body, list found) except -1:
        cdef Bytes at = body.data
        cdef Bytes end = at + body.size
        cdef Field field
        cdef Text sql = EMPTY
        cdef Py_ssize_t row = 0
        cdef bint several = False
        cdef Table table = self.kept.table(header.schema, header.table)
        self.share(header, table)
        while at < end:
            at = read_field(at, end, &field)
            if at == NULL:
                raise UnusualError
            if field.tag == 0x62:
                if row == 0:
                    several = has_row(at, end)
                self.read_row(table, header.kind, field.text, row, several, found)
                row += 1
            elif field.tag == 0x5A:
                check_text(field.text)
                sql = field.text
            elif field.tag == 0x6A:
                check_pair(field.text)
            elif field.tag == 0x72:
                check_text(field.text)
        if row == 0:
            found.append(self.change(None, None, (), (), -1, str_of(sql)))
        return 0

    cdef int share(self, Header* header, Table table) except -1:
        """Make what all changes of an entry have in common."""
        cdef Text file = header.file
        if len(self.raw_file) != file.size or memcmp(PyBytes_AS_STRING(self.raw_file), file.data, file.size) != 0:
            self.file = str_of(file)
            self.raw_file = file.data[:file.size]
        self.kind = KIND_NAMES[header.kind] if 0 <= header.kind < 16 else "query"
        self.schema, self.table = table.schema, table.name
        cdef Origin origin = Origin.__new__(Origin)
        origin.header = header.raw.data[:header.raw.size]
        if header.event_id.size:
            origin.id_at, origin.id_size = header.event_id.data - header.raw.data, header.event_id.size
        if header.gtid.size:
            origin.gtid_at, origin.gtid_size = header.gtid.data - header.raw.data, header.gtid.size
        origin.file, origin.offset, origin.commit_us = self.file, header.offset, commit_us_of(header)
        self.origin = origin
        return 0

    cdef int read_row(self, Table table, int kind, Text raw, Py_ssize_t number, bint several, list found) except -1:
        cdef Bytes at = raw.data
        cdef Bytes end = at + raw.size
        cdef Image before = table.before
        cdef Image after = table.after
        cdef Field field
        cdef object old = None
        cdef object new = None
        cdef tuple changed = ()
        cdef tuple key = ()
        cdef uint64_t version = table.version if number else 0
        cdef bint same_columns = number > 0
        before.count = after.count = 0
        while at < end:
            at = read_field(at, end, &field)
            if at == NULL:
                raise UnusualError
            if field.tag == 0x12:
                self.kept.take(after, field.text)
            elif field.tag == 0x0A:
                self.kept.take(before, field.text)
            elif field.tag == 0x1A:
                check_pair(field.text)
        self.tracked = False
        if before.count or kind == UPDATE or kind == DELETE:
            same_columns &= self.kept.look(table, before, version)
            key = before.key
            if kind == UPDATE or kind == DELETE:
                old = self.row(before, None)
            else:
                check_texts(before)
        if after.count or kind == UPDATE or kind == INSERT:
            same_columns &= self.kept.look(table, after, version)
            if after.count:
                key = after.key
            changed = after.changed
            if kind == UPDATE or kind == INSERT:
                new = self.row(after, before if kind == UPDATE else None)
            else:
                check_texts(after)
        if several and not same_columns:
            self.tell(table, number)
        found.append(self.change(old, new, changed, key, number if several else -1, ""))
        return 0

    cdef int tell(self, Table table, Py_ssize_t number) except -1:
        """Keep for later rows of the entry what this one says of its columns."""
        if number == 0:
            table.begin_telling()
        table.tell(table.before)
        table.tell(table.after)
        return 0

    cdef object row(self, Image image, Image before):
        cdef tuple values = PyTuple_New(image.count)
        cdef Py_ssize_t place
        cdef Cell* cell
        cdef object value
        cdef bint tracked = self.tracked
        self.tracked = False
        for place in range(image.count):
            cell = &image.cells[place]
            if before is not None and place < before.count and reusable(cell, &before.cells[place]):
                value = <object>before.cells[place].value
            else:
                value = self.value(cell)
            cell.value = <PyObject*>value
            Py_INCREF(value)
            PyTuple_SET_ITEM(values, place, value)
        if not self.tracked:
            PyObject_GC_UnTrack(<PyObject*>values)
        cdef Row row = Row.__new__(Row)
        row.places, row.taken = image.layout.places, values
        if not self.tracked:
            PyObject_GC_UnTrack(<PyObject*>row)
        self.tracked |= tracked
        return row

    cdef object value(self, Cell* cell):
        cdef ColumnPlan plan = <ColumnPlan>cell.plan
        cdef Text text = cell.text
        cdef int kind = plan.kind
        cdef object value = None
        if plan.is_null:
            check_text(text)
            return None
        if kind == INTEGER:
            value = integer_of(text)
        elif kind == TEXT:
            return str_of(text)
        elif kind == BYTES:
            value = bytes_of(text)
        elif kind != OTHER:
            if (
                text.size == plan.last_size
                and text.size > 0
                and text.data[text.size - 1] == <unsigned char>plan.last_text[text.size - 1]
                and memcmp(text.data, plan.last_text, text.size) == 0
            ):
                return plan.last
            value = self.remembered(plan, kind, text)
        if value is None:
            value = plan.convert(str_of(text))
            self.tracked |= PyObject_IS_GC(<PyObject*>value)
        return value

    cdef object remembered(self, ColumnPlan plan, int kind, Text text):
        """Make a value that often comes again in the next row, and keep it: it cannot be changed."""
        cdef object value = None
        if kind == DECIMAL:
            value = self.decimal_of(text)
        elif kind == DATETIME:
            value = datetime_of(text, None)
        elif kind == TIMESTAMP:
            value = datetime_of(text, ZONE)
        elif kind == DATE:
            value = date_of(text)
        elif kind == TIME:
            value = time_of(text)
        else:
            value = float_of(text)
        if value is not None and text.size <= 32:
            memcpy(plan.last_text, text.data, text.size)
            plan.last_size, plan.last = text.size, value
        return value

    cdef object decimal_of(self, Text text):
        cdef object digits, old
        if not is_plain_decimal(text) or text.size > 100:
            return None
        digits = ascii_str(text)
        cdef tuple argument = self.argument
        cdef PyObject* before = PyTuple_GET_ITEM(argument, 0)
        Py_INCREF(digits)
        PyTuple_SET_ITEM(argument, 0, digits)
        Py_DECREF(before)
        return new_of(DECIMAL_TYPE, argument)

    cdef Change change(self, object before, object after, tuple changed, tuple key, Py_ssize_t number, str sql):
        cdef Change change = Change.__new__(Change)
        change.kind, change.schema, change.table = self.kind, self.schema, self.table
        change.before, change.after, change.changed, change.key = before, after, changed, key
        change.origin, change.row_number, change.sql = self.origin, number, sql
        if not self.tracked:
            PyObject_GC_UnTrack(<PyObject*>change)
        return change


cdef bint has_row(Bytes at, Bytes end) noexcept:
    """Whether a row is among the fields there; what is no wire format is found by who reads on."""
    cdef Field field
    while at != NULL and at < end:
        if at[0] == 0x62:
            return True
        at = read_field(at, end, &field)
        if at != NULL and field.tag == 0x62:
            return True
    return False


cdef int check_texts(Image image) except -1:
    """Check what protobuf would check of an image that no change of this kind has."""
    cdef Py_ssize_t place
    for place in range(image.count):
        check_text(image.cells[place].text)
    return 0


cdef inline bint reusable(Cell* cell, Cell* before):
    """Whether the before image has the same text in the same column, made into something that cannot be changed."""
    cdef ColumnPlan plan = <ColumnPlan>cell.plan
    cdef ColumnPlan old = <ColumnPlan>before.plan
    return (
        before.value != NULL
        and plan.name is old.name
        and plan.kind == old.kind
        and plan.kind != OTHER
        and plan.is_null == old.is_null
        and same(cell.text, before.text)
    )
