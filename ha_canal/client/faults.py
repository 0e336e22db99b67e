"""What a failed call means: gRPC's status and our trailing metadata to the errors of `ha_canal.errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from ha_canal import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc


def error_of(raised: grpc.RpcError, address: str, instance: str, client_id: str) -> errors.CanalError:
    """Return the error that the node at ``address`` meant; a `LinkError` when it did not come from one of ours."""
    said = {
        str(key): str(value) for key, value in cast("tuple[tuple[str, str], ...]", raised.trailing_metadata() or ())
    }
    message = raised.details() or "no details"
    reason = said.get("ha-canal-reason", "")
    if reason == errors.NotLeaderError.reason:
        return errors.NotLeaderError(instance, unquote(said.get("ha-canal-leader", "")))
    if reason == errors.LockedError.reason:
        return errors.LockedError(instance, client_id, unquote(said.get("ha-canal-holder", "another client")))
    if reason in _BY_REASON:
        return _BY_REASON[reason](message)
    if reason:
        return errors.CanalError(f"node {address}: {message} ({reason})")
    return errors.LinkError(
        f"node {address} cannot be reached, or is no ha_canal node: {raised.code().name}: {message}"
    )


def _tree(root: type[errors.CanalError]) -> Iterator[type[errors.CanalError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_OWN_SHAPE = (errors.NotLeaderError, errors.LockedError, errors.ConfigError)
_BY_REASON = {
    kind.reason: kind for kind in _tree(errors.CanalError) if "reason" in vars(kind) and kind not in _OWN_SHAPE
}
