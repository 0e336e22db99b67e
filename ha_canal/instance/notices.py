"""What an instance keeps on record for its clients: accepted gaps, seams between servers, moved cursors, switches.

The last ones are kept in the coordinator, written in the very commit that makes them true, shown in `status`, and told
to each client when it subscribes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from ha_canal.errors import UsageError

Kind = Literal["gap", "seam", "moved", "switched"]
MOST_KEPT = 20


@dataclass(frozen=True, slots=True)
class Notice:
    """``gap``: changes were missed; ``seam``: reading went on at another server; ``moved``: by an operator;
    ``switched``: another source is read from there on.

    ``client_id`` is whom it concerns, ``""`` for all.
    """

    time_ms: int
    kind: str
    text: str
    client_id: str = ""


def notice_now(kind: Kind, text: str, client_id: str = "") -> Notice:
    """Return a notice with the time of this node's clock."""
    return Notice(int(time.time() * 1000), kind, text, client_id)


def notices_to_json(notices: Sequence[Notice]) -> bytes:
    """Return the last ones as the coordinator holds them."""
    kept = [asdict(notice) for notice in notices[-MOST_KEPT:]]
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def notices_from_json(data: bytes) -> list[Notice]:
    """Read what `notices_to_json` wrote. Raises UsageError for anything else."""
    try:
        return [
            Notice(int(one["time_ms"]), str(one["kind"]), str(one["text"]), str(one["client_id"]))
            for one in json.loads(data or b"[]")
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"the stored history of the instance cannot be read: {error!r}; delete the node: {data[:100]!r}"
        ) from error
