"""The tree of nodes itself: pure data with ZooKeeper's rules, for the coordinators that keep their own tree.

`NodeTree.plan` decides what a commit would change without changing anything; `NodeTree.adopt` takes the changes over.
Between the two, a durable coordinator writes them down. No I/O, no clock, no loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from ha_canal.cluster.coordinator import Check, Conflict, ConflictError, Create, Delete, Node, Operation, Set

Changes = dict[str, Node | None]
"""What a commit changes: each path with its node afterwards, None where it is deleted."""


def parent_of(path: str) -> str:
    """Return the path of the parent, ``"/"`` at the top."""
    return path.rpartition("/")[0] or "/"


class NodeTree:
    """All nodes below ``/``, which itself always exists and holds nothing."""

    def __init__(self, nodes: Mapping[str, Node] | None = None) -> None:
        self._nodes: dict[str, Node] = {}
        self._names: dict[str, set[str]] = {}
        self.adopt(dict(nodes or {}))

    def read(self, path: str) -> Node | None:
        return self._nodes.get(path)

    def children(self, path: str) -> list[str]:
        return sorted(self._names.get(path, ()))

    def plan(self, operations: Sequence[Operation], session_id: str) -> Changes:
        """Return what the operations, done in this order by this session, change. Raises ConflictError."""
        changes: Changes = {}
        for operation in operations:
            match operation:
                case Create():
                    self._plan_create(operation, changes, session_id)
                case Set():
                    node = self._demand(operation, operation.version, changes)
                    changes[operation.path] = Node(operation.data, node.version + 1, node.owner)
                case Check():
                    self._demand(operation, operation.version, changes)
                case Delete():
                    self._demand(operation, operation.version, changes)
                    if any(True for _ in self._children_after(operation.path, changes)):
                        raise ConflictError(operation, Conflict.NOT_EMPTY)
                    changes[operation.path] = None
                case _:
                    assert_never(operation)
        return changes

    def plan_end_of(self, session_id: str) -> Changes:
        """Return what changes when the session ends: its ephemeral nodes go."""
        return {path: None for path, node in self._nodes.items() if node.owner == session_id}

    def adopt(self, changes: Mapping[str, Node | None]) -> set[str]:
        """Take planned changes over; return the paths that they touched."""
        for path, node in changes.items():
            parent, _, name = path.rpartition("/")
            names = self._names.setdefault(parent or "/", set())
            if node is None:
                self._nodes.pop(path, None)
                names.discard(name)
            else:
                self._nodes[path] = node
                names.add(name)
        return set(changes)

    def _after(self, path: str, changes: Changes) -> Node | None:
        return changes[path] if path in changes else self._nodes.get(path)

    def _children_after(self, path: str, changes: Changes) -> Iterator[str]:
        kept = (f"{path}/{name}" for name in self._names.get(path, ()))
        yield from (child for child in kept if self._after(child, changes) is not None)
        yield from (child for child, node in changes.items() if node is not None and parent_of(child) == path)

    def _demand(self, operation: Operation, version: int, changes: Changes) -> Node:
        node = self._after(operation.path, changes)
        if node is None:
            raise ConflictError(operation, Conflict.MISSING)
        if version not in (-1, node.version):
            raise ConflictError(operation, Conflict.VERSION)
        return node

    def _plan_create(self, operation: Create, changes: Changes, session_id: str) -> None:
        if self._after(operation.path, changes) is not None:
            raise ConflictError(operation, Conflict.EXISTS)
        parent = parent_of(operation.path)
        while parent != "/":
            above = self._after(parent, changes)
            if above is not None and above.owner:
                raise ConflictError(operation, Conflict.EPHEMERAL_PARENT)
            if above is None:
                changes[parent] = Node(b"", 0)
            parent = parent_of(parent)
        changes[operation.path] = Node(operation.data, 0, session_id if operation.ephemeral else "")
