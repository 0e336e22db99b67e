"""Where a client is on another server: its last transactions are looked for in what that server has, by fingerprint.

What proves that nothing lies unseen before a place: all that is remembered stands right in front of it, without a gap
and in the same order. Both servers commit in one order, so what precedes the first remembered transaction was done
before it, on the old server too (a standby that applies out of order does so over fewer transactions than are
remembered). The *first* such place is taken: a later one that looks the same could only be nearer to a loss. Where only
a beginning of what is remembered is there, the server lacks the rest: reading goes on behind that beginning.

Less than `LEAST_PROOF` transactions in a row prove nothing. Then the client begins where the search by time says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ha_canal.model.position import Position
from ha_canal.model.remembered import Remembered
from ha_canal.model.run import Parcel
from ha_canal.source.fingerprint import Fingerprints
from ha_canal.source.scan import place_behind

LEAST_PROOF = 3


@dataclass(frozen=True, slots=True)
class Seam:
    """Where a client goes on. ``matched`` of its ``remembered`` transactions stand in front of ``place``, in order.

    ``place`` is None where that proves nothing.
    """

    place: Position | None
    matched: int
    remembered: int

    @property
    def is_proved(self) -> bool:
        return self.place is not None

    @property
    def lacking(self) -> int:
        """How many transactions that were delivered the server does not have, at least in that order."""
        return self.remembered - self.matched if self.is_proved else 0


class Matcher:
    """Looks for one client's transactions in a stream of fingerprints (Knuth, Morris and Pratt: no memory of it)."""

    def __init__(self, remembered: Remembered) -> None:
        self._wanted = remembered.fingerprints
        self._borders = _borders(self._wanted)
        self._length = 0
        self._best = 0
        self._place: Position | None = None

    def saw(self, fingerprint: int, place: Position) -> None:
        """Take the next transaction, which ends at ``place``."""
        if self.is_found:
            return
        length = self._length
        while length and self._wanted[length] != fingerprint:
            length = self._borders[length - 1]
        length += bool(self._wanted) and self._wanted[length] == fingerprint
        self._length = length
        if length > self._best:
            self._best, self._place = length, place

    @property
    def is_found(self) -> bool:
        """Whether all that is remembered was there: nothing later can be better."""
        return self._best == len(self._wanted)

    @property
    def seam(self) -> Seam:
        place = self._place if self._best >= LEAST_PROOF else None
        return Seam(place, self._best, len(self._wanted))


def _borders(wanted: Sequence[int]) -> list[int]:
    """Return, for each beginning of ``wanted``, the length of its longest proper end that is a beginning as well."""
    borders = [0] * len(wanted)
    length = 0
    for index in range(1, len(wanted)):
        while length and wanted[index] != wanted[length]:
            length = borders[length - 1]
        length += wanted[index] == wanted[length]
        borders[index] = length
    return borders


class SeamSearch:
    """Looks for all clients of an instance at once, in the transactions that pass the instance's filter.

    ``server`` has the ids that the places found bear. ``until_s``: what is younger cannot be remembered any more.
    """

    def __init__(self, remembered: Mapping[str, Remembered], server: Position, *, until_s: int) -> None:
        self._matchers = {client_id: Matcher(one) for client_id, one in remembered.items()}
        self._server = server
        self._until_s = until_s
        self._is_late = False
        self._fingerprints = Fingerprints()

    def take(self, items: Iterable[Parcel]) -> None:
        """Take the next items of the new server's binlog."""
        for commit, fingerprint in self._fingerprints.of(items):
            self._is_late = self._is_late or commit.timestamp_s > self._until_s
            place = place_behind(commit, self._server)
            for matcher in self._matchers.values():
                matcher.saw(fingerprint, place)

    def is_over(self) -> bool:
        return self._is_late or all(matcher.is_found for matcher in self._matchers.values())

    @property
    def seams(self) -> dict[str, Seam]:
        return {client_id: matcher.seam for client_id, matcher in self._matchers.items()}
