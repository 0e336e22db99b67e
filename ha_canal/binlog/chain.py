"""Whether each event follows the one before: the account of file and offset, fail closed.

An event states where it ends (``log_pos``, 32 bits) and how long it is, so it states where it starts; that must be
where the event before ended. What may be different, and why:

* Artificial ROTATE events name the file and offset that are sent next, and stand in no file themselves.
* A FORMAT_DESCRIPTION that states 0 is a copy of the file's first event, for a dump that starts further on.
* In a dump by GTID a server leaves out transactions that we have; so between transactions it may jump forward. Both
  servers also state such a jump in heartbeats.
* MariaDB states 0 for events that it copied from a transaction's own temporary file.

Offsets are kept in 64 bits; a file of 4 GiB and more shows only the low 32 of them in its events.
"""

from __future__ import annotations

from ha_canal.errors import ChainError
from ha_canal.model.position import file_sequence

FIRST_OFFSET = 4
"""Where the first event of a file starts, behind the magic number."""

_WRAP = 0xFFFFFFFF


class Chain:
    """The end of the last event that was accounted for."""

    __slots__ = ("_by_gtid", "_placed", "file", "mariadb", "offset")

    def __init__(self, file: str, offset: int, *, by_gtid: bool) -> None:
        self.file = file
        self.offset = offset
        self.mariadb = False
        self._by_gtid = by_gtid
        self._placed = not by_gtid

    def advance(self, size: int, log_pos: int, *, between: bool) -> int:
        """Account for an event of ``size`` bytes; return where it starts. ``between``: no transaction is open.

        Raises:
            ChainError: it does not start where the event before ended.
        """
        start = self.offset
        if (start + size) & _WRAP != log_pos and not (log_pos == 0 and self.mariadb):
            start = self._jump((log_pos - size) & _WRAP, between=between)
        self.offset = start + size
        return start

    def _jump(self, stated: int, *, between: bool) -> int:
        ahead = stated - (self.offset & _WRAP)
        if self._by_gtid and between and ahead > 0:
            return self.offset + ahead
        raise ChainError(
            f"an event that says it starts at {stated} came where the last one ended at {self.offset}: "
            + ("events are missing" if ahead > 0 else "events came again")
        )

    def heartbeat(self, file: str, offset: int, *, between: bool) -> None:
        """Check the position that the server says it has sent, or left out, everything before."""
        ahead = (offset & _WRAP) - (self.offset & _WRAP)
        if file == self.file and (ahead == 0 or (self._by_gtid and between and ahead > 0)):
            self.offset += ahead
            return
        raise ChainError(f"the server says it has sent up to {file}:{offset}, but events end at {self}")

    def format_description(self, size: int, log_pos: int, *, between: bool) -> int:
        """Account for the event that starts a file, or for its copy; return where it starts."""
        if log_pos:
            if not between:
                raise ChainError("a new file starts inside a transaction: the source broke it off")
            return self.advance(size, log_pos, between=between)
        if self.offset == FIRST_OFFSET:
            self.offset += size
        return FIRST_OFFSET

    def announced(self, file: str, offset: int, *, between: bool) -> None:
        """Take an artificial ROTATE: the file that is sent next, from ``offset`` on."""
        if self._placed and (file, offset) != (self.file, self.offset):
            self._check_next_file(file, offset, between=between)
        self._placed = True
        self.file, self.offset = file, offset

    def _check_next_file(self, file: str, offset: int, *, between: bool) -> None:
        """Without a ROTATE of its own a file ends when its server crashed; the next one must follow by number."""
        number, base = file_sequence(self.file)
        next_number, next_base = file_sequence(file)
        if not between or offset != FIRST_OFFSET or (base == next_base and next_number != number + 1):
            raise ChainError(f"the server goes on with {file}:{offset}, but events end at {self}")

    def rotated(self, file: str, offset: int) -> None:
        """Take a ROTATE that stands in the file itself: its last event."""
        self.file, self.offset = file, offset

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"
