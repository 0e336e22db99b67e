"""Random tables for the fidelity run, and random statements about them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ha_canal.testing.fidelity_case import Step, Table, name_sql
from ha_canal.testing.fidelity_text import Repertoire
from ha_canal.testing.fidelity_types import Dialect, Kind, random_kind, small_kind

_WORDS: Final = (
    "plain", "UPPER", "select", "ta`tick", "it's", 'quo"te', "dot.ted", "spa ce", "snow☃man", "ümlaut", "漢字", "%s",
    "semi;colon", "dash-ed", "back\\slash", "$dollar", "@at", "#hash", "a/*b*/", "(paren)", "tab\tbed", "❤️",
)  # fmt: skip
_ALIVE: Final = 40
"""About how many rows a table keeps."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A table, and of which columns statements may set which values."""

    table: Table
    kinds: dict[str, Kind]
    session: tuple[str, ...] = ()
    full_image: bool = False
    """Whether rows can only be told apart in full images."""


def random_name(rng: random.Random, number: int) -> str:
    """Return a name for a table or column that has not been given for another number."""
    return f"{rng.choice(_WORDS)}{number}" if rng.random() < 0.5 else f"c{number}"


def random_plan(rng: random.Random, dialect: Dialect, texts: Repertoire, number: int) -> Plan:
    """Return any table: usual ones mostly."""
    name = random_name(rng, number)
    if dialect == "mariadb" and rng.random() < 0.05:
        return _sequence(rng, name)
    count = rng.choice((0, 1, rng.randint(1, 20), rng.randint(1, 20), rng.randint(5, 30), rng.randint(20, 80)))
    kinds = [random_kind(rng, dialect, texts) for _ in range(count)]
    if rng.random() < 0.03:
        kinds = [small_kind(rng) for _ in range(rng.randint(240, 330))]
    return _table(rng, dialect, name, kinds, rng.choice(texts.charsets))


def wide_plan(rng: random.Random, count: int) -> Plan:
    """Return a table of ``count`` columns, which MyISAM takes up to about 4,000."""
    kinds = {f"{at:x}x": small_kind(rng) for at in range(1, count)}
    columns = (("id", "INT PRIMARY KEY"), *((name, kind.ddl) for name, kind in kinds.items()))
    return Plan(Table(f"wide{count}", columns, options="ENGINE=MyISAM"), kinds)


def _sequence(rng: random.Random, name: str) -> Plan:
    create = f"CREATE SEQUENCE {name_sql(name)} INCREMENT BY {rng.choice((1, 3, -2))} "
    return Plan(Table(name, create=create + rng.choice(("NOCACHE", "CACHE 3")), judging="sequence"), {})


def _table(rng: random.Random, dialect: Dialect, name: str, kinds: list[Kind], charset: str) -> Plan:
    named = {random_name(rng, number): kind for number, kind in enumerate(kinds)}
    columns = [("id", "INT NOT NULL")]
    columns += [(column, _with_attributes(rng, dialect, kind)) for column, kind in named.items()]
    columns += _generated(rng, dialect)
    rng.shuffle(columns)
    keyed = [column for column, kind in named.items() if kind.plain and " NULL" not in kind.ddl]
    keys = _keys(rng, keyed) + _hidden(rng, dialect, named)
    table = Table(name, tuple(columns), keys, f"DEFAULT CHARSET={charset}" if rng.random() < 0.3 else "")
    plan = Plan(table, named)
    if dialect == "mariadb" and rng.random() < 0.06:
        return _with_history(plan)
    if dialect == "mysql" and rng.random() < 0.15:
        return _with_key_of_the_server(plan)
    return plan


def _with_attributes(rng: random.Random, dialect: Dialect, kind: Kind) -> str:
    ddl = kind.ddl
    if " NULL" in ddl:
        return ddl
    if kind.plain and rng.random() < 0.3:
        ddl += f" NOT NULL DEFAULT {kind.make(rng)}"
    elif dialect == "mysql" and rng.random() < 0.2:
        ddl += f" DEFAULT ({kind.make(rng)})"
    if dialect != "mysql56" and rng.random() < 0.1:
        ddl += " INVISIBLE"
    return ddl


def _generated(rng: random.Random, dialect: Dialect) -> list[tuple[str, str]]:
    if dialect == "mysql56" or rng.random() < 0.7:
        return []
    stored = rng.choice(("VIRTUAL", "STORED"))
    made = (
        ("gen.number", f"BIGINT GENERATED ALWAYS AS (`id` * 3 - 7) {stored}"),
        ("gen`text", f"VARCHAR(60) CHARACTER SET utf8mb4 GENERATED ALWAYS AS (CONCAT('n', `id`, ' ')) {stored}"),
        ("gen_bytes", f"VARBINARY(20) GENERATED ALWAYS AS (REVERSE(CAST(`id` AS CHAR))) {stored}"),
    )
    return rng.sample(made, rng.randint(1, len(made)))


def _hidden(rng: random.Random, dialect: Dialect, named: dict[str, Kind]) -> tuple[str, ...]:
    """Indexes of expressions, for which MySQL keeps columns that it hides."""
    documents = [column for column, kind in named.items() if kind.ddl == "JSON"]
    if dialect != "mysql" or rng.random() < 0.7:
        return ()
    made = ["KEY `of.sum` ((`id` + 1))", "KEY of_text ((CAST(`id` AS CHAR(20))))"]
    if documents:
        made.append(f"KEY of_array ((CAST({name_sql(documents[0])}->'$.none' AS UNSIGNED ARRAY)))")
    return tuple(rng.sample(made, rng.randint(1, len(made))))


def _keys(rng: random.Random, plain: list[str]) -> tuple[str, ...]:
    other = f", {name_sql(rng.choice(plain))}" if plain else ""
    return rng.choice(
        (
            ("PRIMARY KEY (`id`)",),
            ("PRIMARY KEY (`id`)",),
            (f"PRIMARY KEY (`id`{other})",),
            (f"PRIMARY KEY ({other.lstrip(', ')}{', ' if other else ''}`id`)",),
            ("UNIQUE KEY (`id`)",),
            ("KEY (`id`)",),
        )
    )


def _with_history(plan: Plan) -> Plan:
    table = replace(plan.table, keys=("PRIMARY KEY (`id`)",), options="WITH SYSTEM VERSIONING", judging="history")
    if len(plan.kinds) % 2:
        return replace(plan, table=table, full_image=True)
    own = (
        ("row_from", "TIMESTAMP(6) GENERATED ALWAYS AS ROW START"),
        ("row_to", "TIMESTAMP(6) GENERATED ALWAYS AS ROW END"),
    )
    columns = (*table.columns, *own)
    period = ("PERIOD FOR SYSTEM_TIME (row_from, row_to)",)
    return replace(plan, table=replace(table, columns=columns, keys=table.keys + period), full_image=True)


def _with_key_of_the_server(plan: Plan) -> Plan:
    table = replace(plan.table, keys=("KEY (`id`)",), row_key="my_row_id")
    return replace(plan, table=table, session=("sql_generate_invisible_primary_key = ON",))


class Statements:
    """An endless mix of statements about one table; it knows which rows there are."""

    def __init__(self, plan: Plan, rng: random.Random) -> None:
        self.full_image = plan.full_image
        self._plan = plan
        self._rng = rng
        self._alive: list[int] = []
        self._next_id = 1
        self._most_rows = 2 if len(plan.kinds) > 200 else 12

    def next_step(self) -> Step:
        rng = self._rng
        if self._plan.table.judging == "sequence":
            return Step("sql", sql=f"SELECT NEXTVAL({name_sql(self._plan.table.name)})")
        if not self._alive or (len(self._alive) < _ALIVE and rng.random() < 0.5):
            return self._insert()
        picked = tuple(rng.sample(self._alive, min(len(self._alive), rng.randint(1, self._most_rows))))
        if rng.random() < 0.05 and not self.full_image:
            return self._move(picked)
        if rng.random() < 0.1 and self._plan.table.keys[:1] == ("PRIMARY KEY (`id`)",):
            return self._upsert(picked)
        if len(self._alive) > _ALIVE or rng.random() < 0.2 or not self._plan.kinds:
            self._alive = [key for key in self._alive if key not in picked]
            return Step("delete", picked)
        return self._update(picked)

    def _insert(self) -> Step:
        rng = self._rng
        ids = tuple(range(self._next_id, self._next_id + rng.randint(1, self._most_rows)))
        self._next_id = ids[-1] + 1
        self._alive += ids
        names = tuple(name for name in self._plan.kinds if rng.random() < 0.9)
        values = tuple(tuple(self._value(name) for name in names) for _ in ids)
        return Step("insert", ids, names, values)

    def _upsert(self, ids: tuple[int, ...]) -> Step:
        names = tuple(name for name in self._plan.kinds if self._rng.random() < 0.5)
        known = [key for key in ids if self._rng.random() < 0.8]
        new = range(self._next_id, self._next_id + len(ids) - len(known))
        self._next_id += len(new)
        self._alive += new
        keys = (*known, *new)
        values = tuple(tuple(self._value(name) for name in names) for _ in keys)
        return Step("upsert" if names else "delete", keys, names, values)

    def _move(self, ids: tuple[int, ...]) -> Step:
        self._next_id += 10_000
        distance = self._next_id
        self._alive = [key + distance if key in ids else key for key in self._alive]
        self._next_id += max(ids) + 1
        return Step("move", ids, distance=distance)

    def _update(self, ids: tuple[int, ...]) -> Step:
        rng = self._rng
        names = tuple(rng.sample(sorted(self._plan.kinds), rng.randint(1, min(4, len(self._plan.kinds)))))
        return Step("update", ids, names, (tuple(self._change(name) for name in names),))

    def _value(self, name: str) -> str:
        if self._rng.random() < 0.15:
            ddl = dict(self._plan.table.columns)[name]
            return "DEFAULT" if " NOT NULL" in ddl else "NULL"
        return self._plan.kinds[name].make(self._rng)

    def _change(self, name: str) -> str:
        change = self._plan.kinds[name].change
        if change is not None and self._rng.random() < 0.7:
            return change(self._rng, name_sql(name))
        return self._value(name)


def settings_of_transaction(rng: random.Random, dialect: Dialect, *, full_image: bool) -> tuple[str, tuple[str, ...]]:
    """Return binlog_row_image, and what else is SET SESSION, for one transaction.

    JSON documents that are logged in part can only be made whole again with the whole row before.
    """
    image = "FULL" if full_image else rng.choice(("FULL", "FULL", "MINIMAL", "NOBLOB"))
    if dialect != "mysql":
        return image, ()
    partial = "PARTIAL_JSON" if image == "FULL" and rng.random() < 0.6 else ""
    return image, (f"binlog_row_value_options = '{partial}'",)


def rounds_of_settings(rng: random.Random, dialect: Dialect) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield, for ever, what is SET GLOBAL and what SET SESSION for one round."""
    while True:
        mode = "ALLOW_INVALID_DATES" if rng.random() < 0.7 else rng.choice(("", "ANSI_QUOTES"))
        session = (f"sql_mode = '{mode}'",)
        match dialect:
            case "mysql56":
                yield (), session
            case "mysql":
                compressed = rng.choice(("ON", "OFF", "OFF"))
                yield (
                    (f"binlog_row_metadata = {rng.choice(('FULL', 'MINIMAL'))}",),
                    (
                        *session,
                        f"binlog_transaction_compression = {compressed}",
                        "sql_generate_invisible_primary_key = OFF",
                    ),
                )
            case "mariadb":
                yield (
                    (
                        f"binlog_row_metadata = {rng.choice(('FULL', 'MINIMAL', 'NO_LOG'))}",
                        f"log_bin_compress = {rng.choice(('ON', 'OFF', 'OFF'))}",
                        "log_bin_compress_min_len = 10",
                        f"mysql56_temporal_format = {rng.choice(('ON', 'ON', 'OFF'))}",
                    ),
                    session,
                )
