"""A reader's way through the ring: passes over what it does not want, and knows which transaction it is inside of.

Pure: it never waits. `peek` shows the next entry that the reader wants, `take` steps behind it. A run that the reader
had done nothing of is shown whole, and `take_part` takes as much of it as fits; otherwise its transactions are
unpacked one at a time, and shown like any others. Rules: a Begin goes
out only when something of its transaction does, a Commit only when its Begin did. A transaction that the reader had
done in part in an earlier life is ended properly even if nothing is left of it: its reader has seen the first Begin.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import NamedTuple

from ha_canal.errors import ChainError
from ha_canal.model.change import Begin, Commit, Item, Rows, Statement
from ha_canal.model.position import Position
from ha_canal.model.run import Packed, Parcel, Run, RunPart
from ha_canal.model.size import size_of
from ha_canal.model.stretch import PackedRows, Stretch, StretchPart
from ha_canal.model.table import RowPlan
from ha_canal.store.slot import Slot
from ha_canal.store.start import Done, Start
from ha_canal.store.track import Passed

_NOTHING_DONE = Done(0, 0)


class Wanted:
    """A reader's filter, asked once per table and remembered."""

    __slots__ = ("_answers", "_last_answer", "_last_mask", "_last_packed", "_last_plan", "_wants")

    def __init__(self, wants: Callable[[str, str], bool]) -> None:
        self._wants = wants
        self._last_packed: Packed | PackedRows | None = None
        self._last_mask = b""
        self._answers: dict[tuple[str, str], bool] = {}
        self._last_plan: RowPlan | None = None
        self._last_answer = False

    def plan(self, plan: RowPlan) -> bool:
        if plan is not self._last_plan:
            self._last_plan, self._last_answer = plan, self._table(plan.schema, plan.table)
        return self._last_answer

    def mask(self, packed: Packed | PackedRows) -> bytes:
        """Return a byte per plan of ``packed``: 1 where its rows are wanted."""
        if packed is not self._last_packed:
            self._last_packed = packed
            self._last_mask = bytes(self._table(plan.schema, plan.table) for plan in packed.plans)
        return self._last_mask

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
        "_done_bytes",
        "_next_ordinal",
        "_open",
        "_open_at",
        "_resumed",
        "_slot",
        "_start",
        "_stretch_at",
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
        self._done_bytes = 0  # of the transaction; negative: not known
        self._open: list[Item] = []  # the transaction of a run that is unpacked
        self._open_at = 0
        self._stretch_at = 0  # events of the stretch ahead that were taken
        self.sequence = slot.last
        self.inside = False
        self.passed: list[Passed] = []
        if begin is not None:
            self._enter(begin, self.sequence)
            self._done_bytes = -1

    def fork(self) -> Walk:
        twin = copy(self)
        twin.passed = []
        return twin

    def peek(self) -> Parcel | None:
        """Pass over what is not wanted; return the next entry that is, or None at the end of the ring.

        A `Run` is what `take_part` or `open_run` come for, a `Stretch` what `take_rows` comes for.
        """
        while (slot := self._ahead()) is not None:
            item = self._item(slot)
            if isinstance(item, Run):
                if self._is_clear_of(slot, item):
                    if self._pass_unwanted(slot, item):
                        return item
                else:
                    self._unpack(slot, item)
                continue
            if isinstance(item, Stretch):
                if self._is_shown(slot, item):
                    return self._begin_first(item)
                continue
            if isinstance(item, Rows | Statement):
                if self._passes(item):
                    return self._begin_first(item)
                self._leave_behind(item)
            elif isinstance(item, Begin):
                self._enter(item, self._sequence(slot))
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
        item = self._item(slot)
        if isinstance(item, Commit):
            self._leave(item, slot)
        elif isinstance(item, Rows | Statement):
            self._leave_behind(item)
        self._step(slot)

    def take_part(self, most_entries: int, most_bytes: int) -> RunPart | None:
        """Take what fits of the run that `peek` returned; None: not even one transaction does."""
        slot, run = self._run_ahead()
        wanted = self._wanted.mask(run.packed)
        first = self.sequence + 1 - slot.first
        end, entries, size_bytes = run.packed.cut(first, wanted, most_entries, most_bytes)
        if end == first:
            return None
        self._pass(slot, run, end)
        return RunPart(run.packed, first, end, wanted, entries, size_bytes)

    def open_run(self) -> None:
        """Unpack the next transaction of the run that `peek` returned: the next entries are its items."""
        self._unpack(*self._run_ahead())

    def take_rows(self, most_entries: int, most_bytes: int, *, at_least_one: bool) -> StretchPart | None:
        """Take what fits of the stretch that `peek` returned; None: nothing does."""
        slot = self._ahead()
        assert slot is not None
        assert isinstance(slot.item, Stretch)
        packed, first = slot.item.packed, self._stretch_at
        end, size_bytes = packed.cut_rows(first, most_entries, most_bytes)
        if end == first:
            if not at_least_one:
                return None
            end, size_bytes = packed.cut_rows(first, 1, sys.maxsize)
        self._leave_rows(slot, packed, end)
        return StretchPart(packed, first, end, size_bytes)

    def milestone(self) -> Milestone:
        """Return this place. Only between transactions."""
        assert not self.inside
        return Milestone(self._slot, self.sequence, len(self.passed))

    def go_back(self, milestone: Milestone) -> None:
        self._slot, self.sequence, self._open, self._stretch_at = milestone.slot, milestone.sequence, [], 0
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
            inside=transaction.gtid if self._done_bytes >= 0 else "",
            inside_bytes=max(0, self._done_bytes),
        )

    def _ahead(self) -> Slot | None:
        if self._slot.last > self.sequence:
            return self._slot  # a mark that has grown since we passed it
        return self._slot.next

    def _item(self, slot: Slot) -> Parcel | None:
        return self._open[self._open_at] if self._open else slot.item

    def _sequence(self, slot: Slot) -> int:
        """Return the sequence number of what is ahead: in a run, that of its transaction."""
        return self.sequence + 1 if isinstance(slot.item, Run) else slot.last

    def _step(self, slot: Slot) -> None:
        if self._open and self._open_at + 1 < len(self._open):
            self._open_at += 1
            return
        self._slot, self.sequence, self._open, self._stretch_at = slot, self._sequence(slot), [], 0

    # Stretches.

    def _is_shown(self, slot: Slot, stretch: Stretch) -> bool:
        """Whether the stretch ahead may be taken in parts. If not, it is passed over, or unpacked."""
        mask = self._wanted.mask(stretch.packed)
        if not any(mask):
            self._leave_rows(slot, stretch.packed, stretch.packed.rows_events)
            return False
        if all(mask) and stretch.offset >= self._done.offset and stretch.ordinal >= self._done.ordinal:
            return True
        self._open, self._open_at = list(stretch.items()), 0
        return False

    def _leave_rows(self, slot: Slot, packed: PackedRows, end: int) -> None:
        """Step behind the events of a stretch up to ``end``."""
        self._next_ordinal = packed.ordinal(end - 1) + 1
        if self._done_bytes >= 0:
            self._done_bytes += packed.body_bytes(self._stretch_at, end)
        self._stretch_at = end
        if end == packed.rows_events:
            self._step(slot)

    # Runs.

    def _run_ahead(self) -> tuple[Slot, Run]:
        slot = self._ahead()
        assert slot is not None
        assert isinstance(slot.item, Run)
        return slot, slot.item

    def _is_clear_of(self, slot: Slot, run: Run) -> bool:
        sequence = self.sequence + 1
        return self._start.is_clear_of(run.packed, sequence - slot.first, sequence)

    def _pass_unwanted(self, slot: Slot, run: Run) -> bool:
        """Pass over transactions that are not wanted; return whether one is left that is."""
        first = self.sequence + 1 - slot.first
        wanted_next = run.packed.next_wanted(first, self._wanted.mask(run.packed))
        if wanted_next > first:
            self._pass(slot, run, wanted_next)
        return wanted_next < run.packed.count

    def _pass(self, slot: Slot, run: Run, end: int) -> None:
        first = self.sequence + 1 - slot.first
        self.passed.append(Passed(run.packed.commit(end - 1), run.packed.gtids(first, end), moves=True))
        self._slot, self.sequence = slot, slot.first + end - 1

    def _unpack(self, slot: Slot, run: Run) -> None:
        self._open, self._open_at = run.packed.items(self.sequence + 1 - slot.first), 0
        self._slot = slot

    def _enter(self, begin: Begin, sequence: int) -> None:
        self._begin = begin
        self._done = self._start.done_of(begin.transaction, sequence)
        self._next_ordinal = self._done.ordinal
        self._done_bytes = 0
        self._resumed = self._done.ordinal > 0

    def _leave_behind(self, item: Rows | Statement) -> None:
        self._next_ordinal = item.ordinal + 1
        if self._done_bytes >= 0:
            self._done_bytes += size_of(item)

    def _passes(self, item: Rows | Statement) -> bool:
        if item.offset < self._done.offset or item.ordinal < self._done.ordinal:
            return False
        return self._wanted.plan(item.plan) if isinstance(item, Rows) else self._wanted.statement(item)

    def _begin_first(self, item: Item | Stretch) -> Item | Stretch:
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
            self._done = self._start.done_of(commit.transaction, self._sequence(slot))
        moves = commit.end_offset > self._done.offset
        self.passed.append(Passed(commit, self._start.news_of(slot), moves))
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        self._begin = None
        self._done = _NOTHING_DONE
        self._next_ordinal = 0
        self._done_bytes = 0
        self._resumed = False
        self.inside = False
