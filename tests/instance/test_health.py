"""What an instance makes of errors: which are logged as what, and which of them stop it."""

from __future__ import annotations

import logging

import pytest

from ha_canal.errors import CanalError, DecodeError, LinkError, StaleEpochError
from ha_canal.instance.health import Health


def test_the_end_of_a_term_is_no_trouble_of_the_source(caplog: pytest.LogCaptureFixture) -> None:
    health = Health("shop")
    with caplog.at_level(logging.INFO):
        health.note(StaleEpochError("epoch 7 of instance 'shop' has ended here"))
    assert health.failure is None
    assert health.trouble == ""
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("error", "level", "stops"), [(LinkError("gone"), "WARNING", False), (DecodeError("no event"), "ERROR", True)]
)
def test_what_trying_again_may_mend_is_a_warning_and_the_rest_stops(
    error: CanalError, level: str, stops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health("shop")
    with caplog.at_level(logging.INFO):
        health.note(error)
        health.note(error)
    assert (health.failure is error) is stops
    assert [record.levelname for record in caplog.records] == [level]
