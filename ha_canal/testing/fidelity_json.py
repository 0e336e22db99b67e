"""Random JSON documents and changes of them, as SQL expressions for MySQL's JSON type."""

from __future__ import annotations

import json
import random
from typing import Final

from ha_canal.testing.fidelity_text import literal

_KEYS: Final = (
    "a",
    "b",
    "bb",
    "ä",
    "key with space",
    "漢",
    "",
    "zz",
    'q"uote',
    "back\\slash",
    "dot.ted",
    "🙂",
    "$",
    "[0]",
)
_SCALARS: Final = (
    "CAST(NULL AS CHAR)", "TRUE", "FALSE", "0", "1", "-1", "32767", "-32768", "-32769", "32768", "65535", "65536",
    "2147483647", "-2147483649", "4294967295", "4294967296", "-9223372036854775808", "9223372036854775807",
    "18446744073709551615", "0.1e0", "1e15", "1e14", "1e-15", "1e-16", "1.5e300", "-0e0", "100e0", "123456.789e0",
    "12345678901234567890.123456789", "0.00", "-0.5", "CAST(9 AS DECIMAL(65,30))", "REPEAT('x', 127)",
    "REPEAT('x', 128)", "REPEAT('é', 8192)", "''",
    "CAST('2015-01-15' AS DATE)", "CAST('2015-01-15 23:24:25.12' AS DATETIME(6))", "CAST('-23:24:25.5' AS TIME(3))",
    "TIMESTAMP'2015-01-15 23:24:25'", "CAST('-00:00:00.000001' AS TIME(6))", "CAST('838:59:59' AS TIME)",
    "CAST(2024 AS YEAR)", "x'00ff10'", "x''", "b'101'", "ST_GeomFromText('POINT(1 2)')", "JSON_ARRAY()",
    "JSON_OBJECT()", "CAST('null' AS JSON)", "CAST('1.0' AS JSON)", "CAST('1E5' AS JSON)", "CAST('-0' AS JSON)",
    "CAST('123456789012345678901234567890' AS JSON)", "CAST('0.1000' AS JSON)", "STRING_TO_VECTOR('[1,2.5]')",
)  # fmt: skip


def json_value(rng: random.Random) -> str:
    """Return an expression for a document: a scalar, nested a little or a lot, small or of the large format."""
    match rng.randrange(9):
        case 0:
            return f"JSON_EXTRACT(JSON_ARRAY({_scalar(rng)}), '$[0]')"
        case 1:
            return f"JSON_ARRAY({_many(rng)})"
        case 2:
            return (
                f"JSON_OBJECT('big', REPEAT('y', {rng.choice((65000, 65530, 70000))}), 'k', JSON_ARRAY({_many(rng)}))"
            )
        case 3:
            return f"CAST({literal(json.dumps(_tree(rng, 5), ensure_ascii=False))} AS JSON)"
        case 4:
            depth = rng.randint(20, 98)
            return f"CAST('{'[' * depth}7{']' * depth}' AS JSON)"
        case 5:
            wide = {f"key{number}": rng.choice((number, -number, str(number))) for number in range(rng.randint(1, 400))}
            return f"CAST({literal(json.dumps(wide))} AS JSON)"
        case 6:
            return f"CAST('{json.dumps(rng.choices(range(-40000, 70000), k=rng.randint(0, 300)))}' AS JSON)"
        case _:
            return f"JSON_OBJECT('a', JSON_ARRAY({_many(rng)}), 'b', {_scalar(rng)}, {_members(rng)})"


def json_text(rng: random.Random) -> str:
    """Return a document as MariaDB keeps it: text."""
    return literal(json.dumps(_tree(rng, 4), ensure_ascii=rng.random() < 0.5))


def json_update(rng: random.Random, column: str) -> str:
    """Return an expression that changes a part of the document in ``column``: the server may log just that part."""
    match rng.randrange(4):
        case 0:
            return f"JSON_REMOVE({column}, {', '.join(_path(rng) for _ in range(rng.randint(1, 3)))})"
        case 1:
            return f"JSON_REPLACE({column}, {_changes(rng)})"
        case 2:
            return f"JSON_SET(JSON_REMOVE({column}, {_path(rng)}), {_changes(rng)})"
        case _:
            return f"JSON_SET({column}, {_changes(rng)})"


def _changes(rng: random.Random) -> str:
    return ", ".join(f"{_path(rng)}, {rng.choice((_scalar(rng), json_value(rng)))}" for _ in range(rng.randint(1, 3)))


def _path(rng: random.Random) -> str:
    legs = [rng.choice((_leg(rng), "[0]", "[1]", "[2]", ".a", ".b")) for _ in range(rng.choice((1, 1, 2, 3)))]
    return literal("$" + "".join(legs))


def _leg(rng: random.Random) -> str:
    return f".{json.dumps(rng.choice(_KEYS), ensure_ascii=False)}"


def _scalar(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return f"{rng.uniform(-1, 1):.17f}e{rng.randint(-30, 30)}"
    if rng.random() < 0.2:
        return literal(rng.choice(('text "quoted" \\ \n\t漢🙂\x01\x1f\x7f', "\0", "\u2028\ufeff", "é" * 9)))
    if rng.random() < 0.1:
        number = f"{rng.choice(('', '-'))}{rng.randrange(10 ** rng.randint(1, 65))}.{rng.randrange(10**9)}"
        return f"CAST('{number}' AS DECIMAL(65,{rng.randint(0, 30)}))"
    return rng.choice(_SCALARS)


def _many(rng: random.Random) -> str:
    return ", ".join(_scalar(rng) for _ in range(rng.randint(0, 6)))


def _members(rng: random.Random) -> str:
    return ", ".join(f"{literal(key)}, {_scalar(rng)}" for key in rng.sample(_KEYS, rng.randint(1, 5)))


_Tree = dict[str, "_Tree"] | list["_Tree"] | str | int | float | bool | None


def _tree(rng: random.Random, depth: int) -> _Tree:
    if depth == 0 or rng.random() < 0.2:
        return rng.choice((None, True, False, 0, -1, 70000, 1 << 63, 0.25, 1e100, "", "text", '🙂\\"\n'))
    if rng.random() < 0.5:
        return [_tree(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    return {key: _tree(rng, depth - 1) for key in rng.sample(_KEYS, rng.randint(0, 5))}
