"""One quiet cluster for all tests that break nothing: two nodes on the session's servers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.zookeeper import ZookeeperServer
from tests.end_to_end.cluster import Cluster, cluster

_ACCOUNT = "quiet"


@pytest.fixture(scope="module")
def quiet(
    runner: asyncio.Runner,
    mariadb: DatabaseServer,
    zookeeper: ZookeeperServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """A running cluster with an account of its own, whose password is found nowhere else."""
    password = f"hush-{secrets.token_hex(8)}"
    mariadb.run_sql(f"CREATE USER {_ACCOUNT}@'%%' IDENTIFIED BY %s", password)
    mariadb.run_sql(f"GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT, BINLOG MONITOR ON *.* TO {_ACCOUNT}@'%'")
    context = cluster(
        mariadb,
        zookeeper.hosts,
        tmp_path_factory.mktemp("quiet"),
        count=2,
        root=f"/test-{secrets.token_hex(6)}",
        session_timeout_s=10.0,
        lease_s=1.0,
        user=_ACCOUNT,
        password=password,
    )
    made = runner.run(_enter(context))
    try:
        yield made
    finally:
        runner.run(_leave(context))
        mariadb.run_sql(f"DROP USER {_ACCOUNT}@'%'")


async def _enter(context: AbstractAsyncContextManager[Cluster]) -> Cluster:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[Cluster]) -> None:
    await context.__aexit__(None, None, None)
