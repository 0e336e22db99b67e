"""Mutations of real bytes, as plain numbers: hypothesis draws and shrinks them, and a seed repeats them.

A mutation is four numbers (kind, place, amount, value), each taken modulo what there is, so that any numbers mean
something.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st

Mutation = tuple[int, int, int, int]

MOST = 65535
MOST_MUTATIONS = 6
_WIDTHS = (1, 2, 3, 4, 8)
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, 0x7FFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF,
    0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # fmt: skip
_LENENC_PREFIXES = (b"\xfc", b"\xfd", b"\xfe")
_KINDS = 10


def mutations() -> st.SearchStrategy[list[Mutation]]:
    number = st.integers(0, MOST)
    return st.lists(st.tuples(st.integers(0, _KINDS - 1), number, number, number), max_size=MOST_MUTATIONS)


def random_mutations(chance: random.Random) -> list[Mutation]:
    count = chance.choice((1, 1, 1, 2, 2, 3, MOST_MUTATIONS))
    return [
        (chance.randrange(_KINDS), chance.randint(0, MOST), chance.randint(0, MOST), chance.randint(0, MOST))
        for _ in range(count)
    ]


def mutated(data: bytes, changes: Sequence[Mutation], others: Sequence[bytes]) -> bytes:
    """Return ``data`` after ``changes``; splices take from ``others``."""
    for change in changes:
        data = _changed(data, change, others)
    return data


def _changed(data: bytes, change: Mutation, others: Sequence[bytes]) -> bytes:
    kind, place, amount, value = change
    at = place % (len(data) + 1)
    size = amount % 64 if amount & 1 else amount % (len(data) + 1)
    match kind:
        case 0 if at < len(data):
            return data[:at] + bytes((data[at] ^ 1 << value % 8,)) + data[at + 1 :]
        case 1 if at < len(data):
            return data[:at] + bytes((value & 0xFF,)) + data[at + 1 :]
        case 2 | 3:
            width = _WIDTHS[amount % len(_WIDTHS)]
            number = _EXTREMES[value % len(_EXTREMES)] & (1 << 8 * width) - 1
            return data[:at] + number.to_bytes(width, "little" if kind == 2 else "big") + data[at + width :]
        case 4:
            return data[:at]
        case 5:
            return data[:at] + data[at + size :]
        case 6:
            return data[:at] + data[at : at + size] * (1 + value % 8) + data[at + size :]
        case 7 if others:
            other = others[value % len(others)]
            start = amount % (len(other) + 1)
            return data[:at] + other[start : start + size] + data[at + (size if value & 64 else 0) :]
        case 8:
            return data[:at] + bytes((value & 0xFF,)) * min(size, 4096) + data[at:]
        case 9:
            prefix = _LENENC_PREFIXES[amount % 3]
            number = _EXTREMES[value % len(_EXTREMES)]
            return data[:at] + prefix + number.to_bytes(8, "little")[: (2, 3, 8)[amount % 3]] + data[at + 1 :]
        case _:
            return data
