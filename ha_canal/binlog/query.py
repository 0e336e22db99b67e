"""QUERY events: the statement, the default database, the connection, and the character set to read it in.

The body is thread id (4), seconds it ran (4), length of the database name (1), error code (2), length of the status
variables (2), these, the name with a NUL, the text (MySQL: statement_events.h, Query_event). Status variables come in
rising order of their codes with no common length, so they are read only up to the one that is needed.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ha_canal.binlog.compression import inflate_block
from ha_canal.binlog.events import Bytes, take
from ha_canal.errors import DecodeError

_FIXED = struct.Struct("<IIBHH")
_CHARSET = 4
_FIXED_STATUS_BYTES = {0: 4, 1: 8, 3: 4}
_COUNTED_STATUS = {2: 1, 6: 0}
"""Status variables that start with their length: how many bytes follow the counted ones."""

_CODECS = {
    "cp1252": (5, 8, 15, 31, 47, 48, 49, 94),
    "cp1250": (26, 34, 44, 66, 99),
    "cp1251": (14, 23, 50, 51, 52),
    "cp1256": (57, 67),
    "cp1257": (29, 58, 59),
    "iso8859-2": (2, 9, 21, 27, 77),
    "iso8859-7": (25, 70),
    "iso8859-8": (16, 71),
    "iso8859-9": (30, 78),
    "iso8859-13": (20, 41, 42, 79),
    "koi8-r": (7, 74),
    "koi8-u": (22, 75),
    "cp850": (4, 80),
    "cp852": (40, 81),
    "cp866": (36, 68),
    "tis-620": (18, 89),
    "big5": (1, 84),
    "gb2312": (24, 86),
    "gbk": (28, 87),
    "gb18030": (248, 249, 250),
    "euc-kr": (19, 85),
    "euc-jp": (12, 91, 97, 98),
    "shift_jis": (13, 88),
    "cp932": (95, 96),
}
_CODEC_OF_COLLATION = {collation: codec for codec, collations in _CODECS.items() for collation in collations}


class Query(NamedTuple):
    """``sql`` may hold lone surrogates in place of bytes that its character set does not know."""

    thread_id: int
    database: str
    sql: str


def parse_query(body: Bytes, *, compressed: bool = False) -> Query:
    """Read a QUERY body; ``compressed``: MariaDB's QUERY_COMPRESSED, which differs in the text alone."""
    if len(body) < _FIXED.size:
        raise DecodeError(f"its body has {len(body)} bytes")
    thread_id, _, database_bytes, _, status_bytes = _FIXED.unpack_from(body)
    status = bytes(take(body, _FIXED.size, status_bytes))
    at = _FIXED.size + status_bytes
    database = bytes(take(body, at, database_bytes + 1)[:-1]).decode("utf-8", "surrogateescape")
    text = body[at + database_bytes + 1 :]
    return Query(thread_id, database, _decode(inflate_block(text) if compressed else bytes(text), status))


def _decode(text: bytes, status: bytes) -> str:
    codec = _CODEC_OF_COLLATION.get(_client_collation(status))
    if codec is not None:
        try:
            return text.decode(codec)
        except UnicodeDecodeError:
            pass  # not what the session said it would send; keep every byte
    return text.decode("utf-8", "surrogateescape")


def _client_collation(status: bytes) -> int:
    """Return the number of ``character_set_client``'s collation, or 0 where it is not said."""
    at = 0
    while at < len(status):
        code = status[at]
        if code == _CHARSET:
            return int.from_bytes(status[at + 1 : at + 3], "little")
        if code in _FIXED_STATUS_BYTES:
            at += 1 + _FIXED_STATUS_BYTES[code]
        elif code in _COUNTED_STATUS and at + 1 < len(status):
            at += 2 + status[at + 1] + _COUNTED_STATUS[code]
        else:
            break
    return 0
