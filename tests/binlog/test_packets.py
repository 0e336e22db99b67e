"""Packets come out whole and in order, however their bytes come in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.binlog.file import frame_payload
from ha_canal.binlog.packets import PacketReader

SIZES = st.one_of(st.integers(1, 100), st.integers(1_000, 9_000), st.integers(60_000, 70_000), st.just(700_000))


def framed(sizes: list[int]) -> tuple[list[bytes], bytes]:
    """Return payloads of these sizes, and all of them as packets."""
    payloads = [b"\0" + bytes([number % 251]) * (size - 1) for number, size in enumerate(sizes)]
    packets, sequence = [], 1
    for payload in payloads:
        packet, sequence = frame_payload(payload, sequence)
        packets.append(packet)
    return payloads, b"".join(packets)


def taken(reader: PacketReader) -> list[bytes]:
    events = []
    while (event := reader.next_event()) is not None:
        events.append(bytes(event))
    return events


@given(st.lists(SIZES, max_size=8), st.lists(st.integers(5_000, 700_000), min_size=1, max_size=6), st.booleans())
@settings(deadline=None, max_examples=30)
def test_payloads_come_whole_from_chunks_of_any_size(sizes: list[int], chunks: list[int], lazy: bool) -> None:
    payloads, stream = framed(sizes)
    reader, got, at, turn = PacketReader(), list[bytes](), 0, 0
    while at < len(stream):
        chunk = stream[at : at + chunks[turn % len(chunks)]]
        reader.feed(chunk)
        at, turn = at + len(chunk), turn + 1
        if not lazy:
            got += taken(reader)
    got += taken(reader)
    assert got == payloads
    assert reader.pending_bytes == 0


@given(st.lists(SIZES, max_size=8), st.lists(st.integers(5_000, 700_000), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_bytes_may_be_put_into_its_room(sizes: list[int], pieces: list[int]) -> None:
    payloads, stream = framed(sizes)
    reader, got, at, turn = PacketReader(), list[bytes](), 0, 0
    while at < len(stream):
        room = reader.room()
        assert len(room) >= 64 * 1024
        piece = stream[at : at + min(len(room), pieces[turn % len(pieces)])]
        room[: len(piece)] = piece
        reader.received(len(piece))
        at, turn = at + len(piece), turn + 1
        got += taken(reader)
    assert got == payloads


def test_bytes_may_come_one_by_one() -> None:
    payloads, stream = framed([1, 30, 400])
    reader, got = PacketReader(), list[bytes]()
    for at in range(len(stream)):
        reader.feed(stream[at : at + 1])
        got += taken(reader)
    assert got == payloads


def test_a_payload_of_many_packets_is_joined() -> None:
    payloads, stream = framed([0xFFFFFF + 10, 5, 2 * 0xFFFFFF])
    reader = PacketReader()
    reader.feed(stream)
    assert taken(reader) == payloads
