"""Plans for tables of binlog files: by what their events say, or by what a server says today.

A table gets its plan when a row of it is to be printed, not before: what is not printed needs no names. Names of today
are right only for rows with no DDL between them and now. What lies in the files that are read is looked through for
that; what came after them no one can see here, but the number and types of columns must agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from ha_canal.binlog.columns import TableVersion, compile_plan
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.row_count import counting_plan
from ha_canal.binlog.table_map import TableMap
from ha_canal.config import SourceSection
from ha_canal.errors import SchemaMismatchError
from ha_canal.model.change import Rows
from ha_canal.model.position import Position
from ha_canal.model.table import RowPlan
from ha_canal.mysql.connection import Session, session
from ha_canal.schema.catalog import Catalog
from ha_canal.schema.ddl import Ddl

_MOST_MET = 20_000
"""Layouts that are remembered: more than there are items that the stream ever holds back."""
_MOST_COMPILED = 2_000


class NamesOfToday:
    """A server's information_schema. The first question logs in; ``with`` logs out."""

    def __init__(self, source: SourceSection) -> None:
        self._source = source
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self._catalog = Catalog()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()

    def find(self, schema: str, table: str) -> TableVersion | None:
        """Return the table as it is now, None if there is none. Raises what logging in and asking raise."""
        return self._runner.run(self._find(schema, table))

    async def _find(self, schema: str, table: str) -> TableVersion | None:
        if self._session is None:
            self._session = await self._stack.enter_async_context(session(self._source))
        known = await self._catalog.find(schema, table, query=self._session.query, end_of_binlog=_now)
        return known.version if known else None


async def _now() -> Position:
    return Position("", 0)  # the catalog wants a place for its answers; here none is ever compared


@dataclass(frozen=True, slots=True)
class _Met:
    placeholder: RowPlan
    table_map: TableMap


class PlansOfFiles:
    """Answers the stream with placeholders, and gives rows that are printed their real plan.

    ``ddl_behind`` returns the DDL of the files from a place on; it is asked once, when names of today are first used.
    """

    def __init__(self, names: NamesOfToday | None, ddl_behind: Callable[[Position], list[Ddl]]) -> None:
        self._names = names
        self._ddl_behind = ddl_behind
        self._ddl: list[Ddl] | None = None
        self._met: dict[int, _Met] = {}
        self._compiled: dict[int, RowPlan] = {}

    def placeholder(self, needed: PlanNeeded) -> RowPlan:
        plan = counting_plan(needed.table_map)
        if len(self._met) >= _MOST_MET:
            oldest = next(iter(self._met))
            del self._met[oldest]
            self._compiled.pop(oldest, None)
        self._met[id(plan)] = _Met(plan, needed.table_map)
        return plan

    def with_names(self, rows: Rows) -> Rows:
        """Return ``rows`` with a plan that can be printed. Raises SchemaMismatchError, placed at the rows."""
        key = id(rows.plan)
        plan = self._compiled.get(key)
        if plan is None:
            here = Position(rows.transaction.file, rows.offset)
            if len(self._compiled) >= _MOST_COMPILED:
                self._compiled.clear()
            try:
                plan = self._compiled[key] = self._compile(self._met[key].table_map, here)
            except SchemaMismatchError as error:
                raise error.at(here.file, here.offset) from None
        return replace(rows, plan=plan)

    def _compile(self, table_map: TableMap, here: Position) -> RowPlan:
        schema, table = table_map.schema, table_map.table
        version = self._names.find(schema, table) if self._names else None
        if version is None and not table_map.has_names:
            why = "the server of --schema shows no such table" if self._names else "no --schema was given"
            raise SchemaMismatchError(
                f"the rows of {schema}.{table} carry no column names (binlog_row_metadata is not FULL), and {why}. "
                "Give --schema mysql://USER@HOST:PORT of a server that has the table as it was, leave the table out "
                "with --table, or use --summary, which needs no names"
            )
        if not table_map.has_names:
            self._check_unchanged(schema, table, here)
        return compile_plan(table_map, version)

    def _check_unchanged(self, schema: str, table: str, here: Position) -> None:
        if self._ddl is None:
            self._ddl = self._ddl_behind(here)
        for ddl in self._ddl:
            if here.order <= ddl.start.order and ddl.may_change(schema, table):
                raise SchemaMismatchError(
                    f"the rows of {schema}.{table} carry no column names, and the table was changed after them "
                    f"({ddl}), so that the names of today may be wrong for them. Give --schema of a server that still "
                    f"has the table as it was, read on with --start-offset behind {ddl.end.offset} of {ddl.end.file}, "
                    "or leave the table out with --table"
                )
