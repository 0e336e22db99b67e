"""The pure machine: scenarios, stops after every transition, and any order of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.cluster.leadership import Leadership, Role, step
from ha_canal.cluster.leadership_events import (
    Action,
    ConfirmOwnership,
    Contend,
    Event,
    InstanceStopped,
    LostRace,
    OwnershipConfirmed,
    PauseOutput,
    ProofOfLife,
    Released,
    ReleaseRunning,
    ResumeOutput,
    RunningGone,
    RunningSeen,
    SessionConnected,
    SessionLost,
    SessionSuspended,
    StartInstance,
    StopInstance,
    StopRequested,
    Tick,
    TryAcquire,
    Watch,
    Won,
)

TIMEOUT_S = 10.0
DEADLINE_S = 7.5  # with the default margin of a quarter, after a proof at 0

ELECTED: list[tuple[Event, float]] = [
    (SessionConnected("me", TIMEOUT_S), 0.0),
    (ProofOfLife(0.0), 0.0),
    (Contend(), 0.0),
    (RunningSeen("other"), 0.1),
    (RunningGone(), 0.2),
    (Won("me", 5, 4), 0.3),
]


def play(events: list[tuple[Event, float]], state: Leadership | None = None) -> tuple[Leadership, list[Action]]:
    state = state or Leadership()
    done: list[Action] = []
    for event, now in events:
        state, actions = step(state, event, now)
        done += actions
    return state, done


def leader() -> Leadership:
    return play(ELECTED)[0]


def test_waits_for_running_to_go_then_wins_and_starts() -> None:
    state, actions = play(ELECTED)
    assert actions == [Watch(), TryAcquire(), StartInstance(5, 4)]
    assert state.role is Role.LEADER


def test_contends_only_when_asked() -> None:
    state, actions = play([event for event in ELECTED[:5] if event[0] != Contend()])
    assert actions == []
    assert state.role is Role.FOLLOWER


def test_lost_race_looks_again() -> None:
    state, actions = play([*ELECTED[:5], (LostRace(certain=True), 0.3)])
    assert actions[-1] == Watch()
    assert state.role is Role.FOLLOWER


def test_attempt_with_unknown_outcome_is_released_before_the_next() -> None:
    state, actions = play([*ELECTED[:5], (LostRace(certain=False), 0.3)])
    assert actions[-1] == ReleaseRunning()
    assert play([(RunningGone(), 0.4)], state)[1] == []
    state, actions = play([(Released(done=True), 0.5), (RunningGone(), 0.6)], state)
    assert actions == [Watch(), TryAcquire()]


def test_suspended_pauses_at_once_and_resumes_when_still_owned() -> None:
    state, actions = play([(SessionSuspended(), 1.0)], leader())
    assert actions == [PauseOutput()]
    assert state.role is Role.SUSPENDED
    state, actions = play([(SessionConnected("me", TIMEOUT_S), 2.0)], state)
    assert actions == [ConfirmOwnership()]
    assert state.role is Role.SUSPENDED
    state, actions = play([(OwnershipConfirmed(owned=True), 2.1)], state)
    assert actions == [ResumeOutput()]
    assert state.role is Role.LEADER


@pytest.mark.parametrize("suspended", [False, True])
def test_deadline_stops_the_instance(suspended: bool) -> None:
    state = play([(SessionSuspended(), 1.0)] if suspended else [], leader())[0]
    state, actions = play([(Tick(), DEADLINE_S - 0.01)], state)
    assert actions == []
    state, actions = play([(Tick(), DEADLINE_S)], state)
    assert [type(action) for action in actions] == [StopInstance]
    assert state.role is Role.FOLLOWER


def test_a_confirmation_after_the_deadline_is_too_late() -> None:
    state, actions = play(
        [(SessionSuspended(), 1.0), (SessionConnected("me", TIMEOUT_S), 7.6), (OwnershipConfirmed(owned=True), 7.7)],
        leader(),
    )
    assert ResumeOutput() not in actions
    assert state.role is Role.FOLLOWER


def test_proof_of_life_moves_the_deadline_from_when_it_was_sent() -> None:
    state = play([(ProofOfLife(4.0), 5.0), (ProofOfLife(1.0), 5.1)], leader())[0]
    assert state.deadline_s == 4.0 + DEADLINE_S
    assert play([(Tick(), 11.4)], state)[0].role is Role.LEADER
    assert play([(Tick(), 11.5)], state)[0].role is Role.FOLLOWER


@pytest.mark.parametrize(
    "event", [SessionLost(), SessionConnected("new", TIMEOUT_S), OwnershipConfirmed(owned=False), StopRequested()]
)
def test_leadership_ends(event: Event) -> None:
    state, actions = play([(event, 1.0)], leader())
    assert isinstance(actions[0], StopInstance)
    assert state.role is Role.FOLLOWER


@pytest.mark.parametrize("sight", [RunningGone(), RunningSeen("other")])
def test_a_doubtful_sight_pauses_and_asks(sight: Event) -> None:
    state, actions = play([(sight, 1.0)], leader())
    assert actions == [PauseOutput(), ConfirmOwnership()]
    assert state.role is Role.SUSPENDED


def test_no_new_attempt_before_the_old_instance_is_down() -> None:
    state = play([(SessionLost(), 1.0), (SessionConnected("new", TIMEOUT_S), 2.0), (ProofOfLife(2.0), 2.0)], leader())[
        0
    ]
    state, actions = play([(RunningGone(), 3.0)], state)
    assert actions == []
    assert play([(InstanceStopped(), 4.0), (Contend(), 4.1), (RunningGone(), 4.2)], state)[1] == [Watch(), TryAcquire()]


def test_clean_end_releases_and_does_not_contend_again_unasked() -> None:
    state, actions = play([(InstanceStopped(), 1.0)], leader())
    assert [type(action) for action in actions] == [StopInstance, ReleaseRunning]
    state, actions = play([(Released(done=True), 1.1), (RunningGone(), 1.2)], state)
    assert actions == []
    assert state.settled


def test_what_could_not_be_released_while_cut_off_is_released_after() -> None:
    state, actions = play([(SessionSuspended(), 1.0), (StopRequested(), 1.1), (InstanceStopped(), 1.2)], leader())
    assert ReleaseRunning() not in actions
    assert play([(SessionConnected("me", TIMEOUT_S), 2.0)], state)[1] == [ReleaseRunning()]


def test_winning_in_a_session_that_has_ended_starts_nothing() -> None:
    anew: list[tuple[Event, float]] = [(SessionLost(), 0.3), (SessionConnected("new", TIMEOUT_S), 0.4)]
    state, actions = play([*ELECTED[:5], *anew, (ProofOfLife(0.4), 0.4), (Won("me", 5, 4), 0.5)])
    assert StartInstance(5, 4) not in actions
    assert state.role is Role.FOLLOWER


@pytest.mark.parametrize("length", range(len(ELECTED) + 1))
def test_stop_after_every_transition_leaves_nothing_behind(length: int) -> None:
    """Interrupted anywhere, the machine comes to rest once the world has answered what it asked."""
    answers: dict[type[Action], Event] = {
        TryAcquire: Won("me", 5, 4),
        StopInstance: InstanceStopped(),
        ReleaseRunning: Released(done=True),
        Watch: RunningGone(),
    }
    state, asked = play(ELECTED[:length])
    unanswered = [asked[-1]] if asked and isinstance(asked[-1], TryAcquire) else []
    pending: list[Event] = [StopRequested(), *(answers[type(action)] for action in unanswered)]
    while pending:
        state, actions = step(state, pending.pop(0), 1.0)
        assert not any(isinstance(action, StartInstance) for action in actions)
        pending += [answers[type(action)] for action in actions if type(action) in answers]
    assert state.settled


SESSIONS = st.sampled_from(["me", "new", "other"])
EVENTS = st.one_of(
    st.builds(RunningSeen, SESSIONS),
    st.builds(RunningGone),
    st.builds(Won, SESSIONS, st.just(1), st.just(1)),
    st.builds(LostRace, st.booleans()),
    st.builds(SessionSuspended),
    st.builds(SessionConnected, SESSIONS, st.just(TIMEOUT_S)),
    st.builds(SessionLost),
    st.builds(OwnershipConfirmed, st.booleans()),
    st.builds(Tick),
    st.builds(Contend),
    st.builds(StopRequested),
    st.builds(InstanceStopped),
    st.builds(Released, st.booleans()),
    st.floats(0, 12).map(lambda age_s: ProofOfLife(-age_s)),
)


@given(
    start=st.sampled_from([Leadership(), leader()]),
    script=st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 0.1, 1.0, 5.0, 9.0])), max_size=60),
)
def test_any_order_of_events_keeps_the_invariants(start: Leadership, script: list[tuple[Event, float]]) -> None:
    state, now, up, paused = start, 1.0, start.role is Role.LEADER, False
    stopped = not up
    for event, passed_s in script:
        now += passed_s
        if isinstance(event, ProofOfLife):
            event = replace(event, sent_s=now + event.sent_s)
        before = state
        state, actions = step(state, event, now)
        assert not state.role.leads or now < state.deadline_s
        if isinstance(event, InstanceStopped):
            stopped = True
        for action in actions:
            match action:
                case StartInstance():
                    assert not up
                    assert stopped, "started while the instance before was still on its way out"
                    up, stopped, paused = True, False, False
                case StopInstance():
                    assert up
                    up = False
                case PauseOutput():
                    assert up
                    assert not paused
                    paused = True
                case ResumeOutput():
                    assert up
                    assert paused
                    paused = False
                case ReleaseRunning() | TryAcquire():
                    assert not up
                    assert not before.releasing or isinstance(event, Released | SessionConnected | SessionLost)
                case ConfirmOwnership() | Watch():
                    pass
        assert up == state.role.leads
        assert not up or paused == (state.role is Role.SUSPENDED)
