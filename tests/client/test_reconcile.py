"""Acks that died with their node, under the next leader: stored, half stored, not stored, cut differently, unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.client.delivery import Delivery, PureDelivery
from ha_canal.client.reconcile import acknowledge_again, covers
from ha_canal.protos.canal_pb2 import Messages, Place
from ha_canal.protos.entry_pb2 import ROWDATA, TRANSACTIONEND, Entry, Header


def entry(event_id: str) -> bytes:
    kind = TRANSACTIONEND if event_id.endswith("#end") else ROWDATA
    return Entry(header=Header(eventId=event_id), entryType=kind).SerializeToString()


class NextLeader:
    """Has ``events``, of which the first ``cursor`` are acknowledged; cuts batches of ``cuts`` events at most."""

    def __init__(self, events: list[str], cursor: int, cuts: list[int] | None = None) -> None:
        self._events = events
        self._cuts = list(cuts or [])
        self._given = cursor
        self._last_id = 0
        self._ends: dict[int, int] = {}
        self.durable = cursor
        self.gets = 0

    def get(self, *, batch_size: int, batch_bytes: int, timeout_s: float) -> Delivery | None:
        self.gets += 1
        size = min(batch_size, self._cuts.pop(0) if self._cuts else batch_size)
        taken = self._events[self._given : self._given + size]
        if not taken:
            return None
        self._given += len(taken)
        self._last_id += 1
        self._ends[self._last_id] = self._given
        return PureDelivery(Messages(batch_id=self._last_id, messages=[entry(event_id) for event_id in taken]))

    def ack(self, batch_id: int, epoch: int) -> None:
        self.durable = self._ends[batch_id]

    def rollback(self, batch_id: int, epoch: int) -> None:
        self._given = self.durable

    def cursor(self) -> Place | None:
        return Place(file="bin.000001", offset=self.durable)


EVENTS = [f"g{number}#0" for number in range(20)]


def again(node: NextLeader, event_ids: list[str], behind: int, *, patience: int = 3) -> bool:
    turns = iter(range(patience))
    place = Place(file="bin.000001", offset=behind)
    return acknowledge_again(node, event_ids, place, lambda: next(turns, None) is None)


@given(st.integers(0, 12), st.integers(1, 8), st.data())
def test_wherever_the_cursor_stands_and_however_batches_are_cut(start: int, count: int, data: st.DataObject) -> None:
    """The acks end up durable, and nothing that was not acknowledged is ever acknowledged."""
    cursor = data.draw(st.integers(start, start + count))
    cuts = data.draw(st.lists(st.integers(1, 5), max_size=10))
    node = NextLeader(EVENTS, cursor, cuts)
    assert again(node, EVENTS[start : start + count], start + count)
    assert node.durable == start + count


def test_stored_acks_are_told_without_waiting_for_a_batch() -> None:
    node = NextLeader(EVENTS[:3], 3)
    assert again(node, EVENTS[:3], 3)
    assert node.gets == 0


def test_nothing_comes_and_the_cursor_does_not_say() -> None:
    assert not again(NextLeader([], 0), EVENTS[:3], 3)


def test_a_source_with_other_events_in_between_is_not_believed() -> None:
    node = NextLeader(["g0#0", "other#0", "g1#0"], 0)
    assert not again(node, EVENTS[:3], 3)
    assert node.durable == 0


def test_ends_of_transactions_do_not_count() -> None:
    node = NextLeader(["g0#0", "g0#end", "g1#0", "g1#end", "g2#0"], 0)
    assert again(node, ["g0#0", "g1#0"], 4)
    assert node.durable in (3, 4)


UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    ("cursor", "place", "is_covered"),
    [
        (Place(file="bin.000002", offset=4), Place(file="bin.000001", offset=900), True),
        (Place(file="bin.1000000", offset=4), Place(file="bin.999999", offset=900), True),
        (Place(file="bin.000001", offset=4), Place(file="bin.000001", offset=5), False),
        (Place(file="bin.000001", offset=4), Place(file="bin.000001", offset=4, ordinal=2), False),
        (Place(file="b.1", offset=9, server_uuid="x"), Place(file="b.1", offset=4, server_uuid="y"), False),
        (Place(gtid_set=f"{UUID}:1-9"), Place(gtid_set=f"{UUID}:1-8", server_uuid="y"), True),
        (Place(gtid_set=f"{UUID}:1-7"), Place(gtid_set=f"{UUID}:1-8"), False),
        (Place(gtid_set="0-1-9"), Place(gtid_set="0-2-8"), True),
        (Place(gtid_set="0-1-9"), Place(gtid_set=f"{UUID}:1"), False),
    ],
)
def test_covers(cursor: Place, place: Place, is_covered: bool) -> None:
    assert covers(cursor, place) is is_covered
