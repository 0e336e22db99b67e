"""Dump connections beside the one that reads: to look ahead, to look back, to search.

They have a server id and a uuid of their own, so that the server does not end the connection that reads, and a short
heartbeat, so that it notices soon that they have gone.
"""

from __future__ import annotations

import secrets
import uuid
from contextlib import AbstractAsyncContextManager

from ha_canal.config import SourceSection
from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo
from ha_canal.mysql.dump import BinlogSocket, dump

_HEARTBEAT_S = 0.5
"""A server notices that we have gone when it speaks; and it speaks when it has left out the last transactions."""


class BesideDumps:
    """Opens dump connections at one source, under ids that most probably nobody has.

    ``not_server_id`` is that of the connection that reads; where it is not given, chance alone keeps them apart.
    """

    def __init__(self, source: SourceSection, *, not_server_id: int = 0) -> None:
        self._source = source
        self._server_id = _other_server_id(not_server_id)
        self._replica_uuid = uuid.uuid4()

    def dump(self, info: ServerInfo, start: Position) -> AbstractAsyncContextManager[BinlogSocket]:
        """Return a dump connection from ``start``, which is to be entered; by its GTIDs if it has any."""
        return dump(
            self._source,
            info,
            start,
            server_id=self._server_id,
            replica_uuid=self._replica_uuid,
            heartbeat_s=_HEARTBEAT_S,
        )


def _other_server_id(server_id: int) -> int:
    found = 0x80000000 | secrets.randbits(31)
    return found if found != server_id else found ^ 1
