"""The optional metadata of TABLE_MAP events (``binlog_row_metadata``): a list of fields, each told by its type byte.

Each field speaks of some columns only, and counts just those: SIGNEDNESS of numeric ones, character sets of character
columns, ENUM and SET among themselves. Types: ``Optional_metadata_field_type`` in libbinlogevents/rows_event.h.
Fields of unknown type are stepped over by their length, and reported by number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ha_canal.binlog import charsets
from ha_canal.binlog import type_codes as t
from ha_canal.binlog.reader import ByteReader
from ha_canal.errors import DecodeError

_SIGNEDNESS: Final = 1
_DEFAULT_CHARSET: Final = 2
_COLUMN_CHARSET: Final = 3
_COLUMN_NAME: Final = 4
_SET_LABELS: Final = 5
_ENUM_LABELS: Final = 6
_GEOMETRY_TYPE: Final = 7
_SIMPLE_PRIMARY_KEY: Final = 8
_PRIMARY_KEY_WITH_PREFIX: Final = 9
_LABELLED_DEFAULT_CHARSET: Final = 10
_LABELLED_COLUMN_CHARSET: Final = 11
_VISIBILITY: Final = 12
_VECTOR_DIMENSIONS: Final = 13


@dataclass(frozen=True, slots=True)
class MetadataFields:
    """The fields spread over all columns of the table, as `TableMap` documents them."""

    unsigned: tuple[bool, ...] | None
    collations: tuple[int, ...] | None
    names: tuple[str, ...] | None
    labels: tuple[tuple[str, ...], ...] | None
    primary_key: tuple[int, ...] | None
    geometry_types: tuple[int, ...] | None
    visible: tuple[bool, ...] | None
    vector_dimensions: tuple[int, ...] | None
    unknown: tuple[int, ...]


def parse_fields(codes: Sequence[int], fields: dict[int, ByteReader], mariadb: bool | None) -> MetadataFields:
    """Read ``fields`` (by type) of a table whose columns have the type ``codes``."""
    names = _names(fields.pop(_COLUMN_NAME, None), len(codes))
    character = _character_collations(codes, fields, mariadb)
    labelled = _collations(codes, t.LABELLED, fields, _LABELLED_DEFAULT_CHARSET, _LABELLED_COLUMN_CHARSET)
    collations = _merged(character, labelled)
    return MetadataFields(
        unsigned=_flags(codes, t.NUMERIC, fields.pop(_SIGNEDNESS, None)),
        collations=collations,
        names=names,
        labels=_labels(codes, fields, collations),
        primary_key=_primary_key(fields, len(codes), full=names is not None),
        geometry_types=_numbers_of(codes, {t.GEOMETRY}, fields.pop(_GEOMETRY_TYPE, None)),
        visible=_flags(codes, None, fields.pop(_VISIBILITY, None)),
        vector_dimensions=_numbers_of(codes, {t.VECTOR}, fields.pop(_VECTOR_DIMENSIONS, None)),
        unknown=tuple(sorted(fields)),
    )


def _places(codes: Sequence[int], counted: Collection[int]) -> list[int]:
    return [index for index, code in enumerate(codes) if code in counted]


def _flags(codes: Sequence[int], counted: Collection[int] | None, reader: ByteReader | None) -> tuple[bool, ...] | None:
    """One bit per counted column, the highest bit of a byte first."""
    if reader is None:
        return None
    places = list(range(len(codes))) if counted is None else _places(codes, counted)
    data = reader.take((len(places) + 7) // 8)
    if reader.left:
        raise reader.error(f"{reader.left} bytes more than {len(places)} columns need")
    flags = [False] * len(codes)
    for bit, place in enumerate(places):
        flags[place] = bool(data[bit >> 3] & 0x80 >> (bit & 7))
    return tuple(flags)


def _character_collations(
    codes: Sequence[int], fields: dict[int, ByteReader], mariadb: bool | None
) -> tuple[int, ...] | None:
    """Character types count, and MySQL's VECTOR; GEOMETRY is a blob to MariaDB and counts there, but not in MySQL.

    Where the server is not known, and both readings make sense and differ, the character sets count as not logged.
    """
    if mariadb is not None or t.GEOMETRY not in codes:
        return _collations(codes, _counted(bool(mariadb)), fields, _DEFAULT_CHARSET, _COLUMN_CHARSET)
    possible = {_character_reading(codes, _counted(flavour), fields) for flavour in (False, True)} - {None}
    fields.pop(_DEFAULT_CHARSET, None)
    fields.pop(_COLUMN_CHARSET, None)
    return possible.pop() if len(possible) == 1 else None


def _counted(mariadb: bool) -> Collection[int]:
    return t.CHARACTER | {t.VECTOR, t.GEOMETRY} if mariadb else t.CHARACTER | {t.VECTOR}


def _character_reading(
    codes: Sequence[int], counted: Collection[int], fields: dict[int, ByteReader]
) -> tuple[int, ...] | None:
    """One server's reading, without the collations of GEOMETRY itself; None where it makes no sense."""
    attempt = {kind: reader.copy() for kind, reader in fields.items()}
    try:
        collations = _collations(codes, counted, attempt, _DEFAULT_CHARSET, _COLUMN_CHARSET)
    except DecodeError:
        return None
    return collations and tuple(
        0 if code == t.GEOMETRY else collation for code, collation in zip(codes, collations, strict=True)
    )


def _collations(
    codes: Sequence[int], counted: Collection[int], fields: dict[int, ByteReader], default: int, each: int
) -> tuple[int, ...] | None:
    """Collation ids by column: a default with (index, id) exceptions, or one id for each counted column."""
    places = _places(codes, counted)
    collations = [0] * len(codes)
    if reader := fields.pop(default, None):
        ordinary = reader.lenenc()
        for place in places:
            collations[place] = ordinary
        while reader.left:
            index = reader.lenenc()
            if index >= len(places):
                raise reader.error(f"the collation of text column {index}, of {len(places)}")
            collations[places[index]] = reader.lenenc()
    elif reader := fields.pop(each, None):
        for place in places:
            collations[place] = reader.lenenc()
        if reader.left:
            raise reader.error(f"{reader.left} bytes more than {len(places)} collations need")
    else:
        return None
    return tuple(collations)


def _merged(left: tuple[int, ...] | None, right: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if left is None or right is None:
        return left or right
    return tuple(map(max, left, right))


def _names(reader: ByteReader | None, count: int) -> tuple[str, ...] | None:
    if reader is None:
        return None
    names = tuple(str(reader.string(), "utf-8") for _ in range(count))
    if reader.left:
        raise reader.error(f"{reader.left} bytes more than {count} names need")
    return names


def _labels(
    codes: Sequence[int], fields: dict[int, ByteReader], collations: tuple[int, ...] | None
) -> tuple[tuple[str, ...], ...] | None:
    readers = {t.ENUM: fields.pop(_ENUM_LABELS, None), t.SET: fields.pop(_SET_LABELS, None)}
    if not any(readers.values()):
        return None
    labels: list[tuple[str, ...]] = []
    for index, code in enumerate(codes):
        reader = readers.get(code)
        labels.append(_column_labels(reader, collations[index] if collations else 0) if reader else ())
    return tuple(labels)


def _column_labels(reader: ByteReader, collation: int) -> tuple[str, ...]:
    charset = charsets.charset_of_collation(collation)
    if charset is None:
        raise reader.error(f"labels in the unknown collation {collation}")
    decode = charsets.label_decoder(charset)
    return tuple(decode(reader.string()) for _ in range(reader.lenenc()))


def _primary_key(fields: dict[int, ByteReader], count: int, *, full: bool) -> tuple[int, ...] | None:
    """The key's column indexes; (index, prefix) pairs where a part of a column is indexed. No field: no key."""
    plain, prefixed = fields.pop(_SIMPLE_PRIMARY_KEY, None), fields.pop(_PRIMARY_KEY_WITH_PREFIX, None)
    reader = plain or prefixed
    if reader is None:
        return () if full else None
    key: list[int] = []
    while reader.left:
        key.append(reader.lenenc())
        if reader is prefixed:
            reader.lenenc()
        if key[-1] >= count or len(key) > count:
            raise reader.error(f"column {key[-1]} is part {len(key)} of the primary key, of {count} columns")
    return tuple(key)


def _numbers_of(codes: Sequence[int], counted: Collection[int], reader: ByteReader | None) -> tuple[int, ...] | None:
    if reader is None:
        return None
    numbers = [0] * len(codes)
    for place in _places(codes, counted):
        numbers[place] = reader.lenenc()
    return tuple(numbers)
