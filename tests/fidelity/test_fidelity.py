"""Random tables and statements on real servers; ``scripts/test fidelity`` is the same with more rows."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.fidelity import run_on
from ha_canal.testing.fidelity_case import Case, Difference, Step, Table, case_from, load_case
from ha_canal.testing.fidelity_round import run_case
from ha_canal.testing.fidelity_smaller import smaller
from tests.fidelity.conftest import Served

_SEED = random.SystemRandom().randrange(1 << 32)
_ROWS = 1200
_CASES = [
    (path, dialect)
    for path in sorted((Path(__file__).parent / "cases").glob("*.json"))
    for dialect in load_case(path).servers or ("mysql", "mysql56", "mariadb")
]


@pytest.fixture(autouse=True)
def seed() -> int:
    print(f"seed {_SEED}")
    return _SEED


def test_random_rows_are_what_the_server_selects(served: Served, seed: int) -> None:
    server, dialect = served
    result = run_on(server, dialect, rows=_ROWS, seed=seed)
    assert not result.differences, _shown(result.differences)
    assert result.rows >= _ROWS * 0.9
    assert result.images > result.rows * 0.9
    assert result.entries > 0
    assert result.refused < result.statements / 4


@pytest.mark.parametrize(("path", "dialect"), _CASES, ids=lambda value: getattr(value, "stem", value))
def test_what_was_wrong_once(path: Path, dialect: str, request: pytest.FixtureRequest) -> None:
    result = run_case(request.getfixturevalue(dialect), load_case(path), random.Random(1))
    assert not result.differences, _shown(result.differences)
    assert result.images > 0


def test_a_difference_is_found_and_made_small(mariadb: DatabaseServer) -> None:
    columns = (("id", "INT PRIMARY KEY"), ("a", "INT"), ("key", "INT"), ("b", "TEXT"))
    steps = tuple(
        Step("insert", (n, n + 1), ("a", "key", "b"), (("1", "0", "'x'"), ("2", "0", "'y'"))) for n in (1, 3, 5)
    )
    case = Case(Table("t", columns, row_key="key"), steps)  # a key that does not tell rows apart
    found = run_case(mariadb, case, random.Random(1)).differences
    assert found
    small = smaller(mariadb, Difference(case, "another value", ""))
    assert "key" in small.case.table.row_key
    assert len(small.case.steps) == 1
    assert [name for name, _ in small.case.table.columns] == ["id", "key"]
    assert case_from(json.loads(small.case.to_json())) == small.case


def test_a_difference_that_does_not_come_again_is_reported_as_it_was(mariadb: DatabaseServer) -> None:
    case = Case(Table("t", (("id", "INT PRIMARY KEY"),)), (Step("insert", (1,), (), ((),)),))
    kept = smaller(mariadb, Difference(case, "another value", "INSERT"))
    assert kept.what == "another value"
    assert kept.report()["notes"]


def test_a_table_that_cannot_be_read_is_a_difference(mariadb: DatabaseServer) -> None:
    table = Table("t", (("id", "INT PRIMARY KEY"), ("e", "ENUM('a','?') CHARACTER SET utf8mb4")))
    case = Case(table, (Step("insert", (1,), ("e",), (("1",),)),), settings=("binlog_row_metadata = MINIMAL",))
    (difference,) = run_case(mariadb, case, random.Random(1)).differences
    assert difference.what == "the reading stopped"
    assert "question mark" in difference.got


def _shown(differences: list[Difference]) -> str:
    return "\n".join(json.dumps(difference.report(), ensure_ascii=False, indent=1) for difference in differences)
