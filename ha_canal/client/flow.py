"""Batches as they come on an open stream, and the acks that go back: what the SDK's iterator stands on.

Single-threaded: replies are read from the link only while somebody waits for one. Credit keeps at most ``credit``
batches in memory here: one is granted for each that is handed on or thrown away.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ha_canal.protos import canal_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha_canal.client.link import Link


class Flow:
    """The stream of one lease. ``acked`` is the newest batch id that the server has called durable."""

    def __init__(self, link: Link, opening: pb.StreamRequest.Open) -> None:
        self.link = link
        self.acked = 0
        self._batches: deque[pb.Messages] = deque()
        self._parts: list[bytes] = []
        self._open = False
        self._rollbacks = 0  # asked for and not answered: what comes meanwhile was taken back
        self._stream = link.stream(opening)

    def wait(self, done: Callable[[], bool], stopped: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Take replies until ``done`` or ``stopped``; returns whether it is done. Raises what the stream ended with."""
        while not done():
            if stopped():
                return False
            reply = self._stream.receive(timeout_s)
            if reply is not None:
                self._take(reply)
            elif timeout_s is not None:
                return done()
        return True

    def _take(self, reply: pb.StreamReply) -> None:
        match reply.WhichOneof("reply"):
            case "opened":
                self._open = True
                self.link.opened(reply.opened)
            case "batch":
                self._take_batch(reply.batch)
            case "part":
                self._take_part(reply.part)
            case "acked":
                self.acked = max(self.acked, reply.acked.batch_id)
            case "rolled_back":
                self._rollbacks -= 1
            case _:  # a heartbeat, or something of a newer protocol that we can do without
                pass

    def _take_part(self, part: pb.Part) -> None:
        self._parts.append(part.data)
        if part.last:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._take_batch(pb.Messages.FromString(whole))

    def _take_batch(self, batch: pb.Messages) -> None:
        if self._rollbacks:
            self._grant()
        else:
            self._batches.append(batch)

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def has_batch(self) -> bool:
        return bool(self._batches)

    @property
    def is_rolled_back(self) -> bool:
        """Whether all rollbacks asked for are done."""
        return not self._rollbacks

    def next_batch(self) -> pb.Messages:
        """Return the oldest batch that waits here."""
        batch = self._batches.popleft()
        self._grant()
        return batch

    def ack(self, batch_id: int, epoch: int) -> None:
        self._stream.send(pb.StreamRequest(ack=pb.AckRequest(batch_id=batch_id, epoch=epoch)))

    def rollback(self, batch_id: int, epoch: int) -> None:
        """Ask for this batch and all after it again, and throw away those that wait here: they are after it."""
        self._rollbacks += 1
        self._stream.send(pb.StreamRequest(rollback=pb.RollbackRequest(batch_id=batch_id, epoch=epoch)))
        for _ in self._batches:
            self._grant()
        self._batches.clear()

    def _grant(self) -> None:
        self._stream.send(pb.StreamRequest(credit=pb.StreamRequest.Credit(batches=1)))

    def wake(self) -> None:
        """Let `wait` look at ``stopped`` again; from any thread."""
        self._stream.wake()

    def close(self) -> None:
        """End in words: acks sent are answered, the lock is released."""
        self._stream.close()

    def cut(self) -> None:
        self._stream.cut()
