"""What blocks on one connection, called in a thread, and cut from outside when nobody waits for it any more.

A stopped process, a dead disk or a half-open link accepts connections and answers nothing: without this, each call
would hold its thread for as long as a socket's own limits allow, and a node could not even stop meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from pymysql.connections import Connection

from ha_canal.errors import SourceLostError

T = TypeVar("T")


class Line:
    """The sockets of one connection to ``address``. A call that is cancelled, or lasts ``limit_s``, is cut.

    ``threads`` are the asker's own, so that servers that hang take none from others; None: those of the loop.
    """

    def __init__(self, address: str, *, limit_s: float | None = None, threads: Executor | None = None) -> None:
        self._address = address
        self._limit_s = limit_s
        self._threads = threads
        self._busy = threading.Lock()
        self._handles: list[socket.socket] = []
        self._is_cut = False

    def holds(self, handle: socket.socket) -> None:
        """Take a second handle on a socket that is about to be used; from any thread."""
        with self._busy:
            self._handles.append(handle)
            is_cut = self._is_cut
        if is_cut:
            self.cut()

    def holds_connection(self, connection: Connection[Any]) -> None:
        """Take a handle on the socket of a connection that is logged in already."""
        sock = connection._sock  # type: ignore[attr-defined]  # noqa: SLF001 # PyMySQL cannot hand its socket over
        if sock is not None:
            self.holds(socket.socket(fileno=os.dup(sock.fileno())))

    def cut(self) -> None:
        """End whatever waits on the sockets, now and later."""
        with self._busy:
            self._is_cut = True
            handles, self._handles = self._handles, []
        for handle in handles:
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
            handle.close()

    def release(self) -> None:
        """Let go of the sockets, and leave them open."""
        with self._busy:
            handles, self._handles = self._handles, []
        for handle in handles:
            handle.close()

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Return what ``call`` returns. Raises SourceLostError when that takes too long."""
        blocking = asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *arguments))
        blocking.add_done_callback(_looked_at)
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.shield(blocking)
        except TimeoutError:
            self.cut()
            raise SourceLostError(f"{self._address}: no answer within {self._limit_s:g} s") from None
        except asyncio.CancelledError:
            self.cut()
            raise


def _looked_at(blocking: asyncio.Future[Any]) -> None:
    """Whoever gave up waiting does not ask how it ended."""
    if not blocking.cancelled():
        blocking.exception()
