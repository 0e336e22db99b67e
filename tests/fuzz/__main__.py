"""Fuzz for minutes: ``python -m tests.fuzz --minutes 10 [--seed N] [--target NAME]``.

Each failure is printed with its target, its bytes in hex and the end of its traceback, and the run goes on; the exit
status is 1 if there was one. The same seed and targets make the same inputs.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from tests.fuzz.check import check
from tests.fuzz.limits import bounded_memory
from tests.fuzz.mutate import mutated, random_mutations
from tests.fuzz.targets import SPLICES, TARGETS

_MOST_SHOWN_BYTES = 4000


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Feed every decoder with mutated bytes.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--target", action="append", choices=list(TARGETS))
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    names = arguments.target or list(TARGETS)
    print(f"seed {seed}, {len(names)} targets, {arguments.minutes:g} minutes", flush=True)
    with bounded_memory():
        inputs, failures = _run(random.Random(seed), names, time.monotonic() + arguments.minutes * 60)
    print(f"{sum(inputs.values())} inputs, {sum(failures.values())} failures of {len(failures)} kinds")
    for name in names:
        print(f"  {inputs[name]:9} {name}")
    return 1 if failures else 0


def _run(chance: random.Random, names: list[str], deadline_s: float) -> tuple[Counter[str], Counter[str]]:
    inputs: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    while time.monotonic() < deadline_s:
        for name in names:
            target = TARGETS[name]
            data = mutated(chance.choice(target.seeds), random_mutations(chance), SPLICES)
            inputs[name] += 1
            try:
                check(target, data)
            except Exception as error:  # noqa: BLE001 # the outermost edge: any error is a finding
                _report(name, data, error, failures)
    return inputs, failures


def _report(name: str, data: bytes, error: Exception, failures: Counter[str]) -> None:
    last = traceback.extract_tb(error.__traceback__)[-1]
    kind = f"{name}: {type(error).__name__} in {last.filename}:{last.lineno}"
    failures[kind] += 1
    if failures[kind] == 1:
        print(f"\n{kind}\n  {error}\n  {data[:_MOST_SHOWN_BYTES].hex()}", flush=True)
        traceback.print_exception(error, limit=-4, file=sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
