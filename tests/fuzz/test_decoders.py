"""Every decoder against mutated real bytes and garbage. More of the same: ``scripts/test fuzz --minutes M``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.check import check
from tests.fuzz.limits import bounded_memory
from tests.fuzz.mutate import Mutation, mutated, mutations
from tests.fuzz.targets import SPLICES, TARGETS

_EXAMPLES = 150
_FEW_EXAMPLES = {"stream": 120, "stream of a damaged file": 60}
_QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    with bounded_memory():
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_bytes(name: str) -> None:
    target = TARGETS[name]

    @settings(_QUICK, max_examples=_FEW_EXAMPLES.get(name, _EXAMPLES))
    @given(st.sampled_from(target.seeds), mutations())
    def run(seed: bytes, changes: list[Mutation]) -> None:
        check(target, mutated(seed, changes, SPLICES))

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_garbage(name: str) -> None:
    target = TARGETS[name]

    @settings(_QUICK, max_examples=40)
    @given(st.binary(max_size=300))
    def run(data: bytes) -> None:
        check(target, data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_as_they_are(name: str) -> None:
    """Mutations start from what the decoder reads to its end: seeds that are refused would fuzz the refusal alone."""
    target = TARGETS[name]
    refused = 0
    for seed in target.seeds:
        try:
            target.call(seed)
        except target.allowed:
            refused += 1
    assert refused * 2 < len(target.seeds), f"{refused} of {len(target.seeds)} seeds are refused"
