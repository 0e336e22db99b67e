"""A leader that stood still for three sessions: from its first instruction it delivers, writes and serves nothing.

What clients asked of it while it stood still waits in its sockets, and is the first thing that it reads.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from ha_canal.cluster.layout import Layout
from ha_canal.cluster.session import zookeeper_session
from ha_canal.cursor import cursor_from_json
from ha_canal.protos import canal_pb2 as pb
from ha_canal.protos.canal_pb2_grpc import CanalStub
from ha_canal.testing.checker import Checker
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.nodes import NodeProcess
from ha_canal.testing.workload import Reader
from ha_canal.testing.zookeeper import ZookeeperServer
from tests.end_to_end.cluster import PATIENCE_S, SESSION_TIMEOUT_S, Cluster, cluster

_REFUSALS = {"STALE_EPOCH", "NOT_LEADER", "NOT_SUBSCRIBED", "COORDINATOR_LOST"}
_LATE_S = 60.0


class Late:
    """A client of the leader with plain calls and a stream, under client ids of its own, that keeps what it holds."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.stub = CanalStub(self.channel)
        self.batches: list[pb.Messages] = []
        self._requests: queue.SimpleQueue[pb.StreamRequest | None] = queue.SimpleQueue()
        self._lease = ""
        self.held: pb.Messages = pb.Messages()

    def subscribe(self) -> None:
        asked = pb.SubscribeRequest(instance="shop", client_id="plain", client_name="plain")
        self._lease = self.stub.Subscribe(asked, timeout=_LATE_S).lease
        stream = pb.SubscribeRequest(instance="shop", client_id="stream", client_name="stream")
        self._requests.put(pb.StreamRequest(open=pb.StreamRequest.Open(subscribe=stream, credit=1)))
        self.replies: Iterator[pb.StreamReply] = iter(self.stub.Stream(iter(self._requests.get, None)))
        assert next(self.replies).WhichOneof("reply") == "opened"

    def take(self) -> None:
        """Hold a batch of each kind, and acknowledge neither."""
        self.held = self.stub.Get(self._get(), timeout=_LATE_S)
        assert self.held.batch_id > 0
        self.batches.append(next(one.batch for one in self.replies if one.WhichOneof("reply") == "batch"))

    def _get(self) -> pb.GetRequest:
        return pb.GetRequest(instance="shop", client_id="plain", lease=self._lease, timeout_s=10.0)

    def ask(self) -> list[grpc.Future[Any]]:
        """Acknowledge what is held, on both ways, and ask for more, all at once; answers come when they come."""
        ack = pb.AckRequest(
            instance="shop", client_id="plain", lease=self._lease, batch_id=self.held.batch_id, epoch=self.held.epoch
        )
        streamed = pb.AckRequest(batch_id=self.batches[0].batch_id, epoch=self.batches[0].epoch)
        self._requests.put(pb.StreamRequest(ack=streamed))
        self._requests.put(pb.StreamRequest(credit=pb.StreamRequest.Credit(batches=5)))
        asked: list[grpc.Future[Any]] = [self.stub.Ack.future(ack, timeout=_LATE_S)]
        return [*asked, self.stub.Get.future(self._get(), timeout=_LATE_S)]

    def rest_of_stream(self) -> tuple[list[pb.StreamReply], str]:
        """Return what still comes, and why the stream ended."""
        came: list[pb.StreamReply] = []
        try:
            came.extend(self.replies)
        except grpc.RpcError as error:
            return came, _reason(error)
        finally:
            self._requests.put(None)
        return came, ""


def _reason(error: object) -> str:
    assert isinstance(error, grpc.Call), error
    return {str(key): str(value) for key, value in error.trailing_metadata() or ()}.get("ha-canal-reason", "")


def test_a_leader_that_stood_still_serves_nobody_and_writes_nothing_when_it_goes_on(
    mariadb: DatabaseServer, zookeeper: ZookeeperServer, zookeeper_root: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with cluster(mariadb, zookeeper.hosts, tmp_path, root=zookeeper_root, lease_s=30.0) as nodes:
            paused = await nodes.leader()
            late = Late(paused.address)
            with late.channel, nodes.writer() as writer:
                await asyncio.to_thread(late.subscribe)
                await asyncio.to_thread(late.take)
                answers = await _stand_still(nodes, paused, late)
                for answer in answers:
                    error = await asyncio.to_thread(answer.exception)
                    assert _reason(error) in _REFUSALS, error
                came, reason = await asyncio.to_thread(late.rest_of_stream)
                assert reason in _REFUSALS
                assert [reply for reply in came if reply.WhichOneof("reply") in {"batch", "part", "acked"}] == []
                writer.stop()
            assert paused.process.running
            await _no_late_write(zookeeper, zookeeper_root, late)

    asyncio.run(main())


async def _stand_still(nodes: Cluster, paused: NodeProcess, late: Late) -> list[grpc.Future[Any]]:
    """Stop the leader for three sessions, while others lead and serve; ask it meanwhile, and let it go on."""
    paused.process.pause()
    since_s = time.monotonic()
    answers = late.ask()
    await nodes.leader(not_among=[paused])
    others = [node.address for node in nodes.nodes if node is not paused]
    with Reader(others, checker=Checker()) as reader:
        await eventually(lambda: reader.epoch > late.held.epoch, within_s=PATIENCE_S, what="another one serves")
    await eventually(
        lambda: time.monotonic() - since_s > 3 * SESSION_TIMEOUT_S, within_s=PATIENCE_S, what="three sessions are over"
    )
    assert not any(answer.done() for answer in answers)
    paused.process.resume()
    return answers


async def _no_late_write(zookeeper: ZookeeperServer, root: str, late: Late) -> None:
    """The acks of the old epoch moved no cursor: each stands before what was held."""
    paths = Layout(root).instance("shop")
    async with zookeeper_session(zookeeper.hosts, timeout_s=SESSION_TIMEOUT_S) as session:
        for client_id, held in (("plain", late.held), ("stream", late.batches[0])):
            node = await session.read(paths.client(client_id).cursor)
            assert node is not None
            cursor = cursor_from_json(node.data)
            place = held.place
            assert (cursor.file, cursor.offset, cursor.ordinal) < (place.file, place.offset, place.ordinal)
