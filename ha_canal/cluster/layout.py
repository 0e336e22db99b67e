"""Every path and payload in the coordination service, in one place.

The tree is Canal's own (default root ``/otter/canal``), so that its clients and operators find what they know: paths,
JSON with alphabetical keys and without nulls. We add members and nodes, and rename none;
`ha_canal.cursor.record` reads and writes what is in a cursor::

    <root>/cluster/<ip:port>                             ephemeral   NodeCard: a node of the cluster
    <root>/placement                                     ours        Orders: what operators want to run where
    <root>/destinations/<d>/cluster/<ip:port>            ephemeral   a node that would run the instance
    <root>/destinations/<d>/running                      ephemeral   RunningNode: the node that runs it
    <root>/destinations/<d>/epoch                        ours        a number, raised by each new leader
    <root>/destinations/<d>/history                      ours        gaps and seams, as clients are told of them
    <root>/destinations/<d>/source                       ours        Choice: which of its sources is read, and why
    <root>/destinations/<d>/config, …/schema             ours        kept for what comes: no client id
    <root>/destinations/<d>/parse                                    a cursor: where the first client begins
    <root>/destinations/<d>/<clientId>/filter                        the client's filter, as text
    <root>/destinations/<d>/<clientId>/cursor                        what the client acknowledged
    <root>/destinations/<d>/<clientId>/running           ephemeral   RunningClient: the client that holds the lock

One thing is different: Canal's cursor points at the start of the last acknowledged event, ours behind the transaction,
or into it (``ordinal``). Both are right places to start from; from Canal's, the end of one transaction comes again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ha_canal.errors import UsageError

DEFAULT_ROOT = "/otter/canal"

_NAME = re.compile(r"[^/\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]{1,200}")
_OURS = frozenset({"cluster", "config", "epoch", "history", "parse", "running", "schema", "source"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below a root."""

    root: str = DEFAULT_ROOT

    @property
    def destinations(self) -> str:
        return f"{self.root}/destinations"

    @property
    def cluster(self) -> str:
        """The parent of all nodes of the cluster."""
        return f"{self.root}/cluster"

    @property
    def placement(self) -> str:
        """What operators want to run where."""
        return f"{self.root}/placement"

    def node(self, address: str) -> str:
        return f"{self.cluster}/{_name(address, 'an address')}"

    def instance(self, name: str) -> InstancePaths:
        """Return the paths of an instance. Raises UsageError for a name that can be none."""
        return InstancePaths(f"{self.destinations}/{_name(name, 'an instance name')}", name)


@dataclass(frozen=True, slots=True)
class InstancePaths:
    """The paths of one instance (Canal's destination)."""

    path: str
    name: str

    @property
    def running(self) -> str:
        return f"{self.path}/running"

    @property
    def epoch(self) -> str:
        return f"{self.path}/epoch"

    @property
    def parse(self) -> str:
        return f"{self.path}/parse"

    @property
    def history(self) -> str:
        return f"{self.path}/history"

    @property
    def source(self) -> str:
        """Which source is read."""
        return f"{self.path}/source"

    @property
    def cluster(self) -> str:
        """The parent of all candidates."""
        return f"{self.path}/cluster"

    def candidate(self, address: str) -> str:
        return f"{self.cluster}/{_name(address, 'an address')}"

    def client(self, client_id: str) -> ClientPaths:
        """Return the paths of a client. Raises UsageError for an id that can be none."""
        if client_id in _OURS:
            raise UsageError(f"{client_id!r} cannot be a client id: the name is taken by the instance itself")
        return ClientPaths(f"{self.path}/{_name(client_id, 'a client id')}", client_id)

    def clients_of(self, children: list[str]) -> list[str]:
        """Return those children of the instance's node which are clients."""
        return [name for name in children if name not in _OURS]


@dataclass(frozen=True, slots=True)
class ClientPaths:
    """The paths of one client of an instance."""

    path: str
    client_id: str

    @property
    def filter(self) -> str:
        return f"{self.path}/filter"

    @property
    def cursor(self) -> str:
        return f"{self.path}/cursor"

    @property
    def running(self) -> str:
        return f"{self.path}/running"


def _name(name: str, what: str) -> str:
    if name in (".", "..", "zookeeper") or not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be {what}: 1 to 200 characters, without '/' and control characters")
    return name


# Payloads -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunningNode:
    """Who runs an instance: ``address`` is the ``host:port`` that clients call, ``node`` the node's own name."""

    address: str
    node: str = ""
    session: str = ""
    active: bool = True

    def to_json(self) -> bytes:
        members = {"active": self.active, "address": self.address}
        return _json({**members, "node": self.node or None, "session": self.session or None})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> RunningNode:
        """Parse what we or Canal wrote. Raises UsageError, naming ``where``."""
        members = _object(data, where)
        return cls(
            address=_text(members, "address", where),
            node=_text(members, "node", where),
            session=_text(members, "session", where),
            active=members.get("active") is not False,
        )


@dataclass(frozen=True, slots=True)
class NodeCard:
    """A node as it shows itself. ``settled``: up for long enough that others hand instances over to it unasked.

    ``session`` is that of the ephemeral node, and not in the payload.
    """

    name: str = ""
    instances: frozenset[str] = frozenset()
    settled: bool = False
    session: str = ""

    def to_json(self) -> bytes:
        return _json({"instances": sorted(self.instances), "name": self.name or None, "settled": self.settled})

    @classmethod
    def from_json(cls, data: bytes, where: str, session: str = "") -> NodeCard:
        """Parse what we wrote; Canal writes nothing there, which is a node that takes nothing."""
        members = _object(data, where) if data else {}
        return cls(
            name=_text(members, "name", where),
            instances=frozenset(_texts(members, "instances", where)),
            settled=members.get("settled") is True,
            session=session,
        )


@dataclass(frozen=True, slots=True)
class Moved:
    """An order to run an instance on the node at ``address``, which then had this session."""

    address: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class Orders:
    """What operators want: the nodes at these addresses drained, and these instances (by name) moved."""

    drained: frozenset[str] = frozenset()
    moved: Mapping[str, Moved] = field(default_factory=dict)

    def to_json(self) -> bytes:
        moved = {name: {"address": to.address, "session": to.session or None} for name, to in self.moved.items()}
        return _json({"drained": sorted(self.drained), "moved": moved})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Orders:
        members = _object(data, where) if data else {}
        moved = members.get("moved") or {}
        if not isinstance(moved, dict) or not all(isinstance(to, dict) for to in moved.values()):
            raise UsageError(f"{where}: moved is {moved!r} and no map of objects; mend or delete the node")
        return cls(
            frozenset(_texts(members, "drained", where)),
            {name: Moved(_text(to, "address", where), _text(to, "session", where)) for name, to in moved.items()},
        )


@dataclass(frozen=True, slots=True)
class RunningClient:
    """Who holds the lock of a client id; ``address`` is the client's. Canal's client ids are numbers, ours texts."""

    address: str
    client_id: str
    epoch: int = 0
    active: bool = True

    def to_json(self) -> bytes:
        members = {"active": self.active, "address": self.address, "clientId": _number_or_text(self.client_id)}
        return _json({**members, "epoch": self.epoch or None})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> RunningClient:
        members = _object(data, where)
        return cls(
            address=_text(members, "address", where),
            client_id=str(members.get("clientId", "")),
            epoch=_number(members, "epoch", where),
            active=members.get("active") is not False,
        )


def epoch_to_bytes(epoch: int) -> bytes:
    """Return the payload of an epoch node: decimal digits."""
    return str(epoch).encode()


def epoch_from_bytes(data: bytes, where: str) -> int:
    """Return the number in an epoch node. Raises UsageError, naming ``where``."""
    if not re.fullmatch(rb"[0-9]{1,18}", data):
        raise UsageError(f"{where} holds {data[:50]!r} and no number: put the highest epoch ever used there")
    return int(data)


def _json(members: Mapping[str, Any]) -> bytes:
    text = json.dumps(_without_nulls(members), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return value


def _object(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} holds {data[:100]!r}, which is no JSON: {error}; mend or delete the node") from error
    if not isinstance(value, dict):
        raise UsageError(f"{where} holds {data[:100]!r}, which is no JSON object: mend or delete the node")
    return value


def _text(members: Mapping[str, Any], key: str, where: str) -> str:
    value = members.get(key)
    if value is not None and not (isinstance(value, str) and _is_unicode(value)):
        raise UsageError(f"{where}: {key} is {value!r} and no text; mend or delete the node")
    return value or ""


def _is_unicode(text: str) -> bool:
    """Whether it can be sent: half of a surrogate pair is JSON, and no text."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _texts(members: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = members.get(key) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{where}: {key} is {value!r} and no list of texts; mend or delete the node")
    return value


def _number(members: Mapping[str, Any], key: str, where: str) -> int:
    value = members.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UsageError(f"{where}: {key} is {value!r} and no number; mend or delete the node")
    return value or 0


def _number_or_text(client_id: str) -> int | str:
    return int(client_id) if re.fullmatch(r"0|[1-9][0-9]{0,8}", client_id) else client_id
