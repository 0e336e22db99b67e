"""One round of the fidelity run on one server: tables are written, the binlog is read as an instance reads it, judged.

Every round has a schema of its own, which goes with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pymysql
from pydantic import SecretStr

from ha_canal.config import SourceSection
from ha_canal.errors import CanalError
from ha_canal.model.change import Item
from ha_canal.model.position import Position
from ha_canal.model.run import Parcel, unpacked
from ha_canal.mysql.connection import end_of_binlog, inspect, session
from ha_canal.source.reader import Identity, Reader
from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.fidelity_case import Case, Difference, name_sql
from ha_canal.testing.fidelity_expect import Recorder
from ha_canal.testing.fidelity_judge import judge

_IDENTITY: Final = Identity(0x40F1DE17, uuid.UUID("f1de1170-0000-4000-8000-000000000000"))
_READ_LIMIT_S: Final = 120.0


@dataclass(slots=True)
class Result:
    """What a round did and found."""

    rows: int = 0
    images: int = 0
    values: int = 0
    entries: int = 0
    statements: int = 0
    refused: int = 0
    tables: int = 0
    partial: int = 0
    widest: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, other: Result) -> None:
        for name in ("rows", "images", "values", "entries", "statements", "refused", "tables", "partial"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.widest = max(self.widest, other.widest)
        self.differences += other.differences


class Round:
    """A schema for tables, between two places of the binlog."""

    def __init__(self, server: DatabaseServer, schema: str, settings: tuple[str, ...] = ()) -> None:
        self._server = server
        self._schema = schema
        self._settings = settings
        self._connection = server.connect()
        self._session: tuple[str, ...] = ()
        self._former: list[tuple[str, object]] = []
        self.recorders: list[Recorder] = []

    def open(self) -> None:
        for setting in self._settings:
            name = setting.partition(" =")[0]
            self._former.append((name, self._value(f"SELECT @@GLOBAL.{name}")))
            self._execute(f"SET GLOBAL {setting}")
        self._execute(f"CREATE DATABASE {name_sql(self._schema)} CHARACTER SET utf8mb4")

    def close(self) -> None:
        """Drop the schema, and set what was changed for it back to what it was."""
        with closing(self._connection):
            for name, value in self._former:
                self._execute(f"SET GLOBAL {name} = %s", value)
            self._execute(f"DROP DATABASE IF EXISTS {name_sql(self._schema)}")

    def create(self, case: Case) -> Recorder:
        """Make the case's table. Raises what the server answers to a definition that it refuses."""
        self._connection.select_db(self._schema)
        recorder = Recorder(self._connection, self._schema, replace(case, settings=self._settings))
        self.recorders.append(recorder)
        return recorder

    def set_session(self, settings: tuple[str, ...]) -> None:
        """Change the session's settings; between transactions only."""
        if settings != self._session:
            self._execute(f"SET SESSION {', '.join(settings)}")
            self._session = settings

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Statements in the block are committed together."""
        self._execute("BEGIN")
        yield
        self._execute("COMMIT")

    def judge(self, items: Sequence[Item], rng: random.Random, share_of_entries: float) -> Result:
        result = Result()
        for recorder in self.recorders:
            steps = tuple(expected.step for expected in recorder.expected)
            recorder.case = replace(recorder.case, steps=steps)
            result.rows += sum(len(expected.pairs) + bool(expected.snapshot) for expected in recorder.expected)
            result.refused += recorder.refused
            result.widest = max(result.widest, len(recorder.columns))
            result.statements += len(steps)
        for table in judge(self.recorders, items, rng, share_of_entries):
            result.tables += 1
            result.images += table.images
            result.values += table.values
            result.entries += table.entries
            result.partial += table.partial
            result.differences += table.differences
        return result

    def _value(self, sql: str) -> object:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
            return row and row[0]

    def _execute(self, sql: str, *args: object) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, args or None)


def run_case(server: DatabaseServer, case: Case, rng: random.Random) -> Result:
    """Run one case by itself. Raises pymysql's error if the server refuses its table."""
    part = Round(server, f"case_{rng.getrandbits(48):x}", case.settings)
    start = end_of(server)
    try:
        part.open()
        recorder = part.create(case)
        for step in case.steps:
            part.set_session((f"binlog_row_image = {step.image}", *step.session))
            recorder.run(step)
        return read_and_judge(server, start, part, rng, share_of_entries=1.0)
    finally:
        part.close()


def read_and_judge(
    server: DatabaseServer, start: Position, part: Round, rng: random.Random, *, share_of_entries: float
) -> Result:
    """Read the binlog from ``start`` to its end; what stops the reading is a difference too."""
    items, error = asyncio.run(read_items(server, start))
    result = part.judge(items, rng, share_of_entries)
    if error is not None:
        missing = [difference for difference in result.differences if difference.what == "not in the binlog"]
        for difference in missing:
            difference.what, difference.got = "the reading stopped", str(error)
        if not missing:
            result.differences.append(Difference(part.recorders[0].case, "the reading stopped", "", got=str(error)))
    return result


def end_of(server: DatabaseServer) -> Position:
    """Return where the server's binlog ends."""

    async def ask() -> Position:
        async with session(source_of(server)) as db:
            return await end_of_binlog(db, await inspect(db, source_of(server)))

    return asyncio.run(ask())


def source_of(server: DatabaseServer) -> SourceSection:
    """Return the server as a node's configuration names it."""
    return SourceSection(host=server.host, port=server.port, user=server.user, password=SecretStr(server.password))


class _Everything:
    """Wants all tables, and drops no item."""

    def wants(self, schema: str, table: str) -> bool:
        return True

    def pass_items(self, items: Sequence[Parcel]) -> list[Parcel]:
        return list(items)


async def read_items(server: DatabaseServer, start: Position) -> tuple[list[Item], CanalError | None]:
    """Return all items from ``start`` to the end of the binlog, and the error that stopped the reading before it."""
    source = source_of(server)
    async with session(source) as db:
        end = await end_of_binlog(db, await inspect(db, source))
    items: list[Item] = []
    done = asyncio.Event()

    async def put(more: Sequence[Parcel]) -> None:
        items.extend(unpacked(more))
        if reader.progress.position.order >= end.order:
            done.set()

    reader = Reader(source, _IDENTITY, _Everything(), _Everything(), put, start)
    reading = asyncio.create_task(reader.read_until_it_breaks(), name="fidelity reading")
    ending = asyncio.create_task(done.wait(), name="fidelity end")
    await asyncio.wait((reading, ending), timeout=_READ_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    error: CanalError | None = None
    for task in (ending, reading):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await task
            except CanalError as caught:
                error = caught
    if error is None and not done.is_set():
        error = CanalError(f"the reading came to {reader.progress.position} in {_READ_LIMIT_S:.0f} s, and not to {end}")
    return items, None if done.is_set() else error


def is_refusal(error: pymysql.MySQLError) -> bool:
    """Whether the server refused a statement; else the connection broke, or the statement is wrong."""
    code: Any = error.args[0] if error.args else 0
    return isinstance(code, int) and code not in (1064, 2006, 2013)
