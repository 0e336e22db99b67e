"""kazoo's client, with its connection mended: all that reaches into kazoo's private parts is in this file.

Each of these was seen on kazoo 2.11, and a test holds each mend in place:

- **Requests are numbered on from one connection to the next.** kazoo begins at 1 again, within the same session. But
  a ZooKeeper server knows whose commit it sees by (session, number) alone (`CommitProcessor`), so that, when a session
  moves to another server, the outcome of an old request answers the new one of that number: a write that has to be
  refused is told to be done. Numbers that go on are what ZooKeeper's own client has.
- **An answer out of turn breaks the connection.** When a session moved to another server meanwhile (a connection
  attempt that was given up can arrive late), the old server drops its refusals of writes, but may still send the
  answers to reads behind them. kazoo ends its thread at that, for ever, with the session.
- **Nothing else ends the thread either**: what kazoo does not expect becomes an attempt that failed, and is logged.
- **The timeout that the server grants is told**: it may be less than asked, and a deadline hangs on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped
from kazoo.protocol.states import KeeperState

log = logging.getLogger(__name__)
log.setLevel(
    logging.ERROR
)  # kazoo logs here and tells of every attempt; `ha_canal.cluster.session` says each state once

_RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 1.5, "max_delay": 0.5}  # kazoo's own waits up to an hour


def zookeeper_client(
    hosts: str, *, timeout_s: float, auth: Sequence[tuple[str, str]] = (), granted: Callable[[float], None]
) -> KazooClient:
    """Return a client, not started yet. ``granted`` is told each granted session timeout (s), on kazoo's thread."""
    client = KazooClient(
        hosts=hosts, timeout=timeout_s, auth_data=list(auth), connection_retry=dict(_RETRY), logger=log
    )
    _mend(client, granted)
    return client


def _mend(client: Any, granted: Callable[[float], None]) -> None:
    """Wrap three methods of the client's connection; all of them run on its thread."""
    connection = client._connection  # noqa: SLF001 (there is no public way to it, nor to the names below)
    attempt, connect, read = connection._connect_attempt, connection._connect, connection._read_response  # noqa: SLF001
    last_number = 0

    def attempt_and_go_on(*place: Any) -> Any:
        nonlocal last_number
        last_number = connection._xid or last_number  # noqa: SLF001 (None at first; 0 when no connection came about)
        try:
            status = attempt(*place)
        except Exception:  # noqa: BLE001 (whatever it is: kazoo has logged it, and its thread must go on)
            client._session_callback(KeeperState.CONNECTING)  # noqa: SLF001
            return None
        return status if client._stopped.is_set() else None  # noqa: SLF001 (else "stop" means that it was refused)

    def connect_and_number_on(*place: Any) -> Any:
        read_timeout_ms, connect_timeout_ms = connect(*place)
        connection._xid = last_number  # noqa: SLF001
        granted(read_timeout_ms * 1.5 / 1000)  # kazoo reads for two thirds of it
        return read_timeout_ms, connect_timeout_ms

    def read_in_turn(header: Any, buffer: Any, offset: int) -> Any:
        waiting = client._pending  # noqa: SLF001
        if not waiting or waiting[0][2] != header.xid:
            due = f"to request {waiting[0][2]}" if waiting else "to none"
            raise ConnectionDropped(f"the answer to request {header.xid} came, where one {due} was due")
        return read(header, buffer, offset)

    connection._connect_attempt = attempt_and_go_on  # noqa: SLF001
    connection._connect = connect_and_number_on  # noqa: SLF001
    connection._read_response = read_in_turn  # noqa: SLF001
