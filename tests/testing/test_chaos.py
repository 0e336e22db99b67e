"""The pure parts of the campaign: what is drawn, what is read back, and what the judges say of it."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ha_canal.cluster.layout import Layout
from ha_canal.testing.chaos.campaign import Outcome, Struck
from ha_canal.testing.chaos.journal import Answered, Handed, Journal, Tail, Witness, parse_line
from ha_canal.testing.chaos.picture import timeline
from ha_canal.testing.chaos.preload import SteppedClock, preloaded, ways
from ha_canal.testing.chaos.report import effects, lags, record, summary, table, unexplained_repeats
from ha_canal.testing.chaos.schedule import DANGERS, KINDS, Fault, draw, each_once
from ha_canal.testing.chaos.watch import Claim, two_in_one_epoch
from ha_canal.testing.chaos.zklog import Audit, Write, audit, committed, parse_log
from ha_canal.testing.checker import Checker, Delivery, Repeat

_SHOP = Layout().instance("shop")
_CURSOR = _SHOP.client("search").cursor


def test_a_seed_draws_the_same_faults_again_and_another_one_others() -> None:
    first = draw(7, 600, session_timeout_s=4)
    assert first == draw(7, 600, session_timeout_s=4)
    assert first != draw(8, 600, session_timeout_s=4)
    assert [fault.at_s for fault in first] == sorted(fault.at_s for fault in first)
    assert all(fault.at_s < 600 for fault in first)


def test_a_long_campaign_draws_every_danger_and_all_of_them_end() -> None:
    drawn = draw(1, 36_000, session_timeout_s=4)
    assert {(fault.kind, fault.target) for fault in drawn} == {(one.kind, one.target) for one in DANGERS}
    assert max(fault.for_s for fault in drawn) <= 20


def test_only_the_kinds_asked_for_are_drawn() -> None:
    assert {fault.kind for fault in draw(1, 3600, session_timeout_s=4, kinds=["kill", "cut"])} == {"kill", "cut"}


def test_the_short_schedule_has_each_kind_once() -> None:
    schedule = each_once(session_timeout_s=2, apart_s=2)
    assert [fault.kind for fault in schedule] == list(KINDS)
    assert max(fault.for_s for fault in schedule) <= 2


# the journal


def test_a_journal_is_read_as_it_grows_and_in_the_order_of_time(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "one.1.journal"), Journal(tmp_path / "one.2.journal")
    tail = Tail(tmp_path, "one")
    row = Delivery("uuid:1#0.1", (2, 7))
    second.handed(5.0, 2, 1, [])
    first.handed(1.5, 1, 9, [row])
    assert tail.new_lines() == [Handed(1.5, "one.1", 1, 9, (row,)), Handed(5.0, "one.2", 2, 1, ())]
    first.answered(1.75, 1, 9)
    with (tmp_path / "one.1.journal").open("ab") as file:
        file.write(b"batch 1.9 1 10 2.8=uu")  # killed in the middle
    assert tail.new_lines() == [Answered(1.75, "one.1", 1, 9)]


def test_a_line_that_no_journal_wrote() -> None:
    with pytest.raises(ValueError, match="gossip"):
        parse_line("gossip 1.0 1 1", "one.1")


def test_a_witness_tells_the_checker(tmp_path: Path) -> None:
    journal, checker = Journal(tmp_path / "one.1.journal"), Checker()
    witness = Witness(tmp_path, ["one"], checker)
    journal.handed(1.0, 1, 1, [Delivery("a", (1, 1)), Delivery("b", (1, 2))])
    journal.answered(2.0, 1, 1)
    witness.read()
    journal.handed(3.0, 1, 2, [Delivery("b", (1, 2))])
    witness.read()
    assert (checker.delivered, checker.acknowledged, checker.redelivered()) == (2, 2, [(3.0, (1, 2))])


# ZooKeeper's log


def _buffer(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def _set(path: str, data: bytes) -> tuple[int, bytes]:
    return 5, _buffer(path.encode()) + _buffer(data) + struct.pack(">i", 1)


def _create(path: str, data: bytes) -> tuple[int, bytes]:
    return 1, _buffer(path.encode()) + _buffer(data) + struct.pack(">i?i", 0, True, 1)


def _delete(path: str) -> tuple[int, bytes]:
    return 2, _buffer(path.encode())


def _multi(*operations: tuple[int, bytes]) -> tuple[int, bytes]:
    parts = [struct.pack(">i", kind) + _buffer(body) for kind, body in operations]
    return 14, struct.pack(">i", len(parts)) + b"".join(parts)


def _log(*transactions: tuple[int, int, tuple[int, bytes]]) -> bytes:
    entries = []
    for session, zxid, (kind, body) in transactions:
        data = struct.pack(">qiqqi", session, 1, zxid, 1_700_000_000_000, kind) + body
        entries.append(struct.pack(">q", 0) + _buffer(data) + b"B")
    return b"ZKLG" + struct.pack(">iq", 2, 0) + b"".join(entries) + bytes(64)


def test_every_write_is_read_from_a_log_also_those_within_a_commit() -> None:
    log = _log(
        (7, 1, (-10, struct.pack(">i", 4000))),
        (7, 2, _multi(_create(_SHOP.running, b"me"), _set(_SHOP.epoch, b"3"))),
        (7, 3, (-1, struct.pack(">i", -101))),
        (7, 4, _delete(_SHOP.running)),
    )
    assert list(parse_log(log)) == [
        Write(2, 7, _SHOP.running, b"me"),
        Write(2, 7, _SHOP.epoch, b"3", version=1),
        Write(4, 7, _SHOP.running, None),
    ]


def test_a_log_is_read_up_to_where_it_was_cut_and_a_snapshot_not_at_all() -> None:
    log = _log((7, 1, _set("/a", b"1")), (7, 2, _set("/b", b"2"))).rstrip(b"\0")
    assert [write.path for write in parse_log(log[:-3])] == ["/a"]
    assert list(parse_log(b"ZKSN" + log[4:])) == []


def test_what_only_a_minority_logged_never_came_to_be() -> None:
    one, two, three = (Write(zxid, 7, "/a", str(zxid).encode()) for zxid in (1, 2, 3))
    assert committed([{1: [one], 2: [two], 3: [three]}, {1: [one]}, {3: [three]}]) == [one, three]
    assert committed([{2: [two], 1: [one]}]) == [one, two]


def _cursor(epoch: int) -> bytes:
    return json.dumps({"epoch": epoch}).encode()


def _term(epoch: int, session: int) -> list[Write]:
    zxid = epoch * 100
    return [
        Write(zxid, session, _SHOP.running, b"{}"),
        Write(zxid, session, _SHOP.epoch, str(epoch).encode()),
        Write(zxid + 1, session, _CURSOR, _cursor(epoch)),
        Write(zxid + 2, session, _SHOP.running, None),
    ]


def test_leaders_one_after_the_other_are_sound() -> None:
    found = audit([*_term(1, 7), *_term(2, 8), *_term(3, 7)], _SHOP)
    assert (found.epochs, found.cursor_writes, found.holds) == (3, 3, True)


@pytest.mark.parametrize(
    ("late", "deposed", "wrongly"),
    [
        pytest.param(Write(250, 7, _CURSOR, _cursor(1)), 1, 0, id="the old leader writes in its epoch"),
        pytest.param(Write(250, 7, _CURSOR, _cursor(2)), 1, 0, id="the old session writes in the new epoch"),
        pytest.param(Write(250, 8, _CURSOR, _cursor(1)), 1, 0, id="the new session writes in the old epoch"),
        pytest.param(Write(250, 9, _SHOP.history, b"[]"), 1, 0, id="somebody else writes what only leaders write"),
        pytest.param(Write(250, 9, _SHOP.epoch, b"2"), 0, 1, id="the epoch is taken again"),
        pytest.param(Write(250, 9, _SHOP.epoch, b"9"), 0, 1, id="the epoch jumps"),
        pytest.param(Write(250, 9, Layout().instance("other").epoch, b"2"), 0, 0, id="another instance"),
    ],
)
def test_what_nobody_may_write(late: Write, deposed: int, wrongly: int) -> None:
    found = audit([*_term(1, 7), *_term(2, 8)[:3], late], _SHOP)
    assert (len(found.deposed), len(found.raised_wrongly)) == (deposed, wrongly)
    assert found.holds is not bool(deposed or wrongly)


def test_a_write_that_zookeeper_itself_forgot() -> None:
    writes = [
        *_term(1, 7),
        Write(150, 7, _CURSOR, _cursor(1), version=3),
        Write(151, 7, _CURSOR, _cursor(1), version=4),
    ]
    assert audit(writes, _SHOP).lost_by_zookeeper == []
    found = audit([*writes, Write(1 << 32, 7, _CURSOR, _cursor(1), version=4)], _SHOP)
    assert len(found.lost_by_zookeeper) == 1
    assert not found.holds


def test_two_nodes_that_claim_one_epoch() -> None:
    claims = [Claim(1.0, "node-1", 1), Claim(2.0, "node-2", 2), Claim(3.0, "node-1", 1), Claim(4.0, "node-3", 2)]
    assert two_in_one_epoch(claims) == ["epoch 2: node-2, node-3"]


# what it says in the end


def _outcome(**changed: Any) -> Outcome:
    checker = Checker()
    handed = [
        Handed(100.0 + at_s, "one.1", 1, batch, (Delivery(str(mark), (1, mark)),))
        for batch, (at_s, mark) in enumerate([(1.0, 1), (2.0, 2), (6.0, 3), (6.5, 3), (7.0, 4)], 1)
    ]
    for one in handed:
        checker.deliver(one.deliveries, epoch=1, batch=one.batch, at_s=one.at_s)
    truth = [(1, number) for number in range(1, 5)]
    settings: dict[str, Any] = {
        "began_s": 100.0,
        "ended_s": 110.0,
        "struck": [
            Struck(Fault(2.5, "kill", "leader", 1.0), "node-1", 102.5, 103.5),
            Struck(Fault(3.0, "delay", "leader-source", 5.0), "node-2 to source", 103.0, 108.0),
        ],
        "skipped": [],
        "verdict": checker.verdict(truth),
        "verdict_embedded": checker.verdict(truth),
        "audit": Audit(1, 4),
        "two_in_one_epoch": [],
        "faults_logged": [],
        "fallen": [],
        "not_healed": "",
        "lost_by_source": 0,
        "recovered_s": 1.0,
        "handed": handed,
        "claims": [],
        "repeats": checker.repeats(),
        "committed_at_s": {(1, 1): 100.5, (1, 3): 103.0},
    }
    return Outcome(**{**settings, **changed})


def test_a_fault_answers_for_the_gap_that_touches_it_and_for_what_came_again() -> None:
    kill, delay = effects(_outcome())
    assert (kill.began_s, kill.lasted_s, kill.out_s, kill.repeated, kill.alone) == (2.5, 1.0, 3.5, 0, False)
    assert (delay.out_s, delay.repeated) == (3.0, 1)  # from when it struck
    assert unexplained_repeats(_outcome()) == 0
    assert unexplained_repeats(_outcome(repeats=[Repeat(101.0, 5)])) == 5


def test_lag_is_from_the_commit_to_the_first_delivery() -> None:
    assert lags(_outcome()) == [(101.0, 0.5), (106.0, 3.0)]


def test_table_record_and_picture_hold_every_fault() -> None:
    outcome = _outcome()
    text = "\n".join([*table(outcome), *summary(outcome)])
    for word in ("kill leader", "delay leader-source", "the promise held"):
        assert word in text
    assert json.loads(json.dumps(record(outcome)))["effects"][0]["name"] == "kill leader"
    picture = ET.fromstring(timeline(outcome, "a <title>"))
    titles = [node.text or "" for node in picture.iter() if node.tag.endswith("title")]
    assert [title.split(":")[0] for title in titles] == ["kill leader", "delay leader-source"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"two_in_one_epoch": ["epoch 2"]},
        {"faults_logged": ["node-1: Traceback"]},
        {"fallen": ["node-1"]},
        {"not_healed": "not within 90 s"},
        {"lost_by_source": 1},
        {"audit": Audit(1, 1, deposed=["a cursor"])},
        {"verdict_embedded": Checker().verdict([(1, 1)])},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_each_broken_promise_is_said(wrong: dict[str, Any]) -> None:
    outcome = _outcome(**wrong)
    assert not outcome.holds
    assert summary(outcome)[-1] == "=> THE PROMISE WAS BROKEN"


# in front of libc


def test_a_process_has_a_clock_that_steps_and_links_of_its_own(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path / "clock")
    clock.step(86_400)
    code = (
        "import time, socket; print(time.time(), time.monotonic()); socket.create_connection(('127.0.0.1', 1)).close()"
    )
    with socket.create_server(("127.0.0.1", 0)) as there:
        env = preloaded(clock.environment, ways({2: 3, 1: there.getsockname()[1]}))
        said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        there.accept()[0].close()
    wall_s, monotonic_s = map(float, said.stdout.split())
    assert 0 <= time.time() + 86_400 - wall_s < 60
    assert 0 <= time.monotonic() - monotonic_s < 60
