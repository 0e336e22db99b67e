"""`ha-canal serve` and `check-config`: what is wrong is said at once and all together, and a stop is a clean end."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from tests.cli.process import LIMIT_S, assert_one_message, run, started

_SECRET = "s3cret-word"
_CONFIG = """
[node]
listen = "127.0.0.1:{listen}"

[cluster]
mode = "embedded"
state_file = "{directory}/state.db"

[[instance]]
name = "shop"

[instance.source]
host = "{host}"
port = {port}
user = "{user}"
password = "{password}"
"""
_FAULTY = f"""
[node]
listen = "nowhere"
client_lease_s = 0

[cluster]
mode = "zookeeper"

[[instance]]
name = "a shop"
start = "somewhere"
colour = "green"

[instance.source]
port = 99999
user = "canal"
password = "{_SECRET}"
tls = "maybe"
"""
_FAULTS = (
    "node.listen",
    "node.client_lease_s",
    "cluster.servers",
    "instance[0].name",
    "instance[0].start",
    "instance[0].colour",
    "instance[0].source.host",
    "instance[0].source.port",
    "instance[0].source.tls",
)


def _config(directory: Path, server: DatabaseServer, *, listen: int = 0, password: str | None = None) -> str:
    path = directory / "node.toml"
    path.write_text(
        _CONFIG.format(
            listen=listen,
            directory=directory,
            host=server.host,
            port=server.port,
            user=server.user,
            password=password or server.password,
        )
    )
    return str(path)


@pytest.mark.parametrize("command", [("check-config",), ("serve", "--config")])
def test_all_faults_of_a_config_are_told_at_once(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(_FAULTY)
    done = run(*command, str(path))
    assert_one_message(done, str(path), *(f"\n  {fault}: " for fault in _FAULTS))
    assert _SECRET not in done.stderr


@pytest.mark.parametrize("content", [None, "[node\n", "\udcff\udcfe", ""], ids=["none", "torn", "bytes", "empty"])
def test_a_file_that_is_no_config(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    assert_one_message(run("check-config", str(path)), str(path))
    assert_one_message(run("serve", "--config", str(path)), str(path))


def test_a_good_config_is_called_good(mariadb: DatabaseServer, tmp_path: Path) -> None:
    done = run("check-config", _config(tmp_path, mariadb, password=_SECRET))
    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout
    assert _SECRET not in done.stdout


def test_the_config_that_is_shipped_is_good() -> None:
    done = run("check-config", str(Path(__file__).parents[2] / "deploy" / "node.toml"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_port_in_use(mariadb: DatabaseServer, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", "--config", _config(tmp_path, mariadb, listen=port))
    assert_one_message(done, f"127.0.0.1:{port}", "is the port in use")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_a_clean_end(number: signal.Signals, mariadb: DatabaseServer, tmp_path: Path) -> None:
    with started(tmp_path / "serve", "serve", "--config", _config(tmp_path, mariadb)) as command:
        asyncio.run(eventually(lambda: "is up" in command.err, within_s=LIMIT_S, what="the node is up"))
        assert command.signal(number) == 0
        assert command.out == ""
        assert "Traceback" not in command.err
        assert "ERROR" not in command.err


def test_a_database_that_denies_access_is_told_and_waited_for(mariadb: DatabaseServer, tmp_path: Path) -> None:
    path = _config(tmp_path, mariadb, password=_SECRET)
    with started(tmp_path / "serve", "serve", "--config", path) as command:
        asyncio.run(eventually(lambda: "denies access" in command.err, within_s=LIMIT_S, what="it says so"))
        assert command.signal(signal.SIGTERM) == 0
        assert command.err.count("denies access") == 1
        assert "Traceback" not in command.err
        assert _SECRET not in command.err


def test_status_of_nobody() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        node = f"127.0.0.1:{taken.getsockname()[1]}"
        assert_one_message(run("status", "--node", node), node, "no node answers")
