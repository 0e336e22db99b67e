"""When a source is given up, and what is read next: a table of stories, and the rules that hold in all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.source.failover import (
    Action,
    Answered,
    Broke,
    Event,
    Finding,
    Look,
    Looked,
    Missed,
    NotSwitched,
    Reads,
    Rules,
    Say,
    Steady,
    Switch,
    Watch,
    begin,
    failed_after,
    step,
    still_avoided,
)
from ha_canal.testing.clock import run_virtual

A, B, C = "a:3306", "b:3306", "c:3306"
RULES = Rules(failures=3, heartbeat_s=3.0, hold_off_s=60.0, first_pause_s=1.0, most_pause_s=30.0)
OK, MISS = Answered(), Missed("no answer")
DENIED = Missed("access denied", denied=True)
BROKE, REFUSED = Broke("closed"), Broke("purged", for_good=True)


def looked(*fit: str, unfit: Sequence[str] = ()) -> Looked:
    return Looked(
        (*(Finding(one, fit=True, why="has it") for one in fit), *(Finding(one, fit=False, why="no") for one in unfit))
    )


@dataclass(frozen=True)
class Story:
    """What happens (events with their times), and the actions that are asked for but words, each with its time."""

    events: list[tuple[float, Event]]
    then: list[tuple[float, Action]] = field(default_factory=list)
    sources: tuple[str, ...] = (A, B)
    current: str = A
    failed: tuple[str, ...] = ()
    switches: int = 0


def to(address: str, why: str = "missed 3 heartbeats") -> Switch:
    return Switch(address, why)


LOOK, STEADY = Look(), Steady()
DEAD: list[tuple[float, Event]] = [(3.0, MISS), (6.0, MISS), (9.0, MISS)]

STORIES = {
    "a source that answers is left alone": Story([(3.0 * n, OK) for n in range(20)]),
    "two missed heartbeats are none": Story(
        [(3.0, MISS), (6.0, MISS), (9.0, OK), (12.0, OK), (15.0, OK), (18.0, MISS)]
    ),
    "three are enough": Story(DEAD, [(9.0, LOOK)]),
    "and the one that is fit is read": Story([*DEAD, (9.5, looked(B))], [(9.0, LOOK), (9.5, to(B))]),
    "one good heartbeat in between forgives nothing": Story(
        [(3.0, MISS), (6.0, OK), (9.0, MISS), (12.0, OK), (15.0, OK), (18.0, MISS)], [(18.0, LOOK)]
    ),
    "three good ones do": Story(
        [(3.0, MISS), (6.0, MISS), (9.0, OK), (12.0, OK), (15.0, OK), (18.0, MISS), (21.0, MISS), (24.0, OK)]
    ),
    "a crash loop of up for two and down for two": Story(
        [(3.0, MISS), (6.0, OK), (9.0, OK), (12.0, MISS), (15.0, OK), (18.0, OK), (21.0, MISS)], [(21.0, LOOK)]
    ),
    "who may not log in anew, and is read, stays": Story([(3.0 * n, DENIED) for n in range(9)]),
    "who may not log in, and is not read, goes": Story(
        [(1.0, BROKE), (3.0, DENIED), (6.0, DENIED), (9.0, DENIED)], [(9.0, LOOK)]
    ),
    "reading that breaks once is no failure": Story(
        [(1.0, BROKE), (1.2, BROKE), (3.0, OK), (3.1, Reads()), (15.0, OK)]
    ),
    "reading that broke for nine seconds is one, whatever heartbeats say": Story(
        [(1.0, BROKE), (3.0, OK), (6.0, OK), (9.0, OK), (10.0, OK)], [(10.0, LOOK)]
    ),
    "signs of life in between begin the nine seconds anew": Story(
        [(1.0, BROKE), (6.0, OK), (7.0, Reads()), (8.0, BROKE), (12.0, OK), (16.0, OK)]
    ),
    "what is refused for good is given up at once": Story(
        [(1.0, REFUSED), (1.5, looked(B))], [(1.0, LOOK), (1.5, to(B, "purged"))]
    ),
    "nobody is fit: again after one second, then two": Story(
        [
            *DEAD,
            (9.5, looked(unfit=[B])),
            (10.0, MISS),
            (10.6, MISS),
            (11.0, looked(unfit=[B])),
            (12.9, MISS),
            (13.1, MISS),
        ],
        [(9.0, LOOK), (10.6, LOOK), (13.1, LOOK)],
    ),
    "no second look while one is out": Story([*DEAD, (12.0, MISS), (15.0, MISS), (40.0, MISS)], [(9.0, LOOK)]),
    "it comes back while the others are unfit: it stays": Story(
        [*DEAD, (9.5, looked(unfit=[B])), (10.0, OK), (10.1, OK), (10.2, OK), (20.0, OK), (30.0, OK)], [(9.0, LOOK)]
    ),
    "it comes back while we look: it stays": Story(
        [*DEAD, (9.1, OK), (9.2, OK), (9.3, OK), (9.5, looked(B))], [(9.0, LOOK)]
    ),
    "it answers again and cannot be read: not well": Story(
        [*DEAD, (9.1, BROKE), (9.2, OK), (9.3, OK), (9.4, OK), (9.5, looked(B))], [(9.0, LOOK), (9.5, to(B))]
    ),
    "refused, and mended before anybody else is fit": Story(
        [(1.0, REFUSED), (1.5, looked(unfit=[B])), (2.0, Reads()), (2.1, OK), (2.2, OK), (2.3, OK), (9.0, OK)],
        [(1.0, LOOK)],
    ),
    "the first in the order of the configuration": Story(
        [*DEAD, (9.5, looked(C, B))], [(9.0, LOOK), (9.5, to(B))], sources=(A, B, C)
    ),
    "not one that failed lately, if another is fit": Story(
        [*DEAD, (10.0, MISS), (11.1, looked(A, C))],
        [(10.0, LOOK), (11.1, to(C))],
        sources=(A, B, C),
        current=B,
        failed=(A,),
        switches=1,
    ),
    "one that failed lately, if no other is": Story(
        [*DEAD, (10.0, MISS), (11.1, looked(A, unfit=[C]))],
        [(10.0, LOOK), (11.1, to(A))],
        sources=(A, B, C),
        current=B,
        failed=(A,),
        switches=1,
    ),
    "after the hold-off it counts as any other": Story(
        [(70.0, MISS), (71.0, MISS), (72.0, MISS), (73.0, MISS), (74.0, looked(A, C))],
        [(73.0, LOOK), (74.0, to(A))],
        sources=(A, B, C),
        current=B,
        failed=(A,),
        switches=1,
    ),
    "the fourth switch in a row waits for four seconds": Story(
        [*DEAD, (12.0, MISS), (12.9, MISS), (13.1, MISS)], [(13.1, LOOK)], switches=3
    ),
    "the thirtieth for no more than the most": Story([*DEAD, (38.9, MISS), (39.1, MISS)], [(39.1, LOOK)], switches=29),
    "well for the hold-off: the switches in a row are over": Story(
        [(3.0, OK), (59.0, OK), (60.0, OK), (63.0, OK)], [(60.0, STEADY)], switches=2
    ),
    "well again for the hold-off, counted from then": Story(
        [(30.0, MISS), (33.0, OK), (36.0, OK), (39.0, OK), (63.0, OK), (98.0, OK), (99.0, OK)],
        [(99.0, STEADY)],
        switches=1,
    ),
    "a switch that did not come about is a round in vain": Story(
        [*DEAD, (9.5, looked(B)), (9.6, NotSwitched(B, "moved on")), (10.5, MISS), (10.7, MISS), (10.8, looked(B))],
        [(9.0, LOOK), (9.5, to(B)), (10.7, LOOK), (10.8, to(B))],
    ),
    "of a source that came back meanwhile nobody says so": Story(
        [*DEAD, (9.1, OK), (9.2, OK), (9.3, OK), (9.6, NotSwitched(B, "late"))], [(9.0, LOOK)]
    ),
}


def play(story: Story) -> tuple[Watch, list[tuple[float, Action]]]:
    watch = begin(story.sources, story.current, failed=story.failed, switches=story.switches, now_s=0.0, rules=RULES)
    done: list[tuple[float, Action]] = []
    for now_s, event in story.events:
        watch, actions = step(watch, event, now_s, RULES)
        done += [(now_s, action) for action in actions]
    return watch, done


@pytest.mark.parametrize("name", STORIES)
def test_what_follows(name: str) -> None:
    story = STORIES[name]
    _, done = play(story)
    asked = [(now_s, action) for now_s, action in done if not isinstance(action, Say)]
    assert [(now_s, type(action)) for now_s, action in asked] == [(now_s, type(action)) for now_s, action in story.then]
    for (_, action), (_, wanted) in zip(asked, story.then, strict=True):
        if isinstance(wanted, Switch) and isinstance(action, Switch):
            assert action.to == wanted.to
            assert action.why.startswith(f"{story.current} failed: ")
            assert wanted.why in action.why


def test_every_round_is_said_once_with_what_each_source_lacks() -> None:
    events: list[tuple[float, Event]] = [*DEAD]
    for number in range(1, 30):
        events += [(10.0 + 40 * number, looked(unfit=[B, C])), (45.0 + 40 * number, MISS)]
    watch, done = play(Story(events, sources=(A, B, C)))
    said = [action.text for _, action in done if isinstance(action, Say)]
    assert len(said) == 30
    assert said[1] == (
        f"round 1: no other source can be read now: {B}: no; {C}: no; next round in 1 s. {A} is tried all the time"
    )
    assert "next round in 30 s" in said[-1]
    assert str(watch).startswith("given up (it missed ")
    assert f"round 29: {B}: no; {C}: no" in str(watch)


def test_who_is_avoided_after_a_switch() -> None:
    watch, _ = play(Story([*DEAD, (9.5, looked(A, C))], sources=(A, B, C), current=B, failed=(A,)))
    assert still_avoided(watch, 9.5) == (A,)
    assert failed_after(watch, 9.5, C) == (A, B)
    assert failed_after(watch, 9.5, A) == (B,)
    assert failed_after(watch, 61.0, C) == (B,)


def test_pauses_are_spread_by_chance() -> None:
    watch = begin((A, B), A, switches=3, now_s=0.0, rules=RULES)
    ends = {}
    for spread in (-1.0, 0.0, 1.0):
        told = watch
        for now_s, event in DEAD:
            told, _ = step(told, event, now_s, RULES, spread=spread)
        ends[spread] = told.look_at_s - 9.0
    assert ends == {-1.0: pytest.approx(3.2), 0.0: pytest.approx(4.0), 1.0: pytest.approx(4.8)}


_EVENTS = st.one_of(
    st.sampled_from([OK, MISS, DENIED, BROKE, REFUSED, Reads(), NotSwitched(B, "x")]),
    st.sets(st.sampled_from([B, C])).map(lambda fit: looked(*fit, unfit=sorted({B, C} - fit))),
)


@given(st.lists(st.tuples(st.floats(0.0, 20.0), _EVENTS), max_size=80), st.integers(0, 40))
def test_whatever_happens(happens: list[tuple[float, Event]], switches: int) -> None:
    """Never a switch without a fit finding, never to where we are; and who is given up is always looked past soon."""
    watch = begin((A, B, C), A, switches=switches, now_s=0.0, rules=RULES)
    now_s = 0.0
    for after_s, event in happens:
        now_s += after_s
        watch, actions = step(watch, event, now_s, RULES)
        for action in actions:
            if isinstance(action, Switch):
                assert isinstance(event, Looked)
                assert Finding(action.to, fit=True, why="has it") in event.findings
                assert action.to != A
        if watch.given_up and not watch.is_looking:
            assert watch.look_at_s <= now_s + RULES.most_pause_s
    if watch.given_up and not watch.is_looking:
        _, actions = step(watch, MISS, now_s + RULES.most_pause_s, RULES)
        assert LOOK in actions


def test_a_day_of_dead_sources_in_virtual_time() -> None:
    """Beats every three seconds, looks that take half a second: about one round per half minute, for ever."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        watch = begin((A, B), A, now_s=loop.time(), rules=RULES)
        rounds = 0
        while loop.time() < 80_000:
            await asyncio.sleep(3.0)
            watch, actions = step(watch, MISS, loop.time(), RULES)
            if LOOK in actions:
                rounds += 1
                await asyncio.sleep(0.5)
                watch, _ = step(watch, looked(unfit=[B]), loop.time(), RULES)
        return rounds

    assert 80_000 / 34 < run_virtual(main()) < 80_000 / 30
