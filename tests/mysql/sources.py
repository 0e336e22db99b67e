"""Test servers as sources of an instance."""

from __future__ import annotations

import uuid

from ha_canal.config import SourceSection
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.eventually import eventually
from ha_canal.testing.proxy import FaultProxy

SERVER_ID = 4711
REPLICA_UUID = uuid.UUID("11111111-2222-3333-4444-555555555555")


def source_of(server: DatabaseServer | FaultProxy, **settings: object) -> SourceSection:
    """Return the section for the account `canal` of ``server``, or of the server behind a proxy."""
    wanted = {"host": server.host, "port": server.port, "user": "canal", "password": "canal", "heartbeat_s": 0.2}
    return SourceSection.model_validate(wanted | settings)


async def purge_up_to(server: DatabaseServer, file: str) -> None:
    """Delete the binlog files before ``file``; MariaDB keeps one for a moment after it was closed."""

    async def purged() -> bool:
        await server.execute(f"PURGE BINARY LOGS TO '{file}'")
        return bool((await server.query("SHOW BINARY LOGS"))[0][0] == file)

    await eventually(purged, what=f"the files before {file} are gone")
