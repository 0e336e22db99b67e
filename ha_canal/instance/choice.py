"""Which of its sources an instance reads, and why: kept in the coordinator, so that every later term goes on there.

Written fenced by the leader, in the commit that switches. No clock decides anything: ``since_ms`` is for people.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ha_canal.cluster.coordinator import Tree
from ha_canal.cluster.layout import InstancePaths
from ha_canal.config import InstanceSection, SourceSection
from ha_canal.errors import UsageError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """``address`` is read. ``before`` was read until the last switch, ``failed`` are to be avoided for a while.

    ``server_uuid`` and ``server_id`` are those of the server that last answered there; empty and 0: not known.
    ``switches`` counts those in a row that were not ordered.
    """

    address: str
    since_ms: int = 0
    why: str = ""
    before: str = ""
    failed: tuple[str, ...] = ()
    switches: int = 0
    server_uuid: str = ""
    server_id: int = 0

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Choice:
        """Read what `to_json` wrote. Raises UsageError, naming ``where``."""
        try:
            members = json.loads(data)
            return cls(
                address=str(members["address"]),
                since_ms=int(members.get("since_ms", 0)),
                why=str(members.get("why", "")),
                before=str(members.get("before", "")),
                failed=tuple(str(one) for one in members.get("failed", ())),
                switches=int(members.get("switches", 0)),
                server_uuid=str(members.get("server_uuid", "")),
                server_id=int(members.get("server_id", 0)),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{where} does not say which source to read: {error!r}. Delete the node to begin with the primary; it "
                f"holds {data[:100]!r}"
            ) from None


async def stored_choice(tree: Tree, paths: InstancePaths, section: InstanceSection) -> Choice:
    """Return what is stored, or the primary where nothing is, or a server that stands in no configuration any more."""
    primary = Choice(section.source.address)
    node = await tree.read(paths.source) if section.standbys else None
    if node is None or not node.data:
        return primary
    choice = Choice.from_json(node.data, paths.source)
    if not choice.before and choice.address != primary.address:
        return primary  # there was no switch: the configuration has another primary now
    if find_source(section.sources, choice.address) is None:
        log.warning(
            "instance %s was read from %s, which is none of its sources any more: %s is read",
            *(section.name, choice.address, primary.address),
        )
        return primary
    return choice


def find_source(sources: Sequence[SourceSection], address: str) -> SourceSection | None:
    """Return the source at ``address`` (host:port), or None."""
    return next((source for source in sources if source.address == address), None)
