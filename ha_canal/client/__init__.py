"""The SDK: read an instance as typed changes, with one holder per client id, across fail-overs."""

from ha_canal.client.batch import Batch
from ha_canal.client.change import Change, EventPosition, Kind, Row
from ha_canal.client.client import Client
from ha_canal.client.values import Value

__all__ = ["Batch", "Change", "Client", "EventPosition", "Kind", "Row", "Value"]
