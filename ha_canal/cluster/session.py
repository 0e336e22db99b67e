"""The coordinator on ZooKeeper, by kazoo, and the fence around its threads.

kazoo's callbacks come on its own threads and enter the loop with ``call_soon_threadsafe``. What it does under faults
was measured, and shapes this file:

- it says LOST only when a server told it so, or at the end, so that a client cut off stays SUSPENDED: deadlines are
  the caller's, counted from `Session.last_proof_s`;
- a request made into a dead link is queued and sent after the reconnect: each has a time limit here, and is refused at
  once while the link does not stand;
- a connection counts as CONNECTED here only when a ``sync`` was answered on it. A read is answered by a ZooKeeper
  follower itself; ``sync`` goes through the leader, the one that ends sessions: it (and a commit) is a proof of life;
- one-shot watches are consumed by a cut, so that every change of the session sets off all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    ConnectionClosedError,
    ConnectionLoss,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    RolledBackError,
    SessionExpiredError,
    SessionMovedError,
)
from kazoo.protocol.states import KazooState, WatchedEvent, ZnodeStat

from ha_canal.cluster.coordinator import (
    Check,
    Conflict,
    ConflictError,
    Create,
    Delete,
    LinkState,
    Node,
    Operation,
    Session,
    Set,
    Watched,
    until_connected,
)
from ha_canal.cluster.tree import parent_of
from ha_canal.cluster.zookeeper_client import zookeeper_client
from ha_canal.errors import CanalError, CoordinatorLostError, RefusedError, UsageError

log = logging.getLogger(__name__)

KEEPALIVE_SHARE = 1 / 6
"""Of the session timeout: how often the session is proved alive (see the margin in `ha_canal.cluster.leadership`)."""

MAX_COMMIT_BYTES = 1_000_000
"""ZooKeeper drops the link at a request above 1 MiB (jute.maxbuffer), again at each attempt."""

_LINK_ERRORS = (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    OperationTimeoutError,
    SessionExpiredError,
    SessionMovedError,
)
_CONFLICTS = {
    NodeExistsError: Conflict.EXISTS,
    NoNodeError: Conflict.MISSING,
    BadVersionError: Conflict.VERSION,
    NotEmptyError: Conflict.NOT_EMPTY,
    NoChildrenForEphemeralsError: Conflict.EPHEMERAL_PARENT,
}


class ZookeeperCoordinator:
    """See `ha_canal.cluster.coordinator.Coordinator`; made by `zookeeper_session`."""

    def __init__(self, hosts: str, timeout_s: float) -> None:
        self._client = zookeeper_client(hosts, timeout_s=timeout_s, granted=self._granted_from_thread)
        self._hosts = hosts
        self._loop = asyncio.get_running_loop()
        self._session = Session("", LinkState.LOST, 0, float("-inf"), timeout_s)
        self._changed = asyncio.Event()
        self._watches: dict[str, asyncio.Event] = {}
        self._granted_s = timeout_s
        self._leaving = False
        self._link_up = asyncio.Event()
        self._new_link = asyncio.Event()
        self._client.add_listener(self._state_from_thread)

    @property
    def session(self) -> Session:
        return self._session

    async def session_changed(self, seen: Session) -> Session:
        while not self._session.differs(seen):
            await self._changed.wait()
        return self._session

    async def read(self, path: str) -> Node | None:
        try:
            return _node(await self._ask(lambda: self._client.get_async(path), f"reading {path}"))
        except NoNodeError:
            return None

    async def children(self, path: str) -> list[str]:
        try:
            return sorted(await self._ask(lambda: self._client.get_children_async(path), f"listing {path}"))
        except NoNodeError:
            return []

    async def watch(self, path: str) -> Watched:
        changed = self._watches.setdefault(path, asyncio.Event())
        while True:
            # Only `exists` sets a watch on a node that is not there; of the two answers only the second is the node.
            stat = await self._ask(lambda: self._client.exists_async(path, self._watch_from_thread), f"watching {path}")
            if stat is None:
                return Watched(None, changed)
            with suppress(NoNodeError):
                return Watched(_node(await self._ask(lambda: self._client.get_async(path), f"reading {path}")), changed)

    async def commit(self, operations: Sequence[Operation]) -> None:
        _refuse_oversize(operations)
        try:
            await self._commit(operations)
        except ConflictError as error:
            if not isinstance(error.operation, Create) or error.conflict is not Conflict.MISSING:
                raise
            await self._make_parents(operations)
            await self._commit(operations)

    def start(self) -> None:
        """Begin to connect, on threads of kazoo's own."""
        self._client.start_async()

    async def end(self) -> None:
        """End the session at the server, if it can be reached, and the threads."""
        self._leaving = True
        await asyncio.shield(asyncio.to_thread(self._stop))

    def _stop(self) -> None:
        self._client.stop()
        self._client.close()

    async def keep_alive(self) -> None:
        """Prove the session alive again and again; ends with its task."""
        while True:
            await self._link_up.wait()
            self._new_link.clear()
            proved = await self._prove()
            was_connected = self._session.state is LinkState.CONNECTED
            if self._link_up.is_set() and proved is not None and proved != was_connected:
                state = LinkState.SUSPENDED if was_connected else LinkState.CONNECTED
                self._become(replace(self._session, state=state))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._granted_s * KEEPALIVE_SHARE):
                    await self._new_link.wait()

    # Requests ---------------------------------------------------------------------------------------------------------

    async def _commit(self, operations: Sequence[Operation]) -> None:
        transaction = self._client.transaction()
        for operation in operations:
            _add(transaction, operation)
        sent_s, session_id = self._loop.time(), self._session.id
        what = "committing " + ", ".join(operation.path for operation in operations)
        results = await self._ask(transaction.commit_async, what)
        for operation, result in zip(operations, results, strict=True):
            if isinstance(result, Exception) and not isinstance(result, RolledBackError):
                raise _conflict(operation, result)
        self._proved(sent_s, session_id)

    async def _make_parents(self, operations: Sequence[Operation]) -> None:
        parents = {parent_of(operation.path) for operation in operations if isinstance(operation, Create)}
        for parent in sorted(parents):
            await self._ask(partial(self._client.ensure_path_async, parent), f"making {parent}")

    async def _prove(self) -> bool | None:
        """Return whether a sync was answered, or None where that says nothing of the link that stands now."""
        sent_s, seen = self._loop.time(), self._session
        try:
            await self._answer(self._client.sync_async("/"), "proving the session alive")
        except CanalError as error:
            if not isinstance(error, CoordinatorLostError):
                log.warning("%s", error)
            return None if self._session.link != seen.link else False
        self._proved(sent_s, seen.id)
        return None if self._session.link != seen.link else True

    def _proved(self, sent_s: float, session_id: str) -> None:
        if session_id == self._session.id and sent_s > self._session.last_proof_s:
            self._session = replace(self._session, last_proof_s=sent_s, timeout_s=self._granted_s)

    async def _ask(self, request: Callable[[], Any], what: str) -> Any:
        state = self._session.state
        if state is not LinkState.CONNECTED or not self._client.connected:
            raise CoordinatorLostError(
                f"{what}: the link to ZooKeeper at {self._hosts} is {state.value}; look at its servers and the network"
            )
        return await self._answer(request(), what)

    async def _answer(self, pending: Any, what: str) -> Any:
        answered: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not answered.done():
                answered.set_result(None)

        pending.rawlink(lambda _: self._to_loop(wake))
        try:
            async with asyncio.timeout(self._granted_s):
                await answered
            return pending.get_nowait()
        except TimeoutError as error:
            raise CoordinatorLostError(
                f"{what}: no answer from ZooKeeper at {self._hosts} in {self._granted_s:g} s; it may be done or not"
            ) from error
        except _LINK_ERRORS as error:
            raise CoordinatorLostError(
                f"{what}: the link to ZooKeeper at {self._hosts} broke ({type(error).__name__}); it may be done or not"
            ) from error
        except NoNodeError:
            raise
        except Exception as error:  # kazoo hands on whatever it made of an answer
            raise RefusedError(f"{what}: ZooKeeper at {self._hosts} refused: {error!r}") from error

    # From kazoo's threads ---------------------------------------------------------------------------------------------

    def _to_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *arguments)

    def _state_from_thread(self, state: str) -> None:
        client_id = self._client.client_id
        self._to_loop(self._link_changed, state, _session_text(client_id[0]) if client_id else "")

    def _granted_from_thread(self, timeout_s: float) -> None:
        self._to_loop(self._granted, timeout_s)

    def _watch_from_thread(self, event: WatchedEvent) -> None:
        if event.path:
            self._to_loop(self._fire, event.path)

    # In the loop ------------------------------------------------------------------------------------------------------

    def _link_changed(self, state: str, session_id: str) -> None:
        if state == KazooState.CONNECTED:
            self._connecting(session_id)
        else:
            self._link_up.clear()
            lost = state == KazooState.LOST or not self._session.id
            cut = replace(self._session, state=LinkState.LOST if lost else LinkState.SUSPENDED)
            self._become(replace(cut, id="", last_proof_s=float("-inf")) if lost else cut)

    def _granted(self, timeout_s: float) -> None:
        """Less holds at once; more from the next proof on."""
        self._granted_s = timeout_s
        self._session = replace(self._session, timeout_s=min(timeout_s, self._session.timeout_s))

    def _connecting(self, session_id: str) -> None:
        """A connection stands; it counts once the keepalive has been answered on it."""
        link = self._session.link + 1
        if session_id == self._session.id:
            self._become(replace(self._session, state=LinkState.SUSPENDED, link=link))
        else:
            self._become(Session(session_id, LinkState.LOST, link, float("-inf"), self._granted_s))
        self._link_up.set()
        self._new_link.set()

    def _become(self, session: Session) -> None:
        if session.state is not self._session.state:
            good = self._leaving or session.state is LinkState.CONNECTED
            level = logging.INFO if good else logging.WARNING
            log.log(level, "ZooKeeper at %s: %s, session %s", self._hosts, session.state.value, session.id or "none")
        self._session = session
        self._changed.set()
        self._changed = asyncio.Event()
        for path in list(self._watches):
            self._fire(path)

    def _fire(self, path: str) -> None:
        if changed := self._watches.pop(path, None):
            changed.set()


def _session_text(number: int) -> str:
    return f"0x{number & 0xFFFF_FFFF_FFFF_FFFF:x}" if number else ""


def _node(answer: tuple[bytes, ZnodeStat]) -> Node:
    data, stat = answer
    return Node(data or b"", stat.version, _session_text(stat.ephemeralOwner))


def _add(transaction: Any, operation: Operation) -> None:
    match operation:
        case Create(path, data, ephemeral):
            transaction.create(path, data, ephemeral=ephemeral)
        case Set(path, data, version):
            transaction.set_data(path, data, version)
        case Check(path, version):
            transaction.check(path, version)
        case Delete(path, version):
            transaction.delete(path, version)


def _conflict(operation: Operation, result: Exception) -> RefusedError:
    """Return our error for the first operation that was not merely rolled back: that is the one that failed."""
    for kind, conflict in _CONFLICTS.items():
        if isinstance(result, kind):
            return ConflictError(operation, conflict)
    return RefusedError(f"ZooKeeper refused to {type(operation).__name__.lower()} {operation.path}: {result!r}")


def _refuse_oversize(operations: Sequence[Operation]) -> None:
    size = sum(len(operation.data) for operation in operations if isinstance(operation, Create | Set))
    if size > MAX_COMMIT_BYTES:
        paths = ", ".join(operation.path for operation in operations)
        raise UsageError(f"{paths}: {size} bytes in one commit; ZooKeeper takes at most {MAX_COMMIT_BYTES}")


@asynccontextmanager
async def zookeeper_session(
    hosts: str, *, timeout_s: float, limit_s: float | None = None
) -> AsyncIterator[ZookeeperCoordinator]:
    """Hold a session at ZooKeeper: entered once it is connected, ended at the server (at once) when left.

    ``hosts`` is ``host:port,host:port``, with a path behind it to live below that path. ``timeout_s`` is asked for;
    what was granted is in `Session.timeout_s`.
    While ZooKeeper cannot be reached it tries on, for ``limit_s`` seconds (None: for ever), then raises
    CoordinatorLostError.
    """
    coordinator = ZookeeperCoordinator(hosts, timeout_s)
    keepalive = asyncio.create_task(coordinator.keep_alive(), name="zookeeper-keepalive")
    try:
        coordinator.start()
        await _first_connection(coordinator, hosts, limit_s)
        yield coordinator
    finally:
        keepalive.cancel()
        await coordinator.end()
        with suppress(asyncio.CancelledError):
            await keepalive


async def _first_connection(coordinator: ZookeeperCoordinator, hosts: str, limit_s: float | None) -> None:
    said = asyncio.get_running_loop().call_later(
        1.0, log.warning, "ZooKeeper at %s cannot be reached yet, trying on; look at its servers and the network", hosts
    )
    try:
        async with asyncio.timeout(limit_s):
            await until_connected(coordinator)
    except TimeoutError as error:
        raise CoordinatorLostError(
            f"ZooKeeper at {hosts} could not be reached in {limit_s:g} s: look at its servers and the network"
        ) from error
    finally:
        said.cancel()
