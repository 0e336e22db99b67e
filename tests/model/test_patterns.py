"""Lists of expressions: where they are split, and what is refused."""

from __future__ import annotations

import pytest

from ha_canal.errors import FilterError
from ha_canal.model.patterns import compile_patterns, slow_name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" , ,", []),
        (r"shop\..*, users\.account", [r"shop\..*", r"users\.account"]),
        (r"a\.b{1,2},c\.[,]d,(e,f)\.g", [r"a\.b{1,2}", r"c\.[,]d", r"(e,f)\.g"]),
        (r"a\,b", [r"a\,b"]),
        (r"[(,]x,y", ["[(,]x", "y"]),
    ],
)
def test_commas(text: str, parts: list[str]) -> None:
    assert [part.pattern for part in compile_patterns(text)] == parts


def test_the_time_of_a_match_is_limited() -> None:
    (part,) = compile_patterns("(a|aa)+$b", check_speed=False)
    assert part.matches("a" * 100) is None
    assert part.matches("b") is False
    assert slow_name(part, ["b", "a" * 100, "c"], limit_s=1) == "a" * 100
    assert slow_name(part, ["b"], limit_s=-1) == "b"
    with pytest.raises(FilterError, match="takes too long"):
        compile_patterns("x,(a|aa)+$b")


@pytest.mark.parametrize("text", ["x,*a", "(", "a{99999999999999999999}", "[z-a]", "((a{1000}){1000}){1000}"])
def test_what_is_no_expression_is_named(text: str) -> None:
    with pytest.raises(FilterError, match="is no regular expression"):
        compile_patterns(text)
