"""Random rows of every type, written by a real server: each decoded image is what the server itself selects."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator

import pytest

from ha_canal.binlog.columns import compile_plan
from ha_canal.binlog.rows import ABSENT
from ha_canal.errors import SchemaMismatchError
from ha_canal.testing.database import Database, DatabaseServer
from tests.binlog.oracle import Recorder, comparable, fresh_table

_SEED = random.SystemRandom().randrange(1 << 32)
_ROWS = 40

Make = Callable[[random.Random], str]


def _integer(bits: int, *, unsigned: bool = False) -> Make:
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return lambda rng: str(rng.choice((low, high, low + 1, high - 1, 0, rng.randint(low, high))))


def _decimal(precision: int, scale: int) -> Make:
    def make(rng: random.Random) -> str:
        whole = "".join(rng.choices(string.digits, k=rng.randint(0, precision - scale))) or "0"
        fraction = "".join(rng.choices(string.digits, k=rng.randint(0, scale))) or "0"
        return f"{rng.choice(('', '-'))}{whole}.{fraction}"

    return make


def _float(rng: random.Random) -> str:
    return rng.choice(("0", "1", "-1.1", "3.4e38", "1e-38", repr(rng.uniform(-1e6, 1e6)), f"{rng.random():.3g}e-20"))


def _double(rng: random.Random) -> str:
    return rng.choice(("0", "1", "0.1", "1.7976931348623157e308", "5e-324", "-2.5e-9", repr(rng.uniform(-1e30, 1e30))))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _text(alphabet: str, most: int) -> Make:
    return lambda rng: _quoted("".join(rng.choices(alphabet, k=rng.randint(0, rng.choice((3, most))))).rstrip())


def _bytes(most: int) -> Make:
    return lambda rng: f"x'{rng.randbytes(rng.randint(0, rng.choice((2, most)))).hex()}00'"


def _date(rng: random.Random) -> str:
    return rng.choice(
        ("'0000-00-00'", "'2015-00-21'", "'2015-02-00'", "'2015-02-31'", "'0001-01-01'", "'9999-12-31'", "'0000-01-01'")
    )


def _fraction(rng: random.Random, digits: int) -> str:
    return "." + "".join(rng.choices("0019", k=digits)) if digits else ""


def _time(digits: int) -> Make:
    def make(rng: random.Random) -> str:
        hours = rng.choice((0, 0, 1, 23, 24, 100, 838))
        return f"'{rng.choice(('', '-'))}{hours}:{rng.randrange(59):02}:{rng.randrange(59):02}{_fraction(rng, digits)}'"

    return make


def _datetime(digits: int) -> Make:
    def make(rng: random.Random) -> str:
        day = _date(rng).strip("'")
        return f"'{day} {rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}{_fraction(rng, digits)}'"

    return make


def _timestamp(digits: int) -> Make:
    def make(rng: random.Random) -> str:
        if rng.random() < 0.2:
            return "'0000-00-00 00:00:00'"
        return (
            f"'{rng.randint(1971, 2037)}-0{rng.randint(1, 9)}-28 {rng.randrange(24):02}:00:59{_fraction(rng, digits)}'"
        )

    return make


def _set(labels: tuple[str, ...]) -> Make:
    return lambda rng: _quoted(",".join(label for label in labels if rng.random() < 0.4))


_ANY = string.printable + "äéßÿ€Ωжאあ漢字🙂\u2028'\"\\%"
_LABELS = tuple(f"label {number}" for number in range(300))
_MANY = ",".join(map(_quoted, _LABELS))
_BITS = tuple(f"b{number}" for number in range(64))

_COMMON: list[tuple[str, Make]] = [
    *[
        (f"{name}{suffix}", _integer(bits, unsigned=bool(suffix)))
        for name, bits in (("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32), ("BIGINT", 64))
        for suffix in ("", " UNSIGNED")
    ],
    *[
        (f"DECIMAL({p},{s})", _decimal(p, s))
        for p, s in ((1, 0), (1, 1), (5, 2), (9, 9), (10, 0), (18, 9), (30, 30), (38, 19), (65, 0), (65, 30), (64, 7))
    ],
    ("FLOAT", _float),
    ("FLOAT UNSIGNED", lambda rng: str(abs(float(_float(rng))))),
    ("DOUBLE", _double),
    *[(f"BIT({n})", _integer(n, unsigned=True)) for n in (2, 7, 8, 9, 16, 33, 64)],
    ("BIT(1)", lambda rng: rng.choice("01")),
    ("YEAR", lambda rng: rng.choice(("0", "1901", "2155", "2024"))),
    ("DATE", _date),
    *[(f"TIME({n})", _time(n)) for n in range(7)],
    *[(f"DATETIME({n})", _datetime(n)) for n in range(7)],
    *[(f"TIMESTAMP({n}) NULL", _timestamp(n)) for n in range(7)],
    ("CHAR(10)", _text(_ANY, 10)),
    ("CHAR(255)", _text(_ANY, 255)),
    ("VARCHAR(63)", _text(_ANY, 63)),
    ("VARCHAR(64)", _text(_ANY, 64)),
    ("VARCHAR(300) CHARACTER SET latin1", _text("az'ÿé€\u0081\u009d", 300)),
    ("CHAR(20) CHARACTER SET ucs2", _text("az'ÿéΩ漢", 20)),
    ("VARCHAR(20) CHARACTER SET utf16", _text(_ANY, 20)),
    ("VARCHAR(20) CHARACTER SET utf16le", _text(_ANY, 20)),
    ("VARCHAR(20) CHARACTER SET utf32", _text(_ANY, 20)),
    ("VARCHAR(20) CHARACTER SET gbk", _text("az'漢字", 20)),
    ("TEXT CHARACTER SET sjis", _text("az'漢字", 2000)),
    ("TINYTEXT", _text(_ANY, 60)),
    ("MEDIUMTEXT", _text(_ANY, 3000)),
    ("LONGTEXT", _text(_ANY, 3000)),
    ("BINARY(1)", lambda rng: f"x'{rng.randbytes(1).hex()}'"),
    ("BINARY(16)", _bytes(15)),
    ("BINARY(255)", _bytes(254)),
    ("VARBINARY(300)", _bytes(299)),
    ("TINYBLOB", _bytes(200)),
    ("BLOB", _bytes(3000)),
    ("LONGBLOB", _bytes(3000)),
    ("ENUM('a','it''s','q\\\\w','','ü') ", lambda rng: rng.choice(("'a'", "'it''s'", "'q\\\\w'", "''", "'ü'"))),
    (f"ENUM({_MANY})", lambda rng: _quoted(rng.choice(_LABELS))),
    ("ENUM('漢','字') CHARACTER SET gbk", lambda rng: rng.choice(("'漢'", "'字'"))),
    ("SET('x','y','z')", _set(("x", "y", "z"))),
    ("SET('漢','字') CHARACTER SET gbk", _set(("漢", "字"))),
    (f"SET({','.join(map(_quoted, _BITS))})", _set(_BITS)),
    ("GEOMETRY", lambda rng: f"ST_GeomFromText('POINT({rng.randrange(99)} {rng.randrange(99)})')"),
    ("POINT", lambda rng: f"ST_GeomFromText('POINT({rng.randrange(99)} 1.5)', 4326)"),
    ("TEXT", _text(_ANY, 100)),
]


def _hex_groups(rng: random.Random) -> str:
    groups = [rng.choice(("0", "0", "1", "ffff", f"{rng.randrange(65536):x}")) for _ in range(8)]
    if rng.random() < 0.3:
        groups = ["0"] * 5 + [rng.choice(("0", "ffff")), *groups[6:]]
    return f"'{':'.join(groups)}'"


def _uuid(rng: random.Random) -> str:
    digits = rng.randbytes(16).hex() if rng.random() < 0.7 else "00112233445511e8a677000000000000"
    return f"'{digits}'"


_MARIADB: list[tuple[str, Make]] = [
    ("UUID", _uuid),
    ("INET6", _hex_groups),
    ("INET4", lambda rng: f"'{rng.randrange(256)}.0.{rng.randrange(256)}.0'"),
    ("VARCHAR(100) COMPRESSED", _text("aaab€", 100)),
    ("VARCHAR(2000) COMPRESSED", _text("aaab€", 2000)),
    ("TEXT COMPRESSED", _text("aaab€", 3000)),
    ("BLOB COMPRESSED", _bytes(3000)),
    ("LONGBLOB COMPRESSED", lambda rng: f"REPEAT('abc', {rng.randrange(30000)})"),
]


def _json(rng: random.Random) -> str:
    scalars = (
        "CAST(NULL AS CHAR)", "TRUE", "FALSE", "1", "-32769", "65536", "4294967296", "-9223372036854775808",
        "18446744073709551615", "0.1e0", "1e15", "1e14", "1e-15", "1e-16", "1.5e300", "-0e0", "100e0", "123456.789e0",
        "12345678901234567890.123456789", "0.00", "'text \"quoted\" \\\\ \n\t漢🙂\x01\x1f\x7f'",
        "CAST('2015-01-15' AS DATE)", "CAST('2015-01-15 23:24:25.12' AS DATETIME(6))", "CAST('-23:24:25.5' AS TIME(3))",
        "TIMESTAMP'2015-01-15 23:24:25'", "x'00ff10'", "REPEAT('x', 200)", "CAST('100:00:00' AS TIME)",
        f"{rng.uniform(-1, 1)}e{rng.randint(-30, 30)}",
        "b'101'", "ST_GeomFromText('POINT(1 2)')", "JSON_ARRAY()", "JSON_OBJECT()",
    )  # fmt: skip
    picked = rng.choices(scalars, k=rng.randint(0, 6))
    match rng.randrange(5):
        case 0:
            return f"JSON_EXTRACT(JSON_ARRAY({rng.choice(scalars)}), '$[0]')"
        case 1:
            return f"JSON_ARRAY({','.join(picked)})"
        case 2:
            return f"JSON_OBJECT('big', REPEAT('y', 70000), 'k', JSON_ARRAY({','.join(picked)}), 'n', 7)"
        case _:
            members = ",".join(f"'{rng.choice(_KEYS)}{n}', {value}" for n, value in enumerate(picked))
            return f"JSON_ARRAY(JSON_OBJECT({members}), JSON_OBJECT('inner', JSON_OBJECT({members})))"


_KEYS = ("a", "bb", "ä", "key with space", "漢", "", "zz")

_MYSQL: list[tuple[str, Make]] = [
    ("JSON", _json),
    ("JSON", _json),
    ("VECTOR(3)", lambda rng: f"TO_VECTOR('[{rng.random()}, -1, {rng.randrange(9)}e20]')"),
    ("VARCHAR(20) CHARACTER SET gb18030", _text("az'漢字🙂é", 20)),
]


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {_SEED}")
    return random.Random(_SEED)


def test_every_image_is_what_the_server_selects(database: Database, rng: random.Random) -> None:
    kinds = _COMMON + (_MARIADB if database.server.flavor == "mariadb" else _MYSQL)
    rng.shuffle(kinds)
    fresh_table(database, ", ".join(f"c{index} {ddl}" for index, (ddl, _) in enumerate(kinds)))
    with Recorder(database) as recorder:
        recorder.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
        for key in range(_ROWS):
            values = [make(rng) if rng.random() < 0.8 else "NULL" for _, make in kinds]
            recorder.run(f"INSERT INTO t VALUES ({key}, {', '.join(values).replace('%', '%%')})", key)
            index = rng.randrange(len(kinds))
            new = kinds[index][1](rng).replace("%", "%%")
            recorder.run(f"UPDATE t SET c{index} = {new} WHERE id = {key}", key)
            if key % 3 == 0:
                recorder.run(f"DELETE FROM t WHERE id = {key}", key)
        _check(recorder)


def _check(recorder: Recorder) -> None:
    assert len(recorder.pairs) > _ROWS
    wanted = [(pair.before, pair.after) for pair in recorder.pairs]
    full = recorder.images()
    for (before, after), (old, new) in zip(full, wanted, strict=True):
        for image, row in ((before, old), (after, new)):
            for index, (got, expected) in enumerate(zip(comparable(image, recorder.data_types), row, strict=True)):
                assert got == expected, recorder.version.columns[index]
    events_alone = recorder.images(with_version=False)
    told = [index for index, data_type in enumerate(recorder.data_types) if data_type not in ("uuid", "inet4", "inet6")]
    for image, known in zip((i for p in events_alone for i in p if i), (i for p in full for i in p if i), strict=True):
        assert [image[index] for index in told] == [known[index] for index in told]
    nothing = dict.fromkeys(("names", "collations", "unsigned", "labels", "primary_key", "visible"))
    assert recorder.images(nothing) == full


@pytest.mark.parametrize("row_image", ["MINIMAL", "NOBLOB"])
def test_images_without_all_columns(database: Database, row_image: str) -> None:
    fresh_table(database, "a INT, b TEXT, c VARCHAR(9), d BLOB")
    with Recorder(database) as recorder:
        recorder.execute(f"SET SESSION binlog_row_image = {row_image}")
        recorder.run("INSERT INTO t (id, a, b) VALUES (1, 2, 'three')", 1)
        recorder.run("UPDATE t SET c = 'four' WHERE id = 1", 1)
        recorder.run("UPDATE t SET b = NULL WHERE id = 1", 1)
        recorder.run("DELETE FROM t WHERE id = 1", 1)
        images = recorder.images()
    assert len(images) == len(recorder.pairs) == 4
    for pair, wanted in zip(images, recorder.pairs, strict=True):
        for image, row in zip(pair, (wanted.before, wanted.after), strict=True):
            found = comparable(image, recorder.data_types)
            assert all(got is ABSENT or got == value for got, value in zip(found, row, strict=True))
    before, after = images[1]
    assert before[0] == "1"
    assert before[2] is ABSENT
    assert after[3] == "four"
    assert after[2] is ABSENT


def test_partial_json_gives_the_new_document(mysql_database: Database) -> None:
    fresh_table(mysql_database, "j JSON, k JSON, n INT, l JSON")
    changes = (
        "j = JSON_SET(j, '$.a[0]', 7, '$.c', 8.25)",
        "j = JSON_REPLACE(j, '$.b', REPEAT('z', 40)), l = JSON_REMOVE(l, '$[1]')",
        "j = JSON_SET(j, '$.\"key with \\\\\" quote\"', JSON_OBJECT('x', 1)), n = 2",
        'j = JSON_SET(j, \'$."key with \\\\" quote".y\', CAST(1.50 AS DECIMAL(5,2)))',
        "k = JSON_ARRAY_INSERT(k, '$[1]', 'in', '$[0]', NULL), l = JSON_SET(l, '$[1]', 9)",
        "j = JSON_REMOVE(j, '$.b', '$.a[1]'), k = JSON_SET(k, '$[0]', TRUE)",
        "l = NULL, n = NULL",
        "l = '[1]', k = JSON_REMOVE(k, '$[0]')",
    )
    with Recorder(mysql_database) as recorder:
        recorder.execute("SET SESSION binlog_row_value_options = PARTIAL_JSON")
        document = '{"a": [1, 2], "b": "' + "x" * 60 + '"}'
        recorder.run(f"INSERT INTO t VALUES (1, '{document}', '[1, {{}}, 3, 4, 5, 6, 7]', 1, '[1, 2, 3, 4, 5]')", 1)
        for change in changes:
            assert recorder.run(f"UPDATE t SET {change} WHERE id = 1", 1), change
        events = list(recorder.events(lambda table_map: compile_plan(table_map, recorder.version)))
        images = recorder.images()
    assert sum(rows.partial_json for rows in events) >= 5
    for (before, after), wanted in zip(images, recorder.pairs, strict=True):
        assert comparable(before, recorder.data_types) == wanted.before
        assert comparable(after, recorder.data_types) == wanted.after


def test_temporal_formats_of_old_mariadb(mariadb_database: Database) -> None:
    kinds = [f"{name}({digits}) NULL" for name in ("TIME", "DATETIME", "TIMESTAMP") for digits in range(7)]
    makers = [make(digits) for make in (_time, _datetime, _timestamp) for digits in range(7)]
    rng = random.Random(_SEED)
    print(f"seed {_SEED}")
    mariadb_database.run_sql("SET GLOBAL mysql56_temporal_format = OFF")
    try:
        fresh_table(mariadb_database, ", ".join(f"c{index} {kind}" for index, kind in enumerate(kinds)))
        with Recorder(mariadb_database) as recorder:
            recorder.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
            for key in range(_ROWS):
                recorder.run(f"INSERT INTO t VALUES ({key}, {', '.join(make(rng) for make in makers)})", key)
            images = recorder.images()
            with pytest.raises(SchemaMismatchError, match="old temporal format"):
                recorder.images(with_version=False)
    finally:
        mariadb_database.run_sql("SET GLOBAL mysql56_temporal_format = ON")
    for (_, after), wanted in zip(images, recorder.pairs, strict=True):
        assert comparable(after, recorder.data_types) == wanted.after


@pytest.fixture
def mysql_database(mysql: DatabaseServer) -> Iterator[Database]:
    name = mysql.create_database()
    yield Database(mysql, name)
    mysql.drop_database(name)


@pytest.fixture
def mariadb_database(mariadb: DatabaseServer) -> Iterator[Database]:
    name = mariadb.create_database()
    yield Database(mariadb, name)
    mariadb.drop_database(name)
