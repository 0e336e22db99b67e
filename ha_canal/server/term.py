"""One term of office as this room sees it: the deliveries of an instance, and what ends all of them at once."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, TypeVar

from ha_canal.errors import NotSubscribedError, UsageError
from ha_canal.server.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ha_canal.errors import CanalError
    from ha_canal.server.ports import Encode, ServedInstance

T = TypeVar("T")

_CLIENT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,127}", re.ASCII)
_RESERVED = frozenset(
    {"cluster", "config", "cursor", "epoch", "filter", "history", "mark", "parse", "running", "schema"}
)
"""Names that stand beside the client ids in ZooKeeper."""


class Term:
    """The deliveries of one `ServedInstance`, made as clients come."""

    def __init__(
        self,
        name: str,
        instance: ServedInstance,
        *,
        encode: Encode,
        lease_s: float,
        closing: asyncio.Future[CanalError],
    ) -> None:
        self.name = name
        self.instance = instance
        self._encode = encode
        self._lease_s = lease_s
        self._closing = closing
        self._deliveries: dict[str, Delivery] = {}
        instance.ended.add_done_callback(self._close)

    def delivery(self, client_id: str) -> Delivery:
        """Return the delivery to ``client_id``. Raises NotSubscribedError when nobody subscribed in this term."""
        if client_id not in self._deliveries:
            raise NotSubscribedError(f"client id {client_id[:200]!r} of instance {self.name!r}: subscribe first")
        return self._deliveries[client_id]

    def holder(self, client_id: str) -> str:
        """Who holds the lock of ``client_id``, for people; empty: nobody."""
        return self._deliveries[client_id].lock.holder if client_id in self._deliveries else ""

    def delivery_or_new(self, client_id: str) -> Delivery:
        """Return the delivery to ``client_id``. Raises UsageError for an id that cannot be one."""
        if client_id not in self._deliveries:
            if not _CLIENT_ID.fullmatch(client_id) or client_id in _RESERVED:
                raise UsageError(
                    f"{client_id[:200]!r} cannot be a client id: use 1 to 128 letters, digits and _ . @ : -, "
                    f"starting with a letter, digit or _, and none of {', '.join(sorted(_RESERVED))}"
                )
            self._deliveries[client_id] = Delivery(self.name, client_id, self.instance, self._encode, self._lease_s)
        return self._deliveries[client_id]

    async def run(self, work: Coroutine[object, object, T], *ends: asyncio.Future[CanalError]) -> T:
        """Return what ``work`` returns, unless the term, the node or one of ``ends`` ends before: that is raised."""
        task = asyncio.ensure_future(work)
        all_ends = {self.instance.ended, self._closing, *ends}
        try:
            any_of: set[asyncio.Future[Any]] = {task, *all_ends}
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await _cancel(task)
        except asyncio.CancelledError:
            await _cancel(task)
            raise
        for end in all_ends:
            if end.done() and not end.cancelled() and (task.cancelled() or task.exception() is not None):
                raise end.result()
        return task.result()

    def _close(self, _ended: object) -> None:
        for delivery in self._deliveries.values():
            delivery.close()


async def _cancel(task: asyncio.Future[T]) -> None:
    """Cancel ``task`` and wait for its end; what it fails with then is of no interest to anybody."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
