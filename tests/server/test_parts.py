"""Batches that are long in the making, or on their way: in parts on a stream, whole as the answer to Get."""

from __future__ import annotations

import asyncio
import threading

import grpc
from hypothesis import given
from hypothesis import strategies as st

from ha_canal.model.change import Item
from ha_canal.model.position import Position
from ha_canal.protos import canal_pb2 as pb
from ha_canal.server.framing import messages_of, stream_parts
from ha_canal.server.serve import grpc_server
from ha_canal.testing.eventually import eventually
from ha_canal.testing.proxy import FaultProxy
from tests.server.memory import MemoryDirectory, MemoryInstance, Source, encode, serving, statement
from tests.server.test_service import Conversation, Node, one_node, texts

PART_BYTES = 64 * 1024
LONG = "x" * 1_000_000


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 60))
def test_parts_joined_are_the_batch(entries: list[bytes], part_bytes: int) -> None:
    pieces = messages_of(7, entries, epoch=3, partial_transaction=True, position=Position("bin.000001", 4))
    parts = [pb.StreamReply.FromString(reply).part for reply in stream_parts(pieces, part_bytes)]
    assert b"".join(part.data for part in parts) == b"".join(pieces)
    assert [len(part.data) == part_bytes for part in parts[:-1]] == [True] * (len(parts) - 1)
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]


async def joined(stream: Conversation, data: bytes = b"") -> pb.Messages:
    """Read parts to the last one; ``data`` is what came before."""
    while True:
        part = (await stream.reply("part")).part
        assert len(part.data) <= PART_BYTES
        data += part.data
        if part.last:
            return pb.Messages.FromString(data)


def test_a_large_batch_comes_in_parts_and_a_rollback_is_answered_behind_them() -> None:
    async def main() -> None:
        async with one_node(0) as node:
            node.source.commit(statement(1, LONG), statement(2))
            stream = Conversation(node, credit=1)
            stream._open.part_bytes = PART_BYTES
            await stream.open()
            first = (await stream.reply("part")).part
            await stream.send(rollback=pb.RollbackRequest())
            assert texts(await joined(stream, first.data)) == [LONG]
            await stream.reply("rolled_back")
            await stream.send(credit=pb.StreamRequest.Credit(batches=2))
            assert texts(await joined(stream)) == [LONG]
            assert (await stream.batch())[1] == ["do 2"]
            stream.cancel()

    asyncio.run(main())


def test_a_large_item_is_encoded_while_the_loop_goes_on() -> None:
    begun, loop_goes_on = threading.Event(), threading.Event()

    def slow(item: Item, *, epoch: int, lean: bool = False) -> bytes | None:
        begun.set()
        assert loop_goes_on.wait(5)
        return encode(item, epoch=epoch)

    async def main() -> None:
        source, directory = Source(), MemoryDirectory()
        directory.shop = MemoryInstance(source, epoch=7)
        source.commit(statement(1, LONG))
        async with (
            grpc_server(directory, "127.0.0.1:0", encode=slow) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            node = Node(source, directory, channel)
            getting = asyncio.create_task(node.get((await node.subscribe()).lease))
            await eventually(begun.is_set, within_s=5, what="the item is being encoded")
            loop_goes_on.set()
            assert texts(await getting) == [LONG]

    asyncio.run(main())


def test_the_lock_is_kept_while_the_answer_to_get_is_on_its_way() -> None:
    lease_s, stalled_s = 0.5, 0.8

    async def main() -> None:
        source, directory = Source(), MemoryDirectory()
        directory.shop = MemoryInstance(source, epoch=7)
        source.commit(statement(1, LONG * 40))
        async with (
            serving(directory, lease_s=lease_s) as address,
            FaultProxy("127.0.0.1", int(address.rpartition(":")[2])) as proxy,
        ):
            options = [("grpc.max_receive_message_length", -1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}", options=options) as channel:
                node = Node(source, directory, channel)
                lease = (await node.subscribe()).lease
                proxy.black_hole("down")
                asked_at = asyncio.get_running_loop().time()
                getting = asyncio.create_task(node.get(lease))
                await eventually(
                    lambda: asyncio.get_running_loop().time() > asked_at + stalled_s,
                    within_s=5,
                    what="the answer is longer on its way than the lease",
                )
                proxy.heal()
                batch = await getting
                await node.call("Ack", lease=lease, batch_id=batch.batch_id)

    asyncio.run(main())
