"""After a fail-over: were the acks that went unanswered stored, and if not, acknowledge the same changes again.

A node may die between receiving an ack and answering it. Under the next leader the cursor stands either before the
batch, which then comes again, perhaps cut differently, or behind it. Event ids are the same on replay, so what comes
first says which; what comes again is acknowledged piece by piece, never more than the application has acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ha_canal.client.entries import event_ids_of
from ha_canal.model.gtid import MariadbGtidPosition, MysqlGtidSet, parse_gtid_set
from ha_canal.model.position import file_sequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha_canal.client.delivery import Delivery
    from ha_canal.protos.canal_pb2 import Place

_WAIT_S = 1.0


class Node(Protocol):
    """The plain calls that this needs, under a lease that was just taken: nothing is in flight."""

    def get(self, *, batch_size: int, batch_bytes: int, timeout_s: float) -> Delivery | None: ...
    def ack(self, batch_id: int, epoch: int) -> None: ...
    def rollback(self, batch_id: int, epoch: int) -> None: ...
    def cursor(self) -> Place | None: ...


def acknowledge_again(node: Node, event_ids: list[str], place: Place, give_up: Callable[[], bool]) -> bool:
    """Make the acks of the changes ``event_ids``, of which ``place`` is behind the last, durable under ``node``.

    False: it cannot be told whether they are, and they may come again (``give_up`` said so, or the source's events
    are other ones). Raises what the calls raise; it may be called again then, with the same arguments.
    """
    left = list(event_ids)
    while left:
        cursor = node.cursor()
        if cursor is not None and covers(cursor, place):
            return True  # asked first: on a source that is at rest, a batch would be waited for in vain
        batch = node.get(batch_size=len(left), batch_bytes=0, timeout_s=_WAIT_S)
        if batch is None:
            if give_up():
                return False
            continue
        came = event_ids_of(batch.messages)
        if came and came[0] not in left:
            node.rollback(0, 0)
            return True  # the cursor is behind them all: they were stored
        rest = left[left.index(came[0]) :] if came else left  # what the cursor is behind of was stored
        if came == rest[: len(came)]:
            node.ack(batch.batch_id, batch.epoch)
            left = rest[len(came) :]
            continue
        node.rollback(0, 0)
        if came[: len(rest)] != rest or len(came) > len(left):
            return False
        left = rest  # more than that came: ask for less
    return True


def covers(cursor: Place, place: Place) -> bool:
    """Whether ``cursor`` is at or behind ``place``; False also when the two cannot be compared."""
    if cursor.gtid_set and place.gtid_set and not place.ordinal:
        return _is_subset(place.gtid_set, cursor.gtid_set)
    if (cursor.server_uuid, cursor.server_id) != (place.server_uuid, place.server_id):
        return False
    return _order(cursor) >= _order(place)


def _is_subset(part: str, whole: str) -> bool:
    mine, other = parse_gtid_set(part), parse_gtid_set(whole)
    if isinstance(mine, MysqlGtidSet) and isinstance(other, MysqlGtidSet):
        return mine.issubset(other)
    if isinstance(mine, MariadbGtidPosition) and isinstance(other, MariadbGtidPosition):
        return mine.issubset(other)
    return False


def _order(place: Place) -> tuple[tuple[int, str], int, int]:
    return file_sequence(place.file), place.offset, place.ordinal
