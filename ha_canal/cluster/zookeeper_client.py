"""kazoo's client, with its connection mended: all that reaches into kazoo's private parts is in this file.

Each of these was seen on kazoo 2.11:

- **Requests are numbered on from one connection to the next.** kazoo begins at 1 again, within the same session. But
  a ZooKeeper server knows whose commit it sees by (session, number) alone (`CommitProcessor`), so that, when a session
  moves to another server, the outcome of an old request answers the new one of that number: a write that has to be
  refused is told to be done. Numbers that go on are what ZooKeeper's own client has.
- **An answer out of turn breaks the connection.** When a session moved to another server meanwhile (a connection
  attempt that was given up can arrive late), the old server drops its refusals of writes, but may still send the
  answers to reads behind them. kazoo ends its thread at that, for ever, with the session.
- **Nothing else that fails ends the thread either**: not garbage, not a resolver without file descriptors.
- **A link that has gone silent is noticed while requests are made.** kazoo pings only where nothing was asked for a
  third of the session timeout, and takes what it sends for a sign of life. ZooKeeper's own client looks at what came.
- **The timeout that the server grants is told**: it may be less than asked, and a deadline hangs on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped
from kazoo.protocol.states import KeeperState
from kazoo.retry import ForceRetryError

log = logging.getLogger(__name__)
kazoo_log = logging.getLogger(f"{__name__}.kazoo")
kazoo_log.setLevel(logging.ERROR)  # it tells of every attempt; `ha_canal.cluster.session` says each state once

_RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 1.5, "max_delay": 0.5}  # kazoo's own waits up to an hour


def zookeeper_client(hosts: str, *, timeout_s: float, granted: Callable[[float], None]) -> KazooClient:
    """Return a client, not started yet. ``granted`` is told each granted session timeout (s), on kazoo's thread."""
    client = KazooClient(hosts=hosts, timeout=timeout_s, connection_retry=dict(_RETRY), logger=kazoo_log)
    _mend(client, hosts, granted)
    return client


def _mend(client: Any, hosts: str, granted: Callable[[float], None]) -> None:
    """Wrap methods of the client's connection; all of them run on its thread."""
    connection = client._connection  # noqa: SLF001 (there is no public way to it, nor to the names below)
    connect_loop, connect = connection._connect_loop, connection._connect  # noqa: SLF001
    send, read, read_response = connection._send_request, connection._read_socket, connection._read_response  # noqa: SLF001
    last_number = 0
    heard_s = 0.0

    def connect_whatever_fails(retry: Any) -> Any:
        try:
            return connect_loop(retry)
        except ForceRetryError:
            raise  # no server took us: the usual end
        except Exception as error:
            client._session_callback(KeeperState.CONNECTING)  # noqa: SLF001
            log.warning("the connection to ZooKeeper at %s failed (%r); trying again", hosts, error)
            raise ForceRetryError from error

    def connect_and_number_on(*place: Any) -> Any:
        nonlocal heard_s
        read_timeout_ms, connect_timeout_ms = connect(*place)
        connection._xid = last_number  # noqa: SLF001
        heard_s = time.monotonic()
        granted(read_timeout_ms * 1.5 / 1000)  # kazoo reads for two thirds of it
        return read_timeout_ms, connect_timeout_ms

    def send_unless_silent(read_timeout_s: float, connect_timeout_s: float) -> None:
        nonlocal last_number
        silent_s = time.monotonic() - heard_s
        if client._pending and silent_s > read_timeout_s:  # noqa: SLF001 (what came is read before anything is sent)
            raise _dropped(f"nothing came from it for {silent_s:.1f} s")
        send(read_timeout_s, connect_timeout_s)
        last_number = connection._xid  # noqa: SLF001

    def read_and_note(read_timeout_s: float) -> Any:
        nonlocal heard_s
        response = read(read_timeout_s)
        heard_s = time.monotonic()
        return response

    def read_in_turn(header: Any, buffer: Any, offset: int) -> Any:
        waiting = client._pending  # noqa: SLF001
        if not waiting or waiting[0][2] != header.xid:
            due = f"to request {waiting[0][2]}" if waiting else "to none"
            raise _dropped(f"the answer to request {header.xid} came, where one {due} was due")
        return read_response(header, buffer, offset)

    def _dropped(what: str) -> ConnectionDropped:
        log.warning("the link to ZooKeeper at %s is made anew: %s", hosts, what)
        return ConnectionDropped(what)

    connection._connect_loop, connection._connect = connect_whatever_fails, connect_and_number_on  # noqa: SLF001
    connection._send_request, connection._read_socket = send_unless_silent, read_and_note  # noqa: SLF001
    connection._read_response = read_in_turn  # noqa: SLF001
