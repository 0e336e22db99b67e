"""One process: a coordinator session, a campaign per instance, and the gRPC server in front.

The only place that knows all rooms. A node runs the instances that it wins and answers for all: who asks for an
instance that runs elsewhere is told where.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import grpc

from ha_canal import __version__
from ha_canal.backoff import Backoff, Trouble
from ha_canal.binlog.encode import encode_entry
from ha_canal.cluster.coordinator import Coordinator, LinkState, Session
from ha_canal.cluster.election import Campaign, WithdrawnError, campaign
from ha_canal.cluster.embedded import embedded_coordinator
from ha_canal.cluster.follow import first_of, register_candidate
from ha_canal.cluster.layout import Layout, NodeCard
from ha_canal.cluster.layout import RunningNode as LeaderSeen
from ha_canal.cluster.lease import Lease
from ha_canal.cluster.lock_board import ClientLockBoard
from ha_canal.cluster.orders import OrderDesk
from ha_canal.cluster.placement import Seat, Sight
from ha_canal.cluster.seating import Chair, Seating, seating
from ha_canal.cluster.session import zookeeper_session
from ha_canal.compiled import missing_extensions
from ha_canal.config import InstanceSection, NodeConfig, SourceSection
from ha_canal.errors import CanalError, NotLeaderError, UnknownInstanceError, UsageError
from ha_canal.instance import Instance
from ha_canal.instance.choice import find_source, stored_choice
from ha_canal.mysql.logins import Logins
from ha_canal.protos import canal_pb2
from ha_canal.server.serve import grpc_server
from ha_canal.server.service import NAME as SERVICE_NAME
from ha_canal.watchdog import watchdog

log = logging.getLogger(__name__)

_ASK_TIMEOUT_S = 2.0
_UNTIL_LED_S = 3.0
"""How long a client waits here for an election; it hears nothing meanwhile, and takes a node as dead after 5 s."""


class RunningNode:
    """A node that is up. Made by `node`; ``address`` is where clients reach it."""

    def __init__(self, config: NodeConfig, coordinator: Coordinator) -> None:
        self.address = config.address
        self._config = config
        self._coordinator = coordinator
        self._layout = Layout(config.cluster.root)
        self._sections: Mapping[str, InstanceSection] = {section.name: section for section in config.instance}
        self._campaigns: dict[str, Campaign] = {}
        self._instances: dict[str, Instance] = {}
        self._holders: dict[str, dict[str, str]] = {}
        self._begun = asyncio.Event()
        self._news = asyncio.Event()
        self._chairs = {name: Chair(self._news) for name in self._sections}
        self._seating: Seating | None = None
        self.orders = OrderDesk(coordinator, self._layout, self._look)

    @property
    def name(self) -> str:
        return self._config.node.name or self.address

    @property
    def _known(self) -> str:
        return ", ".join(sorted(self._sections))

    async def until(self, stop: asyncio.Event) -> None:
        """Return when ``stop`` is set."""
        await stop.wait()

    # the election

    async def run_for(self, section: InstanceSection) -> None:
        """Contend for one instance, run it while we lead, and contend again; until cancelled."""
        paths = self._layout.instance(section.name)
        chair = self._chairs[section.name]
        election = Trouble(f"instance {section.name}: its election", log)
        delays = Backoff(initial_s=0.2, max_s=10.0)
        pauses = iter(delays)
        while True:
            async with campaign(
                self._coordinator, paths, address=self.address, node=self.name, sight=chair.sight
            ) as contest:
                self._campaigns[section.name] = contest
                over = False
                while not over:
                    await chair.until_ours()
                    if await self._lead_once(section, contest, election):
                        pauses = iter(delays)
                    await asyncio.sleep(next(pauses))
                    over = contest.is_over

    async def _lead_once(self, section: InstanceSection, contest: Campaign, election: Trouble) -> bool:
        """Return whether all went well, however the term ended."""
        logins = Logins(await self._source_now(section))
        try:
            async with AsyncExitStack() as waiting:
                await waiting.enter_async_context(logins.kept())
                async with contest.lease(self._chairs[section.name].until_not_ours) as lease:
                    await waiting.aclose()
                    election.over()
                    await self._serve(section, lease, logins)
        except WithdrawnError:
            return True
        except CanalError as error:
            if contest.is_over:
                election.met(error)
            else:
                log.error("instance %s: cannot be run here: %s", section.name, error)  # noqa: TRY400 # ours: no traceback
        except Exception:  # the edge of a term: a fault of ours ends this term, not the node
            log.exception("instance %s: its term ended through a fault of this program", section.name)
        else:
            return True
        finally:
            logins.close()
        return False

    async def _source_now(self, section: InstanceSection) -> SourceSection:
        """Return which source is read now, as far as it can be told: whoever leads looks again."""
        with contextlib.suppress(CanalError):
            choice = await stored_choice(self._coordinator, self._layout.instance(section.name), section)
            return find_source(section.sources, choice.address) or section.source
        return section.source

    async def _serve(self, section: InstanceSection, lease: Lease, logins: Logins) -> None:
        paths = self._layout.instance(section.name)
        board = _Board(ClientLockBoard(self._coordinator, paths, lease), self._holders.setdefault(section.name, {}))
        choice = await stored_choice(self._coordinator, paths, section)
        instance = Instance(
            section,
            lease,
            self._coordinator,
            paths,
            root=self._layout.root,
            board=board,
            choice=choice,
            logins=logins if logins.address == choice.address else None,
        )
        self._instances[section.name] = instance
        self._begun.set()
        self._begun = asyncio.Event()
        try:
            await self._run_until_called_away(instance)
        finally:
            del self._instances[section.name]
            self._holders.pop(section.name, None)

    async def _run_until_called_away(self, instance: Instance) -> None:
        chair = self._chairs[instance.name]
        running = asyncio.create_task(instance.run(), name=f"instance {instance.name}")
        called = asyncio.create_task(chair.until_called_away(), name=f"placement of {instance.name}")
        try:
            await asyncio.wait((running, called), return_when=asyncio.FIRST_COMPLETED)
            if called.done() and not running.done():
                log.info("instance %s: handed over to %s", instance.name, called.result())
                await instance.hand_over(called.result())
        finally:
            running.cancel()
            called.cancel()
            await asyncio.wait((running, called))
        if not running.cancelled():
            running.result()

    async def hand_all_over(self) -> None:
        """Have all that was given out acknowledged, if clients are quick; nothing more is given out."""
        await asyncio.gather(*(instance.hand_over() for instance in self._instances.values()))

    @contextlib.asynccontextmanager
    async def seated(self) -> AsyncIterator[None]:
        """Follow placement while the block runs; a node by itself runs all it can."""
        if self._config.cluster.mode == "embedded":
            yield
            return
        sections = self._sections.values()
        seats = {Seat(one.name, one.weight, one.preferred): self._chairs[one.name] for one in sections}
        async with seating(self._coordinator, self._layout, self.address, self._card, seats, self._news) as made:
            self._seating = made
            yield

    def shown(self) -> AbstractAsyncContextManager[None]:
        """Show the node to the cluster, as one that can be given instances, while the block runs."""
        settles_in_s = self._config.cluster.settle_s
        return register_candidate(
            self._coordinator, self._layout, self.address, *self._sections, card=self._card, settles_in_s=settles_in_s
        )

    @property
    def _card(self) -> NodeCard:
        return NodeCard(self.name, frozenset(self._sections))

    async def _look(self) -> Sight:
        if self._seating is None:
            raise UsageError(f"{self.name} is no part of a cluster: there is no other node to run its instances")
        return await self._seating.look()

    def _leader_of(self, name: str) -> str:
        leader = self._chairs[name].sight.current if name in self._chairs else None
        return leader.address if leader else ""

    # what the gRPC server asks: `ha_canal.server.ports.Directory`

    def instance(self, name: str) -> Instance:
        """Return the instance that runs here. Raises UnknownInstanceError or NotLeaderError."""
        if name not in self._sections:
            raise UnknownInstanceError(f"there is no instance {name[:200]!r} on {self.name}; it knows: {self._known}")
        if name not in self._instances:
            leader = self._leader_of(name)
            raise NotLeaderError(name, "" if leader == self.address else leader)
        return self._instances[name]

    async def until_led(self, name: str, not_led_by: str) -> None:
        """See `ha_canal.server.ports.Directory`."""
        if name not in self._sections:
            return
        first, session = self._chairs[name].sight.current, self._coordinator.session
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_UNTIL_LED_S):
                while (
                    name not in self._instances
                    and session.state is LinkState.CONNECTED
                    and not self._is_worth_asking(name, first, not_led_by)
                ):
                    session = await self._next_news(name, session)

    def _is_worth_asking(self, name: str, first: LeaderSeen | None, not_led_by: str) -> bool:
        """Whether another node leads which the client does not call dead, or which began after it said so."""
        leader = self._chairs[name].sight.current
        if leader is None or leader.address == self.address:
            return False
        return leader.address != not_led_by or leader != first

    async def _next_news(self, name: str, session: Session) -> Session:
        """Return the session as soon as it, the leader, or what runs here has changed."""
        sight = self._chairs[name].sight
        await first_of(self._coordinator.session_changed(session), sight.changed.wait(), self._begun.wait())
        return self._coordinator.session

    async def describe(self, request: canal_pb2.DescribeRequest) -> canal_pb2.DescribeReply:
        """Return what this node knows; unless told otherwise, with what the other nodes say of theirs."""
        reply = canal_pb2.DescribeReply(answered_by=self.address, nodes=[self._describe_self()])
        names = [request.instance] if request.instance else sorted(self._sections)
        reply.instances.extend([await self._describe(name) for name in names if name in self._sections])
        if not request.local_only:
            await self._add_others(reply)
        return reply

    def _describe_self(self) -> canal_pb2.Node:
        return canal_pb2.Node(
            name=self.name,
            address=self.address,
            running=sorted(self._instances),
            version=__version__,
            drained=self._seating is not None and self.address in self._seating.sight.orders.drained,
        )

    async def _describe(self, name: str) -> canal_pb2.Instance:
        if name in self._instances:
            shown = self._instances[name].describe(self._holders.get(name, {}))
        else:
            shown = canal_pb2.Instance(
                name=name, source=self._sections[name].source.address, state="stand-by", lag_s=-1
            )
        shown.leader = self._leader_of(name)
        with contextlib.suppress(CanalError):
            shown.candidates.extend(await self._coordinator.children(self._layout.instance(name).cluster))
        return shown

    async def _add_others(self, reply: canal_pb2.DescribeReply) -> None:
        try:
            addresses = await self._coordinator.children(self._layout.cluster)
        except CanalError as error:
            reply.nodes[0].error = str(error)
            return
        others = [address for address in addresses if address != self.address]
        for address, theirs in zip(others, await asyncio.gather(*map(_ask, others)), strict=True):
            if theirs is None:
                reply.nodes.append(canal_pb2.Node(name=address, address=address, error="does not answer"))
                continue
            reply.nodes.extend(theirs.nodes)
            for shown in theirs.instances:
                mine = next((one for one in reply.instances if one.name == shown.name), None)
                if mine is not None and shown.epoch > mine.epoch:
                    mine.CopyFrom(shown)


async def _ask(address: str) -> canal_pb2.DescribeReply | None:
    request = canal_pb2.DescribeRequest(local_only=True).SerializeToString()
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            call = channel.unary_unary(f"/{SERVICE_NAME}/Describe", None, canal_pb2.DescribeReply.FromString)
            reply: canal_pb2.DescribeReply = await call(request, timeout=_ASK_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
    return reply


class _Board:
    """Shows the holders of client locks in the coordinator, and remembers them for `status`."""

    def __init__(self, board: ClientLockBoard, holders: dict[str, str]) -> None:
        self._board = board
        self._holders = holders

    async def show(self, client_id: str, holder: str) -> None:
        self._holders[client_id] = holder
        await self._board.show(client_id, holder)

    async def clear(self, client_id: str) -> None:
        self._holders.pop(client_id, None)
        await self._board.clear(client_id)


@contextlib.asynccontextmanager
async def _coordinator(config: NodeConfig) -> AsyncIterator[Coordinator]:
    if config.cluster.mode == "embedded":
        async with embedded_coordinator(config.cluster.state_file) as embedded:
            yield embedded
    else:
        async with zookeeper_session(config.cluster.servers, timeout_s=config.cluster.session_timeout_s) as zookeeper:
            yield zookeeper


@contextlib.asynccontextmanager
async def node(config: NodeConfig) -> AsyncIterator[RunningNode]:
    """Run a node while the block runs; leave it, and its instances are handed over at once.

    Raises our errors when it cannot start: a port in use, a state file that another process holds.
    """
    if missing := missing_extensions():
        log.warning(
            "%s: not compiled, or HA_CANAL_PURE is set; Python does it, several times slower", ", ".join(missing)
        )
    async with _coordinator(config) as coordinator:
        running = RunningNode(config, coordinator)
        async with grpc_server(
            running, config.node.listen, encode=encode_entry, lease_s=config.node.client_lease_s, orders=running.orders
        ) as port:
            if running.address.endswith(":0"):
                running.address = f"{running.address.rpartition(':')[0]}:{port}"
            async with watchdog(config.cluster.session_timeout_s), running.seated(), asyncio.TaskGroup() as tasks:
                campaigns = [tasks.create_task(running.run_for(section)) for section in config.instance]
                try:
                    async with running.shown():  # to nobody any more when we begin to hand over
                        yield running
                finally:
                    await running.hand_all_over()
                    for task in campaigns:
                        task.cancel()
