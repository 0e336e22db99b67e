"""The hand-made frames are what protobuf reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.model.position import Position
from ha_canal.protos.canal_pb2 import Messages, Part, StreamReply
from ha_canal.server.framing import NOTHING, message_of, messages_of, stream_batch, stream_parts, varint


@pytest.mark.parametrize("size", [0, 1, 127, 128, 4095, 4096, 70_000, 3_000_000])
def test_entries_of_any_size(size: int) -> None:
    position = Position("bin.000001", 4, "u", 1, 5, "g", 2)
    parts = messages_of(
        7, [*message_of(b"x" * size), *message_of(b"y")], epoch=3, partial_transaction=True, position=position
    )
    messages = Messages.FromString(b"".join(parts))
    assert list(messages.messages) == [b"x" * size, b"y"]
    assert (messages.batch_id, messages.epoch, messages.partial_transaction) == (7, 3, True)
    assert (messages.place.file, messages.place.offset, messages.place.ordinal) == ("bin.000001", 4, 2)
    assert StreamReply.FromString(stream_batch(parts)).batch == messages


def test_nothing() -> None:
    assert Messages.FromString(NOTHING).batch_id == -1


@given(st.integers(0, 2**63))
def test_varint(number: int) -> None:
    value = 0
    for index, byte in enumerate(varint(number)):
        value |= (byte & 0x7F) << 7 * index
    assert value == number


@pytest.mark.parametrize("sizes", [[1], [100], [99, 1], [250, 3, 0, 49], [100, 100, 100], [5_000]])
def test_parts_are_what_protobuf_would_write(sizes: list[int]) -> None:
    pieces = [bytes([index]) * size for index, size in enumerate(sizes)]
    whole = b"".join(pieces)
    cut = [whole[at : at + 100] for at in range(0, len(whole), 100)]
    assert list(stream_parts(pieces, 100)) == [
        StreamReply(part=Part(data=data, last=data is cut[-1])).SerializeToString() for data in cut
    ]
