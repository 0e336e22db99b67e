"""Tables as rows are read: names and types of columns, and the compiled plan of one table version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one version of a table.

    ``type_code`` and ``type_meta`` are the binlog's (MYSQL_TYPE_* after unpacking MYSQL_TYPE_STRING's real type;
    metadata as one integer, laid out per type as `ha_canal.binlog.table_map` documents). ``mysql_type`` is the DDL
    text, such as ``int unsigned`` or ``enum('a','b')``. ``charset`` is the server's character set name, ``binary``
    for byte strings and ``""`` for types without one. ``labels`` are those of ENUM and SET, decoded.
    ``sql_type`` is the java.sql.Types number that Canal's Column carries.
    """

    name: str
    type_code: int
    type_meta: int
    mysql_type: str
    sql_type: int
    unsigned: bool = False
    is_key: bool = False
    charset: str = ""
    labels: tuple[str, ...] = ()
    fixed_length: int = 0
    """Bytes of a BINARY(n), UUID or INET column, to which stripped zero bytes are restored; 0 where not fixed."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """All that is needed to read the rows of one table version: made once, used for every event of it."""

    schema: str
    table: str
    table_id: int
    columns: tuple[Column, ...]
    readers: tuple[Callable[[bytes, int], tuple[str, int]], ...] = field(default=(), compare=False, repr=False)
    """Per column, what reads a value's text at an offset (`ha_canal.binlog.values`)."""
    frames: tuple[tuple[bytes, ...], ...] = field(default=(), compare=False, repr=False)
    """Per column, the parts of its serialized form that do not change (`ha_canal.binlog.frames`)."""
    compiled: dict[str, object] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What encoders have made of the plan for themselves, at its first use."""
