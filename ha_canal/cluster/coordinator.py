"""What a coordination service is to this project: a tree of small nodes, atomic commits, watches, and a session.

The interface is ZooKeeper's, cut down to what elections and cursors need. Three implementations stand behind it
(`ha_canal.cluster.session` for ZooKeeper, `ha_canal.cluster.embedded` for one SQLite file, an in-memory one for
tests), and one contract suite runs against all of them; election, fencing and layout are written once, above.

Invariants which every implementation keeps:

- a commit is applied as a whole or not at all, and is durable when `Tree.commit` returns;
- an ephemeral node lives as long as the session that made it, and its `Node.owner` is that session's id;
- a node's version starts at 0 when it is created and grows by one with each `Set`;
- no call blocks the loop, and none hangs: without a link it raises `CoordinatorLostError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from ha_canal.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was read. ``owner`` is the session id of an ephemeral node's maker, ``""`` for a persistent one."""

    data: bytes
    version: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Create:
    """Make a node. Missing parents are made first, persistent and empty, outside of the commit."""

    path: str
    data: bytes = b""
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Set:
    """Replace a node's data; ``version`` is the one that it must have, -1 for any."""

    path: str
    data: bytes
    version: int = -1


@dataclass(frozen=True, slots=True)
class Check:
    """Demand that a node exists with this version."""

    path: str
    version: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a node that has no children; ``version`` is the one that it must have, -1 for any."""

    path: str
    version: int = -1


Operation = Create | Set | Check | Delete


class Conflict(Enum):
    """Why an operation could not be done."""

    EXISTS = "the node exists"
    MISSING = "there is no such node"
    VERSION = "the node has another version"
    NOT_EMPTY = "the node has children"
    EPHEMERAL_PARENT = "an ephemeral node can have no children"


class ConflictError(RefusedError):
    """A commit was refused, and nothing of it applied. ``operation`` is the one which failed, ``conflict`` why."""

    reason: ClassVar[str] = "CONFLICT"

    def __init__(self, operation: Operation, conflict: Conflict) -> None:
        self.operation = operation
        self.conflict = conflict
        super().__init__(f"{type(operation).__name__.lower()} {operation.path} was refused: {conflict.value}")


class LinkState(Enum):
    """How the link to the coordination service stands."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    """Cut off; the session may live on at the service, or may have ended there: nobody here can know."""
    LOST = "lost"
    """There is no session (not yet, or no more); what it owned is gone or will go."""


@dataclass(frozen=True, slots=True)
class Session:
    """The session at one moment. Times are of the running loop's clock, in seconds.

    ``link`` counts how often the link was established: it tells a cut and a reconnect that nobody saw.
    ``last_proof_s`` is when the last request that was answered, and whose answer proves that the session lived, had
    been *sent* (minus infinity: never). ``timeout_s`` is what the service granted: it ends the session no earlier than
    that long after it last heard of it.
    """

    id: str
    state: LinkState
    link: int
    last_proof_s: float
    timeout_s: float

    def differs(self, other: Session) -> bool:
        """Return whether id, state or link changed (a newer proof of life alone is no change)."""
        return (self.id, self.state, self.link) != (other.id, other.state, other.link)


@dataclass(frozen=True, slots=True)
class Watched:
    """A node as it was when the watch was set, and an event that is set at the first change after that.

    ``changed`` is set when the node is created, changed or deleted, and also whenever the session changes, as a cut
    consumes watches. It may be set without cause. Whoever waits on it looks again with a new `Tree.watch`.
    """

    node: Node | None
    changed: asyncio.Event


class Tree(Protocol):
    """Reading and changing the nodes."""

    async def read(self, path: str) -> Node | None:
        """Return the node, or None when there is none. Raises CoordinatorLostError."""
        ...

    async def children(self, path: str) -> list[str]:
        """Return the names of the node's children, sorted; none for a node that does not exist."""
        ...

    async def commit(self, operations: Sequence[Operation]) -> None:
        """Do all operations, or none.

        Raises ConflictError, naming the operation that failed, or CoordinatorLostError, after which the commit may have
        been applied or not: read, or repeat what can be repeated.
        """
        ...

    async def watch(self, path: str) -> Watched:
        """Return the node and the event of its next change; nothing between the two can be missed."""
        ...


class Link(Protocol):
    """The session that all this happens in."""

    @property
    def session(self) -> Session:
        """The session now; one immutable value, replaced as a whole."""
        ...

    async def session_changed(self, seen: Session) -> Session:
        """Return the session as soon as it `Session.differs` from ``seen``: at once, if it does already."""
        ...


class Coordinator(Tree, Link, Protocol):
    """Both: what a node is given."""


async def until_connected(link: Link) -> Session:
    """Return the session once its link stands."""
    session = link.session
    while session.state is not LinkState.CONNECTED:
        session = await link.session_changed(session)
    return session
