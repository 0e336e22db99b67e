"""Questions to servers that may hang: each one ends within its time, and leaves no thread behind that waits.

A stopped process, a dead disk or a half-open link accepts connections and answers nothing. What blocks on it runs in
threads of the asker's own, so that it takes none from others, and is cut by closing its socket from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

import pymysql

from ha_canal.config import SourceSection
from ha_canal.errors import SourceLostError
from ha_canal.mysql.connection import Session, connect_blocking

T = TypeVar("T")


@contextlib.asynccontextmanager
async def bounded_session(source: SourceSection, *, limit_s: float, threads: Executor) -> AsyncIterator[Session]:
    """Log in for questions, as `ha_canal.mysql.connection.session`; the login and each question last ``limit_s``.

    What lasts longer, or is cancelled, is cut, and so is the connection. Raises our errors, SourceLostError for that.
    """
    line = _Line(source, limit_s, threads)
    try:
        connection = await line.run(connect_blocking, source, line.holds)
        try:
            yield Session(connection, source, line.run)
        finally:
            with contextlib.suppress(pymysql.MySQLError, OSError):
                connection.close()
    finally:
        line.cut()


class _Line:
    """The sockets of one session, to be cut from the event loop while a thread waits on them."""

    def __init__(self, source: SourceSection, limit_s: float, threads: Executor) -> None:
        self._source = source
        self._limit_s = limit_s
        self._threads = threads
        self._busy = threading.Lock()
        self._handles: list[socket.socket] = []
        self._is_cut = False

    def holds(self, handle: socket.socket) -> None:
        """Take a handle on a socket that is about to be used; runs in a thread."""
        with self._busy:
            self._handles.append(handle)
            is_cut = self._is_cut
        if is_cut:
            self.cut()

    def cut(self) -> None:
        """End whatever waits on the sockets, now and later."""
        with self._busy:
            self._is_cut = True
            handles, self._handles = self._handles, []
        for handle in handles:
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
            handle.close()

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Return what ``call`` returns, or raise SourceLostError when that takes too long."""
        blocking = asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *arguments))
        blocking.add_done_callback(_looked_at)
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.shield(blocking)
        except TimeoutError:
            self.cut()
            raise SourceLostError(f"{self._source.address}: no answer within {self._limit_s:g} s") from None
        except asyncio.CancelledError:
            self.cut()
            raise


def _looked_at(blocking: asyncio.Future[Any]) -> None:
    """Whoever gave up waiting does not ask how it ended."""
    if not blocking.cancelled():
        blocking.exception()
