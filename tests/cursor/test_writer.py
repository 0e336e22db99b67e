"""Group commit: who shares a write, what a failure does, and how the writer ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from ha_canal.cursor import CursorWriter
from ha_canal.errors import CoordinatorLostError, StaleEpochError
from ha_canal.model.position import Position


class Storage:
    """Keeps cursors in memory; writes wait while ``gate`` is closed, and fail with ``error`` if there is one."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.writes: list[dict[str, bytes]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def write_fenced(self, values: Mapping[str, bytes]) -> None:
        self.writes.append(dict(values))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.stored |= values


def encode(position: Position) -> bytes:
    return str(position).encode()


def at(offset: int) -> Position:
    return Position("f", offset)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_writes_that_come_together_share_one_and_the_latest_wins() -> None:
    async def scenario() -> None:
        storage = Storage()
        async with CursorWriter(storage, encode=encode) as writer:
            first = asyncio.ensure_future(writer.write("a", at(1)))
            await settle()
            later = [asyncio.ensure_future(writer.write(client, at(n))) for n, client in enumerate("aabba", start=2)]
            await settle()
            assert storage.writes == [{"a": b"f:1"}]
            assert not any(task.done() for task in (first, *later))
            storage.gate.set()
            await asyncio.gather(first, *later)
        assert storage.writes == [{"a": b"f:1"}, {"a": b"f:6", "b": b"f:5"}]
        assert storage.stored == {"a": b"f:6", "b": b"f:5"}

    asyncio.run(scenario())


def test_returns_only_when_durable() -> None:
    async def scenario() -> None:
        storage = Storage()
        storage.gate.set()
        async with CursorWriter(storage, encode=encode) as writer:
            for offset in range(5):
                await writer.write("a", at(offset))
                assert storage.stored == {"a": f"f:{offset}".encode()}

    asyncio.run(scenario())


def test_a_failure_reaches_all_who_share_the_write_and_the_next_one_is_tried() -> None:
    async def scenario() -> None:
        storage = Storage()
        storage.gate.set()
        storage.error = StaleEpochError("another leader has begun")
        async with CursorWriter(storage, encode=encode) as writer:
            results = await asyncio.gather(*(writer.write(client, at(1)) for client in "ab"), return_exceptions=True)
            assert results == [storage.error] * 2
            storage.error = None
            await writer.write("a", at(2))
            assert storage.stored == {"a": b"f:2"}

    asyncio.run(scenario())


def test_a_cancelled_write_disturbs_nobody() -> None:
    async def scenario() -> None:
        storage = Storage()
        async with CursorWriter(storage, encode=encode) as writer:
            one, two = (asyncio.ensure_future(writer.write("a", at(n))) for n in (1, 2))
            await settle()
            one.cancel()
            storage.gate.set()
            await two
        assert storage.stored == {"a": b"f:2"}

    asyncio.run(scenario())


def test_the_end_writes_what_is_pending() -> None:
    async def scenario() -> None:
        storage = Storage()
        async with CursorWriter(storage, encode=encode) as writer:
            tasks = [asyncio.ensure_future(writer.write("a", at(1)))]
            await settle()
            tasks.append(asyncio.ensure_future(writer.write("a", at(2))))
            await settle()
            asyncio.get_running_loop().call_soon(storage.gate.set)
        assert storage.stored == {"a": b"f:2"}
        await asyncio.gather(*tasks)
        with pytest.raises(CoordinatorLostError):
            await writer.write("a", at(3))

    asyncio.run(scenario())


def test_a_cancelled_end_leaves_no_task_and_nobody_waiting() -> None:
    async def scenario() -> None:
        storage = Storage()
        waiting: list[asyncio.Task[None]] = []

        async def use() -> None:
            async with CursorWriter(storage, encode=encode) as writer:
                waiting.append(asyncio.create_task(writer.write("a", at(1))))
                await settle()
                waiting.append(asyncio.create_task(writer.write("b", at(1))))
                await settle()

        using = asyncio.create_task(use())
        await settle()
        await settle()
        await settle()
        using.cancel()
        await asyncio.wait({using, *waiting})
        assert using.cancelled()
        assert all(isinstance(task.exception(), CoordinatorLostError) for task in waiting)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_a_bug_in_the_storage_ends_the_writer_and_reaches_its_owner() -> None:
    async def scenario() -> None:
        storage = Storage()
        storage.gate.set()
        storage.error = KeyError("bug")

        async def use() -> None:
            async with CursorWriter(storage, encode=encode) as writer:
                with pytest.raises(CoordinatorLostError):
                    await writer.write("a", at(1))
                await settle()
                with pytest.raises(CoordinatorLostError):
                    await writer.write("a", at(1))

        with pytest.raises(KeyError):
            await use()

    asyncio.run(scenario())
