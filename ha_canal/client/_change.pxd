from libc.stdint cimport int64_t


cdef class Row:
    cdef dict places  # where each column stands in `taken`; rows of one table share it: never changed
    cdef tuple taken
    cdef dict as_dict(self)


cdef class Origin:
    # Where the changes of an entry come from. What is None is not made yet; it stands in `header`.
    cdef bytes header
    cdef Py_ssize_t id_at, id_size, gtid_at, gtid_size
    cdef object file
    cdef int64_t offset, commit_us
    cdef object event_id, gtid, transaction, position, commit_time
    cdef object event_id_of(self, Py_ssize_t row)
    cdef object gtid_of(self)
    cdef object transaction_of(self)
    cdef object position_of(self)
    cdef object commit_time_of(self)


cdef class Change:
    cdef readonly object kind, schema, table, before, after, changed, key, sql
    cdef Origin origin
    cdef Py_ssize_t row_number  # -1: the event holds one row
    cdef tuple fields(self)
