"""Connections that are logged in before anybody needs them: a stand-by that is next in line begins without waiting.

A login takes several round trips, TLS and a password hash, and a term begins with three of them: at a planned hand-over
they would be most of the time without service. Whoever takes a connection owns it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pymysql
from pymysql.connections import Connection

from ha_canal.config import SourceSection
from ha_canal.errors import CanalError
from ha_canal.mysql.connection import connect_blocking

log = logging.getLogger(__name__)

_COUNT = 3
"""A term begins with two connections for questions and one for the dump."""
_LOOK_S = 5.0
_AGE_S = 60.0
"""An address may have moved to another server: what was opened before that is not used for long."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    connection: Connection[Any]
    good_until_s: float


class Logins:
    """Connections to one source (a `ha_canal.mysql.connection.Ready`), kept up while `kept` is entered."""

    def __init__(self, source: SourceSection) -> None:
        self._source = source
        self._waiting: deque[_Waiting] = deque()

    @property
    def address(self) -> str:
        """host:port of the server they are logged in to."""
        return self._source.address

    @property
    def count(self) -> int:
        """How many connections wait."""
        return len(self._waiting)

    def take(self) -> Connection[Any] | None:
        """Return one that the server has not closed meanwhile, or None."""
        while self._waiting:
            connection = self._waiting.popleft().connection
            if _is_quiet(connection):
                return connection
            _close(connection)
        return None

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep connections ready while the block runs; those that are left stay until `close`."""
        keeping = asyncio.create_task(self._keep(), name=f"logins at {self._source.address}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait((keeping,))
        if not keeping.cancelled():
            keeping.result()

    def close(self) -> None:
        """Log out of all that nobody took."""
        while self._waiting:
            _close(self._waiting.popleft().connection)

    async def _keep(self) -> None:
        while True:
            try:
                await self._fill()
            except CanalError as error:  # who leads will say so; a stand-by only tries again
                log.debug("no connection is ready at %s: %s", self._source.address, error)
            await asyncio.sleep(_LOOK_S)
            for _ in range(len(self._waiting)):
                await self._look_after(self._waiting.popleft())

    async def _fill(self) -> None:
        while len(self._waiting) < _COUNT:
            made = asyncio.ensure_future(asyncio.to_thread(connect_blocking, self._source))
            try:
                connection = await asyncio.shield(made)
            except asyncio.CancelledError:  # the thread goes on: its connection is closed when it comes
                made.add_done_callback(_close_late)
                raise
            self._waiting.append(_Waiting(connection, asyncio.get_running_loop().time() + _AGE_S))

    async def _look_after(self, one: _Waiting) -> None:
        """Keep the server from closing it for idling; let it go when it is old or dead."""
        if asyncio.get_running_loop().time() > one.good_until_s:
            _close(one.connection)
            return
        pinging = asyncio.ensure_future(asyncio.to_thread(partial(one.connection.ping, reconnect=False)))
        try:
            await asyncio.shield(pinging)
        except (pymysql.MySQLError, OSError):
            _close(one.connection)
        except asyncio.CancelledError:  # in use by its thread: not to be given to anybody
            pinging.add_done_callback(partial(_close_when_pinged, one.connection))
            raise
        else:
            self._waiting.append(one)


def _is_quiet(connection: Connection[Any]) -> bool:
    """A server that says something unasked has closed the connection, or is about to."""
    sock = connection._sock  # type: ignore[attr-defined]  # noqa: SLF001 # PyMySQL has no way to ask
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def _close(connection: Connection[Any]) -> None:
    with contextlib.suppress(pymysql.MySQLError, OSError):
        connection.close()


def _close_late(made: asyncio.Future[Connection[Any]]) -> None:
    if not made.cancelled() and made.exception() is None:
        _close(made.result())


def _close_when_pinged(connection: Connection[Any], pinged: asyncio.Future[None]) -> None:
    if not pinged.cancelled():
        pinged.exception()  # nobody waits for it
    _close(connection)
