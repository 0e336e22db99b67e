"""The fidelity run: random tables and statements on real servers, every decoded image against the server's SELECT.

``python -m ha_canal.testing.fidelity --rows 100000`` spreads the rows over MySQL 9.7, MySQL 5.6 and MariaDB. The seed
is printed; the same seed and the same options make the same statements. A difference is made smaller, printed, and
kept as a case (`ha_canal.testing.fidelity_case`) if a folder for cases is given. Exit status: 0 without difference, 1
with any, 2 if a server cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pymysql

from ha_canal.testing.database import DatabaseServer
from ha_canal.testing.fidelity_case import Case, Difference, Table
from ha_canal.testing.fidelity_expect import Recorder
from ha_canal.testing.fidelity_round import Result, Round, end_of, is_refusal, read_and_judge
from ha_canal.testing.fidelity_smaller import smaller
from ha_canal.testing.fidelity_tables import (
    Plan,
    Statements,
    random_name,
    random_plan,
    rounds_of_settings,
    settings_of_transaction,
    wide_plan,
)
from ha_canal.testing.fidelity_text import Repertoire
from ha_canal.testing.fidelity_types import Dialect
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.mysql56 import UnavailableError, mysql56_server

_ROWS_PER_ROUND: Final = 1500
_TABLES_PER_ROUND: Final = 8
_MOST_STEPS_TOGETHER: Final = 6
_WIDTHS: Final = (4000, 3500, 3000, 2700, 2400, 2100, 1800)
_SERVERS: Final[dict[Dialect, Callable[..., AbstractAsyncContextManager[DatabaseServer]]]] = {
    "mysql": mysql_server,
    "mysql56": mysql56_server,
    "mariadb": mariadb_server,
}


class Run:
    """Rounds on one server until enough rows were changed."""

    def __init__(self, server: DatabaseServer, dialect: Dialect, seed: str, *, entries: float, widest: bool) -> None:
        self._server = server
        self._dialect: Dialect = dialect
        self._rng = random.Random(seed)
        self._entries = entries
        self._widest = widest
        self._settings = rounds_of_settings(self._rng, dialect)
        self._tables = 0
        with server.connect() as connection:
            self._texts = Repertoire(connection, self._rng)
            self._texts.learn()
        self.result = Result()

    def go(self, rows: int) -> Result:
        while self.result.rows < rows and not self.result.differences:
            self.result.add(self._round(min(_ROWS_PER_ROUND, rows - self.result.rows)))
        return self.result

    def _round(self, rows: int) -> Result:
        settings, session = next(self._settings)
        self._texts.any_label = "binlog_row_metadata = FULL" in settings
        part = Round(self._server, random_name(self._rng, self._rng.getrandbits(40)), settings)
        start = end_of(self._server)
        try:
            part.open()
            writers = [self._writer(part, session) for _ in range(_TABLES_PER_ROUND)]
            if self._widest:
                self._widest = False
                writers.append(self._widest_writer(part, session))
            self._write(part, writers, rows)
            return read_and_judge(self._server, start, part, self._rng, share_of_entries=self._entries)
        finally:
            part.close()

    def _writer(self, part: Round, session: tuple[str, ...]) -> tuple[Recorder, Statements]:
        """Make a table; where the server refuses it, simpler and simpler ones, then another one."""
        while True:
            self._tables += 1
            plan = random_plan(self._rng, self._dialect, self._texts, self._tables)
            while plan.table.columns or plan.table.create:
                try:
                    return self._made(part, plan, session)
                except pymysql.MySQLError as error:
                    if not is_refusal(error):
                        raise
                    plan = _half(plan, self._rng)

    def _widest_writer(self, part: Round, session: tuple[str, ...]) -> tuple[Recorder, Statements]:
        """Make a table of as many columns as the server takes, up to 4,000."""
        for count in _WIDTHS:
            try:
                return self._made(part, wide_plan(self._rng, count), session)
            except pymysql.MySQLError as error:
                if not is_refusal(error):
                    raise
        raise AssertionError(f"{self._dialect} takes no table of {_WIDTHS[-1]} columns")

    def _made(self, part: Round, plan: Plan, session: tuple[str, ...]) -> tuple[Recorder, Statements]:
        recorder = part.create(Case(plan.table, (), (self._dialect,), session=(*session, *plan.session)))
        return recorder, Statements(plan, self._rng)

    def _write(self, part: Round, writers: Sequence[tuple[Recorder, Statements]], rows: int) -> None:
        done = 0
        while done < rows:
            together = self._rng.choice((1, 1, self._rng.randint(2, _MOST_STEPS_TOGETHER)))
            chosen = self._rng.choices(writers, k=together)
            full = any(statements.full_image for _, statements in chosen)
            image, session = settings_of_transaction(self._rng, self._dialect, full_image=full)
            part.set_session((f"binlog_row_image = {image}", *session))
            if any("MyISAM" in recorder.case.table.options for recorder, _ in chosen):
                chosen = chosen[:1]  # what is in no transaction is logged out of order within one
            with part.transaction():
                for recorder, statements in chosen:
                    recorder.run(replace(statements.next_step(), image=image, session=session))
                    done += len(recorder.expected[-1].pairs) or 1


def _half(plan: Plan, rng: random.Random) -> Plan:
    if not plan.kinds:
        return replace(plan, table=Table(plan.table.name))
    dropped = frozenset(rng.sample(sorted(plan.kinds), (len(plan.kinds) + 1) // 2))
    kinds = {name: kind for name, kind in plan.kinds.items() if name not in dropped}
    table = plan.table.without(dropped)
    keys = (*tuple(key for key in table.keys if "PERIOD" in key), "PRIMARY KEY (`id`)")
    return replace(plan, table=table if plan.session else replace(table, keys=keys), kinds=kinds)


def run_on(
    server: DatabaseServer, dialect: Dialect, *, rows: int, seed: int, entries: float = 0.2, widest: bool = False
) -> Result:
    """Run at least ``rows`` changes of rows on the server; a difference ends the run and comes back made smaller."""
    run = Run(server, dialect, f"{seed}/{dialect}", entries=entries, widest=widest)
    result = run.go(rows)
    result.differences = [smaller(server, difference) for difference in result.differences[:5]]
    return result


@asynccontextmanager
async def _server(dialect: Dialect) -> AsyncIterator[DatabaseServer]:
    async with _SERVERS[dialect](server_id=90 + list(_SERVERS).index(dialect)) as server:
        yield server


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    seed: int = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}: replay with --rows {options.rows} --seed {seed}", flush=True)
    report: dict[str, Any] = {"seed": seed, "rows_asked": options.rows, "servers": {}}
    status = 0
    with asyncio.Runner() as runner:
        for dialect in options.servers:
            context = _server(dialect)
            try:
                server = runner.run(context.__aenter__())
            except UnavailableError as error:
                report["servers"][dialect] = {"unavailable": str(error)}
                print(f"{dialect}: not run: {error}")
                status = status or 2
                continue
            try:
                found = _one_server(server, dialect, options, seed, report)
            finally:
                runner.run(context.__aexit__(None, None, None))
            status = 1 if found else status
    totals = [part for part in report["servers"].values() if "rows" in part]
    report["rows"] = sum(part["rows"] for part in totals)
    report["differences"] = sum(len(part["differences"]) for part in totals)
    if options.json:
        options.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{report['rows']} rows, {report['differences']} differences, seed {seed}")
    return status


def _one_server(
    server: DatabaseServer, dialect: Dialect, options: argparse.Namespace, seed: int, report: dict[str, Any]
) -> bool:
    started = time.monotonic()
    (version,) = server.run_sql("SELECT VERSION()")[0]
    result = run_on(
        server, dialect, rows=-(-options.rows // len(options.servers)), seed=seed, entries=options.entries, widest=True
    )
    report["servers"][dialect] = {
        "version": version,
        "rows": result.rows,
        "images": result.images,
        "values": result.values,
        "entries_read_as_clients_do": result.entries,
        "events_with_json_diffs": result.partial,
        "tables": result.tables,
        "most_columns": result.widest,
        "statements": result.statements,
        "statements_refused": result.refused,
        "seconds": round(time.monotonic() - started, 1),
        "differences": [difference.report() for difference in result.differences],
    }
    part = {name: value for name, value in report["servers"][dialect].items() if name != "differences"}
    print(f"{dialect}: {json.dumps(part)}", flush=True)
    for number, difference in enumerate(result.differences):
        print(json.dumps(difference.report(), ensure_ascii=False, indent=1))
        if options.cases:
            _keep(difference, options.cases / f"{dialect}-{seed}-{number}.json")
    return bool(result.differences)


def _keep(difference: Difference, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(replace(difference.case, why=difference.what).to_json(), encoding="utf-8")
    print(f"kept as {path}")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/test fidelity", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="changed rows, over all servers (%(default)s)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to replay it")
    parser.add_argument("--servers", nargs="+", choices=tuple(_SERVERS), default=tuple(_SERVERS))
    parser.add_argument("--entries", type=float, default=0.2, help="share of events also read as clients do")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--cases", type=Path, help="keep differences as cases in this folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
