"""Run throw-away ZooKeeper servers, one or an ensemble, from Debian's `libzookeeper-java` (3.8), in 0.3 to 1.5 s.

Sessions get the timeout that they ask for, from 2 ticks up to 40 s; with the default tick of 500 ms ask for 2 s or more
(kazoo's pings have up to 0.4 s of jitter).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import permutations
from pathlib import Path

from ha_canal.testing.process import ServerFailedError, ServerProcess, free_port
from ha_canal.testing.proxy import FaultProxy

JARS = ("/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar")
_JAVA_FLAGS = (
    "-Xmx64m",
    "-Xms16m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Xss256k",
    "-Djava.net.preferIPv4Stack=true",
    "-Dzookeeper.forceSync=no",
    "-Dzookeeper.preAllocSize=1024",
    "-Dreadonlymode.enabled=true",  # a member alone serves readers that ask for it: nobody else may be fooled by it
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
_INIT_LIMIT_MS, _SYNC_LIMIT_MS = 10_000, 2_000
_ANSWER_LIMIT_S = 2.0
_STARTING_ANSWER_LIMIT_S = 0.25  # a starting server may accept a connection and never read it


class ZookeeperServer:
    """One server that runs, unless the test killed it. Clients connect to `hosts`."""

    host = "127.0.0.1"

    def __init__(self, process: ServerProcess, *, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self._process = process

    @property
    def hosts(self) -> str:
        """The connect string of this server alone."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    def log_text(self) -> str:
        """Return the server's log, over all its restarts."""
        return self._process.log_text()

    def launch(self) -> None:
        """Start the server without waiting until it serves; the members of an ensemble need each other for that."""
        self._process.spawn()

    async def serves(self) -> None:
        """Return when the server, launched before, answers sessions; `ServerFailedError` with its log's tail if not."""
        await self._process.until(self._has_mode)

    async def restart(self) -> None:
        """Start the server again on the same port and data; one that still runs is ended with SIGTERM first."""
        await self._process.stop()
        self.launch()
        await self.serves()

    async def stop(self) -> None:
        """End the server cleanly (SIGTERM)."""
        await self._process.stop()

    def kill(self) -> None:
        """End the server with SIGKILL and reap it."""
        self._process.kill()

    def pause(self) -> None:
        """Freeze the server with SIGSTOP."""
        self._process.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self._process.resume()

    async def ask(self, word: str, within_s: float = _ANSWER_LIMIT_S) -> str:
        """Return the answer to a four-letter command (`srvr`, `cons`, `dump`, `mntr`), or "" if there is none."""
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(word.encode("ascii"))
                    return (await reader.read()).decode(errors="replace")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return ""

    async def mode(self, within_s: float = _ANSWER_LIMIT_S) -> str:
        """Return `standalone`, `leader` or `follower`, or "" while the server does not serve."""
        for line in (await self.ask("srvr", within_s)).splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""

    async def _has_mode(self) -> bool:
        # neither the open port nor `ruok` will do: a session asked for while the server starts may hang for ever
        return await self.mode(_STARTING_ANSWER_LIMIT_S) != ""


class ZookeeperEnsemble:
    """Servers of one ensemble; the test kills and restarts members through `servers`."""

    def __init__(
        self, servers: Sequence[ZookeeperServer], links: Mapping[tuple[int, int], Sequence[FaultProxy]] | None = None
    ) -> None:
        self.servers = tuple(servers)
        self.links = links or {}
        """By place in `servers`: what the first member goes through to reach the second one."""

    @property
    def hosts(self) -> str:
        """The connect string with all members."""
        return ",".join(server.hosts for server in self.servers)

    async def leader(self) -> ZookeeperServer | None:
        """Return the member that leads at the moment, if any does."""
        for server in self.servers:
            if server.running and await server.mode() == "leader":
                return server
        return None


@asynccontextmanager
async def zookeeper_server(*, tick_time_ms: int = 500) -> AsyncIterator[ZookeeperServer]:
    """Run one stand-alone server. Raises `ServerFailedError` when it is not installed or does not start."""
    with tempfile.TemporaryDirectory(prefix="canal-zookeeper-") as scratch:
        server = _prepared(Path(scratch), free_port(), _config(tick_time_ms))
        try:
            server.launch()
            await server.serves()
            yield server
        finally:
            server.kill()


@asynccontextmanager
async def zookeeper_ensemble(
    size: int = 3,
    *,
    tick_time_ms: int = 500,
    sync_limit_ms: int = _SYNC_LIMIT_MS,
    linked: bool = False,
    jars: Sequence[str] = JARS,
) -> AsyncIterator[ZookeeperEnsemble]:
    """Run an ensemble of `size` servers; each of them serves when this returns.

    Members that are silent for `sync_limit_ms` are given up by the others. With `linked` each member reaches each
    other one through proxies of its own, on the running loop.
    """
    ports = [(free_port(), free_port()) for _ in range(size)]
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="canal-ensemble-")))
        links: dict[tuple[int, int], Sequence[FaultProxy]] = {}
        for pair in permutations(range(size), 2) if linked else ():
            proxies = [FaultProxy("127.0.0.1", port) for port in ports[pair[1]]]
            links[pair] = [await stack.enter_async_context(proxy) for proxy in proxies]
        limits = (f"initLimit={_INIT_LIMIT_MS // tick_time_ms}", f"syncLimit={sync_limit_ms // tick_time_ms}")
        config = (*_config(tick_time_ms), *limits)
        servers = []
        for place in range(size):
            members = _members(place, ports, links)
            server = _prepared(scratch / str(place + 1), free_port(), (*config, *members), jars)
            (server.directory / "myid").write_text(f"{place + 1}\n", encoding="ascii")
            server.launch()
            stack.callback(server.kill)
            servers.append(server)
        await asyncio.gather(*(server.serves() for server in servers))
        yield ZookeeperEnsemble(servers, links)


def _members(
    place: int, ports: Sequence[tuple[int, int]], links: Mapping[tuple[int, int], Sequence[FaultProxy]]
) -> list[str]:
    """Return the ensemble as the member at `place` sees it."""
    seen = [
        tuple(proxy.port for proxy in links[place, other]) if (place, other) in links else own
        for other, own in enumerate(ports)
    ]
    return [f"server.{number}=127.0.0.1:{quorum}:{election}" for number, (quorum, election) in enumerate(seen, 1)]


def _config(tick_time_ms: int) -> tuple[str, ...]:
    return (
        f"tickTime={tick_time_ms}",
        "clientPortAddress=127.0.0.1",
        "admin.enableServer=false",  # it would take 0.0.0.0:8080, and the second server of a machine would exit
        "4lw.commands.whitelist=ruok,srvr,mntr,cons,conf,stat,dump",
        "maxClientCnxns=0",
        "maxSessionTimeout=40000",
    )


def _prepared(directory: Path, port: int, config: Sequence[str], jars: Sequence[str] = JARS) -> ZookeeperServer:
    data = directory / "data"
    data.mkdir(parents=True)
    lines = (*config, f"dataDir={data}", f"clientPort={port}")
    configuration = directory / "zoo.cfg"
    configuration.write_text("\n".join(lines) + "\n", encoding="ascii")
    process = ServerProcess(f"ZooKeeper on port {port}", _command(configuration, jars), log=directory / "zookeeper.log")
    return ZookeeperServer(process, port=port, directory=data)


def _command(configuration: Path, jars: Sequence[str]) -> tuple[str, ...]:
    java = shutil.which("java")
    missing = [jar for jar in jars if not Path(jar).exists()]
    if java is None or missing:
        lacking = ", ".join([*([] if java else ["java"]), *missing])
        msg = f"ZooKeeper needs {lacking}. On Debian: apt-get install openjdk-17-jre-headless libzookeeper-java"
        raise ServerFailedError(msg)
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return (java, *_JAVA_FLAGS, "-cp", ":".join(jars), main, str(configuration))
