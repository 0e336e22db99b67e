"""What a server has of its binlog at one moment: one immutable value."""

from __future__ import annotations

from dataclasses import dataclass

from ha_canal.model.position import Position
from ha_canal.mysql.connection import ServerInfo


@dataclass(frozen=True, slots=True)
class Binlog:
    """``files`` are names and sizes in bytes, oldest first; ``state`` is MariaDB's ``gtid_binlog_state``.

    ``now_ms`` was the time of the server's clock, before the rest was asked.
    """

    info: ServerInfo
    files: tuple[tuple[str, int], ...]
    oldest: Position
    end: Position
    state: str = ""
    now_ms: int = 0
