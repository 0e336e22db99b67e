"""The client lock on a clock that jumps: waiting, expiry, hand-over, and what operators are shown."""

from __future__ import annotations

import asyncio

import pytest

from ha_canal.errors import CanalError, CoordinatorLostError, LockedError, NotSubscribedError
from ha_canal.server.lock_queue import Claim
from ha_canal.server.locks import ClientLock
from ha_canal.testing.clock import run_virtual

A, B, C = Claim("a", "h1"), Claim("b", "h2"), Claim("c", "h3")


class Board:
    """Remembers all that was shown."""

    def __init__(self, fault: CanalError | None = None) -> None:
        self.told: list[str] = []
        self.fault = fault

    async def show(self, _client_id: str, holder: str) -> None:
        await asyncio.sleep(0.01)
        if self.fault:
            raise self.fault
        self.told.append(holder)

    async def clear(self, _client_id: str) -> None:
        self.told.append("")


def lock_with(board: Board) -> ClientLock:
    return ClientLock("shop", "1001", lease_s=10.0, board=board)


def test_a_waiter_gets_it_when_the_lease_runs_out_and_the_holder_is_told() -> None:
    async def main() -> None:
        board = Board()
        lock = lock_with(board)
        first = await lock.acquire(A, 0.0)
        second = await lock.acquire(B, 60.0)
        assert asyncio.get_running_loop().time() == pytest.approx(10.0)
        assert isinstance(first.lost.result(), NotSubscribedError)
        with pytest.raises(LockedError, match=r"held by b \(h2\)"), lock.call(first.token):
            pass
        await asyncio.sleep(1)
        lock.release(second.token)
        await asyncio.sleep(1)
        assert board.told == ["a (h1)", "b (h2)", ""]

    run_virtual(main())


def test_a_call_in_progress_keeps_the_lease() -> None:
    async def main() -> None:
        lock = lock_with(Board())
        lease = await lock.acquire(A, 0.0)
        with lock.call(lease.token), pytest.raises(LockedError):
            await lock.acquire(B, 100.0)
        assert asyncio.get_running_loop().time() == pytest.approx(100.0)
        await lock.acquire(B, 100.0)
        assert asyncio.get_running_loop().time() == pytest.approx(110.0)

    run_virtual(main())


def test_a_waiter_that_is_cancelled_does_not_get_it() -> None:
    async def main() -> None:
        lock = lock_with(Board())
        lease = await lock.acquire(A, 0.0)
        waiting = asyncio.create_task(lock.acquire(B, 60.0))
        third = asyncio.create_task(lock.acquire(C, 60.0))
        await asyncio.sleep(1)
        lock.release(lease.token)
        waiting.cancel()  # in the very moment in which it was granted
        await third
        assert lock.holder == "c (h3)"
        assert waiting.cancelled()

    run_virtual(main())


def test_the_lock_works_when_it_cannot_be_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        lock = lock_with(Board(CoordinatorLostError("no ZooKeeper")))
        lease = await lock.acquire(A, 0.0)
        await asyncio.sleep(1)
        assert lock.holds(lease.token)

    run_virtual(main())
    assert "cannot be shown: no ZooKeeper" in caplog.text


def test_no_lease_no_call() -> None:
    async def main() -> None:
        lock = lock_with(Board())
        with pytest.raises(NotSubscribedError, match="subscribe first"), lock.call("made up"):
            pass

    run_virtual(main())
