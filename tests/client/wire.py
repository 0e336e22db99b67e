"""Serialized messages taken apart and put together in ways that mean the same, or that mean nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Nested:
    """Which fields hold messages, and which ones those hold."""

    fields: dict[int, Nested]


UNKNOWN = (
    bytes.fromhex("a00601"),  # field 100, a varint
    bytes.fromhex("a10601020304050607 08"),  # fixed, eight bytes
    bytes.fromhex("a50601020304"),  # fixed, four bytes
    bytes.fromhex("a20603ff0041"),  # bytes
    bytes.fromhex("a306a00601a406"),  # a group
)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def fields_of(message: bytes) -> list[tuple[int, bytes]]:
    """Take a message apart: field numbers, and the bytes of each, its tag included. Knows varints and bytes."""
    found, at = [], 0

    def number() -> int:
        nonlocal at
        result = shift = 0
        while True:
            byte = message[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while at < len(message):
        start = at
        tag = number()
        size = number()
        at += size if tag & 7 == 2 else 0
        found.append((tag >> 3, message[start:at]))
    return found


def inside(field: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the message in a field."""
    (number, _), body = fields_of(field)[0], field
    tag = varint(number << 3 | 2)
    at = len(tag)
    while body[at] > 0x7F:
        at += 1
    changed = change(body[at + 1 :])
    return tag + varint(len(changed)) + changed


def shuffled(message: bytes, chance: random.Random, nested: Nested) -> bytes:
    """Put the fields in another order, with unknown ones between; ``nested`` says which fields hold messages.

    Fields of one number keep their order: it means something.
    """
    fields = fields_of(message)
    order = sorted(range(len(fields)), key=lambda _: chance.random())
    places: dict[int, list[bytes]] = {}
    for number, raw in fields:
        below = nested.fields.get(number)
        changed = inside(raw, partial(shuffled, chance=chance, nested=below)) if below else raw
        places.setdefault(number, []).append(changed)
    pieces = []
    for index in order:
        if not chance.randrange(8):
            pieces.append(chance.choice(UNKNOWN))
        pieces.append(places[fields[index][0]].pop(0))
    return b"".join(pieces)
