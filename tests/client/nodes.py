"""Served nodes in a thread of their own, with their own loop, as an application meets them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Self, TypeVar

from ha_canal.errors import CanalError, NotLeaderError
from tests.server.memory import MemoryDirectory, MemoryInstance, Source, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha_canal.model.change import Item

T = TypeVar("T")


class Nodes:
    """``count`` nodes over one source; the first leads. Every method returns when it is done."""

    def __init__(self, count: int = 1, *, lease_s: float = 10.0) -> None:
        self.source = Source()
        self.addresses: list[str] = []
        self._lease_s = lease_s
        self._directories = [MemoryDirectory() for _ in range(count)]
        self._stacks: list[contextlib.AsyncExitStack] = []
        self._epoch = 0
        self._runner = asyncio.Runner()
        self._thread = threading.Thread(target=self._run, name="nodes")
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with self._runner as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        for directory in self._directories:
            stack = contextlib.AsyncExitStack()
            self._stacks.append(stack)
            self.addresses.append(await stack.enter_async_context(serving(directory, lease_s=self._lease_s)))
        self._make_leader(0)
        self._ready.set()
        await self._stop.wait()
        for stack in self._stacks:
            await stack.aclose()

    def _do(self, action: Callable[[], T]) -> T:
        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def commit(self, *items: Item) -> None:
        self._do(lambda: self.source.commit(*items))

    def leader(self, index: int) -> MemoryInstance:
        instance = self._directories[index].shop
        assert instance
        return instance

    def change(self, index: int, action: Callable[[MemoryInstance], T]) -> T:
        """Call ``action`` with the leader's instance, on the nodes' loop."""
        return self._do(lambda: action(self.leader(index)))

    def hand_over(self, old: int, new: int, *, hint: bool = True) -> None:
        """End the term of ``old``, begin one of ``new``."""
        self.depose(old, NotLeaderError("shop", self.addresses[new] if hint else ""))
        self._do(lambda: self._make_leader(new, hint=hint))

    def depose(self, index: int, error: CanalError) -> None:
        self._do(lambda: self.leader(index).end(error))

    def lead(self, index: int) -> None:
        self._do(lambda: self._make_leader(index))

    def _make_leader(self, index: int, *, hint: bool = True) -> None:
        self._epoch += 1
        self._directories[index].shop = MemoryInstance(self.source, self._epoch)
        for directory in self._directories:
            directory.leader = self.addresses[index] if hint else ""

    def trouble(self, index: int, error: Exception | None) -> None:
        def change() -> None:
            self._directories[index].trouble = error

        self._do(change)

    def stop(self, index: int) -> None:
        """End the server of a node: its port is closed."""
        asyncio.run_coroutine_threadsafe(self._stacks[index].aclose(), self._loop).result(10)
