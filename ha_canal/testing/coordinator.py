"""An in-memory coordination service with several sessions over one tree, and faults on command.

A full implementation of `ha_canal.cluster.coordinator` (the contract suite runs against it), made for tests on the
virtual clock: everything happens in the loop, in a fixed order. The service ends a session no earlier than its timeout
after it last heard of it, as ZooKeeper does; a client which is cut off learns of that end only when it is back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from ha_canal.cluster.coordinator import LinkState, Node, Operation, Session, Watched
from ha_canal.cluster.tree import NodeTree
from ha_canal.errors import CoordinatorLostError

T = TypeVar("T")


class MemoryEnsemble:
    """The service: one tree, shared by all its sessions."""

    def __init__(self) -> None:
        self.tree = NodeTree()
        self._sessions: list[MemoryCoordinator] = []
        self._numbers = itertools.count(1)

    def session(self, *, timeout_s: float = 10.0) -> MemoryCoordinator:
        """Return a new, connected session; to be called in a running loop."""
        session = MemoryCoordinator(self, timeout_s)
        self._sessions.append(session)
        return session

    def new_id(self) -> str:
        return f"session-{next(self._numbers)}"

    def apply(self, operations: Sequence[Operation], session_id: str) -> None:
        self.tell(self.tree.adopt(self.tree.plan(operations, session_id)))

    def end(self, session_id: str) -> None:
        """End a session at the service: its ephemeral nodes go."""
        self.tell(self.tree.adopt(self.tree.plan_end_of(session_id)))

    def tell(self, paths: Iterable[str]) -> None:
        touched = list(paths)
        for session in self._sessions:
            session.changed_at_service(touched)


class MemoryCoordinator:
    """One session of a `MemoryEnsemble`, with the faults that a test asks for.

    ``delay_s`` is how long each request takes, half on each way. ``proof_age_s`` is how old the last proof of life is
    while all is well.
    """

    def __init__(self, ensemble: MemoryEnsemble, timeout_s: float) -> None:
        self.delay_s = 0.0
        self.proof_age_s = 0.0
        self._ensemble = ensemble
        self._loop = asyncio.get_running_loop()
        self._session = Session(ensemble.new_id(), LinkState.CONNECTED, 1, self._loop.time(), timeout_s)
        self._service_id = self._session.id
        self._reachable = True
        self._closed = False
        self._lost_replies = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._watches: dict[str, asyncio.Event] = {}

    # The interface ----------------------------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        if self._reachable and self._session.state is LinkState.CONNECTED:
            proof_s = max(self._session.last_proof_s, self._loop.time() - self.proof_age_s)
            self._session = replace(self._session, last_proof_s=proof_s)
        return self._session

    async def session_changed(self, seen: Session) -> Session:
        while not self._session.differs(seen):
            await self._changed.wait()
        return self.session

    async def read(self, path: str) -> Node | None:
        return await self._request(lambda: self._ensemble.tree.read(path))

    async def children(self, path: str) -> list[str]:
        return await self._request(lambda: self._ensemble.tree.children(path))

    async def watch(self, path: str) -> Watched:
        changed = self._watches.setdefault(path, asyncio.Event())
        return Watched(await self._request(lambda: self._ensemble.tree.read(path)), changed)

    async def commit(self, operations: Sequence[Operation]) -> None:
        session_id = self._session.id
        await self._request(lambda: self._ensemble.apply(operations, session_id))
        if self._lost_replies:
            self._lost_replies -= 1
            raise CoordinatorLostError("the reply to a commit was lost; it may be done or not")

    # The faults -------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut the link without a word: requests vanish, and the client does not know yet."""
        if self._reachable and not self._closed:
            self._session = self.session
            self._reachable = False
            self._expiry = self._loop.call_later(self._session.timeout_s, self._end_at_service)

    def suspend(self) -> None:
        """Cut the link, and let the client notice."""
        self.cut()
        if self._session.state is LinkState.CONNECTED:
            self._become(replace(self._session, state=LinkState.SUSPENDED))

    def heal(self) -> None:
        """Let the client reach the service again: in its session, or, when that has ended, in a new one."""
        if self._closed:
            return
        self._reachable = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._service_id == self._session.id:
            self._become(replace(self._session, state=LinkState.CONNECTED, link=self._session.link + 1))
        else:
            self._start_anew()

    @property
    def reachable(self) -> bool:
        """Whether requests reach the service."""
        return self._reachable

    def expire(self) -> None:
        """End the session at the service now. A client that is cut off learns it when it is back."""
        self._end_at_service()
        if self._reachable:
            self._start_anew()

    def lose_replies(self, count: int = 1) -> None:
        """Apply the next commits, but let their callers believe that the link broke."""
        self._lost_replies = count

    def close(self) -> None:
        """End the session cleanly; later calls are refused."""
        self._closed = True
        if self._reachable:
            self._end_at_service()
        self._reachable = False
        self._become(replace(self._session, id="", state=LinkState.LOST))

    # How it works -----------------------------------------------------------------------------------------------------

    def changed_at_service(self, paths: Iterable[str]) -> None:
        """Set off the watches on these paths, if the word can reach us."""
        if self._reachable:
            self._fire(paths)

    def _end_at_service(self) -> None:
        ended, self._service_id = self._service_id, ""
        if ended:
            self._ensemble.end(ended)

    def _start_anew(self) -> None:
        timeout_s, link = self._session.timeout_s, self._session.link + 1
        self._become(Session("", LinkState.LOST, link, float("-inf"), timeout_s))
        self._service_id = self._ensemble.new_id()
        self._loop.call_soon(self._connected_anew, self._service_id)

    def _connected_anew(self, session_id: str) -> None:
        if self._reachable and session_id == self._service_id:
            self._become(
                replace(self._session, id=session_id, state=LinkState.CONNECTED, last_proof_s=self._loop.time())
            )

    def _become(self, session: Session) -> None:
        self._session = session
        self._changed.set()
        self._changed = asyncio.Event()
        self._fire(list(self._watches))

    def _fire(self, paths: Iterable[str]) -> None:
        for path in paths:
            if changed := self._watches.pop(path, None):
                changed.set()

    async def _request(self, work: Callable[[], T]) -> T:
        if self._session.state is not LinkState.CONNECTED:
            raise CoordinatorLostError(f"the link is {self._session.state.value}")
        asked_in = self._session
        await self._travel(asked_in)
        result = work()
        await self._travel(asked_in)
        return result

    async def _travel(self, asked_in: Session) -> None:
        await asyncio.sleep(self.delay_s / 2)
        if not self._reachable and not self._session.differs(asked_in):
            await self._silence(asked_in)
        if self._session.differs(asked_in) or not self._reachable:
            raise CoordinatorLostError("the link broke; the request may be done or not")

    async def _silence(self, asked_in: Session) -> None:
        try:
            async with asyncio.timeout(asked_in.timeout_s):
                await self.session_changed(asked_in)
        except TimeoutError:
            raise CoordinatorLostError("no answer; the request may be done or not") from None
