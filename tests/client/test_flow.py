"""Replies of a stream as bytes: batches are found without reading them."""

from __future__ import annotations

import pytest

from ha_canal.client.delivery import delivery
from ha_canal.client.flow import Flow, batch_start
from ha_canal.errors import DecodeError
from ha_canal.protos import canal_pb2 as pb


class Replies:
    """A link, and its stream: plays ``replies``, and keeps what is sent."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)
        self.sent: list[pb.StreamRequest] = []

    def stream(self, _opening: pb.StreamRequest.Open) -> Replies:
        return self

    def opened(self, reply: pb.SubscribeReply) -> None: ...

    def receive(self, _timeout_s: float | None = None) -> bytes:
        return self.replies.pop(0)

    def send(self, request: pb.StreamRequest) -> None:
        self.sent.append(request)


def batch(number: int, size: int = 0) -> pb.StreamReply:
    return pb.StreamReply(batch=pb.Messages(batch_id=number, messages=[b"x" * size] if size else []))


def flow_of(*replies: bytes, credit: int = 4) -> tuple[Flow, Replies]:
    link = Replies(*replies)
    return Flow(link, pb.StreamRequest.Open(credit=credit)), link  # type: ignore[arg-type] # all of a Link that it uses


@pytest.mark.parametrize("size", [0, 1, 100, 120, 130, 20_000, 3_000_000])
def test_a_batch_is_found(size: int) -> None:
    raw = batch(7, size).SerializeToString()
    start = batch_start(raw)
    assert start > 0
    assert pb.Messages.FromString(raw[start:]).batch_id == delivery(raw, start).batch_id == 7


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x12",
        b"\x12\x05",
        b"\x12" + b"\x80" * 20,
        pb.StreamReply(heartbeat=pb.Heartbeat()).SerializeToString(),
        pb.StreamReply(acked=pb.AckReply(batch_id=3)).SerializeToString(),
        batch(7).SerializeToString() + batch(8).SerializeToString(),
    ],
)
def test_other_replies_are_left_to_protobuf(raw: bytes) -> None:
    assert batch_start(raw) == 0


def test_batches_however_they_come() -> None:
    whole = batch(3, 10).batch.SerializeToString()
    flow, _ = flow_of(
        pb.StreamReply(opened=pb.SubscribeReply(lease="x")).SerializeToString(),
        batch(1).SerializeToString() + batch(2, 5).SerializeToString(),  # protobuf merges them
        pb.StreamReply(part=pb.Part(data=whole[:4])).SerializeToString(),
        pb.StreamReply(part=pb.Part(data=whole[4:], last=True)).SerializeToString(),
        pb.StreamReply(acked=pb.AckReply(batch_id=9)).SerializeToString(),
    )
    assert flow.wait(lambda: flow.acked == 9, lambda: False)
    assert flow.is_open
    assert [(each.batch_id, each.count) for each in (flow.next_batch(), flow.next_batch())] == [(2, 1), (3, 1)]
    assert not flow.has_batch


@pytest.mark.parametrize("raw", [b"\xff", b"\x12\x02\x08\xff", b"\x32\xff"])
def test_damaged_replies_are_told(raw: bytes) -> None:
    flow, _ = flow_of(raw)
    with pytest.raises(DecodeError, match="cannot be read"):
        flow.wait(lambda: flow.has_batch, lambda: False)


@pytest.mark.parametrize(("credit", "grants"), [(1, [1] * 5), (4, [2, 2]), (5, [2, 2]), (6, [3])])
def test_credit_is_granted_by_halves(credit: int, grants: list[int]) -> None:
    flow, link = flow_of(*(batch(number).SerializeToString() for number in range(5)), credit=credit)
    for _ in range(5):
        assert flow.wait(lambda: flow.has_batch, lambda: False)
        flow.next_batch()
    assert [request.credit.batches for request in link.sent] == grants
