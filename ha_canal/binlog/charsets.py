"""Collation ids, character sets, and how bytes of each character set become text.

Collation ids come in TABLE_MAP metadata; character set names from ``information_schema``. The id table is that of
``information_schema.COLLATION_CHARACTER_SET_APPLICABILITY`` of MariaDB 10.11 and ``COLLATIONS`` of MySQL 9.7, which
never use one id for two character sets.

Text is what the server's own ``CONVERT(value USING utf8mb4)`` gives, checked character by character against a server.
Where the server has no character for the bytes (it prints ``?``), the text holds U+FFFD: such values can be stored, so
they must not stop the stream. latin1 is cp1252 whose five undefined bytes are the C1 controls of the same number.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from functools import cache

from ha_canal.binlog import charset_tables as tables

TextDecoder = Callable[[bytes], str]
"""Bytes of one value to its text; never raises."""

_EUC_THREE_BYTES = 0x8F

_COLLATIONS = {
    "armscii8": "32 64 1056 1088",
    "ascii": "11 65 1035 1089",
    "big5": "1 84 1025 1108",
    "binary": "63",
    "cp1250": "26 34 44 66 99 1050 1090",
    "cp1251": "14 23 50-52 1074-1075",
    "cp1256": "57 67 1081 1091",
    "cp1257": "29 58-59 1082-1083",
    "cp850": "4 80 1028 1104",
    "cp852": "40 81 1064 1105",
    "cp866": "36 68 1060 1092",
    "cp932": "95-96 1119-1120",
    "dec8": "3 69 1027 1093",
    "eucjpms": "97-98 1121-1122",
    "euckr": "19 85 1043 1109",
    "gb18030": "248-250",
    "gb2312": "24 86 1048 1110",
    "gbk": "28 87 1052 1111",
    "geostd8": "92-93 1116-1117",
    "greek": "25 70 1049 1094",
    "hebrew": "16 71 1040 1095",
    "hp8": "6 72 1030 1096",
    "keybcs2": "37 73 1061 1097",
    "koi8r": "7 74 1031 1098",
    "koi8u": "22 75 1046 1099",
    "latin1": "5 8 15 31 47-49 94 1032 1071",
    "latin2": "2 9 21 27 77 1033 1101",
    "latin5": "30 78 1054 1102",
    "latin7": "20 41-42 79 1065 1103",
    "macce": "38 43 1062 1067",
    "macroman": "39 53 1063 1077",
    "sjis": "13 88 1037 1112",
    "swe7": "10 82 1034 1106",
    "tis620": "18 89 1042 1113",
    "ucs2": "35 90 128-151 159 640-642 1059 1114 1152 1174 2560-2815",
    "ujis": "12 91 1036 1115",
    "utf16": "54-55 101-124 672-674 1078-1079 1125 1147 2816-3071",
    "utf16le": "56 62 1080 1086",
    "utf32": "60-61 160-183 736-738 1084-1085 1184 1206 3072-3327",
    "utf8mb3": "33 76 83 192-215 223 576-578 1057 1107 1216 1238 2048-2303",
    "utf8mb4": "45-46 224-247 255-323 608-610 1069-1070 1248 1270 2304-2559",
}

_PYTHON_CODECS = {
    "ascii": "ascii",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1257": "cp1257",
    "cp850": "cp850",
    "cp852": "cp852",
    "cp932": "cp932",
    "euckr": "cp949",
    "gb2312": "gb2312",
    "gbk": "gbk",
    "hp8": "hp_roman8",
    "koi8r": "koi8_r",
    "latin2": "iso8859_2",
    "latin5": "iso8859_9",
    "latin7": "iso8859_13",
    "macce": "mac_latin2",
    "macroman": "mac_roman",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "utf8mb3": "utf-8",
    "utf8mb4": "utf-8",
}

_BYTES_PER_CHARACTER = {
    "big5": 2, "cp932": 2, "eucjpms": 3, "euckr": 2, "gb18030": 4, "gb2312": 2, "gbk": 2, "sjis": 2, "ucs2": 2,
    "ujis": 3, "utf16": 4, "utf16le": 4, "utf32": 4, "utf8mb3": 3, "utf8mb4": 4,
}  # fmt: skip
"""``information_schema.CHARACTER_SETS.MAXLEN`` where it is not 1."""


def charset_of_collation(collation_id: int) -> str | None:
    """Return the character set of a collation id, None where the id is unknown."""
    return _charsets_by_collation().get(collation_id)


def canonical_charset(name: str) -> str:
    """Return ``name`` as this module spells it: lower case, ``utf8`` being ``utf8mb3``."""
    lowered = name.lower()
    return "utf8mb3" if lowered == "utf8" else lowered


def bytes_per_character(charset: str) -> int:
    """Return the most bytes that one character of ``charset`` takes; column lengths on the wire count these."""
    return _BYTES_PER_CHARACTER.get(charset, 1)


def is_known_charset(charset: str) -> bool:
    return charset in _COLLATIONS


@cache
def text_decoder(charset: str) -> TextDecoder:
    """Return the function that decodes values of ``charset``; ``binary`` gives ISO-8859-1. KeyError if unknown."""
    if special := _SPECIAL.get(charset):
        return special()
    codec = _PYTHON_CODECS[charset]
    return lambda data: str(data, codec, "replace")


@cache
def label_decoder(charset: str) -> TextDecoder:
    """Return the function that decodes labels of ENUM and SET; those in ``binary`` are text where they are UTF-8."""
    return _binary_label if charset == "binary" else text_decoder(charset)


def _binary_label(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return str(data, "latin-1")


@cache
def _charsets_by_collation() -> dict[int, str]:
    return {number: charset for charset, ids in _COLLATIONS.items() for number in _numbers(ids)}


def _numbers(ranges: str) -> list[int]:
    numbers: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _charmap(table: str) -> TextDecoder:
    return lambda data: codecs.charmap_decode(data, "replace", table)[0]


def _changed(codec: str, changes: dict[int, str]) -> TextDecoder:
    """The decoder of an 8-bit ``codec`` in which some bytes mean something else."""
    table = [str(bytes([byte]), codec, "replace") for byte in range(256)]
    for byte, character in changes.items():
        table[byte] = character
    return _charmap("".join("\ufffe" if character == "\ufffd" else character for character in table))


def _ascii_and(high: str) -> TextDecoder:
    return _charmap("".join(map(chr, range(128))) + high)


def _patched(charset: str, codec: str, missing: dict[bytes, str], changes: dict[int, str]) -> TextDecoder:
    """The decoder of a multi-byte ``codec`` with sequences that it lacks, and characters which it maps otherwise."""

    def fill_gap(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        start = error.start
        end = start + (3 if error.object[start] == _EUC_THREE_BYTES else 2)
        known = missing.get(error.object[start:end])
        return (known, end) if known else ("\ufffd", error.end)

    codecs.register_error(f"ha_canal.{charset}", fill_gap)
    return lambda data: str(data, codec, f"ha_canal.{charset}").translate(changes)


def _user_defined_euc() -> dict[bytes, str]:
    """The private use rows of ujis and eucjpms: F5A1 on is U+E000 on, 8FF5A1 on is U+E3AC on."""
    cells = [(row, cell) for row in range(0xF5, 0xFF) for cell in range(0xA1, 0xFF)]
    two = {bytes(at): chr(0xE000 + index) for index, at in enumerate(cells)}
    three = {bytes((0x8F, *at)): chr(0xE3AC + index) for index, at in enumerate(cells)}
    return two | three


def _nec_row_13() -> dict[bytes, str]:
    """Row 13 of eucjpms (ADxx), which is 87xx of cp932 in the same order."""
    trail_bytes = [byte for byte in range(0x40, 0x9D) if byte != 0x7F]
    characters = [str(bytes((0x87, byte)), "cp932", "replace") for byte in trail_bytes]
    return {bytes((0xAD, 0xA1 + index)): c for index, c in enumerate(characters) if c != "\ufffd"}


def _ujis() -> TextDecoder:
    return _patched("ujis", "euc_jp", _user_defined_euc(), {0xFF3C: "\\"})


def _eucjpms() -> TextDecoder:
    ibm_cells = [(0x8F, 0xF3, cell) for cell in range(0xF3, 0xFF)] + [(0x8F, 0xF4, cell) for cell in range(0xA1, 0xFF)]
    ibm = dict(zip(map(bytes, ibm_cells), tables.EUCJPMS_IBM, strict=True))
    wide = {0x301C: 0xFF5E, 0x2016: 0x2225, 0x2212: 0xFF0D, 0xA2: 0xFFE0, 0xA3: 0xFFE1, 0xAC: 0xFFE2, 0xA6: 0xFFE4}
    missing = _user_defined_euc() | _nec_row_13() | ibm
    decode = _patched("eucjpms", "euc_jp", missing, {code: chr(other) for code, other in wide.items()})
    # 8FA2B7 is U+FF5E, as A1C1 is; Python makes an ASCII tilde of it. 8F only ever leads, so this cannot misalign.
    return lambda data: decode(data.replace(b"\x8f\xa2\xb7", b"\xa1\xc1"))


def _big5() -> TextDecoder:
    return _patched("big5", "big5", {bytes((0xF9, 0xD6 + i)): c for i, c in enumerate(tables.BIG5_ETEN)}, {})


_CP1256_UNDEFINED = dict.fromkeys((0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF), "\ufffd")
_SWE7 = {0x40: "É", 0x5B: "Ä", 0x5C: "Ö", 0x5D: "Å", 0x5E: "Ü", 0x60: "é", 0x7B: "ä", 0x7C: "ö", 0x7D: "å", 0x7E: "ü"}
_GREEK = {0xA1: "\u02bd", 0xA2: "\u02bc", 0xA4: "\ufffd", 0xA5: "\ufffd", 0xAA: "\ufffd"}

_SPECIAL: dict[str, Callable[[], TextDecoder]] = {
    "armscii8": lambda: _ascii_and(tables.ARMSCII8_HIGH),
    "big5": _big5,
    "binary": lambda: lambda data: str(data, "latin-1"),
    "cp1256": lambda: _changed("cp1256", _CP1256_UNDEFINED),
    "cp866": lambda: _changed("cp866", {0xFC: "\u207f", 0xFD: "\u00b2"}),
    "dec8": lambda: _ascii_and(tables.DEC8_HIGH),
    "eucjpms": _eucjpms,
    "gb18030": lambda: _patched("gb18030", "gb18030", {}, {0xE7C7: "\u1e3f", 0x1E3F: "\ue7c7"}),
    "geostd8": lambda: _ascii_and(tables.GEOSTD8_HIGH),
    "greek": lambda: _changed("iso8859_7", _GREEK),
    "hebrew": lambda: _changed("iso8859_8", {0xAF: "\u203e"}),
    "keybcs2": lambda: _ascii_and(tables.KEYBCS2_HIGH),
    "koi8u": lambda: _changed("koi8_u", {0x95: "\u2022"}),
    "latin1": lambda: _changed("cp1252", {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}),
    "sjis": lambda: _patched("sjis", "shift_jis", {}, {0xFF3C: "\\"}),
    "swe7": lambda: _changed("ascii", _SWE7 | {0x7F: "\ufffd"}),
    "tis620": lambda: _changed("iso8859_11", {0xA0: "\ufffd"}),
    "ujis": _ujis,
}
