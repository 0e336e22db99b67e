"""A TCP proxy that breaks connections on purpose: resets, refusals, black holes, delay.

Tests put it between a client and a real server. It lives on the running asyncio loop, so a client that blocks must run
in another thread or process. A black hole is a full silence: connections stay open, new ones are accepted and get no
answer, as with a hung host. What was under way (in the proxy or the sockets' buffers) arrives after `heal`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Literal, Self, TypeAlias

from ha_canal.testing.process import free_port

Direction: TypeAlias = Literal["both", "up", "down"]

_CHUNK_BYTES = 64 * 1024
_CHUNKS_UNDER_WAY = 64
_BACKLOG = 128
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """A proxy on 127.0.0.1:`port` to one target; ``async with`` starts and ends it.

    `up` is from client to target, `down` from target to client. Faults add up until `heal`.
    """

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int) -> None:
        self.port = free_port()
        self._target = (target_host, target_port)
        self._open = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._delay_s = 0.0
        self._listener: socket.socket | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut(refuse=True)

    @property
    def connections(self) -> int:
        """How many connections are open through the proxy."""
        return len(self._links)

    async def cut(self, *, refuse: bool = False) -> None:
        """Reset (RST) all connections, on both sides; they are gone on return. `refuse` also turns away new ones."""
        if refuse:
            self.refuse()
        links = tuple(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def refuse(self) -> None:
        """Refuse new connections, as when no server runs; open ones stay."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def black_hole(self, direction: Direction = "both") -> None:
        """Carry nothing any more in `direction`; all connections stay open and silent."""
        for name, gate in self._open.items():
            if direction in (name, "both"):
                gate.clear()

    def turn_to(self, host: str, port: int) -> None:
        """Let new connections go to another target; open ones stay where they are."""
        self._target = (host, port)

    def delay(self, seconds: float) -> None:
        """Hand on what arrives from now `seconds` later, in each direction."""
        self._delay_s = seconds

    def heal(self) -> None:
        """End all faults: accept, carry in both directions, without delay."""
        self._delay_s = 0.0
        for gate in self._open.values():
            gate.set()
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port), backlog=_BACKLOG)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            near, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has gone again already
        link = asyncio.get_running_loop().create_task(self._serve(near), name=f"link through port {self.port}")
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        link.add_done_callback(lambda _: _reset(near))

    async def _serve(self, near: socket.socket) -> None:
        far = socket.socket()
        try:
            near.setblocking(False)
            far.setblocking(False)
            await self._open["up"].wait()
            await asyncio.get_running_loop().sock_connect(far, self._target)
            async with asyncio.TaskGroup() as link:
                self._carry(link, near, far, self._open["up"])
                self._carry(link, far, near, self._open["down"])
            near.close()
            far.close()
        except* OSError:
            pass  # one side broke: the other is told by a reset
        finally:
            _reset(near)
            _reset(far)

    def _carry(
        self, link: asyncio.TaskGroup, source: socket.socket, target: socket.socket, gate: asyncio.Event
    ) -> None:
        """Carry bytes one way until the source ends, through a queue, so that a delay does not lower the rate."""
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)
        link.create_task(self._read(source, under_way, gate))
        link.create_task(_write(target, under_way, gate))

    async def _read(
        self, source: socket.socket, under_way: asyncio.Queue[tuple[float, bytes]], gate: asyncio.Event
    ) -> None:
        loop = asyncio.get_running_loop()
        data = b"."
        while data:
            await gate.wait()
            data = await loop.sock_recv(source, _CHUNK_BYTES)
            await under_way.put((loop.time() + self._delay_s, data))


async def _write(target: socket.socket, under_way: asyncio.Queue[tuple[float, bytes]], gate: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, data = await under_way.get()
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        await gate.wait()
        if not data:
            target.shutdown(socket.SHUT_WR)
            return
        await loop.sock_sendall(target, data)


def _reset(link: socket.socket) -> None:
    """Close with RST instead of FIN; nothing happens to a socket that is closed already."""
    if link.fileno() != -1:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        link.close()
