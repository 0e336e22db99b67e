# What is the same in many rows, kept from batch to batch: the constant parts of columns, the names of rows.

cdef enum:
    VALUE = 0x42  # the tag of a column's value
    VARIANTS = 8  # of one column at one place: updated or not, NULL or not, lean or not
    MOST_TOLD = 4096  # columns of a table

cdef struct Cell:  # a column of the row that is being read
    PyObject* written  # the plan of its bytes; borrowed from Tables.plans
    PyObject* plan  # what they mean: that plan, or, of a nameless column, one of the `siblings` of the told one
    Text text
    PyObject* value  # borrowed from the row's tuple; NULL: none was made


@cython.final
cdef class ColumnPlan:
    """The bytes of a ``Column`` before and behind its value field, and what they say."""

    cdef bytes head, tail
    cdef Text before, behind
    cdef str name
    cdef object column  # name, type and key mark: the same object in all plans that have the same
    cdef int32_t index
    cdef int kind
    cdef bint nameless, is_key, updated, is_null
    cdef object convert
    cdef list siblings
    cdef object last
    cdef Py_ssize_t last_size
    cdef char[32] last_text


cdef inline bint fits(ColumnPlan plan, Text column, Text* value) noexcept:
    """Whether ``column`` is the plan's constant parts with one value field, or nothing, between them."""
    cdef Py_ssize_t between = column.size - plan.before.size - plan.behind.size
    cdef Bytes at = column.data + plan.before.size
    cdef Bytes end = at + between
    if between < 0 or not equal(column.data, plan.before.data, plan.before.size):
        return False
    if plan.behind.size and memcmp(end, plan.behind.data, plan.behind.size) != 0:
        return False
    if between == 0:
        value.data = at
        value.size = 0
        return True
    return at[0] == VALUE and read_text(at + 1, end, value) == end


cdef ColumnPlan plan_of(Text column, Py_ssize_t head_size, Py_ssize_t tail_size):
    """Read a column, its fields in any order. Raises UnusualError, UnicodeDecodeError."""
    cdef ColumnPlan plan = ColumnPlan.__new__(ColumnPlan)
    cdef Bytes at = column.data
    cdef Bytes end = at + column.size
    cdef Field field
    cdef str mysql_type = ""
    plan.name = ""
    while at < end:
        at = read_field(at, end, &field)
        if at == NULL:
            raise UnusualError
        if field.tag == 0x08:
            plan.index = <int32_t>field.number
        elif field.tag == 0x1A:
            plan.name = str_of(field.text)
        elif field.tag == 0x20:
            plan.is_key = field.number != 0
        elif field.tag == 0x28:
            plan.updated = field.number != 0
        elif field.tag == 0x30:
            plan.is_null = field.number != 0
        elif field.tag == 0x3A:
            check_pair(field.text)
        elif field.tag == 0x52:
            mysql_type = str_of(field.text)
    plan.head = column.data[:head_size]
    plan.tail = (column.data + column.size - tail_size)[:tail_size]
    plan.before.data, plan.before.size = <Bytes>PyBytes_AS_STRING(plan.head), head_size
    plan.behind.data, plan.behind.size = <Bytes>PyBytes_AS_STRING(plan.tail), tail_size
    plan.nameless = not plan.name and not mysql_type and not plan.is_key
    plan.column = (plan.name, mysql_type, plan.is_key)
    family = family_of(mysql_type)
    plan.kind = KIND_OF.get(family, OTHER)
    plan.convert = CONVERTERS[family]
    plan.last_size = -1
    return plan


cdef int constant_parts(Text column, Py_ssize_t* head_size, Py_ssize_t* tail_size) except -1:
    """Find what stands before and behind the value field; the whole column is the head where there is none."""
    cdef Bytes at = column.data
    cdef Bytes end = at + column.size
    cdef Bytes start
    cdef Field field
    head_size[0] = -1
    while at < end:
        start = at
        at = read_field(at, end, &field)
        if at == NULL:
            raise UnusualError
        if field.tag == VALUE:
            if head_size[0] >= 0 or start[0] != VALUE:
                raise UnusualError  # two values, or a tag that is longer than it needs to be
            head_size[0] = start - column.data
            tail_size[0] = end - at
    if head_size[0] < 0:
        head_size[0], tail_size[0] = column.size, 0
    return 0


@cython.final
cdef class Layout:
    """The names of a row, in order."""

    cdef tuple names
    cdef dict places


@cython.final
cdef class Image:
    """The before or the after image of the row that is being read, and what the last ones looked like."""

    cdef PyObject** slots  # VARIANTS plans for each place, borrowed from Tables.plans; NULL: none yet
    cdef Cell* cells
    cdef Py_ssize_t room, count
    # of the last row whose columns were looked at (`Tables.look`): mostly the next one's too
    cdef Py_ssize_t looked  # how many columns it had; -1: `cells` have changed since
    cdef bint differs  # from that row, in the plan of a column
    cdef uint64_t version  # of what was told (`Table.version`) when `Cell.plan`s were found; 0: nothing was
    cdef Layout layout
    cdef tuple changed, key

    def __cinit__(self):
        self.looked = -1
        self.changed = self.key = ()

    def __dealloc__(self):
        free(self.slots)
        free(self.cells)

    cdef int grow(self) except -1:
        cdef Py_ssize_t room = self.room * 2 if self.room else 16
        cdef void* slots = realloc(self.slots, room * VARIANTS * sizeof(PyObject*))
        if slots != NULL:
            self.slots = <PyObject**>slots
        cdef void* cells = realloc(self.cells, room * sizeof(Cell))
        if cells != NULL:
            self.cells = <Cell*>cells
        if slots == NULL or cells == NULL:
            raise MemoryError
        memset(self.slots + self.room * VARIANTS, 0, (room - self.room) * VARIANTS * sizeof(PyObject*))
        memset(self.cells + self.room, 0, (room - self.room) * sizeof(Cell))
        self.room = room
        return 0


@cython.final
cdef class Table:
    cdef bytes key
    cdef str schema, name
    cdef dict layouts
    cdef Image before, after
    # What the rows of the entry have told of columns, by index, for nameless ones in later rows:
    cdef PyObject** told  # borrowed from Tables.plans
    cdef uint64_t* told_in  # which entry has told it
    cdef Py_ssize_t room
    cdef uint64_t entry, version  # another version: something else is told

    def __dealloc__(self):
        free(self.told)
        free(self.told_in)

    cdef int begin_telling(self) except -1:
        """The first of several rows comes."""
        self.entry += 1
        self.version += 1
        return 0

    cdef int tell(self, Image image) except -1:
        """Keep what a row says of its columns. Raises UnusualError where there are too many."""
        cdef Py_ssize_t place
        cdef ColumnPlan plan
        for place in range(image.count):
            plan = <ColumnPlan>image.cells[place].written
            if plan.nameless:
                continue
            if not 0 <= plan.index < MOST_TOLD:
                raise UnusualError
            if plan.index >= self.room:
                self.grow(plan.index + 1)
            if self.told_in[plan.index] != self.entry or (<ColumnPlan>self.told[plan.index]).column is not plan.column:
                self.version += 1
            self.told[plan.index], self.told_in[plan.index] = <PyObject*>plan, self.entry
        return 0

    cdef ColumnPlan told_of(self, int32_t index):
        """Return the plan that the entry has told for a column; None: none."""
        if not 0 <= index < self.room or self.told_in[index] != self.entry:
            return None
        return <ColumnPlan>self.told[index]

    cdef int grow(self, Py_ssize_t room) except -1:
        room = max(room, 2 * self.room, 16)
        cdef void* told = realloc(self.told, room * sizeof(PyObject*))
        if told != NULL:
            self.told = <PyObject**>told
        cdef void* told_in = realloc(self.told_in, room * sizeof(uint64_t))
        if told_in != NULL:
            self.told_in = <uint64_t*>told_in
        if told == NULL or told_in == NULL:
            raise MemoryError
        memset(self.told + self.room, 0, (room - self.room) * sizeof(PyObject*))
        memset(self.told_in + self.room, 0, (room - self.room) * sizeof(uint64_t))
        self.room = room
        return 0


@cython.final
cdef class Tables:
    """All that is kept. ``size`` counts its bytes, about: `Reader` begins anew when they are too many."""

    cdef dict plans, tables, names, columns
    cdef Table last
    cdef Py_ssize_t size

    def __cinit__(self):
        self.plans = {}
        self.tables = {}
        self.names = {}
        self.columns = {}

    cdef Table table(self, Text schema, Text name):
        cdef Table table = self.last
        cdef Py_ssize_t size = schema.size + 1 + name.size
        cdef const char* kept
        if table is not None and len(table.key) == size:
            kept = PyBytes_AS_STRING(table.key)
            if (
                memcmp(kept, schema.data, schema.size) == 0
                and kept[schema.size] == 0
                and memcmp(kept + schema.size + 1, name.data, name.size) == 0
            ):
                return table
        cdef bytes key = schema.data[:schema.size] + b"\0" + name.data[:name.size]
        table = self.tables.get(key)
        if table is None:
            table = Table.__new__(Table)
            table.key = key
            table.schema, table.name = str_of(schema), str_of(name)
            if key.count(b"\0") != 1:
                raise UnusualError
            table.layouts = {}
            table.before, table.after = Image.__new__(Image), Image.__new__(Image)
            self.tables[key] = table
            self.size += 1000 + 4 * size
        self.last = table
        return table

    cdef ColumnPlan plan(self, Text column):
        cdef Py_ssize_t head_size, tail_size
        constant_parts(column, &head_size, &tail_size)
        cdef Bytes tail = column.data + column.size - tail_size
        cdef tuple key = (column.data[:head_size], tail[:tail_size])
        cdef ColumnPlan plan = self.plans.get(key)
        if plan is None:
            plan = plan_of(column, head_size, tail_size)
            plan.name = self.names.setdefault(plan.name, plan.name)  # layouts compare names by identity
            plan.column = self.columns.setdefault(plan.column, plan.column)
            self.plans[key] = plan
            self.size += 600 + 2 * (head_size + tail_size)
        return plan

    cdef int take(self, Image image, Text column) except -1:
        """Add ``column`` to the image."""
        cdef Py_ssize_t place = image.count
        cdef int variant
        if place == image.room:
            image.grow()
        cdef Cell* cell = &image.cells[place]
        cdef PyObject** slots = &image.slots[place * VARIANTS]
        image.count += 1
        cell.value = NULL
        for variant in range(VARIANTS):
            if slots[variant] == NULL:
                break
            if fits(<ColumnPlan>slots[variant], column, &cell.text):
                if cell.written != slots[variant]:
                    cell.written = slots[variant]
                    image.differs = True
                return 0
        cdef ColumnPlan plan = self.plan(column)
        if not fits(plan, column, &cell.text):
            raise UnusualError
        memmove(slots + 1, slots, (VARIANTS - 1) * sizeof(PyObject*))
        slots[0] = cell.written = <PyObject*>plan
        image.differs = True
        return 0

    cdef bint look(self, Table table, Image image, uint64_t version) except? True:
        """Find out what the image's columns mean, its layout, and which columns are key, or were updated.

        ``version``: that of what was told before the row, 0 for nothing. Returns whether it is as in the last row.
        """
        cdef bint looked = image.looked == image.count and not image.differs and image.version == version
        image.looked = -1
        if not looked:
            self.understand(table, image, version)
            image.layout = self.layout(table, image)
            image.key = marked(image, image.key, True)
            image.changed = marked(image, image.changed, False)
            image.differs, image.version = False, version
        image.looked = image.count
        return looked

    cdef int understand(self, Table table, Image image, uint64_t version) except -1:
        cdef Py_ssize_t place
        cdef Cell* cell
        cdef ColumnPlan written, told, meant
        for place in range(image.count):
            cell = &image.cells[place]
            cell.plan = cell.written
            written = <ColumnPlan>cell.written
            if version and written.nameless:
                told = table.told_of(written.index)
                if told is not None:
                    meant = self.sibling(told, written)  # which keeps it
                    cell.plan = <PyObject*>meant
        return 0

    cdef ColumnPlan sibling(self, ColumnPlan told, ColumnPlan written):
        """Return what a nameless column means, whose name and type ``told`` has."""
        cdef int place = written.updated | written.is_null << 1
        if told.siblings is None:
            told.siblings = [None] * 4
        cdef ColumnPlan plan = told.siblings[place]
        if plan is None:
            plan = told.siblings[place] = ColumnPlan.__new__(ColumnPlan)
            plan.name, plan.kind, plan.convert, plan.is_key = told.name, told.kind, told.convert, told.is_key
            plan.updated, plan.is_null, plan.last_size = written.updated, written.is_null, -1
            self.size += 300
        return plan

    cdef Layout layout(self, Table table, Image image):
        """Return the layout of the image's names. Raises UnusualError where a name comes twice."""
        cdef Layout layout = image.layout
        cdef Py_ssize_t place = 0
        if layout is not None and PyTuple_GET_SIZE(layout.names) == image.count:
            while place < image.count and <PyObject*>(<ColumnPlan>image.cells[place].plan).name == PyTuple_GET_ITEM(
                layout.names, place
            ):
                place += 1
            if place == image.count:
                return layout
        cdef tuple names = tuple([(<ColumnPlan>image.cells[place].plan).name for place in range(image.count)])
        layout = table.layouts.get(names)
        if layout is None:
            layout = Layout.__new__(Layout)
            layout.places = {name: place for place, name in enumerate(names)}
            if len(layout.places) != len(names):
                raise UnusualError
            layout.names = names
            table.layouts[names] = layout
            self.size += 300 + 120 * image.count
        return layout


cdef inline tuple marked(Image image, tuple before, bint keys):
    """Return the names of the columns marked as key, or as updated: ``before``, those of the last row, if they are."""
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t size = PyTuple_GET_SIZE(before)
    cdef Py_ssize_t place
    cdef ColumnPlan plan
    for place in range(image.count):
        plan = <ColumnPlan>image.cells[place].plan
        if plan.is_key if keys else plan.updated:
            if count >= size or PyTuple_GET_ITEM(before, count) != <PyObject*>plan.name:
                count = -1
                break
            count += 1
    if count == size:
        return before
    names = []
    for place in range(image.count):
        plan = <ColumnPlan>image.cells[place].plan
        if plan.is_key if keys else plan.updated:
            names.append(plan.name)
    return tuple(names)
