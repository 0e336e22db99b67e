"""The bidirectional stream: batches pushed while the client has credit, acks answered in order, a pulse when idle.

One stream has four parts that run at the same time and end together: the reader of requests, the pump of batches,
the answerer of acks, and the pulse. All write through `_Outlet`, one message at a time. A rollback is answered
under the outlet's turn, and a batch leaves only if it is still out at its turn, so behind the answer the client
sees no batch from before it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from ha_canal.errors import LinkError, UsageError
from ha_canal.protos.canal_pb2 import AckReply, Heartbeat, RollbackReply, StreamReply, StreamRequest
from ha_canal.server.framing import messages_of, stream_batch, stream_parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from ha_canal.protos.canal_pb2 import AckRequest, RollbackRequest
    from ha_canal.server.delivery import Delivery, Taken
    from ha_canal.server.ports import ServedInstance

_HEARTBEAT = StreamReply(heartbeat=Heartbeat()).SerializeToString()
_MOST_CREDIT = 1024
_LEAST_PART_BYTES = 64 * 1024
_POLL_S = 3600.0
"""A pump waits for as long as it takes; what ends a stream cancels it."""


class Outlet:
    """The writing side of a stream: one message at a time, and when the last one left."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self.turn = asyncio.Lock()
        self.last_s = self._loop.time()

    async def send(self, message: bytes) -> None:
        async with self.turn:
            await self.send_in_turn(message)

    async def send_in_turn(self, message: bytes) -> None:
        """Write, being the one whose turn it is."""
        try:
            await self._write(message)
        except grpc.aio.BaseError as error:
            raise LinkError("the client's link is broken") from error
        self.last_s = self._loop.time()

    async def pulse(self, every_s: float, check: Callable[[], None]) -> None:
        """Write a heartbeat whenever nothing left for ``every_s``; ``check`` raises when nothing may leave."""
        while True:
            idle_s = self._loop.time() - self.last_s
            if idle_s < every_s:
                await asyncio.sleep(every_s - idle_s)
            else:
                check()
                await self.send(_HEARTBEAT)


class Stream:
    """An open stream of the holder of ``token``."""

    def __init__(
        self, delivery: Delivery, instance: ServedInstance, token: str, outlet: Outlet, opened: StreamRequest.Open,
        *, max_items: int, max_bytes: int,
    ) -> None:  # fmt: skip
        self._delivery = delivery
        self._instance = instance
        self._token = token
        self._outlet = outlet
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._part_bytes = max(opened.part_bytes, _LEAST_PART_BYTES) if opened.part_bytes > 0 else 0
        self._lean = opened.lean
        self._credit = asyncio.Semaphore(min(max(0, opened.credit), _MOST_CREDIT))
        self._answers: asyncio.Queue[tuple[int, asyncio.Future[None]] | None] = asyncio.Queue()

    async def run(self, requests: AsyncIterator[bytes]) -> bool:
        """Serve until the client's last request; then every ack it sent is answered. True: it closed in words."""
        async with asyncio.TaskGroup() as parts:
            pump = parts.create_task(self._pump())
            answerer = parts.create_task(self._answer())
            closed = await self._read(requests)
            pump.cancel()
            self._answers.put_nowait(None)
            await answerer
        return closed

    async def _read(self, requests: AsyncIterator[bytes]) -> bool:
        async for raw in requests:
            request = StreamRequest.FromString(raw)
            match request.WhichOneof("request"):
                case "close":
                    return True
                case "credit":
                    for _ in range(min(request.credit.batches, _MOST_CREDIT)):
                        self._credit.release()
                case "ack":
                    self._accept(request.ack)
                case "rollback":
                    await self._roll_back(request.rollback)
                case _:
                    raise UsageError("a stream begins with one Open; then come Credit, Ack, Rollback and Close only")
        return False

    def _accept(self, ack: AckRequest) -> None:
        durable = self._delivery.accept(self._token, ack.batch_id, ack.epoch)
        self._answers.put_nowait((ack.batch_id, durable))

    async def _roll_back(self, rollback: RollbackRequest) -> None:
        async with self._outlet.turn:
            await self._delivery.rollback(self._token, rollback.batch_id or None, rollback.epoch)
            await self._outlet.send_in_turn(StreamReply(rolled_back=RollbackReply()).SerializeToString())

    async def _answer(self) -> None:
        while (answer := await self._answers.get()) is not None:
            batch_id, durable = answer
            await asyncio.shield(durable)
            await self._outlet.send(StreamReply(acked=AckReply(batch_id=batch_id)).SerializeToString())

    async def _pump(self) -> None:
        while True:
            await self._credit.acquire()
            if not await self._push_next():
                self._credit.release()

    async def _push_next(self) -> bool:
        """Wait for a batch and send it. False: none left. Returns so that nothing holds on to a batch that has left."""
        taken = await self._delivery.take(
            self._token, max_items=self._max_items, max_bytes=self._max_bytes, timeout_s=_POLL_S, lean=self._lean
        )
        if taken is None:
            return False
        async with self._outlet.turn:
            if not self._delivery.is_out(self._token, taken.batch_id):
                return False
            for message in self._messages(taken):
                self._instance.check_output()
                await self._outlet.send_in_turn(message)
        return True

    def _messages(self, taken: Taken) -> Iterator[bytes]:
        """Return the batch as replies: one, or several if it is large and the client can join them."""
        parts = messages_of(
            taken.batch_id,
            taken.messages,
            epoch=self._instance.epoch,
            partial_transaction=taken.partial_transaction,
            position=taken.position,
        )
        if self._part_bytes and sum(map(len, parts)) > self._part_bytes:
            yield from stream_parts(parts, self._part_bytes)
        else:
            yield stream_batch(parts)
