"""Elections in the in-memory cluster, on the virtual clock: single faults, and any order of faults."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_canal.cluster.coordinator import Create, Delete, Session, Set, Watched
from ha_canal.cluster.election import Campaign, campaign
from ha_canal.cluster.follow import read_leader, register_candidate, watch_leader
from ha_canal.cluster.layout import Layout, RunningNode
from ha_canal.cluster.lock_board import ClientLockBoard
from ha_canal.errors import CoordinatorLostError, RefusedError, StaleEpochError, UsageError
from ha_canal.testing.clock import run_virtual
from ha_canal.testing.coordinator import MemoryCoordinator, MemoryEnsemble
from ha_canal.testing.eventually import eventually
from tests.cluster.simulation import CURSOR, SHOP, TIMEOUT_S, Candidate, cluster


def run(main: Coroutine[Any, Any, None]) -> None:
    run_virtual(main, limit_s=2000)


async def the_leader(candidates: list[Candidate], within_s: float = 60.0) -> Candidate:
    def leading() -> Candidate | None:
        outputs = [candidate for candidate in candidates if candidate.outputs]
        assert len(outputs) <= 1
        return outputs[0] if outputs else None

    return await eventually(leading, within_s=within_s, what="somebody leads")


def now() -> float:
    return asyncio.get_running_loop().time()


def test_one_of_three_leads_and_the_others_know_it() -> None:
    async def main() -> None:
        async with cluster("a", "b", "c") as candidates:
            leader = await the_leader(candidates)
            await asyncio.sleep(1)
            for candidate in candidates:
                assert candidate.contest is not None
                assert candidate.contest.leader == RunningNode(
                    f"{leader.name}:1", leader.name, leader.coordinator.session.id
                )
            assert sum(len(candidate.leases) for candidate in candidates) == 1

    run(main())


def test_a_clean_stop_hands_over_at_once() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        first, second = ensemble.session(), ensemble.session()
        async with campaign(second, SHOP, address="b:1", node="b") as other:
            async with campaign(first, SHOP, address="a:1", node="a") as one, one.lease() as lease:
                waiting = asyncio.create_task(_lead_once(other))
                await asyncio.sleep(5)
                assert lease.valid()
                assert lease.epoch == 1
                assert not waiting.done()
            stopped_s = now()
            assert await waiting == 2
            assert now() - stopped_s < 0.1
            assert lease.lost.is_set()
        assert await read_leader(second, SHOP) is None

    run(main())


async def _lead_once(contest: Any) -> int:
    async with contest.lease() as lease:
        epoch: int = lease.epoch
        return epoch


def test_output_pauses_at_once_and_resumes_in_the_same_epoch() -> None:
    async def main() -> None:
        async with cluster("a", "b") as candidates:
            leader = await the_leader(candidates)
            lease = leader.lease
            assert lease is not None
            leader.coordinator.suspend()
            assert not lease.valid()
            with pytest.raises(CoordinatorLostError):
                lease.check()
            await asyncio.sleep(3)
            leader.coordinator.heal()
            assert not lease.valid()
            await lease.until_valid()
            assert leader.lease is lease
            lease.check()

    run(main())


def test_a_cut_nobody_saw_still_needs_a_confirmation() -> None:
    async def main() -> None:
        async with cluster("a") as candidates:
            leader = await the_leader(candidates)
            assert leader.lease is not None
            leader.coordinator.suspend()
            leader.coordinator.heal()
            assert not leader.lease.valid()
            await leader.lease.until_valid()
            assert len(leader.leases) == 1

    run(main())


@pytest.mark.parametrize("silent", [False, True])
def test_a_leader_cut_off_ends_before_the_next_begins(silent: bool) -> None:
    async def main() -> None:
        async with cluster("a", "b") as candidates:
            leader = await the_leader(candidates)
            lease = leader.lease
            assert lease is not None
            cut_s = now()
            if silent:
                leader.coordinator.cut()
            else:
                leader.coordinator.suspend()
            await lease.lost.wait()
            assert now() - cut_s <= TIMEOUT_S * 0.75 + 0.001
            successor = await the_leader(candidates)
            assert successor is not leader
            assert now() - cut_s >= TIMEOUT_S
            leader.coordinator.heal()
            await asyncio.sleep(5)
            assert await the_leader(candidates) is successor

    run(main())


def test_a_deposed_leaders_write_is_refused_whatever_it_believes() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        mine, operator = ensemble.session(), ensemble.session()
        async with campaign(mine, SHOP, address="a:1", node="a") as one, one.lease() as lease:
            await lease.write_fenced({CURSOR: b"1", SHOP.parse: b"s"})
            epoch = await operator.read(SHOP.epoch)
            assert epoch is not None
            await operator.commit([Set(SHOP.epoch, b"2", epoch.version)])
            with pytest.raises(StaleEpochError):
                await lease.write_fenced({CURSOR: b"2"})
            node = await operator.read(CURSOR)
            assert node is not None
            assert node.data == b"1"
            await asyncio.Event().wait()
        assert lease.lost.is_set()

    run(main())


def test_running_deleted_by_an_operator_ends_the_lease() -> None:
    async def main() -> None:
        async with cluster("a", "b") as candidates:
            leader = await the_leader(candidates)
            lease = leader.lease
            assert lease is not None
            await leader.coordinator.commit([Delete(SHOP.running)])
            await lease.lost.wait()
            assert "another session" in lease.reason
            await asyncio.sleep(1)
            assert (await the_leader(candidates)).lease is not lease

    run(main())


def test_a_won_race_whose_reply_was_lost_is_given_back_and_won_anew() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        session = ensemble.session()
        session.lose_replies()
        async with campaign(session, SHOP, address="a:1", node="a") as one, one.lease() as lease:
            assert lease.epoch == 2
            assert lease.valid()

    run(main())


def test_no_start_while_the_old_instance_is_still_stopping() -> None:
    async def main() -> None:
        async with cluster("a", stop_takes_s=30.0) as candidates:
            leader = await the_leader(candidates)
            leader.coordinator.expire()
            assert leader.lease is not None
            await leader.lease.lost.wait()
            lost_s = now()
            await the_leader(candidates)
            assert now() - lost_s >= 30
            assert [lease.epoch for lease in leader.leases] == [1, 2]

    run(main())


def test_a_stale_running_node_of_our_own_address_is_waited_for() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        dead, anew = ensemble.session(), ensemble.session()
        await dead.commit([Create(SHOP.running, RunningNode("a:1", "a").to_json(), ephemeral=True)])
        dead.cut()
        async with campaign(anew, SHOP, address="a:1", node="a") as one, one.lease() as lease:
            assert now() >= TIMEOUT_S
            assert lease.valid()

    run(main())


def test_garbage_in_the_epoch_node_is_told_to_whoever_contends() -> None:
    async def main() -> None:
        session = MemoryEnsemble().session()
        await session.commit([Create(SHOP.epoch, b"garbage")])
        async with campaign(session, SHOP, address="a:1", node="a") as one:
            for told in (False, True):
                assert one.is_over == told
                with pytest.raises(UsageError, match="garbage"):
                    await _lead_once(one)
        await session.commit([Set(SHOP.epoch, b"7")])
        async with campaign(session, SHOP, address="a:1", node="a") as one:
            assert await _lead_once(one) == 8
        with pytest.raises(UsageError, match="has ended"):
            await _lead_once(one)

    run(main())


def test_a_campaign_that_fails_unheard_says_so_at_its_end() -> None:
    async def main() -> None:
        session = MemoryEnsemble().session()
        refusing = Refusing(session)
        async with campaign(refusing, SHOP, address="a:1", node="a") as one:
            await asyncio.sleep(1)
            refusing.refuses = True
            await session.commit([Create(SHOP.running, RunningNode("b:1", "b").to_json())])
            await asyncio.sleep(1)
            assert not one.is_over

    with pytest.raises(RefusedError, match="no rights"):
        run(main())


def test_a_leader_whose_election_fails_leads_again_in_a_new_campaign() -> None:
    async def main() -> None:
        session = MemoryEnsemble().session()
        refusing = Refusing(session)
        async with campaign(refusing, SHOP, address="a:1", node="a") as one:
            leading = asyncio.create_task(_lead_until_it_ends(one))
            await asyncio.sleep(1)
            refusing.refuses = True
            await session.commit([Set(SHOP.running, RunningNode("a:1", "a").to_json())])
            with pytest.raises(RefusedError, match="no rights"):
                await leading
            assert one.is_over
        refusing.refuses = False
        async with campaign(refusing, SHOP, address="a:1", node="a") as one:
            assert await _lead_once(one) == 2

    run(main())


async def _lead_until_it_ends(contest: Campaign) -> None:
    async with contest.lease():
        await asyncio.Event().wait()


class Refusing:
    """A coordinator that refuses to watch while ``refuses``: an operator took the rights away."""

    def __init__(self, inner: MemoryCoordinator) -> None:
        self.refuses = False
        self._inner = inner
        self.read, self.children, self.commit = inner.read, inner.children, inner.commit
        self.session_changed = inner.session_changed

    @property
    def session(self) -> Session:
        return self._inner.session

    async def watch(self, path: str) -> Watched:
        if self.refuses:
            raise RefusedError(f"watching {path}: no rights")
        return await self._inner.watch(path)


def test_an_error_of_the_instance_goes_to_the_caller_and_releases() -> None:
    async def main() -> None:
        session = MemoryEnsemble().session()
        async with campaign(session, SHOP, address="a:1", node="a") as one:
            with pytest.raises(ZeroDivisionError):
                async with one.lease():
                    raise ZeroDivisionError
            await eventually(lambda: one.leader is None, what="running is gone")
            async with one.lease() as lease:
                assert lease.epoch == 2

    run(main())


def test_waiting_can_be_given_up() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        first, second = ensemble.session(), ensemble.session()
        async with campaign(first, SHOP, address="a:1", node="a") as one:
            async with one.lease(), campaign(second, SHOP, address="b:1", node="b") as other:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(5), other.lease():
                        pytest.fail("two leaders")
            await asyncio.sleep(5)
            assert await read_leader(first, SHOP) is None

    run(main())


def test_fenced_writes_create_replace_and_delete() -> None:
    async def main() -> None:
        session = MemoryEnsemble().session()
        client = SHOP.client("search")
        await session.commit([Create(client.filter, b"old")])
        async with campaign(session, SHOP, address="a:1", node="a") as one, one.lease() as lease:
            await lease.write_fenced({client.filter: b"new", client.cursor: b"1"})
            await lease.write_fenced({client.cursor: b"2"})
            assert await session.children(client.path) == ["cursor", "filter"]
            await session.commit([Delete(client.cursor)])
            await lease.write_fenced({client.cursor: b"3"})
            node = await session.read(client.cursor)
            assert node is not None
            assert node.data == b"3"
            await lease.write_fenced({SHOP.parse: b"p"}, delete=[client.path, SHOP.client("nobody").path])
            assert await session.read(client.path) is None
            await lease.write_fenced({client.cursor: b"4"})

    run(main())


def test_lock_board_shows_the_holder_over_a_dead_sessions_leftover() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        session, dead = ensemble.session(), ensemble.session()
        path = SHOP.client("1001").running
        await dead.commit([Create(path, b"left over", ephemeral=True)])
        async with campaign(session, SHOP, address="a:1", node="a") as one, one.lease() as lease:
            board = ClientLockBoard(session, SHOP, lease)
            await board.show("1001", "10.0.0.3:5")
            await board.show("1001", "10.0.0.4:6")
            dead.close()
            node = await session.read(path)
            assert node is not None
            assert node.data == b'{"active":true,"address":"10.0.0.4:6","clientId":1001,"epoch":1}'
            assert node.owner == session.session.id
            await board.clear("1001")
            await board.clear("1001")
            assert await session.read(path) is None

    run(main())


def test_candidates_are_shown_in_each_session_and_gone_at_the_end() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        session, dead, operator = ensemble.session(), ensemble.session(), ensemble.session()
        layout = Layout()
        await dead.commit([Create(layout.node("a:1"), ephemeral=True)])

        async def shown() -> bool:
            nodes = [await operator.read(path) for path in (layout.node("a:1"), SHOP.candidate("a:1"))]
            return all(node is not None and node.owner == session.session.id for node in nodes)

        async with register_candidate(session, layout, "a:1", "shop"):
            await eventually(shown, what="both nodes, under our session")
            dead.close()
            session.expire()
            await eventually(shown, what="both nodes, under the new session")
            await operator.commit([Delete(SHOP.candidate("a:1"))])
            await eventually(shown, what="both nodes, after one was deleted")
        assert await operator.children(layout.cluster) == []
        assert await operator.children(SHOP.cluster) == []

    run(main())


def test_leader_is_seen_by_those_who_only_watch() -> None:
    async def main() -> None:
        ensemble = MemoryEnsemble()
        session, watcher = ensemble.session(), ensemble.session()
        async with watch_leader(watcher, SHOP) as sight:
            async with campaign(session, SHOP, address="a:1", node="a") as one, one.lease():
                await eventually(lambda: sight.current, what="the leader is seen")
                watcher.suspend()
                watcher.heal()
                assert sight.current == RunningNode("a:1", "a", session.session.id)
            await eventually(lambda: sight.current is None, what="nobody is seen")
            await session.commit([Create(SHOP.running, b"garbage", ephemeral=True)])
            assert sight.current is None

    run(main())


FAULTS = ["cut", "suspend", "heal", "expire", "lose", "slow", "fast", "old proof"]


@settings(deadline=None, max_examples=60)
@given(
    script=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(FAULTS), st.floats(0, 12)), min_size=1, max_size=25),
    stop_takes_s=st.sampled_from([0.0, 0.5, 15.0]),
)
def test_never_two_outputs_whatever_breaks(script: list[tuple[int, str, float]], stop_takes_s: float) -> None:
    async def main() -> None:
        async with cluster("a", "b", "c", stop_takes_s=stop_takes_s) as candidates:
            async with asyncio.timeout(None):
                watching = asyncio.create_task(_watch_for_two(candidates))
                for index, fault, wait_s in script:
                    _break(candidates[index], fault)
                    await asyncio.sleep(wait_s)
                for candidate in candidates:
                    candidate.coordinator.heal()
                    candidate.coordinator.delay_s = 0.0
                leader = await the_leader(candidates)
                count = len(leader.written)
                await eventually(lambda: len(leader.written) > count, within_s=60, what="the leader writes")
                watching.cancel()
                assert not watching.done(), watching
        epochs = [lease.epoch for candidate in candidates for lease in candidate.leases]
        assert len(set(epochs)) == len(epochs), "an epoch had two leaders"

    run(main())


def _break(candidate: Candidate, fault: str) -> None:
    link = candidate.coordinator
    match fault:
        case "lose":
            link.lose_replies()
        case "slow":
            link.delay_s = 3.0
        case "fast":
            link.delay_s = 0.0
        case "old proof":
            link.proof_age_s = 2.0
        case "expire" if not link.reachable:
            pass  # a service ends a session that it does not hear of no earlier than in its time; leases rest on that
        case _:
            getattr(link, fault)()


async def _watch_for_two(candidates: list[Candidate]) -> None:
    while True:
        assert sum(candidate.outputs for candidate in candidates) <= 1
        await asyncio.sleep(0.05)
