"""Lists of expressions: where they are split, and what is refused."""

from __future__ import annotations

import pytest

from ha_canal.errors import FilterError
from ha_canal.model.patterns import compile_patterns


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


@pytest.mark.parametrize("text", ["x,*a", "(", "a{99999999999999999999}", "[z-a]"])
def test_what_is_no_expression_is_named(text: str) -> None:
    with pytest.raises(FilterError, match="is no regular expression"):
        compile_patterns(text)
