"""Where reading starts: a table of what is stored, what the server has, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pytest

from ha_canal.errors import PositionPurgedError, SourceRefusedError
from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo
from ha_canal.source.position import choose_start, earliest_of

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "93274629-1234-1234-8567-000000000042"

MYSQL = ServerInfo("mysql", "9.7.4", A, 1, gtids=True, row_metadata_full=True, address="db:3306")
NO_GTIDS = replace(MYSQL, gtids=False)
MARIADB = ServerInfo("mariadb", "10.11.19-MariaDB", "", 1, gtids=True, row_metadata_full=True, address="db:3306")


def at(file: int, offset: int, gtid_set: str = "", *, uuid: str = A, server_id: int = 1, ordinal: int = 0) -> Position:
    return Position(f"bin.{file:06}", offset, uuid, server_id, 0, gtid_set, ordinal)


def maria(file: int, offset: int, gtid_set: str = "", *, server_id: int = 1) -> Position:
    return at(file, offset, gtid_set, uuid="", server_id=server_id)


@dataclass(frozen=True)
class Case:
    """``then`` is the start, or the error and a part of its words. The binlog goes from ``oldest`` to ``end``."""

    stored: list[Position]
    then: Position | tuple[type[Exception], str]
    oldest: Position = at(2, 4, f"{A}:1-10")  # noqa: RUF009 # a frozen value
    end: Position = at(5, 900, f"{A}:1-50")  # noqa: RUF009 # a frozen value
    info: ServerInfo = MYSQL
    policy: Literal["latest", "earliest"] = "latest"


PURGED, REFUSED = PositionPurgedError, SourceRefusedError


def without(stored: list[Position], then: Position | tuple[type[Exception], str]) -> Case:
    """A case of MySQL without GTIDs."""
    return Case(stored, then, at(2, 4), at(5, 900), NO_GTIDS)


def of_mariadb(stored: list[Position], then: Position | tuple[type[Exception], str]) -> Case:
    """A case of MariaDB."""
    return Case(stored, then, maria(2, 4, "0-1-10"), maria(5, 900, "0-1-50,7-2-3"), MARIADB)


CASES = {
    "nothing stored: the end": Case([], at(5, 900, f"{A}:1-50")),
    "nothing stored: the beginning": Case([], at(2, 4, f"{A}:1-10"), policy="earliest"),
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
    "one transaction too few is done": Case([at(1, 99, f"{A}:1-9")], (PURGED, f"not delivered yet: {A}:10.")),
    "a hole in what is done was purged": Case(
        [at(3, 70, f"{A}:1-4:6-20")], (PURGED, f"not delivered yet: {A}:5. Restore the binlog")
    ),
    "a transaction of another source was purged": Case(
        [at(3, 70, f"{A}:1-20")], (PURGED, f"{B}:1-2"), oldest=at(2, 4, f"{A}:1-10,{B}:1-2")
    ),
    "the server lacks what was delivered": Case(
        [at(5, 990, f"{A}:1-52")], (REFUSED, f"delivered already: {A}:51-52. It is another server")
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
    "MariaDB has purged": of_mariadb([maria(1, 70, "0-1-9")], (PURGED, "has purged bin.000001")),
    "MariaDB has purged what another server had": of_mariadb(
        [replace(maria(1, 70, "0-1-9"), server_id=2)], (PURGED, "between 0-1-9 and 0-1-10")
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
    "by offset: the file is gone": without([at(1, 900)], (PURGED, "has purged bin.000001")),
    "by offset: another MySQL server": without([at(3, 70, uuid=B)], (REFUSED, f"belongs to server {B}")),
    "by offset: the server got another id": without([at(3, 70, server_id=2)], at(3, 70, server_id=2)),
    "by offset: another MariaDB server": of_mariadb([maria(3, 70, server_id=2)], (REFUSED, "belongs to server 2")),
    "by offset: MariaDB, where MySQL was": of_mariadb([at(3, 70)], (REFUSED, f"belongs to server {A}")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_choosing(case: Case) -> None:
    if isinstance(case.then, Position):
        start = choose_start(case.stored, case.info, oldest=case.oldest, end=case.end, policy=case.policy)
        assert start.position == case.then
        assert case.then.file in start.why or case.then.gtid_set in start.why
        return
    kind, words = case.then
    with pytest.raises(kind) as caught:
        choose_start(case.stored, case.info, oldest=case.oldest, end=case.end, policy=case.policy)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "db:3306" in str(caught.value) or len(case.stored) > 1


def test_the_order_of_cursors_does_not_matter() -> None:
    places = [at(3, 70, f"{A}:1-20"), at(4, 10, f"{A}:1-30"), at(3, 75, f"{A}:1-21", ordinal=3)]
    assert earliest_of(places) == earliest_of(places[::-1]) == at(3, 70, f"{A}:1-20")
