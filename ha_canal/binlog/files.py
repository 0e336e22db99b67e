"""Binlog files in a row, as one stream of items: what a dump connection would have sent, read from disk.

Each file must be the one that follows the file before, by what its last event says, or, where a crash left none, by
number. A file that was not closed is read up to its last whole event; `BinlogFiles.unfinished` tells of it.

Who calls: `ha-canal decode`. Nothing else is read offline.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ha_canal.binlog.chain import FIRST_OFFSET
from ha_canal.binlog.event_reader import HEADER
from ha_canal.binlog.events import CHECKSUM_BYTES, FLAG_ARTIFICIAL, HEADER_BYTES, EventType
from ha_canal.binlog.file import BinlogFile, frame_payload
from ha_canal.binlog.layouts import PlanNeeded
from ha_canal.binlog.stream import BinlogStream
from ha_canal.errors import ChainError
from ha_canal.model.change import Item
from ha_canal.model.position import file_sequence
from ha_canal.model.table import RowPlan

Planner = Callable[[PlanNeeded], RowPlan | None]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file that its server has not closed, read up to ``offset``. ``missing`` says what is cut off, ``""``: nothing.

    What is cut off is an event that is there in part, or the end of the transaction that is open there.
    """

    file: str
    offset: int
    missing: str


class BinlogFiles:
    """``paths`` in order, the first one from ``start_offset`` on. `items` reads them once."""

    def __init__(self, paths: Sequence[Path], *, start_offset: int = FIRST_OFFSET) -> None:
        self.unfinished: list[Unfinished] = []
        self._paths = paths
        self._start_offset = start_offset
        self._sequence = 1
        self._stream = BinlogStream(file=paths[0].name, offset=start_offset, server_uuid="")

    def items(self, planner: Planner) -> Iterator[list[Item]]:
        """Yield the items of all files, in slices of at most about 4 MiB. ``planner`` answers for new tables.

        Raises:
            StreamError: what is there cannot be read, or does not follow; what came before was yielded.
            OSError: a file cannot be read.
        """
        for path in self._paths:
            file = BinlogFile(path, sequence=self._sequence)
            start_offset = self._start_offset if path is self._paths[0] else FIRST_OFFSET
            if path is not self._paths[0]:
                self._go_on_with(file)
            for chunk in file.chunks(start_offset):
                self._stream.feed(chunk)
                yield from self._drain(planner)
            self._sequence = file.sequence
            self._end(file)

    @property
    def server_version(self) -> str:
        """What the last file says of the server that wrote it."""
        return self._stream.server_version

    @property
    def events(self) -> int:
        return self._stream.events

    def _drain(self, planner: Planner) -> Iterator[list[Item]]:
        while got := self._stream.next_items():
            if isinstance(got, PlanNeeded):
                self._stream.supply_plan(got, planner(got))
            else:
                yield got

    def _go_on_with(self, file: BinlogFile) -> None:
        """Check that ``file`` comes next; where no event of the last one says so, say it as a server does."""
        name, ended = file.path.name, self._stream.file
        if not self._stream.at_transaction_boundary:
            raise ChainError(
                f"it ends inside a transaction, and {name} cannot go on with it",
                file=ended,
                offset=self._stream.offset,
            )
        if self._stream.offset == FIRST_OFFSET:
            if name != ended:
                raise ChainError(f"{ended} comes next, and {name} was given: name files in order, and leave none out")
            return
        (number, base), (last_number, last_base) = file_sequence(name), file_sequence(ended)
        if base != last_base or number != last_number + 1:
            raise ChainError(f"{name} does not follow {ended}: name files in order, and leave none out")
        rotate, file.sequence = frame_payload(b"\0" + _artificial_rotate(name), file.sequence)
        self._stream.feed(rotate)

    def _end(self, file: BinlogFile) -> None:
        missing = file.torn
        if not self._stream.at_transaction_boundary:
            missing = f"a transaction has no end{', and ' if missing else ''}{missing}"
        if file.in_use or missing:
            self.unfinished.append(Unfinished(file.path.name, file.end_offset, missing))


def _artificial_rotate(name: str) -> bytes:
    body = struct.pack("<Q", FIRST_OFFSET) + name.encode("utf-8", "replace")
    size = HEADER_BYTES + len(body) + CHECKSUM_BYTES
    event = HEADER.pack(0, EventType.ROTATE, 0, size, 0, FLAG_ARTIFICIAL) + body
    return event + zlib.crc32(event).to_bytes(CHECKSUM_BYTES, "little")
