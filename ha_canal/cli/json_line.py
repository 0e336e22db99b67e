"""A change as one line of JSON: what `tail` and `decode` print."""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, timedelta
from decimal import Decimal

from ha_canal.client import Change


def json_line(change: Change) -> str:
    """Return one change as a JSON object on one line.

    Integers and floats are numbers, DECIMAL is a string (exact), times are ISO 8601, intervals seconds, bytes base64.
    """
    values: dict[str, object] = {
        "kind": change.kind,
        "schema": change.schema,
        "table": change.table,
        "before": dict(change.before) if change.before is not None else None,
        "after": dict(change.after) if change.after is not None else None,
        "changed": list(change.changed),
        "event_id": change.event_id,
        "file": change.position.file,
        "offset": change.position.offset,
        "gtid": change.gtid,
        "commit_time": change.commit_time,
    }
    if change.sql:
        values["sql"] = change.sql
    return json.dumps(values, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case frozenset():
            return sorted(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
