"""Every error has a status, and the SDK makes the same error of it again."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from ha_canal import errors
from ha_canal.client.faults import error_of
from ha_canal.server.status import STATUS, status_of


def tree(root: type[errors.CanalError] = errors.CanalError) -> Iterator[type[errors.CanalError]]:
    if root.__module__ == errors.__name__:
        yield root
    for child in root.__subclasses__():
        yield from tree(child)


def example(kind: type[errors.CanalError]) -> errors.CanalError:
    if issubclass(kind, errors.NotLeaderError):
        return kind("shop", "h:1")
    if issubclass(kind, errors.LockedError):
        return kind("shop", "1001", "bücher:1 (10.0.0.1:5)")
    if issubclass(kind, errors.ConfigError):
        return kind("node.toml", ["a: wrong"])
    return kind("what happened")


class Refusal(grpc.RpcError):
    """A failed call, as grpc shows it."""

    def __init__(self, error: errors.CanalError) -> None:
        self._status = status_of(error)

    def code(self) -> grpc.StatusCode:
        return self._status[0]

    def details(self) -> str:
        return self._status[1]

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:  # type: ignore[override]  # the stubs' own name for it
        return self._status[2]


@pytest.mark.parametrize("kind", list(tree()))
def test_there_and_back(kind: type[errors.CanalError]) -> None:
    error = example(kind)
    code, message, metadata = status_of(error)
    assert message == str(error)
    assert dict(metadata)["ha-canal-reason"] == kind.reason
    assert all(value.isascii() for _, value in metadata)
    assert code not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    again = error_of(Refusal(error), "h:2", "shop", "1001")
    assert again.reason == kind.reason or kind is errors.ConfigError or not kind.__dict__.get("reason")
    if "reason" in vars(kind) and kind not in (errors.CanalError, errors.ConfigError):
        assert type(again) is kind
        assert str(again) == str(error)


def test_what_is_worth_trying_again_says_so_in_the_code_too() -> None:
    again = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}
    for kind, code in STATUS.items():
        assert (code in again) == (kind.retriable or kind is errors.StaleEpochError), kind


def test_the_leader_and_the_holder_travel() -> None:
    assert ("ha-canal-leader", "h:1") in status_of(errors.NotLeaderError("shop", "h:1"))[2]
    locked = error_of(Refusal(example(errors.LockedError)), "h:2", "shop", "1001")
    assert isinstance(locked, errors.LockedError)
    assert locked.holder == "bücher:1 (10.0.0.1:5)"


def test_a_message_is_never_too_long_for_grpc() -> None:
    assert len(status_of(errors.FilterError("x" * 100_000))[1]) <= 2_000
