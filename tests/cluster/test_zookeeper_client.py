"""What the client does when a session moves between servers, when a link goes silent, and at answers that are none."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError

from ha_canal.cluster.coordinator import Coordinator, Create, LinkState, Set, until_connected
from ha_canal.cluster.session import zookeeper_session
from ha_canal.cluster.zookeeper_client import zookeeper_client
from ha_canal.errors import CoordinatorLostError
from ha_canal.testing.eventually import eventually
from ha_canal.testing.proxy import FaultProxy
from ha_canal.testing.zookeeper import ZookeeperServer, zookeeper_ensemble

TIMEOUT_S = 8.0
NO_VERSION = 999_999


def run(main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(limited())


@asynccontextmanager
async def started(client: KazooClient) -> AsyncIterator[KazooClient]:
    client.start_async()
    try:
        await eventually(lambda: client.connected, within_s=20, what="the client is connected")
        yield client
    finally:
        await asyncio.to_thread(client.stop)
        await asyncio.to_thread(client.close)


def test_the_outcome_of_an_old_request_answers_no_new_one() -> None:
    """Two of four members are silent, so that what the session asked for waits; then it moves, and they come back."""

    async def main() -> None:
        async with zookeeper_ensemble(4, sync_limit_ms=30_000) as ensemble:
            leader = await ensemble.leader()
            assert leader is not None
            other, *silent = (server for server in ensemble.servers if server is not leader)
            async with zookeeper_session(leader.hosts, timeout_s=TIMEOUT_S) as session:
                await session.commit([Create("/cursor")])
            async with FaultProxy(leader.host, leader.port) as proxy:
                hosts = f"{proxy.host}:{proxy.port}"
                async with started(zookeeper_client(hosts, timeout_s=TIMEOUT_S, granted=lambda _: None)) as client:
                    number = client.client_id
                    for server in silent:
                        server.pause()
                    old = [client.set_async("/cursor", b"old") for _ in range(50)]
                    await eventually(lambda: not client._queue, what="all of it is sent")
                    proxy.turn_to(other.host, other.port)
                    await proxy.cut()
                    await eventually(lambda: all(asked.ready() for asked in old), what="the link is gone")
                    await eventually(lambda: client.connected, within_s=20, what="connected to the other member")
                    new = [client.set_async("/cursor", b"new", version=NO_VERSION) for _ in range(50)]
                    await eventually(lambda: not client._queue, what="all of it is sent")
                    for server in silent:
                        server.resume()
                    for asked in new:
                        with pytest.raises(BadVersionError):
                            await asyncio.to_thread(asked.get, timeout=20)
                    assert client.client_id == number

    run(main())


def test_a_session_that_moved_away_comes_back() -> None:
    """The server that it left drops its writes without a word, and may still answer the reads behind them."""

    async def main() -> None:
        async with zookeeper_ensemble(3) as ensemble:
            one, other, _ = ensemble.servers
            async with zookeeper_session(one.hosts, timeout_s=TIMEOUT_S) as session:
                await session.commit([Create("/cursor")])
                number, password = session._client.client_id
                before = session.session
                for _ in range(5):
                    link = session.session.link
                    await move(number, password, other)
                    await asyncio.gather(*(one_request(session) for one_request in (write, read) * 20))
                    await eventually(lambda link=link: session.session.link > link, within_s=20, what="a new link")  # type: ignore[misc] # mypy cannot infer it
                    await until_connected(session)
                assert session.session.id == before.id
                await session.commit([Set("/cursor", b"sound")])

    run(main())


async def move(number: int, password: bytes, server: ZookeeperServer) -> None:
    """Take the session to another server, as a connection attempt does that was given up and arrives late."""
    connect = struct.pack(">iqiqi", 0, 0, round(TIMEOUT_S * 1000), number, len(password)) + password + b"\0"
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(struct.pack(">i", len(connect)) + connect)
    _, _, timeout_ms = struct.unpack(">iii", await reader.readexactly(12))
    assert timeout_ms > 0
    writer.close()
    await writer.wait_closed()


async def write(session: Coordinator) -> None:
    with suppress(CoordinatorLostError):
        await session.commit([Set("/cursor", b"")])


async def read(session: Coordinator) -> None:
    with suppress(CoordinatorLostError):
        await session.read("/cursor")


def test_a_silent_link_is_given_up_while_requests_are_made(zookeeper: ZookeeperServer) -> None:
    async def main() -> None:
        async with (
            FaultProxy(zookeeper.host, zookeeper.port) as proxy,
            started(zookeeper_client(f"{proxy.host}:{proxy.port}", timeout_s=2.0, granted=lambda _: None)) as client,
        ):
            proxy.black_hole("down")
            async with asyncio.timeout(20):
                while client.connected:
                    client.get_async("/")
                    await asyncio.sleep(0.1)  # the pace of the requests
            proxy.heal()
            await eventually(lambda: client.connected, within_s=20, what="connected again")

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: b"what", id="garbage"),
        pytest.param(lambda number: struct.pack(">iqi", number + 1, 0, 0), id="to another request"),
        pytest.param(lambda number: struct.pack(">iqi", number, 0, -124), id="refused"),
    ],
)
def test_no_answer_ends_the_session_for_ever(zookeeper: ZookeeperServer, answer: Callable[[int], bytes]) -> None:
    async def main() -> None:
        async with (
            FaultProxy(zookeeper.host, zookeeper.port) as proxy,
            zookeeper_session(f"{proxy.host}:{proxy.port}", timeout_s=TIMEOUT_S) as session,
        ):
            before = session.session
            number, password = session._client.client_id
            async with stranger(number, password, answer) as (port, asked):
                proxy.turn_to(proxy.host, port)
                await proxy.cut()
                await eventually(lambda: asked() > 1, within_s=20, what="the stranger is asked more than once")
                assert session.session.state is not LinkState.CONNECTED
                proxy.turn_to(zookeeper.host, zookeeper.port)
                await proxy.cut()
            assert (await until_connected(session)).id == before.id
            assert await session.read("/no such node") is None

    run(main())


@asynccontextmanager
async def stranger(
    number: int, password: bytes, answer: Callable[[int], bytes]
) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    """Run a server that takes the session; what it answers a request by its number. Yield its port, and how often."""
    welcome = struct.pack(">iiqi", 0, round(TIMEOUT_S * 1000), number, len(password)) + password + b"\0"
    answered = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        with suppress(OSError, EOFError):  # the other side cuts the link
            await frame(reader)
            writer.write(struct.pack(">i", len(welcome)) + welcome)
            while True:
                request = await frame(reader)
                reply = answer(int.from_bytes(request[:4], "big"))
                writer.write(struct.pack(">i", len(reply)) + reply)
                answered += 1
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], lambda: answered


async def frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


def test_a_name_that_no_resolver_takes_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with pytest.raises(CoordinatorLostError, match="could not be reached"):
            async with zookeeper_session("two..dots:2181", timeout_s=TIMEOUT_S, limit_s=1.5):
                pytest.fail("nobody is there")

    run(main())
    assert sum("trying again" in record.message for record in caplog.records) > 1
