"""The service over real gRPC on loopback, with an instance in memory behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ha_canal.errors import ConfigError, CoordinatorLostError, NotLeaderError, SchemaMismatchError, StaleEpochError
from ha_canal.protos import canal_pb2 as pb
from ha_canal.protos.canal_pb2_grpc import CanalStub
from ha_canal.protos.entry_pb2 import Entry, RowChange
from ha_canal.server.serve import grpc_server
from ha_canal.testing.eventually import eventually
from tests.server.memory import MemoryDirectory, MemoryInstance, Source, encode, serving, silent, statement

_END: object = vars(grpc.aio)["EOF"]
"""What `read` gives at the end of a stream; the types do not know it."""


class Node:
    """A served instance, and a raw gRPC client of it."""

    def __init__(self, source: Source, directory: MemoryDirectory, channel: grpc.aio.Channel) -> None:
        self.source = source
        self.directory = directory
        self.stub: Any = CanalStub(cast("grpc.Channel", channel))
        """Awaitable here, which its types do not say."""
        self.channel = channel

    @property
    def shop(self) -> MemoryInstance:
        assert self.directory.shop
        return self.directory.shop

    async def call(self, name: str, **fields: object) -> object:
        request = {"Subscribe": pb.SubscribeRequest, "Get": pb.GetRequest, "Ack": pb.AckRequest,
                   "Rollback": pb.RollbackRequest, "Unsubscribe": pb.UnsubscribeRequest}[name]  # fmt: skip
        return await getattr(self.stub, name)(request(instance="shop", client_id="1001", **fields))

    async def subscribe(self, **fields: object) -> pb.SubscribeReply:
        return cast("pb.SubscribeReply", await self.call("Subscribe", **fields))

    async def get(self, lease: str, **fields: object) -> pb.Messages:
        return cast("pb.Messages", await self.call("Get", lease=lease, **fields))

    async def refused(self, name: str, reason: str, **fields: object) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.call(name, **fields)
        metadata: Any = raised.value.trailing_metadata()
        assert dict(metadata)["ha-canal-reason"] == reason, raised.value.details()
        return raised.value.details() or ""


class Conversation:
    """The client's side of a Stream."""

    def __init__(self, node: Node, *, credit: int = 10, batch_size: int = 1, **subscribe: Any) -> None:
        self._call: Any = node.stub.Stream()
        subscribing = pb.SubscribeRequest(instance="shop", client_id="1001", **subscribe)
        self._open = pb.StreamRequest.Open(subscribe=subscribing, credit=credit, batch_size=batch_size)

    async def open(self) -> pb.SubscribeReply:
        await self.send(open=self._open)
        return (await self.reply("opened")).opened

    async def send(self, **request: Any) -> None:
        await self._call.write(pb.StreamRequest(**request))

    async def ack(self, batch_id: int) -> None:
        await self.send(ack=pb.AckRequest(batch_id=batch_id))

    async def reply(self, kind: str) -> pb.StreamReply:
        """The next reply that is no heartbeat, unless that is asked for."""
        while True:
            reply = await self._read()
            assert reply is not None, "the stream has ended"
            if reply.WhichOneof("reply") == kind:
                return reply
            assert reply.WhichOneof("reply") == "heartbeat", reply

    async def _read(self) -> pb.StreamReply | None:
        reply = await asyncio.wait_for(self._call.read(), 10)
        return None if reply is _END else cast("pb.StreamReply", reply)

    async def batch(self) -> tuple[int, list[str]]:
        batch = (await self.reply("batch")).batch
        return batch.batch_id, texts(batch)

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end; returns the status and the reason."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await self._read():
                pass
        code = await asyncio.wait_for(self._call.code(), 10)
        metadata = dict(tuple(await self._call.trailing_metadata()))
        return code, str(metadata.get("ha-canal-reason", ""))

    def cancel(self) -> None:
        self._call.cancel()


def texts(batch: pb.Messages) -> list[str]:
    return [RowChange.FromString(Entry.FromString(raw).storeValue).sql for raw in batch.messages]


@asynccontextmanager
async def one_node(changes: int = 5, *, lease_s: float = 10.0) -> AsyncIterator[Node]:
    source, directory = Source(), MemoryDirectory()
    directory.shop = MemoryInstance(source, epoch=7)
    source.commit(*(statement(number) for number in range(1, changes + 1)))
    async with serving(directory, lease_s=lease_s) as address:
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            yield Node(source, directory, channel)


def test_get_ack_get() -> None:
    async def main() -> None:
        async with one_node() as node:
            opened = await node.subscribe(filter="shop[.].*", client_name="me")
            assert (opened.epoch, opened.filter, opened.lease_s) == (7, "shop[.].*", 10.0)
            first = await node.get(opened.lease, batch_size=2)
            assert (first.epoch, texts(first), first.place.offset) == (7, ["do 1", "do 2"], 300)
            await node.call("Ack", lease=opened.lease, batch_id=first.batch_id, epoch=7)
            assert node.source.cursors["1001"].offset == 300
            await node.call("Ack", lease=opened.lease, batch_id=first.batch_id, epoch=7)  # again: nothing happens
            assert texts(await node.get(opened.lease)) == ["do 3", "do 4", "do 5"]
            assert (await node.get(opened.lease)).batch_id == -1
            assert node.source.shown["1001"].startswith("me (127.0.0.1:")

    asyncio.run(main())


def test_rollback_and_the_order_of_acks() -> None:
    async def main() -> None:
        async with one_node() as node:
            lease = (await node.subscribe()).lease
            for number in (1, 2, 3):
                assert texts(await node.get(lease, batch_size=1)) == [f"do {number}"]
            assert "batch 2 cannot be" in await node.refused("Ack", "NOT_OLDEST", lease=lease, batch_id=2)
            await node.call("Rollback", lease=lease, batch_id=2)
            await node.refused("Ack", "UNKNOWN_BATCH", lease=lease, batch_id=3)
            again = await node.get(lease, batch_size=1)
            assert (again.batch_id, texts(again)) == (4, ["do 2"])
            await node.refused("Ack", "STALE_EPOCH", lease=lease, batch_id=1, epoch=6)
            await node.refused("Rollback", "UNKNOWN_BATCH", lease=lease, batch_id=99)

    asyncio.run(main())


def test_the_lock() -> None:
    async def main() -> None:
        async with one_node() as node:
            first = await node.subscribe(client_name="first")
            got = await node.get(first.lease, batch_size=1)
            assert "first (127.0.0.1:" in await node.refused("Subscribe", "LOCKED", client_name="second")
            second = asyncio.create_task(node.subscribe(client_name="second", wait_s=30))
            await node.call("Unsubscribe", lease=first.lease)
            lease = (await second).lease
            await node.refused("Ack", "LOCKED", lease=first.lease, batch_id=got.batch_id)
            again = await node.get(lease, batch_size=1)
            assert texts(again) == ["do 1"]
            assert again.batch_id > got.batch_id

    asyncio.run(main())


def test_forget_starts_anew() -> None:
    async def main() -> None:
        async with one_node() as node:
            lease = (await node.subscribe()).lease
            got = await node.get(lease)
            await node.call("Ack", lease=lease, batch_id=got.batch_id)
            await node.call("Unsubscribe", lease=lease, forget=True)
            assert not node.source.cursors
            assert len(texts(await node.get((await node.subscribe()).lease))) == 5

    asyncio.run(main())


def test_what_is_refused() -> None:
    async def main() -> None:
        async with one_node() as node:
            await node.refused("Get", "NOT_SUBSCRIBED", lease="x")
            await node.refused("Subscribe", "BAD_FILTER", filter="(")
            assert "(127" not in node.source.shown.get("1001", "")  # the lock is free again
            for client_id in ("", "a/b", "running", "é"):
                with pytest.raises(grpc.aio.AioRpcError, match="cannot be a client id"):
                    await node.stub.Subscribe(pb.SubscribeRequest(instance="shop", client_id=client_id))
            node.directory.trouble = SchemaMismatchError("3 columns, not 2", file="bin.000001", offset=4)
            assert "bin.000001:4" in await node.refused("Subscribe", "SCHEMA_MISMATCH")
            node.directory.trouble = NotLeaderError("shop", "h:2")
            await node.refused("Subscribe", "NOT_LEADER")

    asyncio.run(main())


def test_a_fault_of_ours_is_logged_once_and_told_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with one_node() as node:
            node.directory.trouble = KeyError("secret")
            assert "secret" not in await node.refused("Subscribe", "INTERNAL")

    asyncio.run(main())
    assert [record.levelno for record in caplog.records if "secret" in (record.exc_text or "")] == [logging.ERROR]


def test_an_ack_is_answered_only_when_durable_and_acks_share_a_write() -> None:
    async def main() -> None:
        async with one_node() as node:
            stream = Conversation(node)
            await stream.open()
            ids = [(await stream.batch())[0] for _ in range(5)]
            node.shop.writes_go.clear()
            for batch_id in ids:
                await stream.ack(batch_id)
            nothing = asyncio.create_task(stream.reply("acked"))
            await node.refused("Subscribe", "LOCKED")  # a round trip: the acks were taken
            assert not nothing.done()
            node.shop.writes_go.set()
            assert (await nothing).acked.batch_id == ids[0]
            assert [(await stream.reply("acked")).acked.batch_id for _ in ids[1:]] == ids[1:]
            assert len(node.shop.writes) <= 3
            assert node.shop.writes[-1].offset == 600
            stream.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("fault", [StaleEpochError("deposed"), CoordinatorLostError("no ZooKeeper")])
def test_a_failed_write_loses_nothing(fault: StaleEpochError | CoordinatorLostError) -> None:
    async def main() -> None:
        async with one_node() as node:
            lease = (await node.subscribe()).lease
            got = await node.get(lease, batch_size=1)
            node.shop.write_fault = fault
            await node.refused("Ack", fault.reason, lease=lease, batch_id=got.batch_id)
            node.shop.write_fault = None
            await node.call("Ack", lease=lease, batch_id=got.batch_id)
            assert node.source.cursors["1001"].offset == 200

    asyncio.run(main())


def test_credit_bounds_what_is_pushed_and_a_rollback_brings_it_again() -> None:
    async def main() -> None:
        async with one_node() as node:
            stream = Conversation(node, credit=2)
            await stream.open()
            assert [await stream.batch(), await stream.batch()] == [(1, ["do 1"]), (2, ["do 2"])]
            await stream.ack(1)
            await stream.reply("acked")  # and not the third batch: no credit
            await stream.send(rollback=pb.RollbackRequest())
            await stream.reply("rolled_back")
            await stream.send(credit=pb.StreamRequest.Credit(batches=2))
            assert [await stream.batch(), await stream.batch()] == [(3, ["do 2"]), (4, ["do 3"])]
            stream.cancel()

    asyncio.run(main())


def test_entries_are_lean_for_streams_that_ask_and_whole_for_all_others() -> None:
    def lean(messages: pb.Messages) -> list[bool]:
        return [bool(Entry.FromString(raw).header.props) for raw in messages.messages]

    async def main() -> None:
        async with one_node(3) as node:
            for asked in (True, False):
                stream = Conversation(node, batch_size=3)
                stream._open.lean = asked
                await stream.open()
                assert lean((await stream.reply("batch")).batch) == [asked] * 3
                await stream.send(close=pb.StreamRequest.Close())
                await stream.end()
            lease = (await node.subscribe()).lease
            assert lean(await node.get(lease, batch_size=3)) == [False] * 3

    asyncio.run(main())


def test_the_end_of_a_term_ends_streams_at_once() -> None:
    async def main() -> None:
        async with one_node() as node:
            stream = Conversation(node)
            await stream.open()
            node.shop.end(NotLeaderError("shop", "h:2"))
            assert await stream.end() == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")

    asyncio.run(main())


def test_nothing_leaves_when_output_is_forbidden() -> None:
    async def main() -> None:
        async with one_node(0) as node:
            stream = Conversation(node)
            lease = (await stream.open()).lease
            node.shop.fault = StaleEpochError("suspended")
            node.source.commit(statement(1))
            assert await stream.end() == (grpc.StatusCode.ABORTED, "STALE_EPOCH")
            node.shop.fault = None
            stream = Conversation(node, lease=lease)
            await stream.open()
            assert (await stream.batch())[1] == ["do 1"]
            stream.cancel()

    asyncio.run(main())


def test_a_broken_stream_keeps_the_lock_for_its_client_and_a_closed_one_does_not() -> None:
    async def main() -> None:
        async with one_node() as node:
            stream = Conversation(node, client_name="first")
            lease = (await stream.open()).lease
            first = await stream.batch()
            stream.cancel()
            await node.refused("Subscribe", "LOCKED", client_name="second")
            stream = Conversation(node, client_name="first", lease=lease)
            assert (await stream.open()).lease != lease
            assert (await stream.batch())[1] == first[1]
            await stream.send(close=pb.StreamRequest.Close())
            await node.subscribe(client_name="second", wait_s=5)

    asyncio.run(main())


def test_a_client_that_comes_back_ends_its_old_stream() -> None:
    async def main() -> None:
        async with one_node() as node:
            old = Conversation(node, client_name="me")
            lease = (await old.open()).lease
            new = Conversation(node, client_name="me", lease=lease)
            await new.open()
            assert (await new.batch())[1] == ["do 1"]
            assert (await old.end())[1] == "NOT_SUBSCRIBED"
            new.cancel()

    asyncio.run(main())


def test_an_idle_stream_has_a_pulse_also_while_it_waits_for_the_lock() -> None:
    async def main() -> None:
        async with one_node(0, lease_s=0.3) as node:
            first, second = Conversation(node), Conversation(node, wait_s=30)
            await first.open()
            await first.reply("heartbeat")
            await second.send(open=second._open)
            await second.reply("heartbeat")
            await first.send(close=pb.StreamRequest.Close())
            await second.reply("opened")
            second.cancel()

    asyncio.run(main())


def test_batches_without_entries_move_the_cursor_by_themselves() -> None:
    async def main() -> None:
        async with one_node(0) as node:
            stream = Conversation(node)
            await stream.open()
            node.source.commit(silent(1), silent(2))
            await eventually(lambda: node.source.cursors.get("1001"), what="the cursor moved")
            node.source.commit(statement(3), silent(4))
            batch_id, _ = await stream.batch()
            await stream.ack(batch_id)
            await eventually(lambda: node.source.cursors["1001"].offset == 500, what="the cursor followed")
            stream.cancel()

    asyncio.run(main())


def test_a_row_of_100_mb_passes() -> None:
    async def main() -> None:
        async with one_node(0) as node:
            node.source.commit(statement(1, "x" * 100_000_000))
            stream = Conversation(node)
            await stream.open()
            batch = (await stream.reply("batch")).batch
            assert len(batch.messages[0]) > 100_000_000
            stream.cancel()

    asyncio.run(main())


def test_garbage_does_no_harm() -> None:
    async def main() -> None:
        async with one_node() as node:
            raw = node.channel.unary_unary("/ha_canal.protocol.Canal/Subscribe", None, None)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await raw(b"\xff\xfe garbage")
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            stream = Conversation(node)
            await stream.send(credit=pb.StreamRequest.Credit(batches=2**31 - 1))
            assert (await stream.end())[1] == "BAD_REQUEST"
            stream = Conversation(node, credit=-5)
            await stream.open()
            await stream.send(credit=pb.StreamRequest.Credit(batches=2**31 - 1))
            await stream.batch()
            await stream.send()
            assert (await stream.end())[1] == "BAD_REQUEST"

    asyncio.run(main())


def test_bytes_that_are_no_http2_do_no_harm() -> None:
    async def main() -> None:
        source, directory = Source(), MemoryDirectory()
        directory.shop = MemoryInstance(source, 1)
        async with serving(directory) as address:
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 100)
            assert len(await asyncio.wait_for(reader.read(), 10)) < 10_000
            writer.close()
            async with grpc.aio.insecure_channel(address) as channel:
                node = Node(source, directory, channel)
                assert (await node.subscribe()).epoch == 1

    asyncio.run(main())


def test_health_and_the_port_that_is_taken() -> None:
    async def main() -> None:
        directory = MemoryDirectory()
        async with serving(directory) as address:
            async with grpc.aio.insecure_channel(address) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                reply = await health.Check(health_pb2.HealthCheckRequest(service="ha_canal.protocol.Canal"))
                assert reply.status == health_pb2.HealthCheckResponse.SERVING
                stub: Any = CanalStub(cast("grpc.Channel", channel))
                described = await stub.Describe(pb.DescribeRequest(instance="x"))
                assert described.nodes[0].name == "x"
            with pytest.raises(ConfigError, match="is the port in use"):
                async with grpc_server(directory, address, encode=encode):
                    pass

    asyncio.run(main())


def test_the_end_of_the_server_is_told_to_streams() -> None:
    async def main() -> None:
        directory = MemoryDirectory()
        directory.shop = MemoryInstance(Source(), 1)
        async with contextlib.AsyncExitStack() as channels:
            async with serving(directory) as address:
                channel = await channels.enter_async_context(grpc.aio.insecure_channel(address))
                stream = Conversation(Node(Source(), directory, channel))
                await stream.open()
            assert await stream.end() == (grpc.StatusCode.UNAVAILABLE, "LINK_LOST")

    asyncio.run(main())
