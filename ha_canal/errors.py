"""Every error that ha_canal raises on purpose, in one tree.

::

    CanalError
    ├── UsageError             the caller asked for something that cannot be
    │   ├── ConfigError            a configuration is wrong; all its faults at once
    │   ├── FilterError            a filter is no regular expression
    │   ├── UnknownInstanceError   no such instance
    │   ├── NotSubscribedError     a call without (or after the end of) a subscription
    │   ├── UnknownBatchError      a batch id that was never handed out, or was rolled back
    │   ├── NotOldestError         an ack or rollback out of order
    │   ├── StartPassedError       the ring no longer holds what lies behind a start position
    │   └── CursorFormatError      a stored cursor is none
    ├── RefusedError           the other side said no, in words
    │   ├── NotLeaderError         another node runs the instance (retriable)
    │   ├── LockedError            another client holds the lock (retriable)
    │   ├── StaleEpochError        the work of a deposed leader
    │   ├── SourceRefusedError     the database refused: rights, settings
    │   │   └── PositionPurgedError    the binlog that is needed is gone
    │   └── SourceBusyError        the database cannot serve now (retriable)
    ├── LinkError              a connection broke; trying again is right (retriable)
    │   ├── SourceLostError        to the database
    │   ├── SourceChangedError     another server answers at the database's address
    │   └── CoordinatorLostError   to ZooKeeper, or to the embedded store
    └── StreamError            the stream itself cannot be trusted; stop, with the position
        ├── DecodeError            bytes that are not what they should be
        ├── ChainError             an event is missing, or came twice
        └── SchemaMismatchError    a table's columns are not known for this event

``retriable`` on the class is what back-off loops read. Each class's ``reason`` is the machine-readable
word that goes over gRPC. Messages say what happened, where, and what to do; no message holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class CanalError(Exception):
    """The root: never raised itself."""

    retriable: ClassVar[bool] = False
    reason: ClassVar[str] = "INTERNAL"


class UsageError(CanalError):
    reason: ClassVar[str] = "BAD_REQUEST"


class ConfigError(UsageError):
    """A configuration is wrong. ``faults`` holds one line per fault, each with its path."""

    reason: ClassVar[str] = "BAD_CONFIG"

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        self.where = where
        self.faults = tuple(faults)
        super().__init__(f"{where}: {len(self.faults)} fault(s)\n" + "\n".join(f"  {fault}" for fault in self.faults))


class FilterError(UsageError):
    reason: ClassVar[str] = "BAD_FILTER"


class UnknownInstanceError(UsageError):
    reason: ClassVar[str] = "UNKNOWN_INSTANCE"


class NotSubscribedError(UsageError):
    reason: ClassVar[str] = "NOT_SUBSCRIBED"


class UnknownBatchError(UsageError):
    reason: ClassVar[str] = "UNKNOWN_BATCH"


class NotOldestError(UsageError):
    reason: ClassVar[str] = "NOT_OLDEST"


class StartPassedError(UsageError):
    """A subscription would miss changes: read the source again from its start, into a new ring."""

    reason: ClassVar[str] = "START_PASSED"


class CursorFormatError(UsageError):
    reason: ClassVar[str] = "BAD_CURSOR"


class RefusedError(CanalError):
    reason: ClassVar[str] = "REFUSED"


class NotLeaderError(RefusedError):
    """This node does not run the instance. ``leader`` is the ``host:port`` of the node that does, or ``""``."""

    retriable: ClassVar[bool] = True
    reason: ClassVar[str] = "NOT_LEADER"

    def __init__(self, instance: str, leader: str = "") -> None:
        self.instance = instance
        self.leader = leader
        where = f"{leader} runs it" if leader else "no node runs it at the moment; try again"
        super().__init__(f"instance {instance!r} does not run on this node: {where}")


class LockedError(RefusedError):
    """Another client holds the lock of (instance, client id). ``holder`` says who, as it named itself."""

    retriable: ClassVar[bool] = True
    reason: ClassVar[str] = "LOCKED"

    def __init__(self, instance: str, client_id: str, holder: str) -> None:
        self.instance = instance
        self.client_id = client_id
        self.holder = holder
        super().__init__(
            f"client id {client_id!r} of instance {instance!r} is held by {holder}: "
            "wait for it, stop it, or use a client id of your own"
        )


class StaleEpochError(RefusedError):
    """A write or an ack that belongs to an epoch that has ended."""

    reason: ClassVar[str] = "STALE_EPOCH"


class SourceRefusedError(RefusedError):
    reason: ClassVar[str] = "SOURCE_REFUSED"


class PositionPurgedError(SourceRefusedError):
    reason: ClassVar[str] = "POSITION_PURGED"


class SourceBusyError(RefusedError):
    retriable: ClassVar[bool] = True
    reason: ClassVar[str] = "SOURCE_BUSY"


class LinkError(CanalError):
    retriable: ClassVar[bool] = True
    reason: ClassVar[str] = "LINK_LOST"


class SourceLostError(LinkError):
    reason: ClassVar[str] = "SOURCE_LOST"


class SourceChangedError(LinkError):
    """Another server answers where we were reading: what is in memory is the old one's; begin anew from the cursors."""

    reason: ClassVar[str] = "SOURCE_CHANGED"


class CoordinatorLostError(LinkError):
    reason: ClassVar[str] = "COORDINATOR_LOST"


class StreamError(CanalError):
    """The stream cannot be trusted beyond ``file``:``offset``; an instance that meets it stops there.

    ``offset`` is the start of the event in its binlog file, in bytes.
    """

    reason: ClassVar[str] = "STREAM"

    def __init__(self, what: str, *, file: str = "", offset: int = 0) -> None:
        self.what = what
        self.file = file
        self.offset = offset
        super().__init__(f"{what} (at {file}:{offset})" if file else what)

    def at(self, file: str, offset: int) -> StreamError:
        """Return the same error, placed at ``file``:``offset`` unless it has a place already."""
        return self if self.file else type(self)(self.what, file=file, offset=offset)


class DecodeError(StreamError):
    reason: ClassVar[str] = "DECODE"


class ChainError(StreamError):
    reason: ClassVar[str] = "CHAIN"


class SchemaMismatchError(StreamError):
    reason: ClassVar[str] = "SCHEMA_MISMATCH"
