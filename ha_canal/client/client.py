"""`Client`: an instance read as batches of changes, by iteration or by plain calls, across fail-overs.

The client holds the lock of its client id through one link at a time. Which node to ask, and when, `route` decides;
what became of unanswered acks, `reconcile` finds out. Not thread-safe, except for `close`, which ends whatever the
client waits for in another thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, Self, TypeVar

from ha_canal.backoff import Backoff, Trouble
from ha_canal.client.flow import Flow
from ha_canal.client.held import Held
from ha_canal.client.link import Link
from ha_canal.client.reconcile import acknowledge_again
from ha_canal.client.route import Route
from ha_canal.errors import CanalError, LockedError, NotSubscribedError, UsageError
from ha_canal.protos import canal_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from ha_canal.client.batch import Batch

T = TypeVar("T")

_STREAM_WAIT_S = 3_600.0
"""How long one attempt waits for the lock on a stream, which shows meanwhile that the node lives."""
_PLAIN_WAIT_S = 20.0
_RECONCILE_S = 30.0
_PART_BYTES = 4 << 20
"""Larger batches come in parts, each of which shows that the node lives; batches of usual size come whole."""


class Client:
    """Reads ``instance`` under ``client_id``, through any of the nodes ``servers`` (``host:port``).

    One client at a time holds a client id; another one waits for it up to ``wait_s`` (None: for ever) and then gets
    LockedError. ``filter`` is a comma list of regular expressions on ``schema.table``; None keeps the stored one.
    ``batch_size`` entries and ``batch_bytes`` bound a batch (0: the server's defaults); ``credit`` is how many
    batches may wait here. ``whole_entries``: the `Batch.entries` of an iterated batch shall be as Canal's, with the
    begin and the end of every transaction and the names and types of columns in every row; changes need neither, and
    what is not sent costs nothing. Fail-overs are followed for ``retry_for_s`` (None: for ever).

    Iterate, or use the plain calls; not both with one client. ``with`` closes it.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        instance: str,
        client_id: str,
        filter: str | None = None,  # noqa: A002 - the field's word
        wait_s: float | None = None,
        batch_size: int = 0,
        batch_bytes: int = 0,
        credit: int = 4,
        whole_entries: bool = False,
        retry_for_s: float | None = None,
    ) -> None:
        if isinstance(servers, str) or credit < 1:
            raise UsageError("servers is a list of host:port, and credit at least 1")
        self._instance = instance
        self._client_id = client_id
        self._filter = filter
        self._wait_s = wait_s
        self._batch_size = batch_size
        self._batch_bytes = batch_bytes
        self._credit = credit
        self._whole_entries = whole_entries
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._route = Route(servers, retry_for_s=retry_for_s, delays=Backoff(initial_s=0.05, max_s=0.5))
        self._trouble = Trouble(f"reading instance {instance!r}", logging.getLogger("ha_canal.client"))
        self._link: Link | None = None
        self._flow: Flow | None = None
        self._lease = ""
        self._lock_until: float | None = None
        self._held = Held()
        self._iterates: bool | None = None
        self._busy = threading.RLock()
        self._closing = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        with self._busy:
            self._choose(iterates=True)
            while not self._closing.is_set():
                with self._following():
                    if batch := self._next_of(self._flow or self._connect(self._open_flow)):
                        return batch
            raise StopIteration

    def _next_of(self, flow: Flow) -> Batch | None:
        if not flow.wait(lambda: flow.has_batch, self._closing.is_set):
            return None
        self._held.answered(flow.acked)
        return self._held.hand(self, flow.next_batch())

    def subscribe(self, filter: str | None = None) -> None:  # noqa: A002 - the field's word
        """Take the lock of the client id, and set its filter unless that is None; what has no ack comes again."""
        with self._busy:
            self._choose(iterates=False)
            self._filter = filter if filter is not None else self._filter
            self._drop()
            self._plain(lambda _link: None)

    def get(self, batch_size: int = 0, timeout_s: float = 0.0) -> Batch | None:
        """Return the next batch, or None when none came within ``timeout_s`` seconds. Subscribes when need be."""
        with self._busy:
            self._choose(iterates=False)
            deadline = time.monotonic() + timeout_s
            message = self._plain(
                lambda link: link.get(
                    batch_size=batch_size or self._batch_size,
                    batch_bytes=self._batch_bytes,
                    timeout_s=max(0.0, deadline - time.monotonic()),
                )
            )
            return self._held.hand(self, message) if message else None

    def unsubscribe(self, *, forget: bool = False) -> None:
        """Give the lock to the next client; with ``forget``, delete cursor and filter, so that all starts anew."""
        with self._busy:
            self._choose(iterates=False)
            self._plain(lambda link: link.unsubscribe(forget=forget))
            self._drop()
            self._held.renew()

    def ack(self, batch: Batch | int, *, wait: bool = True) -> None:
        """Acknowledge a batch, or its id: see `Batch.ack`. ``wait`` is for iteration; plain calls always wait."""
        with self._busy:
            acked = self._held.take_ack(batch if isinstance(batch, int) else batch.batch_id)
            if acked is None or self._ack_here(acked, wait=wait):
                return
            while self._held.unanswered and not self._closing.is_set():
                with self._following():  # the node is gone, or does not lead any more: the next one will know
                    self._connect(self._open_flow if self._iterates else self._open_plain)
            if acked.batch_id in self._held.gone or self._held.unanswered:
                raise self._held.superseded(acked.batch_id)

    def _ack_here(self, batch: Batch, *, wait: bool) -> bool:
        """Acknowledge on the open link; False: the link is lost, and with it the answer."""
        with self._following():
            if flow := self._flow:
                flow.ack(batch.server_id, batch.epoch)
                if wait:
                    flow.wait(lambda: flow.acked >= batch.server_id, self._closing.is_set)
                self._held.answered(flow.acked)
                return not wait or flow.acked >= batch.server_id
            if self._link:
                self._link.ack(batch.server_id, batch.epoch)
                self._held.answered(batch.server_id)
                return True
        return False

    def rollback(self, batch: Batch | int | None = None) -> None:
        """Give back this batch and all after it, or all that have no ack: they come again, as new batches."""
        with self._busy:
            first = self._held.give_back(batch if batch is None or isinstance(batch, int) else batch.batch_id)
            if first is None and (batch is not None or self._flow):
                return
            server_id, epoch = (first.server_id, first.epoch) if first else (0, 0)
            with self._following():
                if flow := self._flow:
                    flow.rollback(server_id, epoch)
                    flow.wait(lambda: flow.is_rolled_back, self._closing.is_set)
                elif self._link:
                    self._link.rollback(server_id, epoch)

    def close(self) -> None:
        """Release the lock and close; acks in flight are answered first, if the node still answers. Idempotent.

        From another thread it ends what the client waits for: iteration stops, an ack that waits raises
        StaleEpochError, and other plain calls raise NotSubscribedError.
        """
        self._closing.set()
        if flow := self._flow:
            flow.wake()
        if link := self._link:
            link.cancel()
        with self._busy:
            with contextlib.suppress(CanalError):
                if self._flow and self._flow.is_open:
                    self._flow.close()
                elif self._link and not self._flow and self._link.lease:
                    self._link.goodbye()
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _choose(self, *, iterates: bool) -> None:
        if self._iterates not in (None, iterates):
            raise UsageError("iterate over a client or use its plain calls; for both, make two clients")
        self._iterates = iterates

    def _plain(self, call: Callable[[Link], T]) -> T:
        """Return what ``call`` returns under a lease, following fail-overs."""
        while not self._closing.is_set():
            with self._following():
                return call(self._link or self._connect(self._open_plain))
        raise NotSubscribedError("the client is closed")

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """Whatever fails inside: drop the link, choose the next node, and pause; or raise, when nothing helps."""
        try:
            yield
        except CanalError as error:
            if self._closing.is_set():
                return  # `close` says goodbye and drops
            self._drop()
            if isinstance(error, LockedError) and self._lock_until is not None and time.monotonic() > self._lock_until:
                raise
            self._closing.wait(self._pause_after(error))

    def _pause_after(self, error: CanalError) -> float:
        try:
            pause_s = self._route.failed(error, time.monotonic())
        except CanalError:
            self._held.renew()
            raise
        if pause_s:  # a node that named the leader, or one of several that is down, is no trouble yet
            self._trouble.met(error)
        return pause_s

    def _connect(self, open_with: Callable[[Link], T]) -> T:
        """Try the node that is next, once; the batches of an earlier session come again."""
        self._drop()
        if self._lock_until is None and self._wait_s is not None:
            self._lock_until = time.monotonic() + self._wait_s
        self._link = link = Link(self._route.server, self._instance, self._client_id)
        if self._closing.is_set():  # `close` may have looked for a link before this one
            link.cancel()
        if self._held.unanswered:
            self._settle_unanswered(link)
        opened = open_with(link)
        self._held.begin(link.filter)
        self._lock_until = None
        self._route.succeeded()
        self._trouble.over()
        return opened

    def _open_flow(self, link: Link) -> Flow:
        opening = pb.StreamRequest.Open(
            subscribe=self._subscribing(_STREAM_WAIT_S),
            batch_size=self._batch_size,
            batch_bytes=self._batch_bytes,
            credit=self._credit,
            part_bytes=_PART_BYTES,
            lean=not self._whole_entries,
        )
        self._flow = flow = Flow(link, opening)
        flow.wait(lambda: flow.is_open, self._closing.is_set)
        return flow

    def _open_plain(self, link: Link) -> Link:
        link.subscribe(self._subscribing(_PLAIN_WAIT_S))
        return link

    def _subscribing(self, at_most_s: float) -> pb.SubscribeRequest:
        left_s = at_most_s if self._lock_until is None else max(0.0, self._lock_until - time.monotonic())
        return pb.SubscribeRequest(
            instance=self._instance,
            client_id=self._client_id,
            filter=self._filter or "",
            wait_s=min(left_s, at_most_s),
            client_name=self._name,
            lease=self._lease,
            not_led_by=self._route.failed_leader,
        )

    def _settle_unanswered(self, link: Link) -> None:
        """Find out what became of the acks that were not answered; those that cannot be told count as not given."""
        link.subscribe(self._subscribing(_PLAIN_WAIT_S))
        self._lease = link.lease
        until = time.monotonic() + _RECONCILE_S
        self._held.settle(
            link.filter == self._held.filter
            and acknowledge_again(
                link,
                self._held.unanswered_event_ids(),
                self._held.unanswered[-1].place,
                lambda: self._closing.is_set() or time.monotonic() > until,
            )
        )

    def _drop(self) -> None:
        """Cut what is open; the lease is kept, to claim the lock with it."""
        link, flow, self._link, self._flow = self._link, self._flow, None, None
        if flow:
            flow.cut()
        if link:
            self._lease = link.lease or self._lease
            link.close()
