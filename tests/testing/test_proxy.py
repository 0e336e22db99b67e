"""The fault proxy, against an echo server on the same loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ha_canal.testing.eventually import eventually
from ha_canal.testing.proxy import FaultProxy

_SILENCE_S = 0.1


class Client:
    """A client of the echo server through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, words: bytes) -> bytes:
        self.writer.write(words)
        return await self.heard(len(words))

    async def heard(self, size_bytes: int) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readexactly(size_bytes)

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(_SILENCE_S):
                return await self.reader.read(1) == b"?"
        except TimeoutError:
            return True


class Echo:
    """What the target saw."""

    def __init__(self) -> None:
        self.heard = b""
        self.resets = 0
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionResetError:
            self.resets += 1
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def _client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def _with_proxy(scenario: Callable[[FaultProxy, Echo], Awaitable[None]]) -> None:
    async def main() -> None:
        echo = Echo()
        target = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
        async with target:
            async with FaultProxy("127.0.0.1", target.sockets[0].getsockname()[1]) as proxy:
                await scenario(proxy, echo)
            await eventually(lambda: echo.open == 0, what="the proxy closes its connections to the target")

    asyncio.run(main())


def test_it_carries_bytes_both_ways() -> None:
    async def scenario(proxy: FaultProxy, echo: Echo) -> None:
        async with _client(proxy) as client:
            sent = os.urandom(3_000_000)
            assert await client.say(sent) == sent
            assert echo.heard == sent

    _with_proxy(scenario)


def test_the_end_of_one_side_reaches_the_other() -> None:
    async def scenario(proxy: FaultProxy, echo: Echo) -> None:
        async with _client(proxy) as client:
            client.writer.write(b"bye")
            client.writer.write_eof()
            assert await client.reader.read() == b"bye"
        assert echo.resets == 0
        await eventually(lambda: proxy.connections == 0, what="the connection ends")

    _with_proxy(scenario)


def test_a_cut_resets_both_sides_and_lets_new_ones_in() -> None:
    async def scenario(proxy: FaultProxy, echo: Echo) -> None:
        async with _client(proxy) as client:
            await client.say(b"hello")
            await proxy.cut()
            assert proxy.connections == 0
            with pytest.raises(ConnectionResetError):
                await client.heard(1)
            await eventually(lambda: echo.resets == 1, what="the target sees the reset")
        async with _client(proxy) as client:
            assert await client.say(b"again") == b"again"

    _with_proxy(scenario)


def test_refusing_turns_new_connections_away_and_keeps_the_old() -> None:
    async def scenario(proxy: FaultProxy, _: Echo) -> None:
        async with _client(proxy) as client:
            await client.say(b"hello")
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await client.say(b"still here") == b"still here"
            proxy.heal()
            async with _client(proxy) as second:
                assert await second.say(b"back") == b"back"

    _with_proxy(scenario)


def test_a_cut_that_refuses() -> None:
    async def scenario(proxy: FaultProxy, _: Echo) -> None:
        async with _client(proxy) as client:
            await client.say(b"hello")
            await proxy.cut(refuse=True)
            with pytest.raises(ConnectionResetError):
                await client.heard(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)

    _with_proxy(scenario)


def test_a_black_hole_is_silent_until_it_heals() -> None:
    async def scenario(proxy: FaultProxy, echo: Echo) -> None:
        async with _client(proxy) as client:
            await client.say(b"one")
            proxy.black_hole()
            client.writer.write(b"two")
            assert await client.hears_nothing()
            assert echo.heard == b"one"
            async with _client(proxy) as second:
                second.writer.write(b"three")
                assert await second.hears_nothing()
                assert echo.open == 1
                proxy.heal()
                assert await client.heard(3) == b"two"
                assert await second.heard(5) == b"three"

    _with_proxy(scenario)


def test_a_black_hole_of_one_direction() -> None:
    async def scenario(proxy: FaultProxy, echo: Echo) -> None:
        async with _client(proxy) as client:
            await client.say(b"one")
            proxy.black_hole("down")
            client.writer.write(b"two")
            await eventually(lambda: echo.heard == b"onetwo", what="the target hears")
            assert await client.hears_nothing()
            proxy.heal()
            assert await client.heard(3) == b"two"

    _with_proxy(scenario)


def test_a_cut_ends_what_hangs_in_a_black_hole() -> None:
    async def scenario(proxy: FaultProxy, _: Echo) -> None:
        proxy.black_hole()
        async with _client(proxy) as client:
            await eventually(lambda: proxy.connections == 1, what="the connection is taken")
            await proxy.cut()
            with pytest.raises(ConnectionResetError):
                await client.heard(1)

    _with_proxy(scenario)


def test_a_delay_holds_each_byte_and_not_the_rate() -> None:
    async def scenario(proxy: FaultProxy, _: Echo) -> None:
        async with _client(proxy) as client:
            proxy.delay(0.1)
            loop = asyncio.get_running_loop()
            started = loop.time()
            sent = os.urandom(2_000_000)
            assert await client.say(sent) == sent
            assert 0.19 < loop.time() - started < 3.0

    _with_proxy(scenario)


def test_a_target_that_is_gone_resets_the_client() -> None:
    async def main() -> None:
        target = await asyncio.start_server(Echo().serve, "127.0.0.1", 0)
        port = target.sockets[0].getsockname()[1]
        target.close()
        await target.wait_closed()
        async with FaultProxy("127.0.0.1", port) as proxy, _client(proxy) as client:
            with pytest.raises(ConnectionResetError):
                await client.heard(1)

    asyncio.run(main())
