"""Column names on real servers whose binlog does not carry them."""

from __future__ import annotations

import asyncio

from ha_canal.errors import CanalError, SchemaMismatchError
from ha_canal.model.change import Rows
from ha_canal.model.position import Position
from ha_canal.testing.database import Database
from ha_canal.testing.eventually import eventually
from tests.mysql.sources import source_of
from tests.source.reading import Reading, binlog_ends, images, reading


def named_rows(got: Reading) -> list[dict[str, str]]:
    """Return all rows with the names of their columns."""
    return [
        dict(zip([column.name for column in item.plan.columns], image, strict=True))
        for item in got.items
        if isinstance(item, Rows)
        for image in images(item)
    ]


async def end_of(database: Database) -> Position:
    return (await binlog_ends(source_of(database.server)))[1]


async def read_past(database: Database, start: Position, rows: int) -> tuple[Reading, CanalError | None]:
    """Read from ``start`` until so many rows have come, or until an error that trying again cannot mend."""
    async with reading(source_of(database.server), start, rf"{database.name}\..*") as got:
        await eventually(lambda: got.errors or len(got.ids) >= rows, what="rows or an error")
    return got, got.errors[0] if got.errors else None


def test_names_come_from_the_database_and_follow_what_is_altered(nameless: Database) -> None:
    async def check() -> None:
        source = source_of(nameless.server)
        _, end = await binlog_ends(source)
        async with reading(source, end, rf"{nameless.name}\..*") as got:
            await nameless.execute("CREATE TABLE goods (id INT UNSIGNED PRIMARY KEY, name VARCHAR(9))")
            await nameless.execute("INSERT INTO goods VALUES (4294967295, 'ä')")
            await got.until_ids(1)
            await nameless.execute("ALTER TABLE goods RENAME COLUMN name TO title")
            await nameless.execute("INSERT INTO goods VALUES (2, 'b')")
            await got.until_ids(2)
            await nameless.execute("ALTER TABLE goods ADD price DECIMAL(5,2) AFTER id")
            await nameless.execute("INSERT INTO goods VALUES (3, 1.5, 'c')")
            await got.until_ids(3)
        assert got.errors == []
        assert named_rows(got) == [
            {"id": "4294967295", "name": "ä"},
            {"id": "2", "title": "b"},
            {"id": "3", "price": "1.50", "title": "c"},
        ]

    asyncio.run(check())


def test_an_alter_in_the_past_stops_with_a_place(nameless: Database) -> None:
    async def check() -> None:
        start = await end_of(nameless)
        await nameless.execute("CREATE TABLE goods (id INT PRIMARY KEY, a INT, b INT)")
        await nameless.execute("CREATE TABLE other (id INT PRIMARY KEY, goods INT)")
        await nameless.execute("INSERT INTO goods VALUES (1, 2, 3)")
        await nameless.execute("CREATE INDEX i ON goods (a)")
        await nameless.execute("ALTER TABLE goods CHANGE a x INT, CHANGE b a INT")
        behind = await end_of(nameless)
        await nameless.execute("INSERT INTO goods VALUES (4, 5, 6)")
        got, error = await read_past(nameless, start, 2)
        assert isinstance(error, SchemaMismatchError)
        assert f"{nameless.name}.goods" in str(error)
        assert error.file == behind.file
        assert start.offset < error.offset < behind.offset
        assert 4 not in got.ids

    asyncio.run(check())


def test_another_number_of_columns_stops_at_the_rows(nameless: Database) -> None:
    async def check() -> None:
        start = await end_of(nameless)
        await nameless.execute("CREATE TABLE goods (id INT PRIMARY KEY, a INT)")
        before = await end_of(nameless)
        await nameless.execute("INSERT INTO goods VALUES (1, 2)")
        await nameless.execute("ALTER TABLE goods ADD b INT")
        got, error = await read_past(nameless, start, 1)
        assert isinstance(error, SchemaMismatchError)
        assert f"{nameless.name}.goods" in str(error)
        assert (error.file, got.ids) == (before.file, [])
        assert before.offset <= error.offset < before.offset + 300

    asyncio.run(check())


def test_a_table_that_was_dropped_stops_at_its_rows(nameless: Database) -> None:
    async def check() -> None:
        start = await end_of(nameless)
        await nameless.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        await nameless.execute("INSERT INTO goods VALUES (1)")
        await nameless.execute("DROP TABLE goods")
        _, error = await read_past(nameless, start, 1)
        assert isinstance(error, SchemaMismatchError)
        assert "the source shows no such table" in str(error)
        assert error.offset > start.offset

    asyncio.run(check())


def test_tables_that_only_came_later_do_not_stop(nameless: Database) -> None:
    async def check() -> None:
        start = await end_of(nameless)
        await nameless.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        await nameless.execute("INSERT INTO goods VALUES (1)")
        await nameless.execute(
            f"CREATE TABLE {nameless.name}.orders (id INT PRIMARY KEY, g INT, FOREIGN KEY (g) REFERENCES goods (id))"
        )
        await nameless.execute("CREATE TABLE IF NOT EXISTS goods (id INT PRIMARY KEY)")
        await nameless.execute("INSERT INTO orders VALUES (2, 1)")
        await nameless.execute("CREATE VIEW v AS SELECT * FROM goods")
        await nameless.execute("INSERT INTO goods VALUES (3)")
        got, error = await read_past(nameless, start, 3)
        assert error is None
        assert got.ids == [1, 2, 3]

    asyncio.run(check())


def test_with_names_in_the_binlog_the_past_has_its_own(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        _, start = await binlog_ends(source)
        await database.execute("CREATE TABLE goods (id INT PRIMARY KEY, a INT, b INT)")
        await database.execute("INSERT INTO goods VALUES (1, 2, 3)")
        await database.execute("ALTER TABLE goods CHANGE a x INT, CHANGE b a INT")
        await database.execute("INSERT INTO goods VALUES (4, 5, 6)")
        async with reading(source, start, rf"{database.name}\..*") as got:
            await got.until_ids(2)
        assert named_rows(got) == [{"id": "1", "a": "2", "b": "3"}, {"id": "4", "x": "5", "a": "6"}]
        assert got.errors == []

    asyncio.run(check())


def test_names_that_differ_only_in_case(nameless: Database) -> None:
    async def check() -> None:
        start = await end_of(nameless)
        await nameless.execute("CREATE TABLE goods (id INT PRIMARY KEY)")
        await nameless.execute("CREATE TABLE Goods (Id INT PRIMARY KEY, more INT)")
        await nameless.execute("INSERT INTO goods VALUES (1)")
        await nameless.execute("INSERT INTO Goods VALUES (2, 3)")
        got, error = await read_past(nameless, start, 2)
        assert error is None
        assert named_rows(got) == [{"id": "1"}, {"Id": "2", "more": "3"}]

    asyncio.run(check())


def test_a_statement_with_bytes_of_no_character_set(database: Database) -> None:
    async def check() -> None:
        source = source_of(database.server)
        _, start = await binlog_ends(source)
        await asyncio.to_thread(_create_with_bytes, database)
        async with reading(source, start, rf"{database.name}\..*") as got:
            await eventually(lambda: got.statements, what="the statement is read")
        assert got.statements[0].encode("utf-8", "surrogateescape") == b"CREATE TABLE odd (id INT) /* \xff\xfe */"

    asyncio.run(check())


def _create_with_bytes(database: Database) -> None:
    connection = database.server.connect(database.name)
    try:
        connection.query(b"CREATE TABLE odd (id INT) /* \xff\xfe */")  # bytes as they are
    finally:
        connection.close()
