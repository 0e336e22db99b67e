"""A writer that commits marked changes, and a client that records what it is given: the two ends of every campaign.

The ledger table is the truth: each transaction writes one to three rows (writer, sequence) into it, and changes rows of
`orders` besides, so transactions touch two tables. Both ends run in threads of their own, as real applications would.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Self

from ha_canal.client import Batch, Change, Client
from ha_canal.errors import StaleEpochError, UnknownBatchError
from ha_canal.testing.checker import Checker, Delivery, Mark
from ha_canal.testing.database import DatabaseServer

SCHEMA = "shop"
_TABLES = (
    """CREATE TABLE IF NOT EXISTS ledger (
        writer INT NOT NULL, sequence BIGINT NOT NULL, note VARCHAR(200) NOT NULL, PRIMARY KEY (writer, sequence))""",
    """CREATE TABLE IF NOT EXISTS orders (
        id INT NOT NULL PRIMARY KEY, item VARCHAR(40) NOT NULL, price DECIMAL(10,2) NOT NULL,
        changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))""",
)
_ITEMS = ("tea", "coffee", "bread", "honey", "茶", "crème")


def create_tables(server: DatabaseServer) -> None:
    """Make the schema `shop` and its tables."""
    server.run_sql(f"CREATE DATABASE IF NOT EXISTS {SCHEMA} CHARACTER SET utf8mb4")
    for table in _TABLES:
        server.run_sql(table, database=SCHEMA)


def committed(server: DatabaseServer) -> list[Mark]:
    """Ask the database what was committed."""
    rows = server.run_sql("SELECT writer, sequence FROM ledger", database=SCHEMA)
    return [(int(writer), int(sequence)) for writer, sequence in rows]


class Writer:
    """Commits transactions in a thread until it is left. ``pause_s`` is the mean pause between two of them."""

    def __init__(self, server: DatabaseServer, *, writer: int = 1, pause_s: float = 0.0, seed: int = 1) -> None:
        self._server = server
        self._writer = writer
        self._pause_s = pause_s
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer {writer}")
        self._failure: BaseException | None = None
        self.transactions = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the writing; every transaction that was begun is committed. Raises what the writer died of."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with contextlib.closing(self._server.connect(SCHEMA)) as connection:
                connection.autocommit(False)
                sequence = 0
                while not self._stop.is_set():
                    with connection.cursor() as cursor:
                        for _ in range(self._random.randint(1, 3)):
                            sequence += 1
                            note = "n" * self._random.randint(1, 150)
                            cursor.execute("INSERT INTO ledger VALUES (%s, %s, %s)", (self._writer, sequence, note))
                        cursor.execute(
                            "REPLACE INTO orders (id, item, price) VALUES (%s, %s, %s)",
                            (
                                self._random.randint(1, 50),
                                self._random.choice(_ITEMS),
                                Decimal(self._random.randint(1, 9999)) / 100,
                            ),
                        )
                    connection.commit()
                    self.transactions += 1
                    self._stop.wait(self._random.expovariate(1 / self._pause_s) if self._pause_s else 0)
        except BaseException as error:  # noqa: BLE001 # a thread's outermost edge: stop() re-raises it
            self._failure = error


class Reader:
    """A client in a thread: records deliveries and answered acks, until it is left."""

    def __init__(
        self,
        nodes: list[str],
        *,
        client_id: str = "checker",
        instance: str = "shop",
        on_batch: Callable[[Batch], None] | None = None,
    ) -> None:
        self._client = Client(nodes, instance=instance, client_id=client_id)
        self._on_batch = on_batch
        self._thread = threading.Thread(target=self._run, name=f"client {client_id}")
        self._failure: BaseException | None = None
        self.checker = Checker()
        self.arrivals: list[float] = []
        """When each batch came, by time.monotonic()."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the client. Raises what it died of."""
        self._client.close()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            for batch in self._client:
                self.arrivals.append(time.monotonic())
                deliveries = [_delivery(change) for change in batch.changes if change.table == "ledger"]
                self.checker.deliver(deliveries)
                if self._on_batch is not None:
                    self._on_batch(batch)
                try:
                    batch.ack()
                except (StaleEpochError, UnknownBatchError):
                    continue  # the leader changed in between: the batch comes again
                self.checker.acknowledge(deliveries)
        except BaseException as error:  # noqa: BLE001 # a thread's outermost edge: stop() re-raises it
            self._failure = error


def _delivery(change: Change) -> Delivery:
    row = change.after if change.after is not None else change.before
    assert row is not None, change
    writer, sequence = row["writer"], row["sequence"]
    assert isinstance(writer, int), change
    assert isinstance(sequence, int), change
    return Delivery(change.event_id, (writer, sequence))
