"""The configuration of a node: a tree of frozen models, read from TOML, with all faults reported at once.

A component gets only its own node of the tree. Passwords are `SecretStr`: they print as stars, wherever they go.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from ha_canal.errors import ConfigError, FilterError
from ha_canal.model.gtid import parse_gtid_set
from ha_canal.model.patterns import compile_patterns

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_ADDRESS = re.compile(r"[^:\s/]+:\d{1,5}", re.ASCII)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or not int(value.rpartition(":")[2]) < 65536:
        raise ValueError("must be host:port, with exactly one colon, such as 10.0.0.7:11111")
    return value


class NodeSection(_Section):
    """``[node]``: this process."""

    name: str = Field(default="", description="how operators call it; default: the advertised address")
    listen: str = "127.0.0.1:11111"
    advertise: str = Field(
        default="", validate_default=True, description="host:port that clients and other nodes reach; default: listen"
    )
    client_lease_s: Annotated[float, Field(ge=0.5, le=3600)] = Field(
        default=10.0, description="how long a client that is not heard of keeps its lock"
    )

    @field_validator("listen", "advertise")
    @classmethod
    def _address(cls, value: str) -> str:
        return _check_address(value) if value else value

    @field_validator("advertise")
    @classmethod
    def _reachable(cls, value: str, others: ValidationInfo) -> str:
        if not value and str(others.data.get("listen", "")).startswith("0.0.0.0:"):
            raise ValueError("is needed when listen is 0.0.0.0: other machines cannot call 0.0.0.0")
        return value


class ClusterSection(_Section):
    """``[cluster]``: who decides which node runs an instance. ``embedded``: this node alone, with a SQLite file."""

    mode: Literal["embedded", "zookeeper"] = "embedded"
    state_file: Path | None = Field(default=None, validate_default=True, description="embedded: where cursors live")
    servers: str = Field(default="", validate_default=True, description="zookeeper: host:port,host:port")
    root: str = "/otter/canal"
    session_timeout_s: Annotated[float, Field(ge=1, le=120)] = 10.0
    settle_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=30.0, description="how long a node is up before others hand instances over to it for balance"
    )

    @field_validator("state_file")
    @classmethod
    def _remembers(cls, value: Path | None, others: ValidationInfo) -> Path | None:
        if value is None and others.data.get("mode") == "embedded":
            raise ValueError("is needed in mode embedded: the file that remembers the cursors")
        return value

    @field_validator("servers")
    @classmethod
    def _addresses(cls, value: str, others: ValidationInfo) -> str:
        if not value and others.data.get("mode") == "zookeeper":
            raise ValueError("is needed in mode zookeeper, such as '10.0.0.1:2181,10.0.0.2:2181'")
        for server in value.split(",") if value else ():
            _check_address(server.strip())
        return value

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not re.fullmatch(r"(/[^/\s]+)+", value):
            raise ValueError("must start with a slash and not end with one, such as /otter/canal")
        return value


_PASSWORDS = ("password", "password_file", "password_env")


def _check_one_password(value: str | None, others: ValidationInfo) -> str | None:
    given = (value, others.data.get("password"), others.data.get("password_file"))
    if sum(one is not None for one in given) > 1:
        raise ValueError("give only one of password, password_file and password_env")
    return value


_OnlyPassword = Annotated[str | None, AfterValidator(_check_one_password)]


class SourceSection(_Section):
    """``[instance.source]``: the database. One of password, password_file, password_env; none: no password."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 3306
    user: str
    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: _OnlyPassword = Field(default=None, validate_default=True)
    tls: Literal["disabled", "preferred", "required", "verify"] = "preferred"
    tls_ca: Path | None = None
    server_id: Annotated[int, Field(ge=0, le=4294967295)] = Field(
        default=0, description="our replica id at the source, the same on every node; 0: made from the instance's name"
    )
    use_gtids: bool = Field(
        default=True, description="false: positions are file and offset, whatever GTIDs the server has"
    )
    connect_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    heartbeat_s: Annotated[float, Field(ge=0.1, le=3600)] = 5.0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def read_password(self) -> str:
        """Return the password now, from wherever it is kept. Raises ConfigError, which does not hold it."""
        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_env is not None:
            if self.password_env not in os.environ:
                raise ConfigError("source", [f"password_env: the variable {self.password_env} is not set"])
            return os.environ[self.password_env]
        if self.password_file is not None:
            try:
                return self.password_file.read_text("utf-8").rstrip("\r\n")
            except OSError as error:
                raise ConfigError("source", [f"password_file: {error}"]) from error
            except UnicodeDecodeError:
                raise ConfigError("source", [f"password_file: {self.password_file} is no UTF-8 text"]) from None
        return ""


class StandbySection(_Section):
    """``[[instance.standbys]]``: a replica of the source, or what may become one. What is not given is as there."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 3306
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: _OnlyPassword = Field(default=None, validate_default=True)
    tls: Literal["disabled", "preferred", "required", "verify"] | None = None
    tls_ca: Path | None = None

    def completed(self, source: SourceSection) -> SourceSection:
        """Return the section by which it is read: that of ``source``, with what is given here."""
        own = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        if any(name in own for name in _PASSWORDS):
            own = dict.fromkeys(_PASSWORDS) | own
        return source.model_copy(update=own)


class FailoverSection(_Section):
    """``[instance.failover]``: how soon the source is given up. Only instances with standbys use it."""

    heartbeat_s: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        default=3.0, description="how often the source is asked, and how long it may take to answer"
    )
    failures: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=3, description="so many heartbeats missed: another source is looked for"
    )
    query: Annotated[str, Field(min_length=1)] = Field(default="SELECT 1", description="what it is asked")
    hold_off_s: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=60.0, description="so long a source that failed is taken again only if no other can be read"
    )


class RingSection(_Section):
    """``[instance.ring]``: how much is held in memory between the source and the slowest client."""

    max_bytes: Annotated[int, Field(ge=64 * 1024)] = 64 * 1024 * 1024
    max_items: Annotated[int, Field(ge=16)] = 200_000


class StartAtSection(_Section):
    """``[instance.start_at]``: where the first client begins, instead of ``start``: a file, GTIDs, or a time.

    ``gtid_set`` is what is done already; ``time`` needs a time zone, such as 2026-01-31T12:00:00Z.
    """

    file: str = ""
    offset: Annotated[int, Field(ge=4)] = 4
    gtid_set: str = ""
    time: AwareDatetime | None = Field(default=None, validate_default=True)

    @field_validator("gtid_set")
    @classmethod
    def _gtids(cls, value: str) -> str:
        return str(parse_gtid_set(value)) if value else value

    @field_validator("time")
    @classmethod
    def _one_of_them(cls, value: datetime | None, others: ValidationInfo) -> datetime | None:
        given = (others.data.get("file"), others.data.get("gtid_set"), value)
        if sum(bool(one) for one in given) != 1:
            raise ValueError("give one of file (with offset), gtid_set and time")
        return value


class InstanceSection(_Section):
    """``[[instance]]``: one source, with the tables that anybody may read from it."""

    name: str
    source: SourceSection
    standbys: tuple[StandbySection, ...] = Field(default=(), description="where to go on when the source fails")
    failover: FailoverSection = FailoverSection()
    filter: str = Field(default=r".*\..*", description="comma list of regular expressions on schema.table")
    exclude: str = Field(default=r"mysql\.slave_.*", description="the same, taken away again")
    start: Literal["latest", "earliest"] = "latest"
    start_at: StartAtSection | None = None
    on_purged: Literal["stop", "earliest", "latest"] = Field(
        default="stop", description="what to do when binlog that is needed is gone: stop, or go on and record the gap"
    )
    fallback_interval_s: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=60.0, description="on another server without GTIDs: begin this long before the cursor's time"
    )
    runway_warning_s: Annotated[float, Field(ge=0)] = Field(
        default=6 * 3600.0, description="warn when the source may purge what the slowest client needs this soon"
    )
    ring: RingSection = RingSection()
    weight: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=1.0, description="its share of a node's load, against the other instances"
    )
    preferred: tuple[str, ...] = Field(default=(), description="nodes that should run it, by name or host:port")

    @field_validator("standbys")
    @classmethod
    def _other_servers(cls, value: tuple[StandbySection, ...], others: ValidationInfo) -> tuple[StandbySection, ...]:
        source = others.data.get("source")
        known = [source.address] if isinstance(source, SourceSection) else []
        for standby in value:
            address = f"{standby.host}:{standby.port}"
            if address in known:
                raise ValueError(f"{address} is named twice: each server is the source or one standby")
            known.append(address)
        return value

    @property
    def sources(self) -> tuple[SourceSection, ...]:
        """All that the instance may be read from: the primary, then the standbys in their order."""
        return (self.source, *(standby.completed(self.source) for standby in self.standbys))

    @field_validator("filter", "exclude")
    @classmethod
    def _expressions(cls, value: str) -> str:
        try:
            compile_patterns(value)
        except FilterError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, dots, dashes or underscores")
        return value


class NodeConfig(_Section):
    """The whole file."""

    node: NodeSection = NodeSection()
    cluster: ClusterSection
    instance: tuple[InstanceSection, ...]

    @field_validator("instance")
    @classmethod
    def _distinct(cls, value: tuple[InstanceSection, ...]) -> tuple[InstanceSection, ...]:
        if not value:
            raise ValueError("at least one [[instance]] is needed")
        names = [instance.name for instance in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two instances have the same name: {', '.join(twice)}")
        return value

    @property
    def address(self) -> str:
        return self.node.advertise or self.node.listen


_SECTIONS: dict[str, type[BaseModel]] = {
    "node": NodeSection,
    "cluster": ClusterSection,
    "instance": InstanceSection,
    "source": SourceSection,
    "standbys": StandbySection,
    "failover": FailoverSection,
    "ring": RingSection,
    "start_at": StartAtSection,
}


def load_config(path: Path) -> NodeConfig:
    """Read and check a node's TOML file. Raises ConfigError with every fault and its path."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"is not TOML: {error}"]) from error
    return parse_config(data, where=str(path))


def parse_config(data: dict[str, Any], *, where: str) -> NodeConfig:
    """Check parsed TOML. Raises ConfigError with every fault and its path; no fault repeats a value."""
    try:
        return NodeConfig.model_validate(data)
    except ValidationError as error:
        faults = [
            f"{_path_of(fault['loc'])}: {_words_of(fault)}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError(where, faults) from None


def _words_of(fault: ErrorDetails) -> str:
    match fault["type"]:
        case "missing":
            return "is missing"
        case "tuple_type":
            return "must be a list: write [[instance]], with two brackets"
        case "extra_forbidden":
            return f"is no setting; here can stand: {', '.join(_settings_at(fault['loc'][:-1]))}"
        case _:
            return fault["msg"].removeprefix("Value error, ")


def _settings_at(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = NodeConfig
    for part in location:
        if isinstance(part, str):
            section = _SECTIONS[part]
    return sorted(section.model_fields)


def _path_of(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "the file"


def _bad_url() -> ConfigError:
    return ConfigError(
        "the source's URL",
        ["must be mysql://user:password@host:port, with nothing behind; write / ? # @ : % in a password as %2F %3F …"],
    )


def source_from_url(url: str) -> SourceSection:
    """Read ``mysql://user:password@host:3306``. Raises ConfigError, which does not repeat the URL."""
    try:
        parts = urlsplit(url)
        port = 3306 if parts.port is None else parts.port
    except ValueError:  # brackets or a port that are none
        raise _bad_url() from None
    extra = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in {"mysql", "mariadb"} or not parts.hostname or not parts.username or not port or extra:
        raise _bad_url()
    return SourceSection(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username),
        password=SecretStr(unquote(parts.password)) if parts.password is not None else None,
        password_env="HA_CANAL_PASSWORD" if parts.password is None and "HA_CANAL_PASSWORD" in os.environ else None,
    )
