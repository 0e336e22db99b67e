"""Placement at work in the in-memory cluster, on the virtual clock: spreading, moving, draining, and who steps in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from ha_canal.cluster.coordinator import Create, Set
from ha_canal.cluster.layout import Moved, Orders
from ha_canal.cluster.orders import drained, moved, store_orders
from ha_canal.cluster.placement import Seat
from ha_canal.errors import UnknownInstanceError, UsageError
from ha_canal.protos.canal_pb2 import DrainRequest, MoveRequest
from ha_canal.testing.clock import run_virtual
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.eventually import eventually
from tests.cluster.crowd import LAYOUT, SETTLE_S, Crowd, crowd

SHOPS = [Seat(f"shop-{number}") for number in range(6)]
ONE = [Seat("shop")]
SESSION_S = 10.0


def run(main: Coroutine[Any, Any, None]) -> None:
    run_virtual(main, limit_s=5000)


def now() -> float:
    return asyncio.get_running_loop().time()


async def until_all_led(cluster: Crowd, within_s: float = 60.0) -> None:
    await eventually(lambda: len(cluster.leaders) == len(cluster.seats), within_s=within_s, what="all are led")


def test_instances_spread_when_nodes_have_settled_and_rest_then() -> None:
    async def main() -> None:
        async with crowd("a", "b", "c", seats=SHOPS) as cluster:
            await eventually(lambda: cluster.counts() == [2, 2, 2], within_s=SETTLE_S + 60, what="all have their share")
            elections = len(cluster.history)
            await asyncio.sleep(600)
            assert len(cluster.history) == elections

    run(main())


def test_a_restarted_node_gets_its_share_back_one_by_one_with_no_move_too_many() -> None:
    async def main() -> None:
        async with crowd("a", "b", "c", seats=SHOPS) as cluster:
            await eventually(lambda: cluster.counts() == [2, 2, 2], within_s=SETTLE_S + 60, what="all have their share")
            await cluster.members["c"].kill()
            await eventually(lambda: cluster.counts() == [3, 3, 0], within_s=SESSION_S + 20, what="the others took it")
            before, back_s = len(cluster.history), now()
            cluster.members["c"].start()
            await eventually(lambda: cluster.counts() == [2, 2, 2], within_s=SETTLE_S + 60, what="it has its share")
            moves = cluster.history[before:]
            assert [node for _, _, node in moves] == ["c", "c"]
            assert all(at_s - back_s >= SETTLE_S for at_s, _, _ in moves)

    run(main())


def test_whoever_is_next_takes_over_at_once_when_the_leader_stops() -> None:
    async def main() -> None:
        async with crowd("a", "b", "c", seats=ONE) as cluster:
            await until_all_led(cluster)
            await asyncio.sleep(SETTLE_S * 2)
            leader = cluster.leaders["shop"]
            stopped_s = now()
            await cluster.members[leader].stop()
            await until_all_led(cluster)
            assert cluster.history[-1][0] - stopped_s < 0.5
            assert len(cluster.elections("shop")) == 2

    run(main())


def test_a_move_goes_where_it_was_ordered_to_stays_there_and_comes_back_after_a_restart() -> None:
    async def main() -> None:
        async with crowd("a", "b", "c", seats=ONE) as cluster:
            await until_all_led(cluster)
            await asyncio.sleep(5)
            there, other = [name for name in cluster.members if name != cluster.leaders["shop"]]
            ordered_s = now()
            reply = await cluster.members[other].desk.move(MoveRequest(instance="shop", to=there))
            assert reply.to == f"{there}:1"
            await eventually(lambda: cluster.leaders.get("shop") == there, within_s=10, what="it has moved")
            assert cluster.history[-1][0] - ordered_s < 1.0
            await asyncio.sleep(300)
            assert len(cluster.elections("shop")) == 2
            await cluster.members[there].stop()
            await until_all_led(cluster)
            cluster.members[there].start()
            await eventually(lambda: cluster.leaders.get("shop") == there, within_s=SETTLE_S + 20, what="it is back")
            assert len(cluster.elections("shop")) == 4
            await cluster.members[other].desk.move(MoveRequest(instance="shop"))
            await cluster.members[there].stop()
            await until_all_led(cluster)
            cluster.members[there].start()
            await asyncio.sleep(SETTLE_S * 4)
            assert len(cluster.elections("shop")) == 5

    run(main())


def test_a_drained_node_gives_all_away_and_takes_none_until_it_is_undrained() -> None:
    async def main() -> None:
        async with crowd("a", "b", seats=SHOPS) as cluster:
            await eventually(lambda: cluster.counts() == [3, 3], within_s=SETTLE_S + 60, what="all have their share")
            reply = await cluster.members["a"].desk.drain(DrainRequest(node="b"))
            assert len(reply.running) == 3
            await eventually(lambda: cluster.counts() == [6, 0], within_s=20, what="it is drained")
            await cluster.members["a"].kill()
            await asyncio.sleep(SESSION_S * 3)
            assert cluster.leaders == {}
            await cluster.members["b"].desk.drain(DrainRequest(node="b", off=True))
            await eventually(lambda: len(cluster.leaders) == 6, within_s=20, what="it has all")

    run(main())


def test_what_nobody_else_can_take_stays_on_a_drained_node() -> None:
    async def main() -> None:
        async with crowd("a", seats=ONE) as cluster:
            await until_all_led(cluster)
            await cluster.members["a"].desk.drain(DrainRequest(node="a"))
            await asyncio.sleep(60)
            assert cluster.leaders == {"shop": "a"}
            assert len(cluster.history) == 1

    run(main())


def test_when_the_next_leader_hangs_another_one_steps_in() -> None:
    async def main() -> None:
        async with crowd("a", "b", "c", seats=ONE) as cluster:
            for member in cluster.members.values():
                member.hangs = member.name == "b"
            await until_all_led(cluster)
            await asyncio.sleep(5)
            leader = cluster.leaders["shop"]
            stopped_s = now()
            await cluster.members[leader].stop()
            await until_all_led(cluster)
            assert cluster.leaders["shop"] not in ("b", leader)
            assert cluster.history[-1][0] - stopped_s < 2.0

    run(main())


def test_a_move_to_a_node_that_hangs_comes_back_and_is_not_tried_again_at_once() -> None:
    async def main() -> None:
        async with crowd("a", "b", seats=ONE, start=["a"]) as cluster:
            await until_all_led(cluster)
            cluster.members["b"].hangs = True
            cluster.members["b"].start()
            await asyncio.sleep(5)
            await cluster.members["a"].desk.move(MoveRequest(instance="shop", to="b"))
            await eventually(lambda: len(cluster.elections("shop")) == 2, within_s=10, what="a took it back")
            await asyncio.sleep(20)
            assert cluster.elections("shop") == ["a", "a"]

    run(main())


def test_orders_that_cannot_be_followed_are_refused_in_words() -> None:
    async def main() -> None:
        async with crowd("a", "b", seats=ONE) as cluster:
            await until_all_led(cluster)
            await asyncio.sleep(5)
            desk, leader = cluster.members["a"].desk, cluster.leaders["shop"]
            with pytest.raises(UnknownInstanceError, match="the cluster knows: shop"):
                await desk.move(MoveRequest(instance="shoe", to="b"))
            with pytest.raises(UsageError, match=r"no live node 'z'; there are: a \(a:1\), b \(b:1\)"):
                await desk.move(MoveRequest(instance="shop", to="z"))
            with pytest.raises(UsageError, match=r"runs on .* already"):
                await desk.move(MoveRequest(instance="shop", to=leader))
            with pytest.raises(UsageError, match="no live node 'z'"):
                await desk.drain(DrainRequest(node="z"))
            with pytest.raises(UsageError, match="is not drained"):
                await desk.drain(DrainRequest(node="a", off=True))
            other = "b" if leader == "a" else "a"
            await desk.drain(DrainRequest(node=other))
            with pytest.raises(UsageError, match=f"{other} is drained"):
                await desk.move(MoveRequest(instance="shop", to=other))

    run(main())


def test_orders_of_two_at_the_same_time_are_both_kept() -> None:
    async def main() -> None:
        session, path = MemoryEnsemble().session(), LAYOUT.placement
        await asyncio.gather(
            store_orders(session, path, lambda orders: moved(orders, "shop", Moved("a:1", "s"))),
            store_orders(session, path, lambda orders: drained(orders, "b:1", off=False)),
        )
        node = await session.read(path)
        assert node is not None
        assert Orders.from_json(node.data, path) == Orders(frozenset({"b:1"}), {"shop": Moved("a:1", "s")})
        session.close()

    run(main())


@pytest.mark.parametrize("garbage", [b"{", b'{"moved": {"shop": 1}}', b'{"drained": "a:1"}'])
def test_garbage_instead_of_orders_changes_nothing(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with crowd("a", "b", seats=ONE) as cluster:
            await until_all_led(cluster)
            await asyncio.sleep(5)
            session, leaders = cluster.members["a"].coordinator, cluster.leaders
            node = await session.read(LAYOUT.placement)
            await session.commit(
                [Create(LAYOUT.placement, garbage) if node is None else Set(LAYOUT.placement, garbage)]
            )
            await asyncio.sleep(60)
            assert cluster.leaders == leaders

    run(main())
    assert "orders cannot be followed" in caplog.text
