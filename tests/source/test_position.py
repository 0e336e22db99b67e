"""Where reading starts: a table of what is stored, what the server has, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from ha_canal.errors import PositionPurgedError, SourceRefusedError
from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo
from ha_canal.source.position import ByTime, Start, StartRules, choose_start, earliest_of, place_found

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "93274629-1234-1234-8567-000000000042"

MYSQL = ServerInfo("mysql", "9.7.4", A, 1, gtids=True, row_metadata_full=True, address="db:3306")
NO_GTIDS = replace(MYSQL, gtids=False)
MARIADB = ServerInfo("mariadb", "10.11.19-MariaDB", "", 1, gtids=True, row_metadata_full=True, address="db:3306")


def at(file: int, offset: int, gtid_set: str = "", *, uuid: str = A, server_id: int = 1, ordinal: int = 0) -> Position:
    return Position(f"bin.{file:06}", offset, uuid, server_id, 0, gtid_set, ordinal)


def maria(file: int, offset: int, gtid_set: str = "", *, server_id: int = 1) -> Position:
    return at(file, offset, gtid_set, uuid="", server_id=server_id)


Then = Position | ByTime | tuple[type[Exception], str]


@dataclass(frozen=True)
class Case:
    """``then`` is the start, what to look for (``why`` is compared by a part of it), or the error and its words.

    The binlog goes from ``oldest`` to ``end``. ``cursors`` are where the stored ones are then, if that is asked;
    ``gap`` is a part of what the start says is missed.
    """

    stored: list[Position]
    then: Then
    oldest: Position = at(2, 4, f"{A}:1-10")  # noqa: RUF009 # a frozen value
    end: Position = at(5, 900, f"{A}:1-50")  # noqa: RUF009 # a frozen value
    info: ServerInfo = MYSQL
    rules: StartRules = field(default_factory=StartRules)
    state: str = ""
    cursors: tuple[Position | None, ...] | None = None
    gap: str = ""


PURGED, REFUSED = PositionPurgedError, SourceRefusedError


LOST = StartRules(accept_lost=True)
EARLIEST, SKIP, JUMP = StartRules(start="earliest"), StartRules(on_purged="earliest"), StartRules(on_purged="latest")


def without(
    stored: list[Position], then: Then, rules: StartRules | None = None, *, gap: str = "",
    cursors: tuple[Position | None, ...] | None = None,
) -> Case:  # fmt: skip
    """A case of MySQL without GTIDs."""
    return Case(stored, then, at(2, 4), at(5, 900), NO_GTIDS, rules or StartRules(), gap=gap, cursors=cursors)


def of_mariadb(
    stored: list[Position], then: Then, rules: StartRules | None = None, *, state: str = "", gap: str = "",
    cursors: tuple[Position | None, ...] | None = None,
) -> Case:  # fmt: skip
    """A case of MariaDB."""
    oldest, end = maria(2, 4, "0-1-10"), maria(5, 900, "0-1-50,7-2-3")
    return Case(stored, then, oldest, end, MARIADB, rules or StartRules(), state, cursors, gap)


def seen(place: Position, second: int) -> Position:
    """The same place, with the time of its last transaction."""
    return replace(place, timestamp_ms=second * 1000)


def back(second: int, why: str) -> ByTime:
    """What to look for in a fallback."""
    return ByTime(second * 1000, why, is_fallback=True)


CASES = {
    "nothing stored: the end": Case([], at(5, 900, f"{A}:1-50")),
    "nothing stored: the beginning": Case([], at(2, 4, f"{A}:1-10"), rules=EARLIEST),
    "nothing stored, MariaDB": of_mariadb([], maria(5, 900, "0-1-50,7-2-3")),
    "one cursor": Case([at(3, 70, f"{A}:1-20")], at(3, 70, f"{A}:1-20")),
    "a cursor inside a transaction begins with it": Case([at(3, 70, f"{A}:1-20", ordinal=9)], at(3, 70, f"{A}:1-20")),
    "two cursors: the one that is behind": Case(
        [at(4, 10, f"{A}:1-30"), at(3, 70, f"{A}:1-20")], at(3, 70, f"{A}:1-20")
    ),
    "two cursors, each ahead in something": Case(
        [at(3, 70, f"{A}:1-20,{B}:1-5"), at(3, 90, f"{A}:1-22,{B}:1-3")],
        at(3, 70, f"{A}:1-20,{B}:1-3"),
        end=at(5, 900, f"{A}:1-50,{B}:1-9"),
    ),
    "another server with our transactions, by GTID": Case(
        [at(9, 70, f"{B}:1-20", uuid=B, server_id=2)],
        at(9, 70, f"{B}:1-20", uuid=B, server_id=2),
        oldest=at(2, 4, f"{B}:1-10"),
        end=at(5, 900, f"{A}:1,{B}:1-50"),
    ),
    "exactly what was purged is done": Case([at(2, 4, f"{A}:1-10")], at(2, 4, f"{A}:1-10")),
    "one transaction too few is done": Case(
        [at(1, 99, f"{A}:1-9")], (PURGED, f"not delivered yet: {A}:10 (1 transaction).")
    ),
    "a hole in what is done was purged": Case(
        [at(3, 70, f"{A}:1-4:6-20")], (PURGED, f"not delivered yet: {A}:5 (1 transaction). Restore the binlog")
    ),
    "a transaction of another source was purged": Case(
        [at(3, 70, f"{A}:1-20")], (PURGED, f"{B}:1-2"), oldest=at(2, 4, f"{A}:1-10,{B}:1-2")
    ),
    "the server lacks what was delivered": Case(
        [at(5, 990, f"{A}:1-52")], (REFUSED, f"delivered already: {A}:51-52 (2 transactions). It is behind, or another")
    ),
    "the server was reset": Case([at(5, 990, f"{A}:1-52")], (REFUSED, f"{A}:1-52"), oldest=at(1, 4), end=at(1, 158)),
    "tags count": Case([at(3, 70, f"{A}:1-20:blue:1")], (PURGED, f"{A}:blue:2"), oldest=at(2, 4, f"{A}:1-9:blue:1-2")),
    "MariaDB by GTID": of_mariadb([maria(3, 70, "0-1-20,7-2-3")], maria(3, 70, "0-1-20,7-2-3")),
    "MariaDB: a domain that one client has not seen, on another server": of_mariadb(
        [maria(3, 70, "0-1-20,7-2-3"), replace(maria(3, 90, "0-1-25"), server_id=2)], maria(3, 70, "0-1-20")
    ),
    "MariaDB: on one server its order counts": of_mariadb(
        [maria(3, 70, "0-1-20,7-2-3"), maria(3, 90, "0-1-25")], maria(3, 70, "0-1-20,7-2-3")
    ),
    "MariaDB: a lower number behind a higher one": of_mariadb(
        [maria(3, 70, "0-1-20"), maria(3, 90, "0-2-4")], maria(3, 70, "0-1-20")
    ),
    "MariaDB has purged": of_mariadb(
        [maria(1, 70, "0-1-9")], (PURGED, "from bin.000001:70 to the start of bin.000002, 1 file.")
    ),
    "MariaDB has purged what another server had": of_mariadb(
        [replace(maria(1, 70, "0-1-9"), server_id=2)], (PURGED, "from 0-1-9 to 0-1-10, up to 1.")
    ),
    "MariaDB lacks what was delivered": of_mariadb([maria(5, 990, "0-1-51")], (REFUSED, "0-1-51")),
    "MariaDB was reset": Case(
        [maria(5, 990, "0-1-51")],
        (REFUSED, "its binlog was reset"),
        info=MARIADB,
        oldest=maria(1, 4),
        end=maria(1, 328),
    ),
    "a cursor of MySQL at MariaDB": of_mariadb(
        [at(3, 70, f"{A}:1-20")], (REFUSED, "db:3306 is mariadb, and the stored cursor is not")
    ),
    "a cursor of MariaDB at MySQL": Case([maria(3, 70, "0-1-20")], (REFUSED, "is mysql, and the stored cursor is not")),
    "a cursor of MariaDB at a MySQL that has executed nothing": Case(
        [maria(3, 70, "0-1-20")], (REFUSED, "is mysql"), oldest=at(1, 4), end=at(1, 158)
    ),
    "cursors of both": Case(
        [maria(3, 70, "0-1-20"), at(3, 70, f"{A}:1-20")], (REFUSED, "cursors belong to different servers")
    ),
    "by offset": without([at(3, 70)], at(3, 70)),
    "by offset: the first of several, whatever their numbers look like": Case(
        [at(1_000_000, 9), at(999_999, 70), at(999_999, 80)],
        at(999_999, 70),
        info=NO_GTIDS,
        oldest=at(999_999, 4),
        end=at(1_000_000, 100),
    ),
    "by offset: a cursor with an ordinal begins with its transaction": without([at(3, 70, ordinal=4)], at(3, 70)),
    "GTIDs that the server has switched off": without([at(3, 70, f"{A}:1-20")], at(3, 70)),
    "one of two cursors has no GTIDs": Case([at(3, 90, f"{A}:1-20"), at(3, 70)], at(3, 70)),
    "by offset: exactly the end": without([at(5, 900)], at(5, 900)),
    "by offset: behind the end": without([at(5, 901)], (REFUSED, "its binlog was reset")),
    "by offset: the file is gone": without(
        [at(1, 900)], (PURGED, "from bin.000001:900 to the start of bin.000002, 1 file.")
    ),
    "by offset: another MySQL server": without([at(3, 70, uuid=B)], (REFUSED, f"belongs to server {B}")),
    "by offset: the server got another id": without([at(3, 70, server_id=2)], at(3, 70, server_id=2)),
    "by offset: another MariaDB server": of_mariadb([maria(3, 70, server_id=2)], (REFUSED, "belongs to server 2")),
    "by offset: MariaDB, where MySQL was": of_mariadb([at(3, 70)], (REFUSED, f"belongs to server {A}")),
    "configured file and offset": Case([], at(3, 70), rules=StartRules(at=Position("bin.000003", 70))),
    "a configured file that is gone": Case(
        [], (PURGED, "bin.000001:4"), rules=StartRules(at=Position("bin.000001", 4))
    ),
    "a configured file that does not exist yet": Case(
        [], (REFUSED, "ends at bin.000005:900"), rules=StartRules(at=Position("bin.000006", 4))
    ),
    "configured GTIDs": Case(
        [], at(2, 4, f"{A}:1-20", uuid="", server_id=0), rules=StartRules(at=Position("", 4, gtid_set=f"{A}:1-20"))
    ),
    "configured GTIDs that are purged": Case(
        [], (PURGED, f"{A}:10 (1"), rules=StartRules(at=Position("", 4, gtid_set=f"{A}:1-9"))
    ),
    "configured GTIDs of MariaDB": of_mariadb(
        [], replace(maria(2, 4, "0-1-20"), server_id=0), StartRules(at=Position("", 4, gtid_set="0-1-20"))
    ),
    "configured GTIDs, and the server has none": without(
        [], (REFUSED, "no GTIDs to start from"), StartRules(at=Position("", 4, gtid_set=f"{A}:1-20"))
    ),
    "a configured time": Case([], ByTime(5000, "the configured time"), rules=StartRules(at_time_ms=5000)),
    "a cursor goes before all that is configured": Case(
        [at(3, 70, f"{A}:1-20")], at(3, 70, f"{A}:1-20"), rules=StartRules("earliest", Position("bin.000004", 4), 5)
    ),
    "another server without GTIDs: by time": without(
        [seen(at(9, 70, uuid=B), 1000)], back(940, f"belongs to server {B}"), cursors=(None,)
    ),
    "another server: another interval": without(
        [seen(at(9, 70, uuid=B), 1000)], back(995, "from 5 s before"), StartRules(fallback_interval_s=5)
    ),
    "the same address and file, and another server": without([seen(at(3, 70, uuid=B), 1000)], back(940, "no GTIDs")),
    "another server: the oldest of two cursors counts": without(
        [seen(at(9, 70, uuid=B), 1000), seen(at(9, 20, uuid=B), 990)], back(930, "bin.000009:20"), cursors=(None, None)
    ),
    "one cursor is of this server, one of another": without(
        [at(3, 70), seen(at(9, 20, uuid=B), 990)], back(930, "bin.000009:20"), cursors=(at(3, 70), None)
    ),
    "another MariaDB server, and no GTIDs are wanted": replace(
        of_mariadb([seen(maria(9, 70, "0-1-20", server_id=2), 1000)], back(940, "belongs to server 2")),
        info=replace(MARIADB, gtids=False),
    ),
    "another server that has GTIDs, and a cursor without": Case([seen(at(9, 70, uuid=B), 1000)], back(940, B)),
    "MariaDB: the number is there, and another server's": of_mariadb(
        [maria(9, 70, "0-3-20", server_id=2)], (REFUSED, "have parted"), state="0-1-50,7-2-3"
    ),
    "MariaDB: the number is there, as the state of its binlog proves": of_mariadb(
        [maria(9, 70, "0-3-20", server_id=2)], maria(9, 70, "0-3-20", server_id=2), state="0-3-25,0-1-50,7-2-3"
    ),
    "MariaDB: a domain that the server does not know": of_mariadb(
        [maria(9, 70, "0-1-20,8-1-1", server_id=2)], (REFUSED, "8-1-1, and it ends at nothing")
    ),
    "MariaDB: a domain of which nothing was done, and its start is purged": Case(
        [maria(9, 70, "0-1-20", server_id=2)],
        (PURGED, "from the start of domain 7 to 7-2-3, up to 3"),
        info=MARIADB,
        oldest=maria(2, 4, "0-1-10,7-2-3"),
        end=maria(5, 900, "0-1-50,7-2-3"),
    ),
    "purged, and earliest is good enough": Case(
        [at(1, 99, f"{A}:1-8")],
        at(2, 4, f"{A}:1-10"),
        rules=SKIP,
        gap=f"{A}:9-10 (2 transactions); by on_purged = 'earliest' reading goes on at bin.000002:4",
        cursors=(at(2, 4, f"{A}:1-10"),),
    ),
    "purged, and latest is good enough": Case(
        [at(1, 99, f"{A}:1-8")], at(5, 900, f"{A}:1-50"), rules=JUMP, gap="reading goes on at bin.000005:900"
    ),
    "purged for one client alone": Case(
        [at(1, 99, f"{A}:1-8"), at(4, 9, f"{A}:1-30")],
        at(2, 4, f"{A}:1-10"),
        rules=SKIP,
        gap="9-10",
        cursors=(at(2, 4, f"{A}:1-10"), at(4, 9, f"{A}:1-30")),
    ),
    "purged: what is done beyond it stays done": Case(
        [at(1, 99, f"{A}:1-8:12")], at(2, 4, f"{A}:1-10:12"), rules=SKIP, gap=f"{A}:9-10"
    ),
    "purged by offset, earliest": without([at(1, 900)], at(2, 4), SKIP, gap="1 file", cursors=(at(2, 4),)),
    "purged by offset, latest, and a client that needs nothing of it": without(
        [at(1, 900), at(3, 70)], at(3, 70), JUMP, gap="bin.000005:900", cursors=(at(5, 900), at(3, 70))
    ),
    "purged on another MariaDB, earliest": of_mariadb(
        [maria(9, 70, "0-1-9,7-2-1", server_id=2)], maria(2, 4, "0-1-10,7-2-1"), SKIP, gap="0-1-9 to 0-1-10"
    ),
    "what was delivered is lost, and that is accepted": Case(
        [at(5, 990, f"{A}:1-52,{B}:7", ordinal=3), at(4, 9, f"{A}:1-30")],
        at(4, 9, f"{A}:1-30"),
        rules=LOST,
        gap=f"lacks transactions that were delivered already: {A}:51-52,{B}:7 (3 transactions); that is accepted",
        cursors=(at(5, 990, f"{A}:1-50"), at(4, 9, f"{A}:1-30")),
    ),
    "a loss is accepted, and there is none": Case([at(5, 9, f"{A}:1-40")], at(5, 9, f"{A}:1-40"), rules=LOST),
    "a loss is accepted, and all is lost": Case(
        [at(5, 9, f"{B}:1-40")], (REFUSED, f"{B}:1-40"), oldest=at(1, 4), rules=LOST
    ),
    "MariaDB: the last transactions are lost, and that is accepted": of_mariadb(
        [maria(9, 70, "0-1-53,7-2-3", server_id=2)], maria(9, 70, "0-1-50,7-2-3", server_id=2), LOST, gap="0-1-53"
    ),
    "MariaDB: histories have parted, and that is accepted": replace(
        of_mariadb([maria(9, 70, "0-3-20", server_id=2)], maria(9, 70, "0-3-18", server_id=2), LOST, gap="have parted"),
        state="0-3-18,0-1-50,7-2-3",
    ),
    "MariaDB: histories never met, and that is accepted": replace(
        of_mariadb([maria(9, 70, "0-3-20", server_id=2)], (REFUSED, "have parted"), LOST), state="0-1-50,7-2-3"
    ),
    "a policy for purged binlog does not help a server that was reset": without(
        [at(5, 901)], (REFUSED, "its binlog was reset"), SKIP
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_choosing(case: Case) -> None:
    def choose() -> Start | ByTime:
        return choose_start(
            case.stored, case.info, oldest=case.oldest, end=case.end, rules=case.rules, binlog_state=case.state
        )

    if isinstance(case.then, tuple):
        kind, words = case.then
        with pytest.raises(kind) as caught:
            choose()
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert "db:3306" in str(caught.value) or len(case.stored) > 1
        return
    found = choose()
    if case.cursors is not None:
        assert found.cursors == case.cursors
    if isinstance(case.then, ByTime):
        assert isinstance(found, ByTime)
        assert (found.before_ms, found.is_fallback) == (case.then.before_ms, case.then.is_fallback)
        assert case.then.why in found.why
        return
    assert isinstance(found, Start)
    assert found.position == case.then
    assert case.then.file in found.why or case.then.gtid_set in found.why
    assert case.gap in found.gap
    assert bool(case.gap) is bool(found.gap)


def test_there_are_as_many_cases_as_were_asked_for() -> None:
    assert len(CASES) >= 40


def test_what_a_search_found_is_taken_and_what_it_did_not_find_is_purged() -> None:
    wanted = back(940, "from 60 s before")
    oldest, end = at(2, 4), at(5, 900)
    assert place_found(wanted, at(3, 70), NO_GTIDS, oldest=oldest, end=end) == (at(3, 70), "")
    with pytest.raises(PositionPurgedError, match="nothing is that old"):
        place_found(wanted, None, NO_GTIDS, oldest=oldest, end=end)
    place, gap = place_found(wanted, None, NO_GTIDS, oldest=oldest, end=end, rules=SKIP)
    assert place == oldest
    assert "older than bin.000002" in gap
    configured = ByTime(5000, "from the configured time")
    assert place_found(configured, None, NO_GTIDS, oldest=oldest, end=end) == (oldest, "")


def test_the_order_of_cursors_does_not_matter() -> None:
    places = [at(3, 70, f"{A}:1-20"), at(4, 10, f"{A}:1-30"), at(3, 75, f"{A}:1-21", ordinal=3)]
    assert earliest_of(places) == earliest_of(places[::-1]) == at(3, 70, f"{A}:1-20")
