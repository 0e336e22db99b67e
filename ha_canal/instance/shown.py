"""What `status` and clients are shown of an instance: our values as messages of the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ha_canal.instance.feed import Feed
from ha_canal.instance.notices import Notice
from ha_canal.protos import canal_pb2
from ha_canal.server.framing import place_of
from ha_canal.source.reader import Reader
from ha_canal.source.runway import Runway


def subscribers(feeds: Mapping[str, Feed], holders: Mapping[str, str]) -> list[canal_pb2.Subscriber]:
    """Return all clients by id. ``holders``: client id → who holds its lock."""
    return [
        canal_pb2.Subscriber(
            client_id=client_id,
            holder=holders.get(client_id, ""),
            filter=feed.pattern,
            cursor=place_of(feed.ring.cursor),
            batches_in_flight=feed.ring.in_flight,
            behind_items=feed.ring.behind_items,
        )
        for client_id, feed in sorted(feeds.items())
    ]


def notices_shown(notices: Iterable[Notice], client_id: str = "") -> list[canal_pb2.Notice]:
    """Return the notices for one client; for ``""`` all."""
    return [
        canal_pb2.Notice(time_ms=one.time_ms, kind=one.kind, text=one.text, client_id=one.client_id)
        for one in notices
        if not client_id or one.client_id in ("", client_id)
    ]


def runway_shown(runway: Runway | None) -> canal_pb2.Runway | None:
    if runway is None:
        return None
    return canal_pb2.Runway(
        seconds=-1.0 if runway.seconds is None else runway.seconds,
        bytes_left=-1 if runway.bytes_left is None else runway.bytes_left,
        bytes_before=runway.bytes_before,
        bytes_behind=runway.bytes_behind,
        detail=str(runway),
    )


def show_reading(shown: canal_pb2.Instance, reader: Reader | None) -> None:
    """Add how far reading has come; None: nothing was read yet."""
    if reader is None:
        shown.lag_s = -1
        return
    shown.read_place.CopyFrom(place_of(reader.progress.position))
    shown.lag_s = reader.lag_s()
    shown.transactions = reader.progress.transactions
    shown.rows_events = reader.progress.rows_events
