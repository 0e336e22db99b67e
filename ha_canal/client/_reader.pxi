# Entries to changes.

cdef enum:
    ROWDATA = 2
    INSERT = 1
    UPDATE = 2
    DELETE = 3
    KEPT_BYTES = 32 << 20

cdef struct Header:
    Text file, schema, table, gtid, event_id
    int64_t offset, executed_ms, committed_us
    int32_t kind

cdef list KIND_NAMES = [KINDS.get(number, "query") for number in range(16)]

cdef Py_ssize_t slot_places = slot_of(Row._places)
cdef Py_ssize_t slot_values = slot_of(Row._values)
cdef Py_ssize_t slot_kind = slot_of(Change.kind)
cdef Py_ssize_t slot_schema = slot_of(Change.schema)
cdef Py_ssize_t slot_table = slot_of(Change.table)
cdef Py_ssize_t slot_before = slot_of(Change.before)
cdef Py_ssize_t slot_after = slot_of(Change.after)
cdef Py_ssize_t slot_changed = slot_of(Change.changed)
cdef Py_ssize_t slot_key = slot_of(Change.key)
cdef Py_ssize_t slot_event_id = slot_of(Change.event_id)
cdef Py_ssize_t slot_position = slot_of(Change.position)
cdef Py_ssize_t slot_gtid = slot_of(Change.gtid)
cdef Py_ssize_t slot_transaction = slot_of(Change.transaction)
cdef Py_ssize_t slot_commit_time = slot_of(Change.commit_time)
cdef Py_ssize_t slot_sql = slot_of(Change.sql)

if min(
    slot_places, slot_values, slot_kind, slot_schema, slot_table, slot_before, slot_after, slot_changed, slot_key,
    slot_event_id, slot_position, slot_gtid, slot_transaction, slot_commit_time, slot_sql,
) < 0 or not issubclass(EventPosition, tuple):
    raise ImportError("this Python keeps slots in another way than the extension was written for")


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


cdef inline object slot_filled_row(Layout layout, tuple values, bint tracked):
    cdef object row = alloc(ROW)
    fill(row, slot_places, layout.places)
    fill(row, slot_values, values)
    if not tracked:
        PyObject_GC_UnTrack(<PyObject*>row)
    return row


@cython.final
cdef class Reader:
    """Reads entries, one after another; keeps what is the same in many."""

    cdef Tables kept
    cdef tuple argument  # of Decimal: used again and again, as zip() does with its result
    # what the changes of one entry share:
    cdef object kind, schema, table, event_id, position, gtid, transaction, commit_time
    # of the entry before, mostly the same in the next one:
    cdef bytes raw_file
    cdef str file
    cdef int64_t commit_us
    cdef object commit_time_of_us
    cdef bint tracked  # the row that is being made holds something that the garbage collector must know

    def __cinit__(self):
        self.kept = Tables.__new__(Tables)
        self.argument = (None,)
        self.raw_file = b""
        self.file = ""

    cdef tuple read_messages(self, bytes raw, Py_ssize_t start):
        cdef Bytes at = <Bytes>PyBytes_AS_STRING(raw)
        cdef Bytes end = at + len(raw)
        cdef Field field
        cdef list found = []
        cdef Py_ssize_t place = 0
        at += start
        while at < end:
            at = read_field(at, end, &field)
            if at == NULL:
                raise UnusualError
            if field.tag == 0x12:
                self.read_or_leave(field.text, place, found)
                place += 1
        return tuple(found)

    cdef int read_or_leave(self, Text raw, Py_ssize_t place, list found) except -1:
        """Add the changes of an entry; the twin reads it when it is unusual. Raises what the twin raises."""
        cdef Py_ssize_t before = len(found)
        if self.kept.size > KEPT_BYTES:
            self.kept = Tables.__new__(Tables)
        try:
            self.read(raw, found)
        except (UnusualError, UnicodeDecodeError):
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
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t row = 0
        cdef Table table = self.kept.table(header.schema, header.table)
        while at < end:
            at = read_field(at, end, &field)
            if at == NULL:
                raise UnusualError
            if field.tag == 0x62:
                count += 1
            elif field.tag == 0x5A:
                check_text(field.text)
                sql = field.text
            elif field.tag == 0x6A:
                check_pair(field.text)
            elif field.tag == 0x72:
                check_text(field.text)
        self.share(header, table)
        if not count:
            found.append(self.change(None, None, (), (), self.event_id, str_of(sql)))
            return 0
        at = body.data
        while row < count:
            at = read_field(at, end, &field)
            if field.tag == 0x62:
                event_id = self.event_id if count == 1 else numbered(self.event_id, row)
                self.read_row(table, header.kind, field.text, event_id, found)
                row += 1
        return 0

    cdef int share(self, Header* header, Table table) except -1:
        """Make what all changes of an entry have in common."""
        cdef Text file = header.file
        cdef Text transaction = header.event_id
        if len(self.raw_file) != file.size or memcmp(PyBytes_AS_STRING(self.raw_file), file.data, file.size) != 0:
            self.file = str_of(file)
            self.raw_file = file.data[:file.size]
        self.kind = KIND_NAMES[header.kind] if 0 <= header.kind < 16 else "query"
        self.schema, self.table = table.schema, table.name
        self.event_id = str_of(header.event_id)
        self.gtid = str_of(header.gtid)
        while transaction.size and transaction.data[transaction.size - 1] != 35:
            transaction.size -= 1
        if transaction.size:
            transaction.size -= 1
        self.transaction = self.gtid if same(transaction, header.gtid) else str_of(transaction)
        self.position = tuple_new(POSITION, ((self.file, header.offset),))
        PyObject_GC_UnTrack(<PyObject*>self.position)
        self.commit_time = self.time_of(header)
        return 0

    cdef object time_of(self, Header* header):
        """Microseconds since 1970 to a datetime in UTC: days by Euclidean division, then the civil calendar."""
        cdef int64_t us = header.committed_us
        cdef int64_t days, era, day_of_era, year_of_era, day_of_year, month
        cdef int seconds
        if us == 0:
            if not -62135596800000 <= header.executed_ms < 253402300800000:
                raise UnusualError
            us = header.executed_ms * 1000
        if self.commit_time_of_us is not None and us == self.commit_us:
            return self.commit_time_of_us
        if not -62135596800000000 <= us < 253402300800000000:
            raise UnusualError
        days = (us + 62135596800000000) // 86400000000  # since 0001-01-01
        us -= days * 86400000000 - 62135596800000000
        days += 306  # since 0000-03-01: the leap day ends a year
        era = days // 146097
        day_of_era = days - era * 146097
        year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
        day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
        month = (5 * day_of_year + 2) // 153
        seconds = <int>(us // 1000000)
        self.commit_us = header.committed_us or header.executed_ms * 1000
        self.commit_time_of_us = datetime_new(
            <int>(era * 400 + year_of_era + (1 if month >= 10 else 0)),
            <int>(month + 3 if month < 10 else month - 9),
            <int>(day_of_year - (153 * month + 2) // 5 + 1),
            seconds // 3600, seconds // 60 % 60, seconds % 60, <int>(us % 1000000), ZONE,
        )
        return self.commit_time_of_us

    cdef int read_row(self, Table table, int kind, Text raw, object event_id, list found) except -1:
        cdef Bytes at = raw.data
        cdef Bytes end = at + raw.size
        cdef Image before = table.before
        cdef Image after = table.after
        cdef Layout layout
        cdef Field field
        cdef object old = None
        cdef object new = None
        cdef tuple changed = ()
        cdef tuple key = ()
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
            layout = self.kept.layout(table, before)
            if not after.count:
                key = key_names(before, layout)
            if kind == UPDATE or kind == DELETE:
                old = self.row(before, layout, None)
        if after.count or kind == UPDATE or kind == INSERT:
            layout = self.kept.layout(table, after)
            if after.count:
                key = key_names(after, layout)
            changed = changed_names(after, layout)
            if kind == UPDATE or kind == INSERT:
                new = self.row(after, layout, before if kind == UPDATE else None)
        found.append(self.change(old, new, changed, key, event_id, ""))
        return 0

    cdef object row(self, Image image, Layout layout, Image before):
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
        value = slot_filled_row(layout, values, self.tracked)
        self.tracked |= tracked
        return value

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
            if text.size == plan.last_size and memcmp(text.data, plan.last_text, text.size) == 0:
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

    cdef object change(self, object before, object after, tuple changed, tuple key, object event_id, str sql):
        cdef object change = alloc(CHANGE)
        fill(change, slot_kind, self.kind)
        fill(change, slot_schema, self.schema)
        fill(change, slot_table, self.table)
        fill(change, slot_before, before)
        fill(change, slot_after, after)
        fill(change, slot_changed, changed)
        fill(change, slot_key, key)
        fill(change, slot_event_id, event_id)
        fill(change, slot_position, self.position)
        fill(change, slot_gtid, self.gtid)
        fill(change, slot_transaction, self.transaction)
        fill(change, slot_commit_time, self.commit_time)
        fill(change, slot_sql, sql)
        if not self.tracked:
            PyObject_GC_UnTrack(<PyObject*>change)
        return change


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


cdef inline tuple key_names(Image image, Layout layout):
    """The names of the primary key's columns: mostly those of the row before."""
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t size = PyTuple_GET_SIZE(layout.key)
    cdef Py_ssize_t place
    cdef ColumnPlan plan
    for place in range(image.count):
        plan = <ColumnPlan>image.cells[place].plan
        if plan.is_key:
            if count >= size or PyTuple_GET_ITEM(layout.key, count) != <PyObject*>plan.name:
                break
            count += 1
    else:
        if count == size:
            return layout.key
    layout.key = tuple([
        (<ColumnPlan>image.cells[place].plan).name
        for place in range(image.count)
        if (<ColumnPlan>image.cells[place].plan).is_key
    ])
    return layout.key


cdef inline tuple changed_names(Image image, Layout layout):
    """The names of the columns marked as updated: often those of the row before."""
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t size = PyTuple_GET_SIZE(layout.changed)
    cdef Py_ssize_t place
    cdef ColumnPlan plan
    for place in range(image.count):
        plan = <ColumnPlan>image.cells[place].plan
        if plan.updated:
            if count >= size or PyTuple_GET_ITEM(layout.changed, count) != <PyObject*>plan.name:
                break
            count += 1
    else:
        if count == size:
            return layout.changed
    layout.changed = tuple([
        (<ColumnPlan>image.cells[place].plan).name
        for place in range(image.count)
        if (<ColumnPlan>image.cells[place].plan).updated
    ])
    return layout.changed


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
