"""Batches as they come on an open stream, and the acks that go back: what the SDK's iterator stands on.

A batch passes as the bytes that it came as: python-protobuf reads the small replies only. Single-threaded: replies are
read from the link only while somebody waits for one. Credit keeps at most ``credit`` batches in memory here: one is
granted for each that is handed on or thrown away, half of them at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError as ParseError

from ha_canal.client.delivery import Delivery, delivery
from ha_canal.errors import DecodeError
from ha_canal.protos import canal_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from ha_canal.client.link import Link

_BATCH_TAG = 0x12
"""The first byte of a reply that holds a batch."""


class Flow:
    """The stream of one lease. ``acked`` is the newest batch id that the server has called durable."""

    def __init__(self, link: Link, opening: pb.StreamRequest.Open) -> None:
        self.link = link
        self.acked = 0
        self._batches: deque[Delivery] = deque()
        self._parts: list[bytes] = []
        self._open = False
        self._ungranted = 0
        self._grants = max(1, opening.credit // 2)
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

    def _take(self, raw: bytes) -> None:
        start = batch_start(raw)
        if start:
            self._take_batch(delivery(raw, start))
        else:
            self._take_parsed(_parsed(raw))

    def _take_parsed(self, reply: pb.StreamReply) -> None:
        match reply.WhichOneof("reply"):
            case "opened":
                self._open = True
                self.link.opened(reply.opened)
            case "batch":
                self._take_batch(delivery(reply.batch.SerializeToString()))
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
            self._take_batch(delivery(whole))

    def _take_batch(self, batch: Delivery) -> None:
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

    def next_batch(self) -> Delivery:
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
        self._ungranted += 1
        if self._ungranted >= self._grants:
            self._stream.send(pb.StreamRequest(credit=pb.StreamRequest.Credit(batches=self._ungranted)))
            self._ungranted = 0

    def wake(self) -> None:
        """Let `wait` look at ``stopped`` again; from any thread."""
        self._stream.wake()

    def close(self) -> None:
        """End in words: acks sent are answered, the lock is released."""
        self._stream.close()

    def cut(self) -> None:
        self._stream.cut()


def batch_start(raw: bytes) -> int:
    """Return where the ``Messages`` starts which a serialized ``StreamReply`` holds and ends with; 0: it is another."""
    if not raw or raw[0] != _BATCH_TAG:
        return 0
    size = 0
    for place in range(1, min(len(raw), 11)):
        size |= (raw[place] & 0x7F) << 7 * (place - 1)
        if raw[place] < 0x80:
            return place + 1 if size == len(raw) - place - 1 else 0
    return 0


def _parsed(raw: bytes) -> pb.StreamReply:
    try:
        return pb.StreamReply.FromString(raw)
    except ParseError as wrong:
        raise DecodeError(
            f"a reply of {len(raw)} bytes cannot be read ({wrong}): it was damaged on its way, or its node speaks "
            "another protocol; look at the versions of both"
        ) from None
