"""The gRPC server of a node: `grpc_server` is running for as long as its ``async with`` block."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ha_canal.errors import ConfigError
from ha_canal.server.service import NAME, CanalService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_canal.server.ports import Directory, Encode, Orders

_REQUEST_BYTES = 16 << 20
"""No honest request comes near it; what clients receive is not limited."""


@contextlib.asynccontextmanager
async def grpc_server(
    directory: Directory,
    listen: str,
    *,
    encode: Encode,
    lease_s: float = 10.0,
    grace_s: float = 1.0,
    orders: Orders | None = None,
) -> AsyncIterator[int]:
    """Serve ``directory`` on ``listen`` (``host:port``; port 0: a free one); gives the port.

    At the end open streams and waiting calls are told at once to ask another node; ``grace_s`` bounds how long
    calls may take to end. Raises ConfigError when ``listen`` cannot be bound.
    """
    service = CanalService(directory, encode, lease_s=lease_s, orders=orders)
    server = grpc.aio.server(options=_options(lease_s))
    server.add_generic_rpc_handlers((service.handlers(),))
    state = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in the stubs
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    reflection.enable_server_reflection((NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _bind(server, listen)
    await server.start()
    for name in ("", NAME):
        await state.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield port
    finally:
        await state.enter_graceful_shutdown()
        service.close()
        await server.stop(grace_s)


def _bind(server: grpc.aio.Server, listen: str) -> int:
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ConfigError(
            "the gRPC server", [f"listen: cannot bind {listen!r}: is the port in use, or the address not of this host?"]
        )
    return port


def _options(lease_s: float) -> list[tuple[str, int]]:
    """A peer that does not answer a ping is gone within about one lease; ports are not shared by accident."""
    third_ms = max(1_000, int(lease_s * 1_000 / 3))
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", _REQUEST_BYTES),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", third_ms),
        ("grpc.keepalive_timeout_ms", third_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
    ]
