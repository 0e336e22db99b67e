"""Which plan reads the rows of a table: by the layout that a TABLE_MAP event names, asked for once per layout.

A layout is the body of a TABLE_MAP event without its table id and flags. Plans are kept from one transaction to the
next, until a DDL statement comes; table ids hold for one transaction.

Who calls: `ha_canal.binlog.stream`, which hands its question to whoever knows the names of columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from ha_canal.binlog.table_map import TableMap, parse_table_map
from ha_canal.errors import ChainError, DecodeError
from ha_canal.model.table import RowPlan

_MOST_PLANS = 20_000
"""Layouts kept with their plan; a server with more tables than this asks again for some."""


@dataclass(frozen=True, slots=True)
class PlanNeeded:
    """A table whose layout is met for the first time, or for the first time since a DDL statement.

    ``body_key`` is the TABLE_MAP's body without table id and flags: the same bytes for the same layout. ``ddl_seen``
    counts the DDL statements up to here, all of which were handed out before.
    """

    table_map: TableMap
    body_key: bytes
    ddl_seen: int


class Layouts:
    """The layouts that one stream has met. A plan of None says that nobody wants the table."""

    def __init__(self) -> None:
        self.plans: dict[bytes, RowPlan | None] = {}
        """By the bytes of the layout; always this dict, which the compiled scan reads as well."""
        self.plan_of_table_id: dict[int, RowPlan | None] = {}
        """Of the tables that this transaction has named; the compiled scan adds those that it meets."""
        self.needed: PlanNeeded | None = None
        """The question that `supply` answers."""
        self._needed_id = 0
        self._ddl_seen = 0

    def name_table(self, body: bytes, *, mariadb: bool) -> None:
        """Take the body of a TABLE_MAP event; its layout is `needed` afterwards if it has no plan yet."""
        if len(body) < 8:
            raise DecodeError(f"its body has {len(body)} bytes")
        table_id = int.from_bytes(body[:6], "little")
        key = body[8:]
        if key in self.plans:
            self.plan_of_table_id[table_id] = self.plans[key]
        else:
            self.needed = PlanNeeded(parse_table_map(body, mariadb=mariadb), key, self._ddl_seen)
            self._needed_id = table_id

    def supply(self, needed: PlanNeeded, plan: RowPlan | None) -> None:
        """Answer `needed`; ValueError when that is another question."""
        if self.needed is not needed:
            raise ValueError("this plan was not asked for")
        self.needed = None
        if len(self.plans) >= _MOST_PLANS:
            self.plans.clear()
        self.plans[needed.body_key] = plan
        self.plan_of_table_id[self._needed_id] = plan

    def plan_of(self, table_id: int) -> RowPlan | None:
        """Return the plan of a table that this transaction has named; ChainError when it has not."""
        if table_id not in self.plan_of_table_id:
            raise ChainError(f"rows of table id {table_id}, which no TABLE_MAP event of this transaction names")
        return self.plan_of_table_id[table_id]

    def forget_table_ids(self) -> None:
        """A transaction ends."""
        self.plan_of_table_id.clear()

    def forget_plans(self) -> None:
        """A DDL statement comes: the same bytes may mean other names from here on."""
        self.plans.clear()
        self._ddl_seen += 1
