"""One node, as the SDK talks to it: a channel, the plain calls under one lease, and the stream.

Blocking calls run on the caller's thread and can be ended from another one with `Link.cancel`. The stream has one
thread that does nothing but read, so that a silent node is noticed: who waits for a reply counts the seconds since
the last sign of life. What may hold a batch stays the bytes that it came as.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar, cast

import grpc

from ha_canal.client.delivery import Delivery, delivery
from ha_canal.client.faults import error_of
from ha_canal.errors import CanalError, LinkError
from ha_canal.protos import canal_pb2 as pb
from ha_canal.protos.canal_pb2_grpc import CanalStub

Request = TypeVar("Request")
Reply = TypeVar("Reply")

_log = logging.getLogger(__name__)

_FIRST_SIGN_S = 5.0
"""A node sends a heartbeat within 3.4 s, even while the client waits for its lock."""
_SILENT_S = 10.0
"""Three heartbeats missed: the node is dead, frozen, or cut off."""
_ANSWER_S = 10.0
"""How long a plain call may take beyond the waiting that it asked for."""
_TRANSFER_S = 290.0
"""How much longer a batch of one large row may be on its way; that a node does not answer pings shows much earlier."""
_CLOSE_S = 3.0
_SERVICE = "/ha_canal.protocol.Canal/"
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel connects at once, whatever an old one went through
    ("grpc.enable_retries", 0),  # trying again is `ha_canal.client.route`'s
    ("grpc.enable_http_proxy", 0),
]


class Link:
    """A channel to the node at ``address``, for one instance and client id, under one lease."""

    def __init__(self, address: str, instance: str, client_id: str) -> None:
        self.address = address
        self.instance = instance
        self.client_id = client_id
        self.lease = ""
        self.filter = ""
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = CanalStub(self._channel)
        self._get: grpc.UnaryUnaryMultiCallable[pb.GetRequest, bytes] = self._channel.unary_unary(
            _SERVICE + "Get", request_serializer=pb.GetRequest.SerializeToString, response_deserializer=bytes
        )
        self._cancel: Callable[[], object] | None = None
        self._cancelled = False

    def subscribe(self, request: pb.SubscribeRequest) -> None:
        """Take the lock, waiting up to ``request.wait_s``."""
        reply = self._ask(self._stub.Subscribe, request, request.wait_s)
        self.opened(reply)

    def opened(self, reply: pb.SubscribeReply) -> None:
        self.lease, self.filter = reply.lease, reply.filter
        for notice in reply.notices[-1:]:  # all of them are in `ha-canal status`
            _log.info("%s, on record for %s: %s: %s", self.instance, self.client_id, notice.kind, notice.text)

    def get(self, *, batch_size: int, batch_bytes: int, timeout_s: float) -> Delivery | None:
        """Return the next batch, or None when none came within ``timeout_s``."""
        request = pb.GetRequest(
            instance=self.instance,
            client_id=self.client_id,
            lease=self.lease,
            batch_size=batch_size,
            batch_bytes=batch_bytes,
            timeout_s=timeout_s,
        )
        batch = delivery(self._ask(self._get, request, timeout_s + _TRANSFER_S))
        return batch if batch.batch_id != -1 else None

    def ack(self, batch_id: int, epoch: int) -> None:
        """Return when the ack is durable."""
        request = pb.AckRequest(
            instance=self.instance, client_id=self.client_id, lease=self.lease, batch_id=batch_id, epoch=epoch
        )
        self._ask(self._stub.Ack, request)

    def rollback(self, batch_id: int, epoch: int) -> None:
        """Give back this batch and all after it; 0: all."""
        request = pb.RollbackRequest(
            instance=self.instance, client_id=self.client_id, lease=self.lease, batch_id=batch_id, epoch=epoch
        )
        self._ask(self._stub.Rollback, request)

    def unsubscribe(self, *, forget: bool) -> None:
        request = pb.UnsubscribeRequest(
            instance=self.instance, client_id=self.client_id, lease=self.lease, forget=forget
        )
        self._ask(self._stub.Unsubscribe, request)
        self.lease = ""

    def goodbye(self) -> None:
        """Release the lock, if the node still answers; after `cancel` it is the one call that is still made."""
        self._cancelled = False
        request = pb.UnsubscribeRequest(instance=self.instance, client_id=self.client_id, lease=self.lease)
        self._ask(self._stub.Unsubscribe, request, _CLOSE_S - _ANSWER_S)

    def cursor(self) -> pb.Place | None:
        """Return where this client id's acks have come to, or None when the node does not say."""
        reply = self._ask(self._stub.Describe, pb.DescribeRequest(instance=self.instance, local_only=True))
        for instance in reply.instances:
            for subscriber in instance.clients:
                if instance.name == self.instance and subscriber.client_id == self.client_id:
                    return subscriber.cursor
        return None

    def stream(self, opening: pb.StreamRequest.Open) -> StreamLink:
        return StreamLink(self, self._channel, opening)

    def cancel(self) -> None:
        """End the plain call in progress, and each that begins later, at once; from any thread."""
        self._cancelled = True
        if cancel := self._cancel:
            cancel()

    def close(self) -> None:
        self._channel.close()

    def _ask(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Reply], request: Request, wait_s: float = 0.0
    ) -> Reply:
        call = method.future(request, timeout=wait_s + _ANSWER_S)
        self._cancel = cancel = cast("Callable[[], object]", call.cancel)
        if self._cancelled:  # looked at behind the line above, as `cancel` looks for a call behind its first line
            cancel()
        try:
            return call.result()
        except grpc.RpcError as raised:
            raise self.error_of(raised) from None
        except grpc.FutureCancelledError:
            raise LinkError("the call was cancelled: the client is being closed") from None
        except BaseException:
            cancel()  # Ctrl-C: nobody waits for the answer any more
            raise
        finally:
            self._cancel = None

    def error_of(self, raised: grpc.RpcError) -> CanalError:
        return error_of(raised, self.address, self.instance, self.client_id)


class StreamLink:
    """The open stream. All but `wake` is for the thread that made it."""

    def __init__(self, link: Link, channel: grpc.Channel, opening: pb.StreamRequest.Open) -> None:
        self._link = link
        self._inbox: queue.SimpleQueue[bytes | CanalError | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[pb.StreamRequest | None] = queue.SimpleQueue()
        self._outbox.put(pb.StreamRequest(open=opening))
        self._last_sign = time.monotonic()
        self._silent_s = _FIRST_SIGN_S
        stream: grpc.StreamStreamMultiCallable[pb.StreamRequest, bytes] = channel.stream_stream(
            _SERVICE + "Stream", request_serializer=pb.StreamRequest.SerializeToString, response_deserializer=bytes
        )
        self._call = stream(iter(self._outbox.get, None))
        self._cancel = cast("Callable[[], object]", self._call.cancel)
        self._reader = threading.Thread(target=self._read, name=f"ha_canal stream from {link.address}", daemon=True)
        self._reader.start()

    def send(self, request: pb.StreamRequest) -> None:
        """Queue ``request``; a broken stream is noticed by `receive`."""
        self._outbox.put(request)

    def wake(self) -> None:
        """Let a waiting `receive` return None at once; from any thread."""
        self._inbox.put(None)

    def receive(self, timeout_s: float | None = None) -> bytes | None:
        """Return the next serialized reply, None after ``timeout_s`` or `wake`. Raises what the stream ended with."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            left_s = self._silent_s if deadline is None else min(self._silent_s, max(0.0, deadline - now))
            try:
                reply = self._inbox.get(timeout=left_s) if left_s else self._inbox.get_nowait()
            except queue.Empty:
                self._check_alive()
                if deadline is not None and time.monotonic() >= deadline:
                    return None
                continue
            if isinstance(reply, CanalError):
                self._inbox.put(reply)  # it stays ended
                raise reply
            self._silent_s = _SILENT_S
            return reply

    def _check_alive(self) -> None:
        silent_s = time.monotonic() - self._last_sign
        if silent_s >= self._silent_s:
            raise LinkError(f"node {self._link.address} gave no sign of life for {silent_s:.1f} s")

    def _read(self) -> None:
        try:
            for reply in self._call:
                self._last_sign = time.monotonic()
                self._inbox.put(reply)
            self._inbox.put(LinkError(f"node {self._link.address} ended the stream"))
        except grpc.RpcError as raised:
            self._inbox.put(self._link.error_of(raised))
        finally:
            self._outbox.put(None)  # ends grpc's own thread that sends

    def close(self) -> None:
        """Say goodbye and wait for the acks sent so far, if the node still answers; no thread is left."""
        self.send(pb.StreamRequest(close=pb.StreamRequest.Close()))
        self._outbox.put(None)
        self._reader.join(_CLOSE_S)
        self.cut()

    def cut(self) -> None:
        """End without a word: the lock stays until its lease ends, for this client to come back."""
        self._cancel()
        self._outbox.put(None)
        self._reader.join()
