"""JSON diffs of PARTIAL_UPDATE_ROWS: apply them to the old document, to get the new one.

A diff is ``operation:1 path:lenenc [value:lenenc]``; REMOVE has no value (MySQL's sql/json_diff.h). Paths are as the
server prints them: ``$``, then ``.name``, ``."any name"`` or ``[index]``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from ha_canal.binlog.jsonb import JsonNode, parse_json, render_json
from ha_canal.binlog.reader import ByteReader

_REPLACE, _INSERT, _REMOVE = 0, 1, 2
_MOST_LEGS: Final = 100
"""The depth that the server allows a document."""
_LEG: Final = re.compile(r'\.("(?:[^"\\]|\\.)*")|\.([^.\[" ]+)|\[(\d+)\]', re.DOTALL)
_Step = str | int


def apply_json_diffs(before: bytes, diffs: bytes) -> str:
    """Return the text of the document ``before`` (binary) after ``diffs``. ValueError or DecodeError if they misfit."""
    document = parse_json(before)
    reader = ByteReader(diffs, "JSON diffs")
    grown: dict[int, dict[str, JsonNode]] = {}
    while reader.left:
        operation = reader.integer(1)
        path = list(_legs(str(reader.string(), "utf-8")))
        value = None if operation == _REMOVE else parse_json(reader.string())
        document = _applied(document, operation, path, value, grown)
    for members in grown.values():
        _sort(members)
    return render_json(document)


def _legs(path: str) -> Iterator[_Step]:
    if not path.startswith("$"):
        raise ValueError(f"{path!r} is no JSON path")
    offset = 1
    while offset < len(path):
        leg = _LEG.match(path, offset)
        if leg is None:
            raise ValueError(f"{path!r} is no JSON path")
        if leg[3] is not None:
            yield int(leg[3])
        else:
            yield str(json.loads(leg[1])) if leg[1] is not None else leg[2]
        offset = leg.end()


def _applied(
    document: JsonNode, operation: int, path: list[_Step], value: JsonNode, grown: dict[int, dict[str, JsonNode]]
) -> JsonNode:
    """Return the document after one diff; objects that got a member are put into ``grown``, by their id."""
    if len(path) > _MOST_LEGS:
        raise ValueError(f"a JSON path of {len(path)} legs")
    if not path:
        if operation != _REPLACE:
            raise ValueError("a JSON diff that inserts or removes the whole document")
        return value
    parent = document
    for step in path[:-1]:
        parent = _child(parent, step)
    _change(parent, operation, path[-1], value)
    if operation == _INSERT and isinstance(parent, dict):
        grown[id(parent)] = parent
    return document


def _child(parent: JsonNode, step: _Step) -> JsonNode:
    match parent, step:
        case dict(), str() if step in parent:
            return parent[step]
        case list(), int() if step < len(parent):
            return parent[step]
        case _:
            raise ValueError(f"a JSON diff at {step!r}, which the document does not have")


def _change(parent: JsonNode, operation: int, step: _Step, value: JsonNode) -> None:
    if operation == _INSERT:
        _insert(parent, step, value)
        return
    _child(parent, step)
    if operation not in (_REPLACE, _REMOVE):
        raise ValueError(f"{operation} is no JSON diff operation")
    if isinstance(parent, dict) and isinstance(step, str):
        if operation == _REPLACE:
            parent[step] = value
        else:
            del parent[step]
    elif isinstance(parent, list) and isinstance(step, int):
        parent[step : step + 1] = [value] if operation == _REPLACE else []


def _insert(parent: JsonNode, step: _Step, value: JsonNode) -> None:
    match parent, step:
        case dict(), str() if step not in parent:
            parent[step] = value
        case list(), int():
            parent.insert(step, value)
        case _:
            raise ValueError(f"a JSON diff that inserts at {step!r}, where that cannot be")


def _sort(members: dict[str, JsonNode]) -> None:
    """Put the members in the server's order."""
    in_order = sorted(members.items(), key=lambda member: _key_order(member[0]))
    members.clear()
    members.update(in_order)


def _key_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode()
    return len(encoded), encoded
