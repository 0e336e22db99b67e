"""Random text for the fidelity run, in every character set that a server offers: the server says what each set holds.

Literals are hexadecimal with an introducer, so that no sql_mode and no character set of a connection changes them.
"""

from __future__ import annotations

import random
from typing import Any, Final

import pymysql

_RANGES: Final = (
    (0x00, 0x7F, 128), (0x80, 0xFF, 128), (0x100, 0x24F, 80), (0x370, 0x52F, 200), (0x530, 0x58F, 60),
    (0x590, 0x6FF, 150), (0xE00, 0xE7F, 60), (0x10A0, 0x10FF, 60), (0x1E00, 0x1FFF, 60), (0x2000, 0x27BF, 300),
    (0x3000, 0x33FF, 250), (0x4E00, 0x9FA5, 900), (0xAC00, 0xD7A3, 200), (0xE000, 0xF8FF, 150),
    (0xF900, 0xFAFF, 60), (0xFE30, 0xFFEF, 150), (0x1F300, 0x1F64F, 40), (0x20000, 0x2A6D6, 40),
    (0x10FF00, 0x10FFFD, 4),
)  # fmt: skip
"""First and last code point, and how many of them a run tries."""


def literal(text: str) -> str:
    """Return ``text`` as a literal of utf8mb4."""
    return f"_utf8mb4 x'{text.encode().hex()}'" if text else "''"


def quoted(text: str) -> str:
    """Return ``text`` as a quoted string: where DDL takes no other literal, as for labels."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0").replace("\n", "\\n") + "'"


class Repertoire:
    """The character sets of one server, and characters that each of them has."""

    def __init__(self, connection: pymysql.Connection[Any], rng: random.Random) -> None:
        self.any_label = True
        """Whether labels may hold what information_schema cannot show, characters above U+FFFF."""
        self._connection = connection
        self._characters: dict[str, list[str]] = {}
        points = {point for low, high, count in _RANGES for point in rng.choices(range(low, high + 1), k=count)}
        self._candidates = "".join(map(chr, sorted(points | set(range(32, 127)))))
        found = self._query("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
        self.longest = {str(name): int(longest) for name, longest in found if name != "binary"}
        """Bytes of the longest character, by name."""
        collations = self._query(
            "SELECT CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
        )
        self._collations: dict[str, list[str]] = {name: [] for name in self.longest}
        for charset, collation in collations:
            if charset in self._collations:
                self._collations[str(charset)].append(str(collation))

    @property
    def charsets(self) -> list[str]:
        return sorted(self.longest)

    def collation(self, charset: str, rng: random.Random) -> str:
        """Return a collation of ``charset`` for DDL; some are named without their character set (MariaDB's UCA 14)."""
        named = sorted(name for name in self._collations[charset] if name.startswith(f"{charset}_"))
        return rng.choice(named)

    def learn(self) -> None:
        """Ask the server about all character sets, while the connection is there."""
        for charset in self.charsets:
            self.characters(charset)

    def characters(self, charset: str) -> list[str]:
        """Return characters that survive the way into ``charset`` and back, on this server."""
        if charset not in self._characters:
            sql = f"SELECT HEX(CONVERT(CONVERT({literal(self._candidates)} USING {charset}) USING utf8mb4))"
            back = bytes.fromhex(self._query(sql)[0][0]).decode()
            self._characters[charset] = [a for a, b in zip(self._candidates, back, strict=True) if a == b]
        return self._characters[charset]

    def text(self, charset: str, rng: random.Random, most: int, *, raw: bool = True) -> str:
        """Return a literal of at most ``most`` characters of ``charset``, or, if ``raw``, of any bytes of it.

        Collations may differ in which bytes are characters (MariaDB's latin2_czech_cs has none from 80 to 9F).
        """
        if raw and self.longest[charset] == 1 and charset != "ascii" and rng.random() < 0.2:
            return f"_{charset} x'{rng.randbytes(rng.randint(0, most)).hex()}'" if most else "''"
        return literal(self.word(charset, rng, most))

    def word(self, charset: str, rng: random.Random, most: int) -> str:
        """Return at most ``most`` characters of ``charset``: often few, often plain, sometimes spaces at the end."""
        length = rng.choice((0, 1, min(3, most), rng.randint(0, most), rng.randint(0, most), most))
        alphabet = self.characters(charset) if rng.random() < 0.85 else list("ab 0'\"\\%_`\t")
        text = "".join(rng.choices(alphabet, k=min(length, most)))
        return text[: most - 2] + "  " if most > 2 and rng.random() < 0.1 else text

    def labels(self, charset: str, rng: random.Random, count: int) -> list[str]:
        """Return ``count`` labels for ENUM or SET that no collation takes for the same."""
        shown = [character for character in self.characters(charset) if character.isprintable() and character != ","]
        plain = [character for character in shown if self.any_label or (character <= "\uffff" and character != "?")]
        return [f"{number}" + "".join(rng.choices(plain, k=rng.randint(0, 6))).rstrip() for number in range(count)]

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())
