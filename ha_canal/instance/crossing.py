"""From one server to another without GTIDs: every client's place is found by time, or proved by fingerprint.

A client whose last transactions stand on the new server in the same order goes on right behind them. Any other begins
at the place found by time, and gets what lies between again: at most what the fallback interval says, and what was
written meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ha_canal.config import InstanceSection
from ha_canal.instance.records import Known
from ha_canal.model.position import Position
from ha_canal.model.remembered import Remembered
from ha_canal.sink.filter import TableFilter
from ha_canal.sink.sink import Sink
from ha_canal.source.binlog import Binlog
from ha_canal.source.position import ByTime, StartRules, place_found
from ha_canal.source.scan import scan
from ha_canal.source.seam import Seam, SeamSearch
from ha_canal.source.search import BinlogSearch

log = logging.getLogger(__name__)

_LEAST_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the clients are on the new server. ``what`` says how sure that is; ``gaps`` what some have missed."""

    cursors: dict[str, Known]
    what: str
    gaps: dict[str, str]


async def cross(config: InstanceSection, binlog: Binlog, wanted: ByTime, clients: Mapping[str, Known]) -> Crossing:
    """Find the places that ``wanted`` leaves open, in the order of ``clients``. Raises our errors."""
    open_ids = [
        client_id
        for client_id, place in zip(clients, wanted.cursors or [None] * len(clients), strict=True)
        if place is None
    ]
    search = BinlogSearch(config.source, binlog.info, [name for name, _ in binlog.files], binlog.end)
    seams = await _seams(config, binlog, search, {one: clients[one] for one in open_ids}) if wanted.is_fallback else {}
    cursors, gaps = {}, {}
    for client_id in open_ids:
        known, seam = clients[client_id], seams.get(client_id)
        if seam is not None and seam.place is not None:
            cursors[client_id] = _behind(seam, seam.place, known)
            continue
        before_ms = wanted.before_ms
        if wanted.is_fallback:
            before_ms = known.cursor.timestamp_ms - round(config.fallback_interval_s * 1000)
        found = await search.before(before_ms)
        place, gap = place_found(wanted, found, binlog.info, oldest=binlog.oldest, end=binlog.end, rules=_rules(config))
        cursors[client_id] = Known(replace(place, gtid_set=""), known.pattern)
        if gap:
            gaps[client_id] = gap
    return Crossing(cursors, _what(cursors, seams), gaps)


def _rules(config: InstanceSection) -> StartRules:
    return StartRules(on_purged=config.on_purged, fallback_interval_s=config.fallback_interval_s)


def _behind(seam: Seam, place: Position, known: Known) -> Known:
    kept = known.remembered.fingerprints[: seam.matched]
    return Known(place, known.pattern, Remembered(kept, known.remembered.since_s))


async def _seams(
    config: InstanceSection, binlog: Binlog, search: BinlogSearch, clients: Mapping[str, Known]
) -> dict[str, Seam]:
    """Look for what the clients remember, from before the oldest of it on."""
    remembered = {client_id: known.remembered for client_id, known in clients.items() if known.remembered}
    if not remembered:
        return {}
    window_s = max(config.fallback_interval_s, _LEAST_WINDOW_S)
    newest_ms = max(known.cursor.timestamp_ms for known in clients.values())
    since_ms = min(one.since_s for one in remembered.values()) * 1000
    fallback_ms = min(known.cursor.timestamp_ms for known in clients.values()) - round(window_s * 1000)
    start = await search.before(min(since_ms, fallback_ms)) or replace(binlog.oldest, gtid_set="")
    looking = SeamSearch(remembered, start, until_s=round(newest_ms / 1000 + window_s))
    tables = TableFilter(config.filter, config.exclude)
    await scan(search, binlog.info, start, binlog.end, looking, tables=tables, screen=Sink(tables).pass_items)
    return looking.seams


def _what(cursors: Mapping[str, Known], seams: Mapping[str, Seam]) -> str:
    """Say, client by client, whether the seam is proved."""
    return "; ".join(_of_client(client_id, known.cursor, seams.get(client_id)) for client_id, known in cursors.items())


def _of_client(client_id: str, cursor: Position, seam: Seam | None) -> str:
    who = f"client {client_id!r} goes on at {cursor.file}:{cursor.offset}" if client_id else f"that is {cursor}"
    if seam is None:
        return f"{who}, with nothing remembered to compare: assumed, and what follows may be a repetition"
    if not seam.is_proved:
        return (
            f"{who}: assumed, since its last {seam.remembered} transactions were not found there in their order; what "
            "follows may be a repetition"
        )
    if seam.lacking:
        return (
            f"{who}: proved gap-free, behind {seam.matched} transactions that it has done; the server lacks the "
            f"{seam.lacking} after them, which were delivered"
        )
    return f"{who}: proved gap-free, right behind the last {seam.matched} transactions that it has done"
