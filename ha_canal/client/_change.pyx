# cython: nonecheck=True
"""`Change` and `Row` with their methods in C, and made in one go from the bytes of an entry by ``_entries``.

Same contract as the twin, `ha_canal.client.change_twin`. An application goes through every value of every row, and
looks at few of the fields that say where a change comes from: those are made when they are asked for (`Origin`).
"""

cimport cython
from cpython.datetime cimport datetime_new, import_datetime
from libc.stdint cimport int64_t

from collections.abc import ItemsView, Mapping, Set, ValuesView
from datetime import UTC

from ha_canal.client.change_twin import EventPosition

cdef object ZONE = UTC, POSITION = EventPosition

FIELDS = (
    "kind", "schema", "table", "before", "after", "changed", "key", "event_id", "position", "gtid", "transaction",
    "commit_time", "sql",
)

import_datetime()


@cython.final
@cython.freelist(256)
cdef class Row:
    """Column names to typed values: see `ha_canal.client.change_twin.Row`."""

    def __init__(self, values not None):
        self.places = {name: place for place, name in enumerate(values)}
        self.taken = tuple(values.values())

    def __getitem__(self, name):
        return self.taken[<Py_ssize_t>self.places[name]]

    def __contains__(self, name):
        return name in self.places

    def __iter__(self):
        return iter(self.places)

    def __reversed__(self):
        return reversed(self.places)

    def __len__(self):
        return len(self.taken)

    def get(self, name, default=None):
        place = self.places.get(name)
        return default if place is None else self.taken[<Py_ssize_t>place]

    def keys(self):
        return self.places.keys()

    def values(self):
        cdef Values view = Values.__new__(Values)
        view.taken = self.taken
        return view

    def items(self):
        return RowItems(self)

    def in_order(self):
        return self.taken

    def __eq__(self, other):
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.as_dict() == dict(other)

    def __repr__(self):
        return f"Row({self.as_dict()!r})"

    def __reduce__(self):
        return Row, (self.as_dict(),)

    cdef dict as_dict(self):
        return dict(zip(self.places, self.taken))


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class Values:
    """The values of a row, in order."""

    cdef tuple taken

    def __len__(self):
        return len(self.taken)

    def __iter__(self):
        return iter(self.taken)

    def __reversed__(self):
        return reversed(self.taken)

    def __contains__(self, value):
        return value in self.taken

    def __repr__(self):
        return f"Row.values({self.taken!r})"


cdef class Items:
    """What is fast about `RowItems`."""

    cdef Row row

    def __cinit__(self, Row row not None):
        self.row = row

    def __len__(self):
        return len(self.row.taken)

    def __iter__(self):
        return zip(self.row.places, self.row.taken)

    def __reversed__(self):
        return zip(reversed(self.row.places), reversed(self.row.taken))

    def __contains__(self, item):
        return item in self.row.as_dict().items()

    def __repr__(self):
        return f"Row.items({list(self)!r})"


class RowItems(Items, Set):
    """The pairs of names and values of a row, in order; a set, like those of every mapping."""

    __slots__ = ()

    @classmethod
    def _from_iterable(cls, pairs):
        return set(pairs)


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Origin:
    """Where the changes of an entry come from."""

    cdef object event_id_of(self, Py_ssize_t row):
        if self.event_id is None:
            self.event_id = self.header[self.id_at:self.id_at + self.id_size].decode()
        return self.event_id if row < 0 else f"{self.event_id}.{row}"

    cdef object gtid_of(self):
        if self.gtid is None:
            self.gtid = self.header[self.gtid_at:self.gtid_at + self.gtid_size].decode()
        return self.gtid

    cdef object transaction_of(self):
        if self.transaction is None:
            self.transaction = self.event_id_of(-1).rpartition("#")[0]
        return self.transaction

    cdef object position_of(self):
        if self.position is None:
            self.position = POSITION(self.file, self.offset)
        return self.position

    cdef object commit_time_of(self):
        if self.commit_time is None:
            self.commit_time = utc_of(self.commit_us)
        return self.commit_time


@cython.final
@cython.freelist(256)
cdef class Change:
    """One changed row, or one statement: see `ha_canal.client.change_twin.Change`."""

    __match_args__ = FIELDS

    def __init__(
        self, kind, schema, table, before, after, changed, key, event_id, position, gtid, transaction, commit_time,
        sql="",
    ):
        cdef Origin origin = Origin.__new__(Origin)
        self.kind, self.schema, self.table, self.before, self.after = kind, schema, table, before, after
        self.changed, self.key, self.sql = changed, key, sql
        self.origin, self.row_number = origin, -1
        origin.event_id, origin.position, origin.gtid = event_id, position, gtid
        origin.transaction, origin.commit_time = transaction, commit_time

    @property
    def event_id(self):
        return self.origin.event_id_of(self.row_number)

    @property
    def position(self):
        return self.origin.position_of()

    @property
    def gtid(self):
        return self.origin.gtid_of()

    @property
    def transaction(self):
        return self.origin.transaction_of()

    @property
    def commit_time(self):
        return self.origin.commit_time_of()

    @property
    def row(self):
        if self.after is not None:
            return self.after
        if self.before is None:
            raise LookupError(f"a change of kind {self.kind!r} has no row; its statement is in sql")
        return self.before

    cdef tuple fields(self):
        return (
            self.kind, self.schema, self.table, self.before, self.after, self.changed, self.key, self.event_id,
            self.position, self.gtid, self.transaction, self.commit_time, self.sql,
        )

    def __eq__(self, other):
        if type(other) is not Change:
            return NotImplemented
        return self.fields() == (<Change>other).fields()

    def __hash__(self):
        return hash(self.fields())

    def __repr__(self):
        shown = ", ".join([f"{name}={value!r}" for name, value in zip(FIELDS, self.fields())])
        return f"Change({shown})"

    def __reduce__(self):
        return Change, self.fields()


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


Mapping.register(Row)
ValuesView.register(Values)
ItemsView.register(RowItems)
