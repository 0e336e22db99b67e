"""What this room asks of the rest of a node: instances to serve, their subscriptions, and an encoder.

The instance room implements these; tests implement them in memory. Every method may raise the errors of
`ha_canal.errors`, which reach the client through the table in `ha_canal.server.status`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from ha_canal.errors import CanalError
    from ha_canal.model.change import Item
    from ha_canal.model.position import Position
    from ha_canal.model.run import Part
    from ha_canal.protos.canal_pb2 import (
        DescribeReply,
        DescribeRequest,
        DrainReply,
        DrainRequest,
        FindPositionReply,
        FindPositionRequest,
        MovePositionReply,
        MovePositionRequest,
        MoveReply,
        MoveRequest,
        Notice,
        PositionsReply,
        SwitchSourceReply,
        SwitchSourceRequest,
    )


class Batch(Protocol):
    """Items that a subscription handed out together. ``position`` is where an ack of it moves the cursor."""

    @property
    def batch_id(self) -> int: ...
    @property
    def items(self) -> tuple[Item | Part, ...]: ...
    @property
    def partial_transaction(self) -> bool: ...
    @property
    def position(self) -> Position: ...


class Subscription(Protocol):
    """One client id's place in the ring. Batch ids rise from 1 on and are never used twice."""

    async def get(self, *, max_items: int, max_bytes: int, timeout_s: float) -> Batch | None:
        """Return the next batch, or None when nothing came in time. Cancelling it hands out nothing."""

    def ack(self, batch_id: int) -> object:
        """Free the oldest batch. This room calls it only when the cursor behind the batch is durable."""

    def rollback(self, batch_id: int | None) -> None:
        """Take back this batch and all after it (None: all); they come again with new ids."""


class LockBoard(Protocol):
    """Where operators see who holds which client id. It shows; it decides nothing."""

    async def show(self, client_id: str, holder: str) -> None: ...
    async def clear(self, client_id: str) -> None: ...


class ServedInstance(Protocol):
    """One term of office: an instance as this node runs it under one epoch. A new term is a new object."""

    @property
    def epoch(self) -> int: ...
    @property
    def ended(self) -> asyncio.Future[CanalError]:
        """Done, with what to tell clients, as soon as this term is over: open streams end at that moment."""

    @property
    def board(self) -> LockBoard: ...

    def check_output(self) -> None:
        """Raise (StaleEpochError, NotLeaderError) unless this node may answer for the instance right now."""

    async def subscribe(self, client_id: str, pattern: str | None) -> tuple[Subscription, str]:
        """Return the running subscription, made where there is none, and its filter; None keeps the stored one.

        The filter is durable when this returns. Raises FilterError.
        """

    async def acknowledged(self, client_id: str, position: Position) -> None:
        """Return when the cursor is durable. Raises StaleEpochError or LinkError; then nothing is promised."""

    async def forget(self, client_id: str) -> None:
        """End the subscription and delete its cursor and filter."""

    def notices_for(self, client_id: str) -> list[Notice]:
        """Return what is on record that concerns a client: gaps, seams, moves of its cursor."""

    @property
    def moves(self) -> Moves: ...
    @property
    def sources(self) -> Sources: ...


class Directory(Protocol):
    """What this node knows of instances."""

    def instance(self, name: str) -> ServedInstance:
        """Return the instance that this node runs. Raises UnknownInstanceError or NotLeaderError, or why it stopped."""

    async def until_led(self, name: str, not_led_by: str) -> None:
        """Return when asking for the instance is worth it: it runs here, or another node leads it than this one.

        Returns after a few seconds in any case, and at once when this node cannot hear of elections.
        """

    async def describe(self, request: DescribeRequest) -> DescribeReply: ...


class Orders(Protocol):
    """What operators can order. Raises UsageError or UnknownInstanceError, saying what is possible."""

    async def move(self, request: MoveRequest) -> MoveReply: ...
    async def drain(self, request: DrainRequest) -> DrainReply: ...


class Moves(Protocol):
    """The positions of one instance, as operators look at them and move them. May raise all our errors."""

    async def show(self) -> PositionsReply: ...
    async def find(self, request: FindPositionRequest) -> FindPositionReply: ...
    async def move(self, request: MovePositionRequest) -> MovePositionReply: ...


class Sources(Protocol):
    """The servers that one instance may be read from."""

    async def switch(self, request: SwitchSourceRequest) -> SwitchSourceReply:
        """Go on at another one. Raises UsageError, saying why it cannot be."""


class Encode(Protocol):
    """Makes a serialized ``Entry`` of an item; None: this item has nothing to say to clients."""

    def __call__(self, item: Item, *, epoch: int, lean: bool = False) -> bytes | None:
        """``lean``: it need not say what ``StreamRequest.Open`` in ``canal.proto`` lets away."""
