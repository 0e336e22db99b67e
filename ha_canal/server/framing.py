"""Batches as bytes on the wire, without python-protobuf touching an entry.

A protobuf message is the concatenation of its fields in any order (protobuf.dev, "Encoding": message structure),
so the small fields are serialized by protobuf and each entry is put behind them as one more ``messages`` field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha_canal.protos.canal_pb2 import Messages, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ha_canal.model.position import Position

_MESSAGES_TAG = b"\x12"  # field 2 of Messages, length-delimited
_BATCH_TAG = b"\x12"  # field 2 of StreamReply, length-delimited
_PART_TAG = b"\x32"  # field 6 of StreamReply, length-delimited
_DATA_TAG = b"\x0a"  # field 1 of Part, length-delimited
_IS_LAST = b"\x10\x01"  # field 2 of Part: true

NOTHING = Messages(batch_id=-1).SerializeToString()
"""What Get answers when nothing came."""


def place_of(position: Position) -> Place:
    return Place(
        file=position.file,
        offset=position.offset,
        gtid_set=position.gtid_set,
        timestamp_ms=position.timestamp_ms,
        ordinal=position.ordinal,
        server_uuid=position.server_uuid,
        server_id=position.server_id,
    )


def messages_of(
    batch_id: int, messages: Sequence[bytes], *, epoch: int, partial_transaction: bool, position: Position
) -> list[bytes]:
    """Return the parts of a serialized ``Messages``, to be joined once, behind whatever stands before them.

    ``messages`` are fields of it already: see `message_of`.
    """
    head = Messages(
        batch_id=batch_id, epoch=epoch, partial_transaction=partial_transaction, place=place_of(position)
    ).SerializeToString()
    return [head, *messages]


def message_of(entry: bytes | None) -> tuple[bytes, ...]:
    """Return an entry as a field of a ``Messages``, in parts to be joined; nothing for None."""
    if entry is None:
        return ()
    return _SHORT[len(entry)] if len(entry) < len(_SHORT) else _MESSAGES_TAG + varint(len(entry)), entry


def stream_batch(parts: Sequence[bytes]) -> bytes:
    """Return a serialized ``StreamReply`` that holds the ``Messages`` of ``parts``."""
    return b"".join([_BATCH_TAG, varint(sum(map(len, parts))), *parts])


def stream_parts(parts: Sequence[bytes], part_bytes: int) -> Iterator[bytes]:
    """Return the ``Messages`` of ``parts`` cut into serialized ``StreamReply``s which hold ``part_bytes`` at most."""
    left = sum(map(len, parts))
    room = part_bytes
    piece: list[memoryview] = []
    for part in parts:
        at = 0
        while at < len(part):
            taken = memoryview(part)[at : at + room]
            piece.append(taken)
            at += len(taken)
            room -= len(taken)
            left -= len(taken)
            if not room or not left:
                yield _part_reply(piece, part_bytes - room, last=not left)
                piece, room = [], part_bytes


def _part_reply(piece: Sequence[memoryview], size: int, *, last: bool) -> bytes:
    """Return the serialized ``StreamReply`` of a ``Part``; its bytes, a MiB as a rule, are copied once."""
    data_head = _DATA_TAG + varint(size)
    tail = _IS_LAST if last else b""
    return b"".join([_PART_TAG, varint(len(data_head) + size + len(tail)), data_head, *piece, tail])


def varint(number: int) -> bytes:
    """Return ``number`` (not negative) in protobuf's base-128 form."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT = [_MESSAGES_TAG + varint(length) for length in range(4096)]
"""Tag and length of every entry of usual size, made once."""
