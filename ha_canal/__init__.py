"""ha_canal: a highly available change-data-capture server for MySQL and MariaDB, and its client.

`Client` is loaded at its first use, so that a node never loads the client's code, nor a client the node's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ha_canal.client import Batch, Change, Client, Row

__all__ = ["Batch", "Change", "Client", "Row", "__version__"]

__version__ = "0.1.0"

_FROM_CLIENT = frozenset({"Batch", "Change", "Client", "Row"})


def __getattr__(name: str) -> object:
    if name in _FROM_CLIENT:
        from ha_canal import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
