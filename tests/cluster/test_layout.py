"""Paths and payloads, against what Canal itself writes."""

from __future__ import annotations

import pytest

from ha_canal.cluster.layout import (
    Layout,
    RunningClient,
    RunningNode,
    epoch_from_bytes,
    epoch_to_bytes,
)
from ha_canal.errors import UsageError


def test_paths_are_those_of_canal() -> None:
    layout = Layout()
    shop = layout.instance("shop")
    client = shop.client("1001")
    assert layout.node("10.0.0.1:11111") == "/otter/canal/cluster/10.0.0.1:11111"
    assert shop.running == "/otter/canal/destinations/shop/running"
    assert shop.candidate("10.0.0.1:11111") == "/otter/canal/destinations/shop/cluster/10.0.0.1:11111"
    assert shop.parse == "/otter/canal/destinations/shop/parse"
    assert client.cursor == "/otter/canal/destinations/shop/1001/cursor"
    assert client.filter == "/otter/canal/destinations/shop/1001/filter"
    assert client.running == "/otter/canal/destinations/shop/1001/running"
    assert shop.clients_of(["1001", "cluster", "epoch", "running", "search"]) == ["1001", "search"]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a\nb", "x" * 201, "zookeeper"])
def test_names_that_can_be_no_node_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        Layout().instance(name)
    with pytest.raises(UsageError):
        Layout().instance("shop").client(name)


@pytest.mark.parametrize("name", ["running", "cluster", "epoch", "config", "schema", "parse"])
def test_a_client_cannot_take_the_name_of_an_instance_node(name: str) -> None:
    with pytest.raises(UsageError):
        Layout().instance("shop").client(name)


def test_running_node_as_canal_writes_it() -> None:
    canal = b'{"active":true,"address":"127.0.0.1:11111"}'
    assert RunningNode("127.0.0.1:11111").to_json() == canal
    assert RunningNode.from_json(canal, "/x") == RunningNode("127.0.0.1:11111")
    assert RunningNode.from_json(b'{"active":false,"address":"a:1","cid":1}', "/x") == RunningNode("a:1", active=False)


def test_our_members_are_added_and_come_back() -> None:
    ours = RunningNode("a:1", "node-1", "0x17")
    assert ours.to_json() == b'{"active":true,"address":"a:1","node":"node-1","session":"0x17"}'
    assert RunningNode.from_json(ours.to_json(), "/x") == ours


@pytest.mark.parametrize(("client_id", "text"), [("1001", b"1001"), ("search", b'"search"'), ("007", b'"007"')])
def test_running_client(client_id: str, text: bytes) -> None:
    running = RunningClient("10.0.0.3:4242", client_id)
    assert running.to_json() == b'{"active":true,"address":"10.0.0.3:4242","clientId":' + text + b"}"
    assert RunningClient.from_json(running.to_json(), "/x") == running


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff", b'{"address":1}', b'{"address":{}}'])
def test_garbage_names_the_node(data: bytes) -> None:
    with pytest.raises(UsageError, match="/some/running"):
        RunningNode.from_json(data, "/some/running")


def test_epoch() -> None:
    assert epoch_from_bytes(epoch_to_bytes(17), "/e") == 17
    for garbage in (b"", b"x", b"-1", b"1.5", b" 1"):
        with pytest.raises(UsageError, match="/e"):
            epoch_from_bytes(garbage, "/e")
