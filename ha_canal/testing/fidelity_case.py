"""What the fidelity run does to one table, as data: it can be run again, made smaller, and kept as a file.

A case holds the server's settings, a table and steps. Each step is one statement, in parts, so that columns and rows
can be taken out of it; a case written by hand gives whole statements instead (``verb`` "sql").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Verb = Literal["insert", "upsert", "update", "delete", "move", "sql"]
Judging = Literal["rows", "history", "sequence"]


def name_sql(name: str) -> str:
    """Return a name between backticks."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: ``columns`` are (name, DDL behind the name), and one of them is the row's number, ``id``.

    ``row_key`` is the column by which rows of events are told apart: ``id``, or the key that the server makes, which
    alone is in a before image of ``binlog_row_image`` MINIMAL. ``judging`` "history" is for tables with system
    versioning, whose events are replayed; "sequence" for MariaDB's sequences, which have no ``id``.
    """

    name: str
    columns: tuple[tuple[str, str], ...] = ()
    keys: tuple[str, ...] = ()
    options: str = ""
    row_key: str = "id"
    judging: Judging = "rows"
    create: str = ""
    """The whole statement, where it is not made of the parts."""

    @property
    def create_sql(self) -> str:
        parts = [f"{name_sql(name)} {ddl}" for name, ddl in self.columns] + list(self.keys)
        return self.create or f"CREATE TABLE {name_sql(self.name)} ({', '.join(parts)}) {self.options}"

    def without(self, names: frozenset[str]) -> Table:
        return replace(self, columns=tuple(column for column in self.columns if column[0] not in names))


@dataclass(frozen=True, slots=True)
class Step:
    """One statement about the rows ``ids``. ``values`` has a row for each id (INSERT), or one for all (UPDATE).

    "upsert" is INSERT … ON DUPLICATE KEY UPDATE, "move" adds ``distance`` to the ids themselves.
    """

    verb: Verb
    ids: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    image: str = "FULL"
    """binlog_row_image, which the session is set to."""
    session: tuple[str, ...] = ()
    """More assignments for SET SESSION."""
    sql: str = ""
    distance: int = 0

    def statement(self, table: str) -> str:
        target, where = name_sql(table), f"WHERE `id` IN ({', '.join(map(str, self.ids))})"
        match self.verb:
            case "insert" | "upsert":
                names = ", ".join(map(name_sql, ("id", *self.columns)))
                rows = (f"({', '.join((str(key), *row))})" for key, row in zip(self.ids, self.values, strict=True))
                again = ", ".join(f"{name_sql(name)} = VALUES({name_sql(name)})" for name in self.columns)
                tail = f" ON DUPLICATE KEY UPDATE {again}" if self.verb == "upsert" else ""
                return f"INSERT INTO {target} ({names}) VALUES {', '.join(rows)}{tail}"
            case "update":
                changes = (
                    f"{name_sql(name)} = {value}" for name, value in zip(self.columns, self.values[0], strict=True)
                )
                return f"UPDATE {target} SET {', '.join(changes)} {where}"
            case "delete":
                return f"DELETE FROM {target} {where}"
            case "move":
                return f"UPDATE {target} SET `id` = `id` + {self.distance} {where}"
            case "sql":
                return self.sql

    def without(self, names: frozenset[str]) -> Step:
        kept = [index for index, name in enumerate(self.columns) if name not in names]
        return replace(
            self,
            columns=tuple(self.columns[index] for index in kept),
            values=tuple(tuple(row[index] for index in kept) for row in self.values),
        )

    def only(self, ids: frozenset[int]) -> Step:
        """Return the step for these rows alone."""
        kept = [index for index, key in enumerate(self.ids) if key in ids]
        values = tuple(self.values[index] for index in kept) if len(self.values) == len(self.ids) else self.values
        return replace(self, ids=tuple(self.ids[index] for index in kept), values=values)

    @property
    def empty(self) -> bool:
        return self.verb != "sql" and (not self.ids or (self.verb in ("update", "upsert") and not self.columns))


@dataclass(frozen=True, slots=True)
class Case:
    """A table and what is done to it. ``servers`` are the dialects that can run it, () for all."""

    table: Table
    steps: tuple[Step, ...]
    servers: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    """Assignments for SET GLOBAL, while the case runs."""
    session: tuple[str, ...] = ()
    """Assignments for SET SESSION, before the table is created."""
    why: str = ""

    def to_json(self) -> str:
        shown = {name: value for name, value in asdict(self).items() if value}
        return json.dumps(shown, ensure_ascii=False, indent=1) + "\n"


@dataclass(slots=True)
class Difference:
    """One thing that was decoded otherwise than the server shows it."""

    case: Case
    what: str
    sql: str
    ids: tuple[int, ...] = ()
    column: str = ""
    column_type: str = ""
    expected: str = ""
    got: str = ""
    notes: list[str] = field(default_factory=list)

    def report(self) -> dict[str, object]:
        """What is printed and written of it; long values are cut."""
        return {
            "what": self.what,
            "column": self.column,
            "type": _cut(self.column_type),
            "expected": _cut(self.expected),
            "got": _cut(self.got),
            "sql": _cut(self.sql),
            "create": _cut(self.case.table.create_sql),
            "notes": self.notes,
        }


def _cut(text: str, most: int = 600) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def load_case(path: Path) -> Case:
    """Read a file that `Case.to_json` wrote, or a person."""
    return case_from(json.loads(path.read_text(encoding="utf-8")))


def case_from(raw: Mapping[str, Any]) -> Case:
    return Case(**{**_tuples(raw), "table": Table(**_tuples(raw["table"])), "steps": tuple(map(_step, raw["steps"]))})


def _step(raw: Mapping[str, Any]) -> Step:
    return Step(**_tuples(raw))


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _frozen(value) for name, value in raw.items()}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
