"""What proves where a client is on another server."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.model.change import Begin, ChangeKind, Commit, Item, Rows, Transaction
from ha_canal.model.position import Position
from ha_canal.model.remembered import Remembered
from ha_canal.model.table import RowPlan
from ha_canal.source.fingerprint import Fingerprints
from ha_canal.source.seam import LEAST_PROOF, Matcher, Seam, SeamSearch


def place(index: int) -> Position:
    return Position("bin.000001", index)


def seam(remembered: Sequence[int], stream: Sequence[int]) -> Seam:
    matcher = Matcher(Remembered(tuple(remembered), 1))
    for index, fingerprint in enumerate(stream):
        matcher.saw(fingerprint, place(index))
    return matcher.seam


@pytest.mark.parametrize(
    ("remembered", "stream", "expected"),
    [
        ([1, 2, 3], [9, 1, 2, 3, 4], Seam(place(3), 3, 3)),
        ([1, 2, 3], [1, 2, 3], Seam(place(2), 3, 3)),
        ([1, 2, 3], [9, 1, 2, 9, 3], Seam(None, 2, 3)),  # something unseen lies between
        ([1, 2], [1, 2, 3], Seam(None, 2, 2)),  # too few to prove anything
        ([], [1, 2, 3], Seam(None, 0, 0)),
        ([1, 2, 3], [], Seam(None, 0, 3)),
        ([1, 2, 3, 4, 5], [9, 1, 2, 3, 7, 8], Seam(place(3), 3, 5)),  # the server lacks the last two
        ([1, 2, 3, 4], [3, 4, 5], Seam(None, 0, 4)),  # its beginning is not there
        ([1, 1, 2], [1, 1, 1, 2, 5], Seam(place(3), 3, 3)),
        ([1, 2, 1, 2, 3], [1, 2, 1, 2, 1, 2, 3], Seam(place(6), 5, 5)),
        ([1, 2, 3], [1, 2, 3, 8, 1, 2, 3], Seam(place(2), 3, 3)),  # the first one: nothing behind it can be skipped
        ([5, 5, 5], [5, 5, 5, 5, 5], Seam(place(2), 3, 3)),
    ],
)
def test_seams(remembered: list[int], stream: list[int], expected: Seam) -> None:
    assert seam(remembered, stream) == expected


def test_what_the_server_lacks_is_counted() -> None:
    assert seam([1, 2, 3, 4, 5], [1, 2, 3, 7]).lacking == 2
    assert seam([1, 2, 3], [1, 2, 3, 7]).lacking == 0
    assert seam([1, 2, 3], [1, 2, 7]).lacking == 0


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.lists(st.integers(0, 2), max_size=40))
def test_it_is_the_first_longest_beginning_that_is_there(remembered: list[int], stream: list[int]) -> None:
    best, at = 0, -1
    for end in range(1, len(stream) + 1):
        for length in range(1, min(end, len(remembered)) + 1):
            if length > best and stream[end - length : end] == remembered[:length]:
                best, at = length, end - 1
    expected = place(at) if best >= LEAST_PROOF else None
    assert seam(remembered, stream) == Seam(expected, best, len(remembered))


@given(st.integers(0, 1000), st.integers(3, 20), st.integers(0, 20))
def test_nothing_that_was_not_delivered_is_ever_passed_over(seed: int, known: int, lost: int) -> None:
    """The server has all but the last ``lost`` of what was delivered, and went on with transactions that look alike."""
    rng = random.Random(seed)
    history = [rng.randrange(4) for _ in range(60)]
    delivered = [*history, *(rng.randrange(4) for _ in range(lost))] if lost else history
    after = [rng.randrange(100, 104) for _ in range(30)]
    found = seam(delivered[-known:], [*history, *after])
    if found.place is not None:
        assert found.place.offset < len(history)


def test_a_search_for_all_clients_ends_when_all_are_found_or_nothing_older_can_come() -> None:
    def transaction(body: bytes, time_s: int) -> list[Item]:
        of = Transaction("", "bin.000001", 4, "", 1, time_s)
        row = Rows(of, 0, 30, 30, time_s, ChangeKind.INSERT, RowPlan("a", "b", 1, ()), b"", b"\1", body)
        return [Begin(of, 4, 20), row, Commit(of, 60, 4, time_s, 60 + body[0], 1)]

    def crcs(bodies: bytes) -> tuple[int, ...]:
        return tuple(crc for body in bodies for _, crc in Fingerprints().of(transaction(bytes([body]), 1)))

    clients = {"a": Remembered(crcs(b"\1\2\3"), 1), "b": Remembered(crcs(b"\2\3\4"), 1)}
    search = SeamSearch(clients, place(0), until_s=100)
    for number in (1, 2, 3):
        search.take(transaction(bytes([number]), 50))
    assert not search.is_over()
    search.take(transaction(b"\4", 60))
    assert search.is_over()
    offsets = {client_id: found.place.offset for client_id, found in search.seams.items() if found.place}
    assert offsets == {"a": 63, "b": 64}
    late = SeamSearch(clients, place(0), until_s=100)
    late.take(transaction(b"\7", 101))
    assert late.is_over()
