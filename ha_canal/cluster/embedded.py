"""The embedded coordinator: one node that coordinates with itself, its tree kept in one SQLite file.

It stands behind the same interface as ZooKeeper, so that cursors, schemas and the epoch are written by the same code.
All state belongs to one worker thread, in which commits run one after the other; a commit is on disk (WAL with
``synchronous=FULL``: https://www.sqlite.org/pragma.html#pragma_synchronous) before it is answered. Ephemeral nodes are
never written: they vanish with the process. A lock file beside the state file keeps a second process out, and tells
it who holds it; the kernel drops that lock with its holder.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from ha_canal.cluster.coordinator import LinkState, Node, Operation, Session, Watched
from ha_canal.cluster.tree import Changes, NodeTree
from ha_canal.errors import CoordinatorLostError, UsageError

T = TypeVar("T")

APPLICATION_ID = 0x68634361
"""Marks our state files (SQLite's application_id): no other database is taken for one."""

TIMEOUT_S = 10.0
"""The nominal session timeout: nothing here ever runs into it, as each look at the session is a proof of life."""


class EmbeddedCoordinator:
    """See `ha_canal.cluster.coordinator.Coordinator`; made by `embedded_coordinator`."""

    def __init__(self, store: _Store, worker: ThreadPoolExecutor) -> None:
        self._store = store
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._id = f"embedded-{os.getpid()}-{secrets.token_hex(4)}"
        self._closed = asyncio.Event()
        self._watches: dict[str, asyncio.Event] = {}

    @property
    def session(self) -> Session:
        if self._closed.is_set():
            return Session("", LinkState.LOST, 1, float("-inf"), TIMEOUT_S)
        return Session(self._id, LinkState.CONNECTED, 1, self._loop.time(), TIMEOUT_S)

    async def session_changed(self, seen: Session) -> Session:
        while not self.session.differs(seen):
            await self._closed.wait()
        return self.session

    async def read(self, path: str) -> Node | None:
        return await self._do(lambda: self._store.tree.read(path))

    async def children(self, path: str) -> list[str]:
        return await self._do(lambda: self._store.tree.children(path))

    async def commit(self, operations: Sequence[Operation]) -> None:
        await self._do(lambda: self._apply(operations))

    async def watch(self, path: str) -> Watched:
        changed = self._watches.setdefault(path, asyncio.Event())
        return Watched(await self.read(path), changed)

    def close(self) -> None:
        """End the session: every later call is refused."""
        self._closed.set()
        self._fire(list(self._watches))

    async def _do(self, work: Callable[[], T]) -> T:
        if self._closed.is_set():
            raise CoordinatorLostError(f"the state file {self._store.name} is closed")
        return await self._loop.run_in_executor(self._worker, work)

    def _apply(self, operations: Sequence[Operation]) -> None:
        touched = self._store.commit(operations, self._id)
        self._loop.call_soon_threadsafe(self._fire, touched)

    def _fire(self, paths: Iterable[str]) -> None:
        for path in paths:
            if changed := self._watches.pop(path, None):
                changed.set()


class _Store:
    """The tree and its file; used by the worker thread alone."""

    def __init__(self, path: Path | None) -> None:
        self.name = "in memory" if path is None else str(path)
        try:
            self._database = sqlite3.connect(path or ":memory:", isolation_level=None)
            self.tree = NodeTree(self._open())
        except sqlite3.Error as error:
            raise UsageError(
                f"cannot use {self.name} as a state file: {error}; name a file that ha_canal wrote, or a new one "
                "in a folder that exists and may be written to"
            ) from error

    def commit(self, operations: Sequence[Operation], session_id: str) -> set[str]:
        changes = self.tree.plan(operations, session_id)
        try:
            self._write(changes)
        except sqlite3.Error as error:
            raise CoordinatorLostError(
                f"cannot write to the state file {self.name}: {error}; look at the disk's space and the file's rights"
            ) from error
        return self.tree.adopt(changes)

    def close(self) -> None:
        self._database.close()

    def _open(self) -> dict[str, Node]:
        (mark,) = self._database.execute("PRAGMA application_id").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark != APPLICATION_ID and (mark or tables):
            raise sqlite3.DatabaseError("it is another program's database")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS node"
            " (path TEXT PRIMARY KEY, data BLOB NOT NULL, version INTEGER NOT NULL) STRICT"
        )
        rows = self._database.execute("SELECT path, data, version FROM node")
        return {path: Node(bytes(data), version) for path, data, version in rows}

    def _write(self, changes: Changes) -> None:
        kept = [(path, node.data, node.version) for path, node in changes.items() if node and not node.owner]
        gone = [(path,) for path, node in changes.items() if node is None or node.owner]
        if not self._touches_disk(changes):
            return
        with self._transaction():
            self._database.executemany("DELETE FROM node WHERE path = ?", gone)
            self._database.executemany("INSERT OR REPLACE INTO node VALUES (?, ?, ?)", kept)

    def _touches_disk(self, changes: Changes) -> bool:
        before = (self.tree.read(path) for path in changes)
        return any(node is not None and not node.owner for node in (*changes.values(), *before))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


@contextmanager
def _sole_use(path: Path) -> Iterator[None]:
    """Hold the lock file of ``path``; raises UsageError with the holder when another process (or we) hold it."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"cannot use {path} as a state file: {lock}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 100).decode(errors="replace").strip() or "another process"
            raise UsageError(
                f"the state file {path} is in use by {holder}: stop it, or use a state file of your own"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _sole_use_or_nothing(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
    else:
        with _sole_use(path):
            yield


@asynccontextmanager
async def embedded_coordinator(path: Path | None) -> AsyncIterator[EmbeddedCoordinator]:
    """Open the state file, made if missing; None keeps the tree in memory alone.

    Raises UsageError when another process uses the file (naming it), or when it is no state file.
    """
    loop = asyncio.get_running_loop()
    with _sole_use_or_nothing(path), ThreadPoolExecutor(1, "embedded-coordinator") as worker:
        store = await loop.run_in_executor(worker, _Store, path)
        coordinator = EmbeddedCoordinator(store, worker)
        try:
            yield coordinator
        finally:
            coordinator.close()
            worker.submit(store.close)
