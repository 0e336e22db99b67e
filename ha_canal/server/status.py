"""Which gRPC status and trailing metadata each error becomes: the one table."""

from __future__ import annotations

from urllib.parse import quote

import grpc

from ha_canal import errors

_MOST_DETAIL = 2_000
"""Characters of a message that travel; gRPC refuses metadata of more than 8 KiB altogether."""

STATUS: dict[type[errors.CanalError], grpc.StatusCode] = {
    errors.CanalError: grpc.StatusCode.INTERNAL,
    errors.UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FilterError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownInstanceError: grpc.StatusCode.NOT_FOUND,
    errors.NotSubscribedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnknownBatchError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotOldestError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotLeaderError: grpc.StatusCode.UNAVAILABLE,
    errors.LockedError: grpc.StatusCode.ABORTED,
    errors.StaleEpochError: grpc.StatusCode.ABORTED,
    errors.SourceRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PositionPurgedError: grpc.StatusCode.OUT_OF_RANGE,
    errors.SourceBusyError: grpc.StatusCode.UNAVAILABLE,
    errors.LinkError: grpc.StatusCode.UNAVAILABLE,
    errors.SourceLostError: grpc.StatusCode.UNAVAILABLE,
    errors.CoordinatorLostError: grpc.StatusCode.UNAVAILABLE,
    errors.StreamError: grpc.StatusCode.DATA_LOSS,
    errors.DecodeError: grpc.StatusCode.DATA_LOSS,
    errors.ChainError: grpc.StatusCode.DATA_LOSS,
    errors.SchemaMismatchError: grpc.StatusCode.DATA_LOSS,
}


def status_of(error: errors.CanalError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Return the code, the message and the trailing metadata that tell a client of ``error``.

    Metadata is ASCII: what is not is percent-encoded (RFC 3986), as gRPC itself does with messages.
    """
    code = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    metadata = [("ha-canal-reason", error.reason)]
    if isinstance(error, errors.NotLeaderError) and error.leader:
        metadata.append(("ha-canal-leader", _ascii(error.leader)))
    if isinstance(error, errors.LockedError):
        metadata.append(("ha-canal-holder", _ascii(error.holder)))
    return code, str(error)[:_MOST_DETAIL], tuple(metadata)


def _ascii(text: str) -> str:
    return quote(text[:_MOST_DETAIL], safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~")
