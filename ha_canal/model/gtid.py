"""GTID sets of MySQL and GTID positions of MariaDB: parse, print, add, contain, intersect.

MySQL: ``uuid[:tag]:interval[:interval]…[:tag:interval…]``, comma separated; intervals are closed, ``1-5`` or ``7``
(reference manual, "GTID Format and Storage"; tags since 8.3). MariaDB: ``domain-server-sequence``, at most one per
domain; a position says that everything up to that sequence number in that domain is done (knowledge base,
"Global Transaction ID"). Outside of MariaDB's strict mode sequence numbers may fall, and comparing them is only a
guess at the order of the stream; who must not guess compares GTIDs for equality.

Both are mutable accumulators with the same face, `GtidSet`; the immutable form is their text, as `Position` holds it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import Protocol, Self

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII)
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}", re.ASCII)
_INTERVAL = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)
_MARIADB_GTID = re.compile(r"(\d+)-(\d+)-(\d+)", re.ASCII)


class GtidSet(Protocol):
    """A set of transactions that are done."""

    def add(self, gtid: str) -> None: ...
    def update(self, other: Self) -> None: ...
    def __contains__(self, gtid: str) -> bool: ...
    def issubset(self, other: Self) -> bool: ...
    def intersection(self, other: Self) -> Self: ...
    def copy(self) -> Self: ...


def parse_gtid_set(text: str) -> MysqlGtidSet | MariadbGtidPosition:
    """Return the set that ``text`` writes, of whichever server. The empty text is MySQL's empty set."""
    first = text.partition(",")[0].strip()
    return MariadbGtidPosition.parse(text) if _MARIADB_GTID.fullmatch(first) else MysqlGtidSet.parse(text)


class MysqlGtidSet:
    """A MySQL GTID set: per (uuid, tag), disjoint closed intervals in rising order."""

    __slots__ = ("_intervals",)

    def __init__(self) -> None:
        self._intervals: dict[tuple[str, str], list[list[int]]] = {}

    @classmethod
    def parse(cls, text: str) -> MysqlGtidSet:
        """Read the server's own text. Raises ValueError with the part that is wrong."""
        gtids = cls()
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            uuid, *rest = (piece.strip().lower() for piece in part.split(":"))
            if not _UUID.fullmatch(uuid) or not rest:
                raise ValueError(f"not a GTID set: {part!r}")
            uuid, tag = _with_dashes(uuid), ""
            for piece in rest:
                if interval := _INTERVAL.fullmatch(piece):
                    first = int(interval[1])
                    gtids._add_interval((uuid, tag), first, int(interval[2] or first))
                elif _TAG.fullmatch(piece):
                    tag = piece
                else:
                    raise ValueError(f"not a GTID set: {piece!r} in {part!r}")
        return gtids

    def add(self, gtid: str) -> None:
        source, number = _split(gtid)
        self._add_interval(source, number, number)

    def add_range(self, uuid: str, first: int, last: int) -> None:
        """Add the transactions ``first`` to ``last``, both included, of a server; they have no tag."""
        self._add_interval((uuid, ""), first, last)

    def update(self, other: MysqlGtidSet) -> None:
        """Add every transaction of ``other``."""
        for source, intervals in other._intervals.items():
            for first, last in intervals:
                self._add_interval(source, first, last)

    def _add_interval(self, source: tuple[str, str], first: int, last: int) -> None:
        if first < 1 or last < first:
            raise ValueError(f"not a GTID interval: {first}-{last}")
        intervals = self._intervals.setdefault(source, [])
        if intervals and intervals[-1][1] == first - 1:  # the common case: the next transaction
            intervals[-1][1] = last
            return
        index = bisect_right(intervals, first, key=lambda interval: interval[0])
        if index and intervals[index - 1][1] >= first - 1:
            index -= 1
            intervals[index][1] = max(intervals[index][1], last)
        else:
            intervals.insert(index, [first, last])
        while index + 1 < len(intervals) and intervals[index + 1][0] <= intervals[index][1] + 1:
            intervals[index][1] = max(intervals[index][1], intervals.pop(index + 1)[1])

    def __contains__(self, gtid: str) -> bool:
        source, number = _split(gtid)
        intervals = self._intervals.get(source, ())
        index = bisect_right(intervals, number, key=lambda interval: interval[0])
        return index > 0 and intervals[index - 1][1] >= number

    def issubset(self, other: MysqlGtidSet) -> bool:
        """Whether ``other`` holds every transaction of this set."""
        return self.intersection(other) == self

    def intersection(self, other: MysqlGtidSet) -> MysqlGtidSet:
        common = MysqlGtidSet()
        for source, mine in self._intervals.items():
            for (first, last), (other_first, other_last) in _overlaps(mine, other._intervals.get(source, [])):
                common._add_interval(source, max(first, other_first), min(last, other_last))
        return common

    def difference(self, other: MysqlGtidSet) -> MysqlGtidSet:
        """Return what this set holds and ``other`` does not."""
        rest = MysqlGtidSet()
        for source, mine in self._intervals.items():
            holes = _overlaps(mine, other._intervals.get(source, []))
            hole = next(holes, None)
            for interval in mine:
                start, last = interval
                while hole is not None and hole[0] is interval:
                    other_first, other_last = hole[1]
                    if other_first > start:
                        rest._add_interval(source, start, other_first - 1)
                    start = other_last + 1
                    hole = next(holes, None)
                if start <= last:
                    rest._add_interval(source, start, last)
        return rest

    def copy(self) -> MysqlGtidSet:
        twin = MysqlGtidSet()
        twin._intervals = {source: [list(pair) for pair in pairs] for source, pairs in self._intervals.items()}
        return twin

    def items(self) -> list[tuple[str, str, list[tuple[int, int]]]]:
        """Return ``(uuid, tag, closed intervals)`` in the server's order: by uuid, then by tag."""
        return [
            (uuid, tag, [(first, last) for first, last in intervals])
            for (uuid, tag), intervals in sorted(self._intervals.items())
        ]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MysqlGtidSet) and self._intervals == other._intervals

    __hash__ = None  # type: ignore[assignment]  # mutable: not a key; this is how Python spells it

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def __str__(self) -> str:
        texts: dict[str, str] = {}
        for uuid, tag, intervals in self.items():
            text = ":".join(str(first) if first == last else f"{first}-{last}" for first, last in intervals)
            texts[uuid] = texts.get(uuid, uuid) + (f":{tag}" if tag else "") + f":{text}"
        return ",".join(texts.values())


def _overlaps(left: list[list[int]], right: list[list[int]]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the pairs that share a number, in order; work is linear, since both are disjoint and in rising order."""
    at = 0
    for interval in left:
        first, last = interval
        while at < len(right) and right[at][1] < first:
            at += 1
        reach = at
        while reach < len(right) and right[reach][0] <= last:
            yield interval, right[reach]
            reach += 1
        at = max(at, reach - 1)


def _with_dashes(uuid: str) -> str:
    """Return the uuid as servers print it; they also read it without dashes."""
    digits = uuid.replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _split(gtid: str) -> tuple[tuple[str, str], int]:
    uuid, *tag, number = gtid.split(":")
    return (uuid, tag[0] if tag else ""), int(number)


class MariadbGtidPosition:
    """A MariaDB GTID position: per replication domain the last (server id, sequence number) that is done.

    Adding follows the stream, also where its sequence numbers fall; questions go by the sequence numbers.
    """

    __slots__ = ("_domains",)

    def __init__(self) -> None:
        self._domains: dict[int, tuple[int, int]] = {}

    @classmethod
    def parse(cls, text: str) -> MariadbGtidPosition:
        """Read the server's own text, such as ``0-1-100,5-2-7``. Raises ValueError with the part that is wrong."""
        position = cls()
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            position.add(part)
        return position

    def add(self, gtid: str) -> None:
        domain, server, sequence = _split_mariadb(gtid)
        self._domains[domain] = (server, sequence)

    def update(self, other: MariadbGtidPosition) -> None:
        """Move on to ``other``, which comes later in the stream, in each of its domains."""
        self._domains.update(other._domains)

    def __contains__(self, gtid: str) -> bool:
        domain, _, sequence = _split_mariadb(gtid)
        return domain in self._domains and sequence <= self._domains[domain][1]

    def issubset(self, other: MariadbGtidPosition) -> bool:
        """Whether ``other`` is at or behind no domain of this position."""
        return all(
            domain in other._domains and sequence <= other._domains[domain][1]
            for domain, (_, sequence) in self._domains.items()
        )

    def intersection(self, other: MariadbGtidPosition) -> MariadbGtidPosition:
        """Return, per domain, the one with the lower number; no domain where two servers used the same number.

        Which of those two came first cannot be known; without the domain all of it counts as not done.
        """
        common = MariadbGtidPosition()
        for domain, mine in self._domains.items():
            theirs = other._domains.get(domain)
            if theirs is not None and (mine == theirs or mine[1] != theirs[1]):
                common._domains[domain] = min(mine, theirs, key=lambda gtid: gtid[1])
        return common

    def by_domain(self) -> dict[str, str]:
        """Return the GTID of each domain."""
        return {str(domain): f"{domain}-{server}-{seq}" for domain, (server, seq) in self._domains.items()}

    def without(self, domains: Collection[str]) -> MariadbGtidPosition:
        rest = MariadbGtidPosition()
        rest._domains = {domain: gtid for domain, gtid in self._domains.items() if str(domain) not in domains}
        return rest

    def copy(self) -> MariadbGtidPosition:
        twin = MariadbGtidPosition()
        twin._domains = dict(self._domains)
        return twin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MariadbGtidPosition) and self._domains == other._domains

    __hash__ = None  # type: ignore[assignment]  # mutable: not a key; this is how Python spells it

    def __bool__(self) -> bool:
        return bool(self._domains)

    def __str__(self) -> str:
        return ",".join(f"{domain}-{server}-{seq}" for domain, (server, seq) in sorted(self._domains.items()))


def _split_mariadb(gtid: str) -> tuple[int, int, int]:
    match = _MARIADB_GTID.fullmatch(gtid)
    if match is None:
        raise ValueError(f"not a MariaDB GTID: {gtid!r}")
    return int(match[1]), int(match[2]), int(match[3])
