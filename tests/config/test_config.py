"""The configuration: every fault at once, each with its path and what is allowed, and no secret anywhere."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from ha_canal.config import NodeConfig, SourceSection, StandbySection, load_config, parse_config, source_from_url
from ha_canal.errors import ConfigError

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-geheim"


def good() -> dict[str, Any]:
    return {
        "cluster": {"mode": "embedded", "state_file": "state.db"},
        "instance": [{"name": "shop", "source": {"host": "db", "user": "canal", "password": SECRET}}],
    }


def faults_of(data: dict[str, Any]) -> dict[str, str]:
    """Return the words of each fault by its path."""
    with pytest.raises(ConfigError) as caught:
        parse_config(data, where="node.toml")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert str(caught.value).startswith(f"node.toml: {len(caught.value.faults)} fault(s)\n")
    split = [fault.partition(": ") for fault in caught.value.faults]
    assert len({path for path, _, _ in split}) == len(split), "two faults at one path"
    return {path: words for path, _, words in split}


def test_the_example_is_good_and_shows_every_setting() -> None:
    config = load_config(ROOT / "deploy" / "node.toml")
    assert config.address == "node-1:11111"
    assert [instance.name for instance in config.instance] == ["shop"]
    text = (ROOT / "deploy" / "node.toml").read_text()
    alternatives = {"password", "password_file", "tls_ca", "state_file", "server_id", "name"}
    for section in (
        config.node,
        config.cluster,
        config.instance[0],
        config.instance[0].source,
        StandbySection(host="db2"),
        config.instance[0].failover,
        config.instance[0].ring,
    ):
        for name in type(section).model_fields:
            assert name in text, f"{name} is missing in the example"
    assert all(name in text for name in alternatives)


def test_a_small_configuration_is_enough() -> None:
    config = parse_config(good(), where="node.toml")
    assert config.address == config.node.listen == "127.0.0.1:11111"
    assert config.instance[0].source.address == "db:3306"
    assert config.instance[0].source.read_password() == SECRET


def test_every_fault_at_once() -> None:
    data = {
        "typo": 1,
        "node": {"listen": "0.0.0.0:11111", "client_lease_s": 0},
        "cluster": {"mode": "zookeeper", "root": "otter/", "sessions": 3, "session_timeout_s": float("nan")},
        "instance": [
            {
                "name": "a b",
                "start": "now",
                "filter": r"shop\..*,*x",
                "source": {
                    "host": "",
                    "port": 70000,
                    "password": SECRET,
                    "password_env": "X",
                    "tls": "maybe",
                    "usr": SECRET,
                },
            },
            {"name": "x", "ring": {"max_bytes": 1, "max_items": "many"}},
            {
                "name": "y",
                "source": {"host": "db", "user": "u"},
                "standbys": [{"host": "db"}, {"prot": 1}],
                "failover": {"heartbeat_s": 0, "failures": 0, "retries": 3},
            },
        ],
    }
    found = faults_of(data)
    for path, words in {
        "typo": "cluster, instance, node",
        "node.advertise": "is needed when listen is 0.0.0.0",
        "node.client_lease_s": "greater than or equal to 0.5",
        "cluster.servers": "10.0.0.1:2181",
        "cluster.root": "/otter/canal",
        "cluster.sessions": "mode, root, servers, session_timeout_s, settle_s, state_file",
        "cluster.session_timeout_s": "less than or equal to 120",
        "instance[0].name": "letters, digits",
        "instance[0].start": "'latest' or 'earliest'",
        "instance[0].filter": "'*x' is no regular expression",
        "instance[0].source.host": "at least 1 character",
        "instance[0].source.port": "less than or equal to 65535",
        "instance[0].source.user": "is missing",
        "instance[0].source.password_env": "only one of password, password_file and password_env",
        "instance[0].source.tls": "'disabled', 'preferred', 'required' or 'verify'",
        "instance[0].source.usr": "is no setting; here can stand: connect_timeout_s, heartbeat_s, host",
        "instance[1].source": "is missing",
        "instance[1].ring.max_bytes": "greater than or equal to 65536",
        "instance[1].ring.max_items": "valid integer",
        "instance[2].standbys[1].host": "is missing",
        "instance[2].standbys[1].prot": "is no setting; here can stand: host, password",
        "instance[2].failover.heartbeat_s": "greater than or equal to 0.1",
        "instance[2].failover.failures": "greater than or equal to 1",
        "instance[2].failover.retries": "failures, heartbeat_s, hold_off_s, query",
    }.items():
        assert words in found.pop(path)
    assert found == {}


def test_standbys_are_as_the_source_but_for_what_they_say() -> None:
    data = good()
    data["instance"][0]["standbys"] = [{"host": "db2"}, {"host": "db", "port": 3307, "password_env": "OTHER"}]
    data["instance"][0]["source"]["server_id"] = 7
    primary, second, third = parse_config(data, where="node.toml").instance[0].sources
    assert (primary.address, second.address, third.address) == ("db:3306", "db2:3306", "db:3307")
    assert (second.read_password(), second.server_id, second.user) == (SECRET, 7, "canal")
    assert (third.password, third.password_env, third.server_id) == (None, "OTHER", 7)


def test_a_server_is_named_once() -> None:
    data = good()
    data["instance"][0]["standbys"] = [{"host": "db2"}, {"host": "db"}]
    assert faults_of(data) == {
        "instance[0].standbys": "db:3306 is named twice: each server is the source or one standby"
    }


@pytest.mark.parametrize(
    ("section", "values", "path", "words"),
    [
        ("node", {"listen": "11111"}, "node.listen", "host:port"),
        ("node", {"listen": "a:b:1"}, "node.listen", "exactly one colon"),
        ("node", {"advertise": "a:70000"}, "node.advertise", "host:port"),
        ("cluster", {"mode": "embedded"}, "cluster.state_file", "is needed in mode embedded"),
        ("cluster", {"mode": "zookeeper"}, "cluster.servers", "is needed in mode zookeeper"),
        ("cluster", {"mode": "zookeeper", "servers": "a:1,b"}, "cluster.servers", "host:port"),
        ("cluster", {"mode": "zk", "state_file": "x"}, "cluster.mode", "'embedded' or 'zookeeper'"),
        ("cluster", {"state_file": "x", "root": "/"}, "cluster.root", "must start with a slash"),
        ("cluster", {"state_file": "x", "root": "/a//b"}, "cluster.root", "must start with a slash"),
    ],
)
def test_single_faults(section: str, values: dict[str, object], path: str, words: str) -> None:
    found = faults_of(good() | {section: values})
    assert list(found) == [path]
    assert words in found[path]


def test_instances_are_a_list_of_different_ones() -> None:
    assert "[[instance]]" in faults_of(good() | {"instance": good()["instance"][0]})["instance"]
    assert "at least one" in faults_of(good() | {"instance": []})["instance"]
    assert faults_of(good() | {"instance": good()["instance"] * 2})["instance"].endswith("the same name: shop")
    assert "is missing" in faults_of({})["instance"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[node\n", "is not TOML"), (b"\xff\xfe", "is not TOML"), (None, "cannot be read: No such file or directory")],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "node.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_no_secret_is_shown() -> None:
    config = parse_config(good(), where="node.toml")
    source = config.instance[0].source
    for shown in (repr(config), str(config), repr(source), str(source.model_dump()), config.model_dump_json()):
        assert SECRET not in shown


def test_a_wrong_type_of_secret_is_not_shown() -> None:
    data = good()
    data["instance"][0]["source"]["password"] = [SECRET]
    assert "valid string" in faults_of(data)["instance[0].source.password"]


def test_where_passwords_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET + "\n")
    monkeypatch.setenv("CANAL_TEST_PASSWORD", SECRET)
    for given in ({"password": SECRET}, {"password_file": str(file)}, {"password_env": "CANAL_TEST_PASSWORD"}):
        assert SourceSection.model_validate({"host": "db", "user": "u", **given}).read_password() == SECRET
    assert SourceSection(host="db", user="u").read_password() == ""


def test_passwords_that_are_not_there(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(SECRET.encode() + b"\xff")
    for given, words in (
        ({"password_file": tmp_path / "none"}, "password_file: .*No such file"),
        ({"password_file": binary}, "password_file: .*no UTF-8"),
        ({"password_env": "CANAL_NOT_SET"}, "the variable CANAL_NOT_SET is not set"),
    ):
        source = SourceSection.model_validate({"host": "db", "user": "u", **given})
        with pytest.raises(ConfigError, match=words) as caught:
            source.read_password()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "address", "user", "password"),
    [
        ("mysql://canal:pw@db:3307", "db:3307", "canal", "pw"),
        ("mariadb://canal:pw@db", "db:3306", "canal", "pw"),
        ("mysql://canal@db/", "db:3306", "canal", ""),
        ("mysql://a%40b:p%2Fw%3F%23%3A%40%25@db", "db:3306", "a@b", "p/w?#:@%"),
        ("mysql://canal:@db", "db:3306", "canal", ""),
        ("mysql://canal:p@ss@db", "db:3306", "canal", "p@ss"),
        ("mysql://canal:pw@[::1]:3307", "::1:3307", "canal", "pw"),
    ],
)
def test_urls(url: str, address: str, user: str, password: str) -> None:
    source = source_from_url(url)
    assert (source.address, source.user, source.read_password()) == (address, user, password)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "db",
        f"postgres://u:{SECRET}@db",
        f"mysql://u:{SECRET}@db:x",
        f"mysql://u:{SECRET}@db:0",
        f"mysql://u:{SECRET}@db:70000",
        f"mysql://u:{SECRET}@[::1",
        f"mysql://u:{SECRET}/@db",
        f"mysql://u:{SECRET}?@db",
        f"mysql://u:#{SECRET}@db",
        f"mysql://:{SECRET}@db",
        f"mysql://u:{SECRET}@",
        f"mysql://u:{SECRET}@db/shop",
        f"mysql://u:{SECRET}@db?tls=required",
    ],
)
def test_what_is_no_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="mysql://user:password@host:port") as caught:
        source_from_url(url)
    assert SECRET not in str(caught.value)


def test_the_url_may_leave_the_password_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HA_CANAL_PASSWORD", SECRET)
    assert source_from_url("mysql://u@db").read_password() == SECRET
    assert source_from_url("mysql://u:pw@db").read_password() == "pw"
    assert "HA_CANAL_PASSWORD" in os.environ


def test_a_configuration_cannot_be_changed() -> None:
    config = parse_config(good(), where="node.toml")
    assert isinstance(config, NodeConfig)
    with pytest.raises(ValueError, match="frozen"):
        config.cluster.root = "/x"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({}, "give one of file"),
        ({"file": "bin.000001", "gtid_set": "0-1-1"}, "give one of file"),
        ({"gtid_set": "no set"}, "not a GTID set"),
        ({"time": "2026-01-31T12:00:00"}, "timezone"),
        ({"file": "bin.000001", "offset": 3}, "greater than or equal to 4"),
    ],
)
def test_a_configured_start_is_one_place(place: dict[str, Any], words: str) -> None:
    data = good()
    data["instance"][0]["start_at"] = place
    assert words in "; ".join(faults_of(data).values())


def test_a_configured_start_may_be_a_file_a_set_or_a_time() -> None:
    for place in ({"file": "bin.000001"}, {"gtid_set": "0-1-1"}, {"time": "2026-01-31T12:00:00Z"}):
        data = good()
        data["instance"][0]["start_at"] = place
        assert parse_config(data, where="node.toml").instance[0].start_at is not None
