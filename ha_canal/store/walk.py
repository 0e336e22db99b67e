"""A reader's way through the ring: passes over what it does not want, and knows which transaction it is inside of.

Pure: it never waits. `peek` shows the next entry that the reader wants, `take` steps behind it. Rules: a Begin goes
out only when something of its transaction does, a Commit only when its Begin did. A transaction that the reader had
done in part in an earlier life is ended properly even if nothing is left of it: its reader has seen the first Begin.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import NamedTuple

from ha_canal.errors import ChainError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement
from ha_canal.model.position import Position
from ha_canal.model.table import RowPlan
from ha_canal.store.slot import Slot
from ha_canal.store.start import Done, Start
from ha_canal.store.track import Passed

_NOTHING_DONE = Done(0, 0)


class Wanted:
    """A reader's filter, asked once per table and remembered."""

    __slots__ = ("_answers", "_last_answer", "_last_plan", "_wants")

    def __init__(self, wants: Callable[[str, str], bool]) -> None:
        self._wants = wants
        self._answers: dict[tuple[str, str], bool] = {}
        self._last_plan: RowPlan | None = None
        self._last_answer = False

    def plan(self, plan: RowPlan) -> bool:
        if plan is not self._last_plan:
            self._last_plan, self._last_answer = plan, self._table(plan.schema, plan.table)
        return self._last_answer

    def statement(self, statement: Statement) -> bool:
        """Statements that name no table we recognise are wanted by all: who reads them can tell what they mean."""
        return not statement.table or self._table(statement.schema, statement.table)

    def _table(self, schema: str, table: str) -> bool:
        answer = self._answers.get((schema, table))
        if answer is None:
            answer = self._answers[schema, table] = self._wants(schema, table)
        return answer


class Milestone(NamedTuple):
    """A place between two transactions, to go back to."""

    slot: Slot
    sequence: int
    passed: int


class Walk:
    """One place in the ring; copies (`fork`) go on their own.

    ``sequence`` is the last one that lies behind. ``passed`` gathers the transactions left behind since the fork.
    ``inside`` tells that a Begin was taken, and its Commit not yet.
    """

    __slots__ = (
        "_begin",
        "_done",
        "_next_ordinal",
        "_resumed",
        "_slot",
        "_start",
        "_wanted",
        "inside",
        "passed",
        "sequence",
    )

    def __init__(self, slot: Slot, start: Start, wanted: Wanted, *, begin: Begin | None = None) -> None:
        self._slot = slot
        self._start = start
        self._wanted = wanted
        self._begin: Begin | None = None
        self._done = _NOTHING_DONE
        self._resumed = False
        self._next_ordinal = 0
        self.sequence = slot.last
        self.inside = False
        self.passed: list[Passed] = []
        if begin is not None:
            self._enter(begin, self.sequence)

    def fork(self) -> Walk:
        twin = copy(self)
        twin.passed = []
        return twin

    def peek(self) -> Item | None:
        """Pass over what is not wanted; return the next entry that is, or None at the end of the ring."""
        while (slot := self._ahead()) is not None:
            item = slot.item
            if isinstance(item, Rows | Statement):
                if self._passes(item):
                    return self._begin_first(item)
                self._next_ordinal = item.ordinal + 1
            elif isinstance(item, Begin):
                self._enter(item, slot.last)
            elif isinstance(item, Commit):
                if self.inside or self._resumed:
                    return self._begin_first(item)
                self._leave(item, slot)
            self._step(slot)
        return None

    def take(self) -> None:
        """Step behind what `peek` returned."""
        slot = self._ahead()
        assert slot is not None
        if not self.inside:
            self.inside = True
            return
        if isinstance(slot.item, Commit):
            self._leave(slot.item, slot)
        elif isinstance(slot.item, Rows | Statement):
            self._next_ordinal = slot.item.ordinal + 1
        self._step(slot)

    def milestone(self) -> Milestone:
        """Return this place. Only between transactions."""
        assert not self.inside
        return Milestone(self._slot, self.sequence, len(self.passed))

    def go_back(self, milestone: Milestone) -> None:
        self._slot, self.sequence = milestone.slot, milestone.sequence
        del self.passed[milestone.passed :]
        self._forget_transaction()

    def position(self, boundary: Position) -> Position:
        """Return where a reader at this place is, ``boundary`` being the end of the last transaction behind it."""
        if not self.inside or self._begin is None:
            return boundary
        transaction = self._begin.transaction
        return replace(
            boundary,
            file=transaction.file,
            offset=transaction.start_offset,
            server_uuid=transaction.server_uuid,
            server_id=self._start.server_id,
            ordinal=self._next_ordinal,
        )

    def _ahead(self) -> Slot | None:
        if self._slot.last > self.sequence:
            return self._slot  # a mark that has grown since we passed it
        return self._slot.next

    def _step(self, slot: Slot) -> None:
        self._slot, self.sequence = slot, slot.last

    def _enter(self, begin: Begin, sequence: int) -> None:
        self._begin = begin
        self._done = self._start.done_of(begin.transaction, sequence)
        self._next_ordinal = self._done.ordinal
        self._resumed = self._done.ordinal > 0

    def _passes(self, item: Rows | Statement) -> bool:
        if item.offset < self._done.offset or item.ordinal < self._done.ordinal:
            return False
        return self._wanted.plan(item.plan) if isinstance(item, Rows) else self._wanted.statement(item)

    def _begin_first(self, item: Item) -> Item:
        if self.inside:
            return item
        if self._begin is None:
            where = item.transaction
            raise ChainError(
                "an entry without the Begin of its transaction", file=where.file, offset=where.start_offset
            )
        return self._begin

    def _leave(self, commit: Commit, slot: Slot) -> None:
        if self._begin is None:
            self._done = self._start.done_of(commit.transaction, slot.last)
        moves = commit.end_offset > self._done.offset
        self.passed.append(Passed(commit, self._start.news_of(slot), moves))
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        self._begin = None
        self._done = _NOTHING_DONE
        self._next_ordinal = 0
        self._resumed = False
        self.inside = False
