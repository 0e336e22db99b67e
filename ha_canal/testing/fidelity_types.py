"""Column types for the fidelity run, as random as the server allows, each with a maker of SQL values for it."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ha_canal.testing.fidelity_json import json_text, json_update, json_value
from ha_canal.testing.fidelity_text import Repertoire, quoted

Dialect = Literal["mysql", "mysql56", "mariadb"]
Make = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A column type as DDL writes it, what makes values of it, and where else it may stand."""

    ddl: str
    make: Make
    plain: bool = False
    """Whether every server takes it in a key, and a literal of it as DEFAULT."""
    change: Callable[[random.Random, str], str] | None = None
    """Makes a new value out of the old one, given the column's quoted name; None: only `make`."""


def random_kind(rng: random.Random, dialect: Dialect, texts: Repertoire) -> Kind:
    """Return a random column type of the server."""
    families = [*_FAMILIES, *_OWN[dialect]]
    return rng.choice(families)(rng, dialect, texts)


def small_kind(rng: random.Random) -> Kind:
    """Return a type of a few bytes, of which a table can have thousands."""
    return rng.choice((_integer, _year, _date, _bit))(rng)


def _integer(rng: random.Random, *_: object) -> Kind:
    name, bits = rng.choice((("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32), ("BIGINT", 64)))
    suffix = rng.choice(("", "", " UNSIGNED", " ZEROFILL", f"({rng.randint(1, 20)}) UNSIGNED ZEROFILL"))
    return Kind(name + suffix, _integers(bits, unsigned=bool(suffix)), plain=True)


def _integers(bits: int, *, unsigned: bool) -> Make:
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return lambda rng: str(rng.choice((low, high, low + 1, high - 1, 0, 1, rng.randint(low, high))))


def _decimal(rng: random.Random, dialect: Dialect, *_: object) -> Kind:
    precision = rng.choice((rng.randint(1, 65), rng.randint(1, 20), 65))
    scale = rng.randint(0, min(precision, 38 if dialect == "mariadb" else 30))
    suffix = rng.choice(("", "", "", " UNSIGNED", " ZEROFILL"))
    signs = ("",) if suffix else ("", "-")

    def make(rng: random.Random) -> str:
        whole = "".join(rng.choices(string.digits, k=rng.randint(0, precision - scale))) or "0"
        fraction = "".join(rng.choices("0123456789", k=rng.randint(0, scale))) or "0"
        if rng.random() < 0.1:
            whole, fraction = "9" * (precision - scale) or "0", "9" * scale or "0"
        return f"{rng.choice(signs)}{whole}.{fraction}"

    return Kind(f"DECIMAL({precision},{scale}){suffix}", make, plain=True)


_FLOATS: Final = ("0", "1", "-1.1", "3.4e38", "1e-38", "1e-45", "7e-45", "1.5e-40", "16777217", "-0e0", "0.1", "123456")
_DOUBLES: Final = ("0", "-0e0", "0.1", "1.7976931348623157e308", "5e-324", "-2.5e-9", "1e15", "1e16", "1e-4", "1e-5")


def _approximate(rng: random.Random, *_: object) -> Kind:
    ddl = rng.choice(("FLOAT", "FLOAT", "DOUBLE", "DOUBLE", "FLOAT(7,3)", "DOUBLE(12,4)", "FLOAT ZEROFILL", "REAL"))
    ddl = rng.choice((ddl, ddl, ddl.replace(" ZEROFILL", "") + " UNSIGNED"))
    known = _FLOATS if ddl.startswith("FLOAT") else _DOUBLES
    exponents = (-44, 38) if ddl.startswith("FLOAT") else (-320, 308)

    def make(rng: random.Random) -> str:
        value = rng.choice((rng.choice(known), repr(rng.uniform(-1e6, 1e6)), _scientific(rng, *exponents)))
        return value.lstrip("-") if "ZEROFILL" in ddl or "UNSIGNED" in ddl else value

    return Kind(ddl, make)


def _scientific(rng: random.Random, low: int, high: int) -> str:
    return f"{rng.choice(('', '-'))}{rng.random():.17f}e{rng.randint(low, high)}"


def _bit(rng: random.Random, *_: object) -> Kind:
    bits = rng.choice((1, 2, 7, 8, 9, rng.randint(1, 64), 63, 64))
    return Kind(f"BIT({bits})", lambda rng: f"b'{rng.choice((0, 1, (1 << bits) - 1, rng.getrandbits(bits))):b}'")


def _year(_: random.Random, *__: object) -> Kind:
    return Kind("YEAR", lambda rng: rng.choice(("0", "1901", "2155", "2024", str(rng.randint(1901, 2155)))), plain=True)


_DATES: Final = ("0000-00-00", "2015-00-21", "2015-02-00", "2015-00-00", "2015-02-31", "0001-01-01", "9999-12-31")


def _date_text(rng: random.Random) -> str:
    known = rng.choice((*_DATES, "0000-01-01", "0999-12-31"))
    return rng.choice((known, f"{rng.randint(1, 9999):04}-{rng.randint(0, 12):02}-{rng.randint(0, 31):02}"))


def _fraction(rng: random.Random, digits: int) -> str:
    return "." + "".join(rng.choices("00199", k=digits)) if digits else ""


def _date(_: random.Random, *__: object) -> Kind:
    return Kind("DATE", lambda rng: f"'{_date_text(rng)}'", plain=True)


def _clock(rng: random.Random, digits: int) -> str:
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}{_fraction(rng, digits)}"


def _datetime(rng: random.Random, *_: object) -> Kind:
    digits = rng.randint(0, 6)
    return Kind(f"DATETIME({digits})", lambda rng: f"'{_date_text(rng)} {_clock(rng, digits)}'", plain=True)


def _time(rng: random.Random, *_: object) -> Kind:
    digits = rng.randint(0, 6)

    def make(rng: random.Random) -> str:
        hours = rng.choice((0, 0, 1, 23, 24, 100, rng.randint(0, 838)))
        minutes, seconds = (0, 0) if rng.random() < 0.3 else (rng.randrange(60), rng.randrange(60))
        return f"'{rng.choice(('', '-'))}{hours}:{minutes:02}:{seconds:02}{_fraction(rng, digits)}'"

    return Kind(f"TIME({digits})", make, plain=True)


def _timestamp(rng: random.Random, *_: object) -> Kind:
    digits = rng.randint(0, 6)
    known = ("1970-01-01 00:00:01", "2038-01-19 03:14:07", "0000-00-00 00:00:00", "2000-02-29 23:59:59")

    def make(rng: random.Random) -> str:
        if rng.random() < 0.3:
            return f"'{rng.choice(known)}'"
        day = f"{rng.randint(1971, 2037)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        return f"'{day} {_clock(rng, digits)}'"

    automatic = f"TIMESTAMP({digits}) NULL DEFAULT CURRENT_TIMESTAMP({digits}) ON UPDATE CURRENT_TIMESTAMP({digits})"
    return Kind(automatic if rng.random() < 0.2 else f"TIMESTAMP({digits}) NULL", make)


def _characters(rng: random.Random, _dialect: Dialect, texts: Repertoire) -> Kind:
    most = rng.choice((0, 1, 3, 10, 63, 64, 85, 100, 255))
    charset = rng.choice(texts.charsets)
    name = "CHAR" if rng.random() < 0.5 else "VARCHAR"
    if name == "VARCHAR" and rng.random() < 0.2:
        most = rng.randint(256, 2000)
    ddl = f"{name}({most}){_collated(rng, charset, texts)}"
    return Kind(ddl, lambda rng: texts.text(charset, rng, most, raw="COLLATE" not in ddl))


def _collated(rng: random.Random, charset: str, texts: Repertoire) -> str:
    collate = f" COLLATE {texts.collation(charset, rng)}" if rng.random() < 0.3 else ""
    return f" CHARACTER SET {charset}{collate}"


def _text(rng: random.Random, _dialect: Dialect, texts: Repertoire) -> Kind:
    name, size = rng.choice((("TINYTEXT", 255), ("TEXT", 3000), ("MEDIUMTEXT", 9000), ("LONGTEXT", 9000)))
    charset = rng.choice(texts.charsets)
    most = rng.randint(1, size // texts.longest[charset])
    ddl = f"{name}{_collated(rng, charset, texts)}"
    return Kind(ddl, lambda rng: texts.text(charset, rng, most, raw="COLLATE" not in ddl))


def _hex(most: int) -> Make:
    def make(rng: random.Random) -> str:
        data = rng.randbytes(rng.choice((0, 1, rng.randint(0, most), most)))
        return f"x'{(data[: most - 1] + bytes(1) if rng.random() < 0.3 and most else data[:most]).hex()}'"

    return make


def _binary(rng: random.Random, *_: object) -> Kind:
    most = rng.choice((0, 1, 4, 16, rng.randint(0, 255), 255))
    name = rng.choice(("BINARY", "VARBINARY"))
    if name == "VARBINARY" and rng.random() < 0.2:
        most = rng.randint(256, 3000)
    return Kind(f"{name}({most})", _hex(most))


def _blob(rng: random.Random, *_: object) -> Kind:
    name, most = rng.choice((("TINYBLOB", 255), ("BLOB", 5000), ("MEDIUMBLOB", 9000), ("LONGBLOB", 9000)))
    small = _hex(rng.randint(1, most))
    if name[0] in "ML" and rng.random() < 0.3:
        return Kind(name, lambda rng: f"REPEAT('abc', {rng.choice((5, 21845, 21846, 90000))})")
    return Kind(name, small)


def _enum(rng: random.Random, _dialect: Dialect, texts: Repertoire) -> Kind:
    charset = rng.choice(texts.charsets)
    labels = texts.labels(charset, rng, rng.choice((1, 2, 5, 20, 255, 256, 300)))
    labels = ["it''s\\", "", *labels[2:]] if len(labels) > 5 and charset == "utf8mb4" else labels
    ddl = f"ENUM({','.join(map(quoted, labels))}) CHARACTER SET {charset}"
    return Kind(ddl, lambda rng: rng.choice((str(rng.randint(1, len(labels))), str(len(labels)), "1", "''")))


def _set(rng: random.Random, _dialect: Dialect, texts: Repertoire) -> Kind:
    charset = rng.choice(texts.charsets)
    count = rng.choice((1, 3, 8, 9, 16, 17, 24, 25, 32, 33, 63, 64))
    ddl = f"SET({','.join(map(quoted, texts.labels(charset, rng, count)))}) CHARACTER SET {charset}"
    return Kind(ddl, lambda rng: str(rng.choice((0, 1, 1 << count - 1, (1 << count) - 1, rng.getrandbits(count)))))


def _geometry(rng: random.Random, dialect: Dialect, *_: object) -> Kind:
    name = rng.choice(tuple(_SHAPES))
    call = "GeomFromText" if dialect == "mysql56" else "ST_GeomFromText"

    def make(rng: random.Random) -> str:
        srid = rng.choice(("", "", ", 4326", ", 0"))
        return f"{call}('{_SHAPES[name](rng)}'{srid})"

    return Kind(name, make)


def _point(rng: random.Random) -> str:
    return f"{rng.randint(-80, 80)} {rng.uniform(-80, 80)!r}"


def _points(rng: random.Random) -> str:
    return ",".join(_point(rng) for _ in range(rng.randint(2, 20)))


def _ring(rng: random.Random) -> str:
    side = rng.randint(1, 9)
    return f"((0 0,0 {side},{side} {side},{side} 0,0 0))"


_SHAPES: Final[dict[str, Make]] = {
    "POINT": lambda rng: f"POINT({_point(rng)})",
    "LINESTRING": lambda rng: f"LINESTRING({_points(rng)})",
    "POLYGON": lambda rng: f"POLYGON{_ring(rng)}",
    "MULTIPOINT": lambda rng: f"MULTIPOINT({_points(rng)})",
    "MULTILINESTRING": lambda rng: f"MULTILINESTRING(({_points(rng)}),({_points(rng)}))",
    "MULTIPOLYGON": lambda rng: f"MULTIPOLYGON({_ring(rng)},{_ring(rng)})",
    "GEOMETRYCOLLECTION": lambda rng: f"GEOMETRYCOLLECTION(POINT({_point(rng)}),LINESTRING({_points(rng)}))",
    "GEOMETRY": lambda rng: _SHAPES[rng.choice(("POINT", "POLYGON", "GEOMETRYCOLLECTION"))](rng),
}


def _json(_: random.Random, *__: object) -> Kind:
    return Kind("JSON", json_value, change=json_update)


def _json_text(_: random.Random, *__: object) -> Kind:
    return Kind("JSON", json_text)


def _vector(rng: random.Random, *_: object) -> Kind:
    size = rng.choice((1, 3, 3, 100, 2000))

    def make(rng: random.Random) -> str:
        count = rng.choice((1, size))
        values = ",".join(rng.choice((repr(rng.uniform(-9, 9)), "0", "-0", "1e-37", "3.4e38")) for _ in range(count))
        return f"STRING_TO_VECTOR('[{values}]')"

    return Kind(f"VECTOR({size})", make)


def _uuid(_: random.Random, *__: object) -> Kind:
    def make(rng: random.Random) -> str:
        return f"'{rng.choice((rng.randbytes(16).hex(), '00112233445511e8a677000000000000', '0' * 32))}'"

    return Kind("UUID", make)


def _inet6(_: random.Random, *__: object) -> Kind:
    def make(rng: random.Random) -> str:
        groups = [rng.choice(("0", "0", "1", "ffff", f"{rng.randrange(65536):x}")) for _ in range(8)]
        if rng.random() < 0.3:
            groups = ["0"] * 5 + [rng.choice(("0", "ffff")), *groups[6:]]
        return f"'{':'.join(groups)}'"

    return Kind("INET6", make)


def _inet4(_: random.Random, *__: object) -> Kind:
    return Kind("INET4", lambda rng: "'" + ".".join(str(rng.choice((0, 1, rng.randrange(256)))) for _ in "four") + "'")


def _compressed(rng: random.Random, _dialect: Dialect, texts: Repertoire) -> Kind:
    charset = rng.choice(texts.charsets)
    most = rng.choice((10, 100, 253, 254, 255, 256, 2000))
    name = rng.choice((f"VARCHAR({most})", "TINYTEXT", "TEXT", "LONGTEXT"))
    if rng.random() < 0.4:
        name = rng.choice((f"VARBINARY({most})", "TINYBLOB", "BLOB", "LONGBLOB"))
        return Kind(f"{name} COMPRESSED", _hex(min(most, 200) if name == "TINYBLOB" else most))
    most = min(most, 200 // texts.longest[charset]) if name == "TINYTEXT" else most

    def make(rng: random.Random) -> str:
        if rng.random() < 0.5:
            return texts.text(charset, rng, most)
        return f"REPEAT({texts.text(charset, rng, 1)}, {rng.randint(0, most)})"

    return Kind(f"{name} COMPRESSED CHARACTER SET {charset}", make)


_Family = Callable[[random.Random, Dialect, Repertoire], Kind]
_FAMILIES: Final[tuple[_Family, ...]] = (
    _integer, _integer, _decimal, _decimal, _approximate, _bit, _year, _date, _datetime, _time, _timestamp,
    _characters, _characters, _characters, _text, _text, _binary, _blob, _enum, _set, _geometry,
)  # fmt: skip
_OWN: Final[dict[Dialect, tuple[_Family, ...]]] = {
    "mysql": (_json, _json, _json, _vector),
    "mysql56": (),
    "mariadb": (_json_text, _uuid, _inet6, _inet4, _compressed, _compressed),
}
