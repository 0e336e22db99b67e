"""How much binlog is left before the source deletes what we need."""

from __future__ import annotations

import pytest

from ha_canal.model.position import Position
from ha_canal.source.runway import Expiry, Runway, file_after, runway_of

FILES = [("bin.000007", 1000), ("bin.000008", 2000), ("bin.000009", 300)]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"binlog_expire_logs_seconds": "2592000", "expire_logs_days": "0"}, Expiry(2592000)),
        ({"binlog_expire_logs_seconds": "0", "expire_logs_days": "10"}, Expiry(864000)),
        ({"expire_logs_days": "0.500000"}, Expiry(43200)),
        ({"binlog_expire_logs_seconds": "60", "binlog_expire_logs_auto_purge": "OFF"}, Expiry(0)),
        ({"binlog_expire_logs_seconds": "60", "binlog_expire_logs_auto_purge": "ON"}, Expiry(60)),
        ({"expire_logs_days": "0", "max_binlog_total_size": "5000"}, Expiry(0, 5000)),
        ({}, Expiry()),
    ],
)
def test_settings_of_both_servers(variables: dict[str, str], expected: Expiry) -> None:
    assert Expiry.of(variables) == expected


@pytest.mark.parametrize(
    ("cursor", "expiry", "expected"),
    [
        (Position("bin.000009", 100), Expiry(3600, 5000), Runway(3600, 4700, 3000, 200)),
        (Position("bin.000008", 500), Expiry(3600, 5000), Runway(3600 - 900, 2700, 1000, 1800)),
        (Position("bin.000008", 500), Expiry(600), Runway(0, None, 1000, 1800)),
        (Position("bin.000007", 4), Expiry(0, 3000), Runway(None, 0, 0, 3296)),
        (Position("bin.000007", 4), Expiry(), Runway(None, None, 0, 3296)),
        (Position("bin.000006", 4), Expiry(3600), Runway(0, 0, 0, 3300, is_gone=True)),
    ],
)
def test_what_is_left(cursor: Position, expiry: Expiry, expected: Runway) -> None:
    assert runway_of(cursor, FILES, expiry, next_created_s=10_000, now_s=10_900) == expected
    assert str(expected)


def test_the_file_that_ends_the_cursors() -> None:
    assert file_after(Position("bin.000007", 4), FILES) == "bin.000008"
    assert file_after(Position("bin.000009", 4), FILES) == ""
