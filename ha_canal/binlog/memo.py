"""A function of one argument with a table of its results that cannot grow without bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Key = TypeVar("Key")


class Memo(dict[Key, str]):
    """``memo[key]`` is ``make(key)``, kept for the first ``limit`` keys.

    A dict of its own kind, not `functools.lru_cache`: to look up what is there costs no call. What ``make`` raises
    comes out, and nothing is kept.
    """

    __slots__ = ("_limit", "_make")

    def __init__(self, make: Callable[[Key], str], limit: int) -> None:
        super().__init__()
        self._make = make
        self._limit = limit

    def __missing__(self, key: Key) -> str:
        made = self._make(key)
        if len(self) < self._limit:
            self[key] = made
        return made
