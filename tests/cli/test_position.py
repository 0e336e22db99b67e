"""What people write behind `ha-canal position`, and what they read."""

from __future__ import annotations

import pytest

from ha_canal.cli.position import effect_text, parse_place, parse_span_s, parse_time_ms, wanted_place
from ha_canal.errors import UsageError
from ha_canal.protos import canal_pb2 as pb


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", 1769860800000),
        ("2026-01-31T14:00:00+02:00", 1769860800000),
        ("1769860800", 1769860800000),
        ("1769860800.5", 1769860800500),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time_ms(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-01-31T12:00:00", "", "12:00"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time_ms(text)


def test_spans() -> None:
    assert [parse_span_s(text) for text in ("90", "90s", "15m", "2h", "1d", "1.5h")] == [90, 90, 900, 7200, 86400, 5400]
    for text in ("", "0", "-1", "1w", "m"):
        with pytest.raises(UsageError):
            parse_span_s(text)


def test_places() -> None:
    assert parse_place("my.host-bin.000007:4711") == pb.Place(file="my.host-bin.000007", offset=4711)
    for text in ("bin.000001", "bin.000001:3", ":4", "bin.000001:x"):
        with pytest.raises(UsageError):
            parse_place(text)


def test_one_place_and_no_more() -> None:
    assert wanted_place(None, None, None, earliest=True, latest=False).end == "earliest"
    assert wanted_place(None, "0-1-5", None, earliest=False, latest=False).place.gtid_set == "0-1-5"
    for earliest, latest in ((True, True), (False, False)):
        with pytest.raises(UsageError, match="one of --place"):
            wanted_place(None, None, None, earliest=earliest, latest=latest)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (pb.MovePositionReply(effect="none"), "same place"),
        (pb.MovePositionReply(effect="repeat", transactions=3, rows=7), "3 transactions with 7 rows come again"),
        (pb.MovePositionReply(effect="miss", transactions=3, rows=-1), "rows that cannot be counted will be MISSED"),
        (pb.MovePositionReply(effect="miss", transactions=3, rows=7, at_least=True), "at least 3 transactions"),
        (pb.MovePositionReply(effect="unknown", transactions=-1, rows=-1), "cannot be counted"),
    ],
)
def test_effects(reply: pb.MovePositionReply, expected: str) -> None:
    assert expected in effect_text(reply)
