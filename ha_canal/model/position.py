"""A place in a source's binlog: one immutable value, replaced as a whole.

Everything that remembers how far it has come (cursors, checkpoints, the source) holds one `Position`; no
part of it is ever changed by itself, so file, offset and GTID set cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Position:
    """The boundary *behind* the last transaction that is done, plus what is done of the next one.

    ``server_uuid`` is ``""`` on servers that have none (MariaDB); ``offset`` is in bytes and points at the start of
    the first event that is not done; ``timestamp_ms`` is the commit time of the last transaction done (0: unknown);
    ``gtid_set`` is the server's own text of all GTIDs done (``""``: no GTIDs), a MySQL GTID set or a MariaDB
    GTID position list. ``ordinal`` counts the entries (see `ha_canal.model.change`) of the next transaction that
    are done already: 0 on a clean boundary. ``inside`` is the GTID of that transaction, and ``inside_bytes`` the size
    of what is done of it, by which it is known on other servers; ``""``: not known.
    """

    file: str
    offset: int
    server_uuid: str = ""
    server_id: int = 0
    timestamp_ms: int = 0
    gtid_set: str = ""
    ordinal: int = 0
    inside: str = ""
    inside_bytes: int = 0

    def __str__(self) -> str:
        inside = f"+{self.ordinal}" if self.ordinal else ""
        gtids = f" ({self.gtid_set})" if self.gtid_set else ""
        return f"{self.file}:{self.offset}{inside}{gtids}"

    @property
    def order(self) -> tuple[tuple[int, str], int]:
        """The place in the binlog as a sort key; it means something among positions of one server alone."""
        return file_sequence(self.file), self.offset

    def at_start_of_next(self) -> Position:
        """Return the clean boundary before the transaction that this position is inside of."""
        return replace(self, ordinal=0, inside="", inside_bytes=0)


def file_sequence(file: str) -> tuple[int, str]:
    """Return a sort key for binlog file names: by number, then by name.

    The number is what stands behind the last dot. Servers write at least six digits and go on with seven
    (``mysql-bin.999999`` is followed by ``mysql-bin.1000000``), so names do not sort as text.
    """
    base, _, number = file.rpartition(".")
    is_number = number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS
    return (int(number), base) if is_number else (0, file)
