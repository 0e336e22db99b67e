"""The boundary behind the transactions that a reader has done, and their GTIDs, added one by one.

The GTID set is written out as text only when someone asks for the position: once per batch, not per transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ha_canal.model.change import Commit
from ha_canal.model.gtid import GtidSet, parse_gtid_set
from ha_canal.model.position import Position


class Passed(NamedTuple):
    """One transaction (or one mark of empty ones) that lies behind a reader.

    ``gtids`` are a mark's own. ``moves`` is False for what lay before the reader's start already.
    """

    commit: Commit
    gtids: GtidSet | None
    moves: bool


class Track:
    """Begins at ``start``, which may lie inside a transaction. ``server_id`` is that of the server which is read. (A
    transaction's own is that of the server where it was first committed.)

    A start without GTIDs stays without: a set that lacks what was done before would make the source send it all
    again. With ``gtids_from_empty`` the empty set is what was done, and GTIDs are added to it.
    """

    def __init__(self, start: Position, *, server_id: int, gtids_from_empty: bool) -> None:
        self._position = start
        self._server_id = server_id
        self._gtids: GtidSet | None = parse_gtid_set(start.gtid_set) if start.gtid_set else None
        self._adds_gtids = bool(start.gtid_set) or gtids_from_empty
        self._gtids_changed = False
        self._last: Commit | None = None

    def add(self, passed: Passed) -> None:
        if self._adds_gtids:
            self._add_gtids(passed)
        if passed.moves:
            self._last = passed.commit

    def _add_gtids(self, passed: Passed) -> None:
        gtid = passed.commit.transaction.gtid
        if passed.gtids is not None:
            if self._gtids is None:
                self._gtids = passed.gtids.copy()
            else:
                self._gtids.update(passed.gtids)
        elif not gtid or not passed.moves:
            return
        elif self._gtids is None:
            self._gtids = parse_gtid_set(gtid)
        else:
            self._gtids.add(gtid)
        self._gtids_changed = True

    @property
    def position(self) -> Position:
        """The boundary, or the start itself while nothing has moved."""
        if self._last is not None:
            self._position = self._behind(self._last)
            self._last = None
        if self._gtids_changed:
            self._position = replace(self._position, gtid_set=str(self._gtids))
            self._gtids_changed = False
        return self._position

    def _behind(self, commit: Commit) -> Position:
        transaction = commit.transaction
        return replace(
            self._position,
            file=transaction.file,
            offset=commit.end_offset,
            server_uuid=transaction.server_uuid,
            server_id=self._server_id,
            timestamp_ms=transaction.commit_timestamp_us // 1000 or commit.timestamp_s * 1000,
            ordinal=0,
        )
