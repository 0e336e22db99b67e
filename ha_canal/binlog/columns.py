"""Plans: what TABLE_MAP and ``information_schema`` together say of a table, compiled once for all its rows.

TABLE_MAP alone decides how bytes are read. Names, signs, character sets and labels come from it where the server logs
them (``binlog_row_metadata=FULL``), else from a `TableVersion`, which must agree with it in every column, or the
instance stops: a guess here would be a wrong row there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest

from ha_canal.binlog import charsets
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.ddl_types import FIXED_BINARIES, DdlType, ddl_text, parse_ddl_type, sql_type, wire_types
from ha_canal.binlog.frames import column_frame
from ha_canal.binlog.table_map import TableMap
from ha_canal.binlog.values import value_reader
from ha_canal.errors import SchemaMismatchError
from ha_canal.model.table import Column, RowPlan

_CURE = (
    "The table was probably altered after this event. SET GLOBAL binlog_row_metadata = 'FULL' on the source makes "
    "events carry their own columns from then on; start the instance behind the ALTER, or leave the table out"
)


@dataclass(frozen=True, slots=True)
class ColumnVersion:
    """A column as ``information_schema.COLUMNS`` shows it.

    ``column_type`` is COLUMN_TYPE, ``charset`` is CHARACTER_SET_NAME or ``""``.
    """

    name: str
    column_type: str
    charset: str
    is_primary_key: bool


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The columns of one table at one moment, in order."""

    columns: tuple[ColumnVersion, ...]


_HISTORY = (
    ColumnVersion("row_start", "timestamp(6)", "", is_primary_key=False),
    ColumnVersion("row_end", "timestamp(6)", "", is_primary_key=True),
)
"""What MariaDB adds to a table WITH SYSTEM VERSIONING that does not name them; information_schema hides them."""
_BEYOND_BMP = frozenset(("", "binary", "utf8mb4", "utf16", "utf16le", "utf32", "gb18030"))
"""Character sets with characters above U+FFFF, or bytes that are none: information_schema shows a question mark."""


def compile_plan(table_map: TableMap, version: TableVersion | None) -> RowPlan:
    """Return the plan for rows under ``table_map``.

    With names in the event, ``version`` is only asked for what TABLE_MAP cannot say (display widths, UUID, INET4,
    INET6, digits of old temporal types), column by column where name and wire type agree. Without, each column must
    agree, and SchemaMismatchError says which does not.
    """
    versions = _trusted_versions(table_map, version)
    columns = tuple(_column(table_map, index, known) for index, known in enumerate(versions))
    return RowPlan(
        schema=table_map.schema,
        table=table_map.table,
        table_id=table_map.table_id,
        columns=columns,
        readers=tuple(map(value_reader, columns)),
        frames=tuple(column_frame(index, column) for index, column in enumerate(columns)),
    )


def _trusted_versions(table_map: TableMap, version: TableVersion | None) -> tuple[ColumnVersion | None, ...]:
    if table_map.names is not None:
        columns = _with_hidden(version, table_map) if version else ()
        return tuple(
            known if known and known.name == name and _disagreement(table_map, index, known) == "" else None
            for index, (name, known) in enumerate(
                zip(table_map.names, _padded(columns, len(table_map.names)), strict=True)
            )
        )
    if version is None:
        raise _mismatch(table_map, "its events carry no column names, and the source shows no such table")
    columns = _with_hidden(version, table_map)
    if len(columns) != len(table_map.type_codes):
        raise _mismatch(
            table_map, f"the event has {len(table_map.type_codes)} columns, the source shows {len(columns)}"
        )
    for index, known in enumerate(columns):
        if why := _disagreement(table_map, index, known):
            raise _mismatch(table_map, why)
        if why := _doubt(known):
            raise SchemaMismatchError(f"the columns of {table_map.schema}.{table_map.table} are not known: {why}")
    return columns


def _with_hidden(version: TableVersion, table_map: TableMap) -> tuple[ColumnVersion, ...]:
    """The version's columns, and those of system versioning where two TIMESTAMP(6) NOT NULL are too many."""
    shown = len(version.columns)
    wire = tuple(zip(table_map.type_codes, table_map.type_metas, strict=True))[shown:]
    history = {(t.TIMESTAMP2, 6), (t.TIMESTAMP, 0)}
    if len(wire) == len(_HISTORY) and history.issuperset(wire) and not any(table_map.nullable[shown:]):
        return version.columns + _HISTORY
    return version.columns


def _doubt(known: ColumnVersion) -> str:
    """Say which label of ENUM or SET may be another than the source shows."""
    if charsets.canonical_charset(known.charset) not in _BEYOND_BMP:
        return ""
    for label in parse_ddl_type(known.column_type).labels:
        if "?" in label:
            return (
                f"the label {label!r} of column {known.name!r} may have another character for its question mark, since "
                "information_schema has none above U+FFFF. SET GLOBAL binlog_row_metadata = 'FULL' makes "
                "later events carry their own labels; or convert the column to utf8mb3, or leave the table out"
            )
    return ""


def _padded(columns: tuple[ColumnVersion, ...], count: int) -> list[ColumnVersion | None]:
    return [column for column, _ in zip_longest(columns[:count], range(count))]


def _mismatch(table_map: TableMap, why: str) -> SchemaMismatchError:
    return SchemaMismatchError(f"the columns of {table_map.schema}.{table_map.table} are not known: {why}. {_CURE}")


def _disagreement(table_map: TableMap, index: int, known: ColumnVersion) -> str:
    """Say in what the event and the source differ about a column, ``""`` if in nothing that TABLE_MAP can show."""
    ddl, charset = parse_ddl_type(known.column_type), charsets.canonical_charset(known.charset) or "binary"
    wire = (table_map.type_codes[index], table_map.type_metas[index])
    where = f"column {index} {known.name!r} is {known.column_type!r}"
    where += f" in {charset} at the source" if known.charset else " at the source"
    if wire not in wire_types(ddl, charset):
        return f"{where}, and {_shown(table_map, index)} in the event"
    if table_map.unsigned is not None and wire[0] in t.NUMERIC - {t.YEAR} and table_map.unsigned[index] != ddl.unsigned:
        return f"{where}, and {_shown(table_map, index)} in the event"
    if not charsets.is_known_charset(charset):
        return f"{where}, a character set that is not known here"
    logged = _logged_charset(table_map, index)
    if logged is not None and logged != charset:
        return f"{where}, and in {logged} in the event"
    if table_map.labels is not None and wire[0] in t.LABELLED and table_map.labels[index] != ddl.labels:
        return f"{where}, with the labels {', '.join(table_map.labels[index])} in the event"
    return ""


def _logged_charset(table_map: TableMap, index: int) -> str | None:
    """The character set that TABLE_MAP shows; None where it shows none. SchemaMismatchError for an unknown id."""
    collation = table_map.collations[index] if table_map.collations else 0
    if collation == 0:
        return None
    charset = charsets.charset_of_collation(collation)
    if charset is None:
        raise SchemaMismatchError(
            f"column {index} of {table_map.schema}.{table_map.table} has the collation id {collation}, which is not "
            "known here: convert the column to a collation of MySQL 9.7 or MariaDB 10.11, or leave the table out"
        )
    return charset


def _shown(table_map: TableMap, index: int) -> str:
    code, meta = table_map.type_codes[index], table_map.type_metas[index]
    unsigned = bool(table_map.unsigned and table_map.unsigned[index])
    if code in t.CHARACTER:
        return f"a string of at most {meta} bytes (type {code})" if code not in t.BLOBS else f"a blob with {meta} bytes"
    return repr(ddl_text(code, meta, charset="binary", unsigned=unsigned, labels=()))


def _column(table_map: TableMap, index: int, known: ColumnVersion | None) -> Column:
    column = _from_table_map(table_map, index)
    if known is not None:
        column = _with_version(column, known, names_logged=table_map.names is not None)
    if column.type_code in t.OLD_TEMPORAL:
        return _old_temporal(table_map, index, column, known)
    if column.type_code in t.CHARACTER and not column.charset:
        raise _mismatch(table_map, f"nothing tells the character set of column {index} {column.name!r}")
    return column


def _from_table_map(table_map: TableMap, index: int) -> Column:
    code, meta = table_map.type_codes[index], table_map.type_metas[index]
    charset = _logged_charset(table_map, index) or ""
    labels = table_map.labels[index] if table_map.labels else ()
    unsigned = bool(table_map.unsigned and table_map.unsigned[index] and code != t.YEAR)
    text = ddl_text(
        code,
        meta,
        charset=charset,
        unsigned=unsigned,
        labels=labels,
        geometry=table_map.geometry_types[index] if table_map.geometry_types else 0,
        dimensions=table_map.vector_dimensions[index] if table_map.vector_dimensions else 0,
    )
    return Column(
        name=table_map.names[index] if table_map.names else "",
        type_code=code,
        type_meta=meta,
        mysql_type=text,
        sql_type=sql_type(parse_ddl_type(text)),
        unsigned=unsigned,
        is_key=bool(table_map.primary_key and index in table_map.primary_key),
        charset=charset,
        labels=labels,
        fixed_length=meta if code == t.STRING and charset == "binary" else 0,
    )


def _with_version(column: Column, known: ColumnVersion, *, names_logged: bool) -> Column:
    ddl = parse_ddl_type(known.column_type)
    charset = column.charset or _version_charset(ddl, known, column.type_code)
    return replace(
        column,
        name=known.name,
        mysql_type=known.column_type,
        sql_type=sql_type(ddl),
        unsigned=ddl.unsigned and column.type_code in t.NUMERIC,
        is_key=column.is_key if names_logged else known.is_primary_key,
        charset=charset,
        labels=column.labels or ddl.labels,
        fixed_length=column.type_meta if column.type_code == t.STRING and charset == "binary" else 0,
    )


def _version_charset(ddl: DdlType, known: ColumnVersion, code: int) -> str:
    if code in t.CHARACTER or ddl.name in FIXED_BINARIES:
        return charsets.canonical_charset(known.charset) or "binary"
    return charsets.canonical_charset(known.charset)


def _old_temporal(table_map: TableMap, index: int, column: Column, known: ColumnVersion | None) -> Column:
    """The types of before MySQL 5.6 (MariaDB: mysql56_temporal_format=OFF) do not log how many digits they have."""
    if known is None:
        raise SchemaMismatchError(
            f"column {index} {column.name!r} of {table_map.schema}.{table_map.table} has an old temporal format, whose "
            "digits only the table itself tells, and the table is not as it was: ALTER TABLE … FORCE with "
            "mysql56_temporal_format=ON writes it anew; or leave the table out"
        )
    return replace(column, type_meta=parse_ddl_type(known.column_type).length or 0)
