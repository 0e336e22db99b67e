"""`ha-canal position` against a node that runs, with the embedded store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ha_canal.client import Client
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.process import free_port
from tests.cli.process import assert_one_message, run, started

_CONFIG = """
[node]
listen = "{node}"

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


@pytest.fixture
def goods(mariadb: DatabaseServer) -> Iterator[Database]:
    database = Database(mariadb, mariadb.create_database())
    database.run_sql("CREATE TABLE goods (id INT PRIMARY KEY)")
    yield database
    mariadb.drop_database(database.name)


def client_of(node: str, goods: Database) -> Client:
    return Client([node], instance="shop", client_id="a", filter=rf"{goods.name}\..*", retry_for_s=20.0)


def read(node: str, goods: Database, count: int) -> int:
    """Read so many changes of the table as the client `a`, and acknowledge them."""
    seen = 0
    with client_of(node, goods) as client:
        while seen < count:
            batch = client.get(timeout_s=20.0)
            assert batch is not None
            seen += sum(1 for change in batch.changes if change.kind == "insert")
            client.ack(batch)
    return seen


def test_an_operator_looks_rewinds_and_is_refused_while_the_client_is_connected(
    goods: Database, tmp_path: Path
) -> None:
    node = f"127.0.0.1:{free_port()}"
    server = goods.server
    config = tmp_path / "node.toml"
    config.write_text(
        _CONFIG.format(
            node=node,
            directory=tmp_path,
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
        )
    )

    def position(*arguments: str) -> str:
        done = run("position", *arguments, "--node", node)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def until_led() -> None:
        await eventually(
            lambda: asyncio.to_thread(lambda: run("position", "show", "shop", "--node", node).returncode == 0),
            what="the node leads",
            within_s=60,
        )

    with ExitStack() as stack:
        stack.enter_context(started(tmp_path, "serve", "--config", str(config)))
        asyncio.run(until_led())
        with client_of(node, goods) as client:
            client.get()
            before = json.loads(position("show", "shop", "--json"))["clients"][0]["cursor"]
            held = run("position", "set", "shop", "a", "--earliest", "--node", node)
            assert_one_message(held, "is held by")
        for number in range(3):
            goods.run_sql(f"INSERT INTO goods VALUES ({number})")
        assert read(node, goods, 3) == 3
        place = f"{before['file']}:{before['offset']}"
        assert "3 transactions with 3 rows come again" in position("set", "shop", "a", "--place", place, "--dry-run")
        assert "the cursor was moved" in position("set", "shop", "a", "--place", place)
        asyncio.run(until_led())
        assert read(node, goods, 3) == 3
        assert_one_message(run("position", "show", "nothing", "--node", node), "there is no instance")
        assert "on record" in run("status", "--node", node).stdout
