"""When names of today are known to be right, and how long they are believed."""

from __future__ import annotations

import asyncio

import pytest

from ha_canal.errors import SchemaMismatchError
from ha_canal.model.position import Position
from ha_canal.schema.catalog import Catalog, Known, check_unchanged
from ha_canal.schema.ddl import Ddl
from tests.schema.test_ddl import statement


class Source:
    """A database with tables of one column ``id``, and a binlog that grows by 100 with each question."""

    def __init__(self, *tables: tuple[str, str]) -> None:
        self.tables = tables
        self.asked: list[tuple[str, str]] = []

    async def query(self, sql: str, arguments: tuple[str, str]) -> list[tuple[object, ...]]:
        assert "information_schema.COLUMNS" in sql
        self.asked.append(arguments)
        return [("id", b"int(11)", "", 1)] if arguments in self.tables else []

    async def end_of_binlog(self) -> Position:
        return Position("mysql-bin.000003", 100 * len(self.asked))

    def find(self, catalog: Catalog, schema: str, table: str) -> Known | None:
        return asyncio.run(catalog.find(schema, table, query=self.query, end_of_binlog=self.end_of_binlog))


def test_a_table_is_asked_for_once_until_ddl_names_it() -> None:
    source, catalog = Source(("shop", "goods"), ("shop", "more")), Catalog()
    goods = source.find(catalog, "shop", "goods")
    assert goods is not None
    assert [(column.name, column.column_type) for column in goods.version.columns] == [("id", "int(11)")]
    assert goods.asked_at.offset == 100
    source.find(catalog, "shop", "more")
    catalog.saw(statement("ALTER TABLE more ADD c INT"))
    assert source.find(catalog, "shop", "goods") is goods
    again = source.find(catalog, "shop", "more")
    assert again is not None
    assert again.asked_at.offset == 300
    catalog.saw(statement("DROP DATABASE shop"))
    assert source.find(catalog, "shop", "goods") != goods


def test_a_table_that_is_not_there_is_asked_for_again() -> None:
    source, catalog = Source(), Catalog()
    assert source.find(catalog, "shop", "goods") is None
    source.tables = (("shop", "goods"),)
    assert source.find(catalog, "shop", "goods") is not None


def _check(*places: tuple[str, int], here: int = 400, asked_at: int = 600) -> None:
    """Check a table that is read at ``here`` against ALTERs of 100 bytes at these places."""
    ahead = [Ddl.of(statement(sql, offset=offset)) for sql, offset in places]
    file = "mysql-bin.000003"
    check_unchanged("shop", "goods", here=Position(file, here), asked_at=Position(file, asked_at), ahead=ahead)


def test_only_ddl_of_the_table_between_reading_and_asking_matters() -> None:
    goods, more = "ALTER TABLE goods ADD c INT", "ALTER TABLE more ADD c INT"
    _check()
    _check((goods, 399), (more, 450), (goods, 501), (goods, 600))
    for place in (400, 450, 500):
        with pytest.raises(SchemaMismatchError, match=rf"ALTER of shop.goods at mysql-bin.000003:{place}") as caught:
            _check((more, 400), (goods, place))
        assert (caught.value.file, caught.value.offset) == ("mysql-bin.000003", 400)
