"""The JSON of one client's cursor, as Canal keeps it in ZooKeeper, so that its operators and tools can read it.

The layout is Canal's LogPosition as fastjson writes it: keys in alphabetical order, ``postion`` misspelt, nulls left
out. We add ``epoch`` and ``remembered`` beside it, and ``ordinal`` and ``serverUuid`` inside ``postion``, with
``inside`` and ``insideBytes`` where a transaction with a GTID is done in part; we remove and rename nothing.
``remembered`` is there where the source has no GTIDs: the fingerprints of the last transactions done.
Canal's own cursors carry the start of the event that was acknowledged last; ours the boundary behind the last
transaction, or, with an ordinal, the start of the transaction that is acknowledged in part.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from ha_canal.errors import CursorFormatError
from ha_canal.model.gtid import parse_gtid_set
from ha_canal.model.position import Position
from ha_canal.model.remembered import NOTHING_REMEMBERED, Remembered

_TYPE = "com.alibaba.otter.canal.protocol.position.LogPosition"
_MAX_SHOWN = 200


def cursor_to_json(
    position: Position,
    *,
    source_host: str,
    source_port: int,
    epoch: int,
    remembered: Remembered = NOTHING_REMEMBERED,
) -> bytes:
    """Return the cursor's bytes. ``epoch`` is that of the leader who writes it."""
    record: dict[str, Any] = {
        "@type": _TYPE,
        "epoch": epoch,
        "identity": {"slaveId": -1, "sourceAddress": {"address": source_host, "port": source_port}},
        "postion": {
            "gtid": position.gtid_set,
            "included": False,
            "journalName": position.file,
            "ordinal": position.ordinal,
            "position": position.offset,
            "serverId": position.server_id,
            "serverUuid": position.server_uuid,
            "timestamp": position.timestamp_ms,
        },
    }
    if position.ordinal and position.inside:
        record["postion"] |= {"inside": position.inside, "insideBytes": position.inside_bytes}
    if remembered:
        packed = struct.pack(f"<{len(remembered.fingerprints)}I", *remembered.fingerprints)
        record["remembered"] = {"last": base64.b64encode(packed).decode(), "since": remembered.since_s}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def cursor_from_json(data: bytes) -> Position:
    """Return the position in ``data``, written by us or by Canal.

    Raises CursorFormatError, which names the member that is wrong and shows the beginning of the data.
    """
    try:
        return _position(_members(json.loads(data)))
    except (ValueError, RecursionError) as error:  # among them: no UTF-8, no JSON, no GTID set
        raise CursorFormatError(
            f"the stored cursor cannot be read: {error}. Delete it, or write one that can, to go on; "
            f"it begins with {data[:_MAX_SHOWN]!r}"
        ) from None


def remembered_from_json(data: bytes) -> Remembered:
    """Return what is remembered beside the position in ``data``: nothing where there is none, or none that can be read.

    It only saves repetitions, so it never stands in the way of a cursor.
    """
    try:
        members = json.loads(data)["remembered"]
        packed = base64.b64decode(members["last"], validate=True)
        return Remembered(struct.unpack(f"<{len(packed) // 4}I", packed), int(members["since"]))
    except (ValueError, TypeError, KeyError, RecursionError, struct.error):
        return NOTHING_REMEMBERED


def _members(record: object) -> dict[str, Any]:
    members = record.get("postion") if isinstance(record, dict) else None
    if not isinstance(members, dict):
        raise ValueError('it has no object "postion"')  # noqa: TRY004 # about the data, not about our types
    return members


def _position(members: dict[str, Any]) -> Position:
    file = _text(members, "journalName")
    if not file:
        raise ValueError('"journalName" is missing or empty')
    if members.get("position") is None:
        raise ValueError('"position" is missing')
    gtid_set = _text(members, "gtid")
    parse_gtid_set(gtid_set)
    return Position(
        file=file,
        offset=_number(members, "position"),
        server_uuid=_text(members, "serverUuid"),
        server_id=_number(members, "serverId"),
        timestamp_ms=_number(members, "timestamp"),
        gtid_set=gtid_set,
        ordinal=_number(members, "ordinal"),
        inside=_text(members, "inside"),
        inside_bytes=_number(members, "insideBytes"),
    )


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is {value!r:.100}, not a text')  # noqa: TRY004 # about the data, not about our types
    value.encode()  # half of a surrogate pair is JSON, and no text
    return value


def _number(members: dict[str, Any], name: str) -> int:
    value = members.get(name)
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise ValueError(f'"{name}" is {value!r:.100}, not a whole number of 0 or more')
    return value
