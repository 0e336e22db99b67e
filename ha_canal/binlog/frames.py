"""The parts of a serialized ``Column`` that are the same in every row, made once per plan."""

from __future__ import annotations

from ha_canal.binlog import wire
from ha_canal.model.table import Column

Frame = tuple[bytes, bytes, bytes, bytes, bytes]
"""(head, head with ``updated``, tail, whole NULL column, whole NULL column with ``updated``).

A column with a value is its length, a head, the value's field, and the tail; a NULL one is ready, length included.
"""


def column_frame(index: int, column: Column) -> Frame:
    """Return the frame of column ``index``; fields stand in the order of their numbers, as protobuf writes them."""
    head = (
        wire.integer_field(1, index)
        + wire.integer_field(2, column.sql_type)
        + wire.text_field(3, column.name)
        + wire.integer_field(4, int(column.is_key))
    )
    return _frame(head, wire.text_field(10, column.mysql_type))


def lean_frame(index: int) -> Frame:
    """Return the frame of column ``index`` where a row in front, in the same entry, has told its name and type."""
    return _frame(wire.integer_field(1, index), b"")


def _frame(head: bytes, tail: bytes) -> Frame:
    updated = head + wire.integer_field(5, 1)
    is_null = wire.integer_field(6, 1)
    return head, updated, tail, _sized(head + is_null + tail), _sized(updated + is_null + tail)


def _sized(message: bytes) -> bytes:
    return wire.varint(len(message)) + message
