"""All calls of the gRPC service: bytes in, bytes out, errors by the table of `ha_canal.server.status`.

Requests are parsed here, so that garbage is answered as bad input; replies are serialized here, so that batches
never pass through python-protobuf. What each call does to a client's state stands in `ha_canal.server.delivery`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError as NotProtobufError
from google.protobuf.message import Message

from ha_canal.errors import CanalError, LinkError, LockedError, UsageError
from ha_canal.protos import canal_pb2 as pb
from ha_canal.server.framing import NOTHING, messages_of
from ha_canal.server.lock_queue import Claim
from ha_canal.server.status import status_of
from ha_canal.server.stream import Outlet, Stream
from ha_canal.server.term import Term

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ha_canal.server.delivery import Delivery
    from ha_canal.server.locks import Lease
    from ha_canal.server.ports import Directory, Encode, Orders

    Context = grpc.aio.ServicerContext[bytes, bytes]

M = TypeVar("M", bound=Message)
T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)

NAME = "ha_canal.protocol.Canal"
BATCH_ITEMS = 10_000
BATCH_BYTES = 1 << 19
"""Of binlog. As entries they are several times as many, and gRPC clients refuse more than 4 MiB by default."""
_LEAN_BATCH_BYTES = 1 << 20
"""For clients that join the parts of what is larger."""
_PULSE_AT_MOST_S = 10 / 3
"""Clients may take a stream as dead that was silent for three times this."""


class CanalService:
    """The service over ``directory``. Lives on one event loop, from its making until `close`."""

    def __init__(
        self, directory: Directory, encode: Encode, *, lease_s: float = 10.0, orders: Orders | None = None
    ) -> None:
        self._directory = directory
        self._orders = orders
        self._encode = encode
        self._lease_s = lease_s
        self._closing: asyncio.Future[CanalError] = asyncio.get_running_loop().create_future()
        self._terms: dict[str, Term] = {}

    def close(self) -> None:
        """End every open stream and every waiting call, and refuse new ones: this node goes."""
        if not self._closing.done():
            self._closing.set_result(LinkError("this node is shutting down; ask another one"))

    def holder(self, instance: str, client_id: str) -> str:
        """Who holds the lock of a client id on this node, for `status`; empty: nobody."""
        term = self._terms.get(instance)
        return term.holder(client_id) if term else ""

    def handlers(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        unary: dict[str, Callable[[bytes, Context], Awaitable[bytes]]] = {
            "Subscribe": self._subscribe,
            "Unsubscribe": self._unsubscribe,
            "Get": self._get,
            "Ack": self._ack,
            "Rollback": self._rollback,
            "Describe": self._describe,
            "Move": self._move,
            "Drain": self._drain,
            "Positions": self._positions,
            "FindPosition": self._find_position,
            "MovePosition": self._move_position,
            "SwitchSource": self._switch_source,
        }
        methods = {name: grpc.unary_unary_rpc_method_handler(_guarded(call)) for name, call in unary.items()}
        methods["Stream"] = grpc.stream_stream_rpc_method_handler(_guarded(self._stream))
        return grpc.method_handlers_generic_handler(NAME, methods)

    async def _until_led(self, request: pb.SubscribeRequest) -> None:
        """Wait while nobody leads, but not for longer than this node goes on."""
        led = asyncio.ensure_future(self._directory.until_led(request.instance, request.not_led_by))
        try:
            either: set[asyncio.Future[Any]] = {led, self._closing}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            led.cancel()
            await asyncio.wait({led})
        if not led.cancelled():
            led.result()

    def _term(self, name: str) -> Term:
        if self._closing.done():
            raise self._closing.result()
        instance = self._directory.instance(name)
        term = self._terms.get(name)
        if term is None or term.instance is not instance:
            term = Term(name, instance, encode=self._encode, lease_s=self._lease_s, closing=self._closing)
            self._terms[name] = term
        return term

    async def _enter(
        self, request: pb.SubscribeRequest, context: Context
    ) -> tuple[Term, Delivery, Lease, pb.SubscribeReply]:
        await self._until_led(request)
        term = self._term(request.instance)
        delivery = term.delivery_or_new(request.client_id)
        claim = Claim(request.client_name, _peer(context), request.lease)
        entering = delivery.enter(claim, _seconds(request.wait_s), request.filter or None)
        lease, pattern = await term.run(entering)
        reply = pb.SubscribeReply(
            lease=lease.token,
            lease_s=self._lease_s,
            epoch=term.instance.epoch,
            filter=pattern,
            notices=term.instance.notices_for(request.client_id),
        )
        return term, delivery, lease, reply

    async def _subscribe(self, raw: bytes, context: Context) -> bytes:
        *_, reply = await self._enter(_parse(pb.SubscribeRequest, raw), context)
        return reply.SerializeToString()

    async def _unsubscribe(self, raw: bytes, _context: Context) -> bytes:
        request = _parse(pb.UnsubscribeRequest, raw)
        term = self._term(request.instance)
        delivery = term.delivery(request.client_id)
        with delivery.lock.call(request.lease):
            await term.run(delivery.leave(request.lease, forget=request.forget))
        return pb.UnsubscribeReply().SerializeToString()

    async def _get(self, raw: bytes, context: Context) -> bytes:
        request = _parse(pb.GetRequest, raw)
        term = self._term(request.instance)
        delivery = term.delivery(request.client_id)
        with contextlib.ExitStack() as under_way:
            lost = under_way.enter_context(delivery.lock.call(request.lease))
            taking = delivery.take(
                request.lease,
                max_items=_or_default(request.batch_size, BATCH_ITEMS),
                max_bytes=_or_default(request.batch_bytes, BATCH_BYTES),
                timeout_s=_seconds(request.timeout_s),
            )
            taken = await term.run(taking, lost)
            sent = under_way.pop_all()  # a large row on a slow link may be longer on its way than a lease lasts
            context.add_done_callback(lambda _context: sent.close())  # type: ignore[arg-type] # it is given the context, whatever the stubs say
        if taken is None:
            return NOTHING
        parts = messages_of(
            taken.batch_id,
            taken.messages,
            epoch=term.instance.epoch,
            partial_transaction=taken.partial_transaction,
            position=taken.position,
        )
        return b"".join(parts)

    async def _ack(self, raw: bytes, _context: Context) -> bytes:
        request = _parse(pb.AckRequest, raw)
        term = self._term(request.instance)
        delivery = term.delivery(request.client_id)
        with delivery.lock.call(request.lease):
            await term.run(_settled(delivery.accept(request.lease, request.batch_id, request.epoch)))
        return pb.AckReply(batch_id=request.batch_id).SerializeToString()

    async def _rollback(self, raw: bytes, _context: Context) -> bytes:
        request = _parse(pb.RollbackRequest, raw)
        term = self._term(request.instance)
        delivery = term.delivery(request.client_id)
        with delivery.lock.call(request.lease):
            await term.run(delivery.rollback(request.lease, request.batch_id or None, request.epoch))
        return pb.RollbackReply().SerializeToString()

    async def _describe(self, raw: bytes, _context: Context) -> bytes:
        reply = await self._directory.describe(_parse(pb.DescribeRequest, raw))
        return reply.SerializeToString()

    async def _move(self, raw: bytes, _context: Context) -> bytes:
        return (await self._ordering().move(_parse(pb.MoveRequest, raw))).SerializeToString()

    async def _drain(self, raw: bytes, _context: Context) -> bytes:
        return (await self._ordering().drain(_parse(pb.DrainRequest, raw))).SerializeToString()

    async def _positions(self, raw: bytes, _context: Context) -> bytes:
        name = _parse(pb.PositionsRequest, raw).instance
        reply = await self._directory.instance(name).moves.show()
        for client in reply.clients:
            client.holder = self.holder(name, client.client_id)
        return reply.SerializeToString()

    async def _find_position(self, raw: bytes, _context: Context) -> bytes:
        request = _parse(pb.FindPositionRequest, raw)
        return (await self._directory.instance(request.instance).moves.find(request)).SerializeToString()

    async def _move_position(self, raw: bytes, _context: Context) -> bytes:
        """Whoever subscribes while the move is under way is ended with the term, and begins at the new place."""
        request = _parse(pb.MovePositionRequest, raw)
        holder = self.holder(request.instance, request.client_id)
        if holder and not request.dry_run:
            raise LockedError(request.instance, request.client_id, holder)
        return (await self._directory.instance(request.instance).moves.move(request)).SerializeToString()

    async def _switch_source(self, raw: bytes, _context: Context) -> bytes:
        request = _parse(pb.SwitchSourceRequest, raw)
        return (await self._directory.instance(request.instance).sources.switch(request)).SerializeToString()

    def _ordering(self) -> Orders:
        if self._orders is None:
            raise UsageError("this node takes no orders: it is no part of a cluster")
        return self._orders

    async def _stream(self, requests: AsyncIterator[bytes], context: Context) -> None:
        outlet = Outlet(context.write)
        first = _parse(pb.StreamRequest, await anext(requests, b""))
        if first.WhichOneof("request") != "open":
            raise UsageError("a stream begins with Open")
        async with asyncio.TaskGroup() as parts:
            check = _Check()
            pulse = parts.create_task(outlet.pulse(min(self._lease_s / 3, _PULSE_AT_MOST_S), check))
            await self._serve_stream(first.open, requests, context, outlet, check)
            pulse.cancel()

    async def _serve_stream(
        self, opened: pb.StreamRequest.Open, requests: AsyncIterator[bytes], context: Context, outlet: Outlet,
        check: _Check,
    ) -> None:  # fmt: skip
        term, delivery, lease, reply = await self._enter(opened.subscribe, context)
        check.now = term.instance.check_output
        with delivery.lock.call(lease.token):
            await outlet.send(pb.StreamReply(opened=reply).SerializeToString())
            most_bytes = _LEAN_BATCH_BYTES if opened.lean and opened.part_bytes > 0 else BATCH_BYTES
            stream = Stream(
                delivery,
                term.instance,
                lease.token,
                outlet,
                opened,
                max_items=_or_default(opened.batch_size, BATCH_ITEMS),
                max_bytes=_or_default(opened.batch_bytes, most_bytes),
            )
            closed = await term.run(stream.run(requests), lease.lost)
        if closed:
            delivery.lock.release(lease.token)


class _Check:
    """What the pulse asks before it beats: nothing while the stream waits for its lock, then the instance."""

    def __init__(self) -> None:
        self.now: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        self.now()


def _guarded(call: Callable[[T, Context], Awaitable[R]]) -> Callable[[T, Context], Awaitable[R]]:
    """Turn what ``call`` raises into a status: this is the outermost edge of every call."""

    async def guarded(request: T, context: Context) -> R:
        try:
            return await call(request, context)
        except Exception as raised:  # noqa: BLE001 - the edge of a call's task: every error gets its status
            if context.done():
                return cast("R", b"")  # the client is gone: nobody to tell
            await context.abort(*status_of(_told(raised)))

    return guarded


def _told(raised: Exception) -> CanalError:
    """Return what the client is told of ``raised``: a traceback stays here, in the log."""
    error: BaseException = raised
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, CanalError):
        return error
    if isinstance(error, NotProtobufError):
        return UsageError("the request is no message of this protocol")
    _log.error("a call failed through a fault of this program", exc_info=raised)
    return CanalError("the node failed at this call; its log says why")


async def _settled(durable: asyncio.Future[None]) -> None:
    """Wait for an ack without owning it: its write goes on, whoever stops waiting."""
    await asyncio.shield(durable)


def _parse(kind: type[M], raw: bytes) -> M:
    return kind.FromString(raw)


def _peer(context: Context) -> str:
    """Return the caller's address as people write it; gRPC says ``ipv4:127.0.0.1:1``, ``ipv6:%5B::1%5D:1``."""
    return unquote(context.peer().partition(":")[2])


def _seconds(seconds: float) -> float:
    """Return a duration of the wire: never negative, and not a number is none."""
    return min(seconds, 1e9) if seconds > 0 and not math.isnan(seconds) else 0.0


def _or_default(number: int, default: int) -> int:
    return number if number > 0 else default
