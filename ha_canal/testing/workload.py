"""A writer that commits marked changes, and a client that records what it is given: the two ends of every campaign.

The ledger table is the truth: each transaction writes one to three rows (writer, sequence) into it, and changes rows of
`orders` besides, so transactions touch two tables. Both ends run in threads of their own, as real applications would.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, Self

import pymysql

from ha_canal.client import Batch, Change, Client
from ha_canal.errors import StaleEpochError, UnknownBatchError
from ha_canal.testing.checker import Checker, Delivery, Mark
from ha_canal.testing.database import DatabaseServer

SCHEMA = "shop"
CLIENT_ID = "checker"
_TABLES = (
    """CREATE TABLE IF NOT EXISTS ledger (
        writer INT NOT NULL, sequence BIGINT NOT NULL, note VARCHAR(200) NOT NULL, PRIMARY KEY (writer, sequence))""",
    """CREATE TABLE IF NOT EXISTS orders (
        id INT NOT NULL PRIMARY KEY, item VARCHAR(40) NOT NULL, price DECIMAL(10,2) NOT NULL,
        changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))""",
)
_ITEMS = ("tea", "coffee", "bread", "honey", "茶", "crème")
_RECONNECT_S = 0.05
_DEADLOCK = 1213


def create_tables(server: DatabaseServer, schema: str = SCHEMA) -> None:
    """Make the schema and its tables."""
    server.run_sql(f"CREATE DATABASE IF NOT EXISTS {schema} CHARACTER SET utf8mb4")
    for table in _TABLES:
        server.run_sql(table, database=schema)


def committed(server: DatabaseServer, schema: str = SCHEMA) -> list[Mark]:
    """Ask the database what was committed."""
    rows = server.run_sql("SELECT writer, sequence FROM ledger", database=schema)
    return [(int(writer), int(sequence)) for writer, sequence in rows]


class Connects(Protocol):
    """Where a writer writes."""

    def connect(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]: ...


class Writer:
    """Commits transactions in a thread until it is left. ``pause_s`` is the mean pause between two of them.

    With ``outlives_server`` it connects again when the database was restarted; it goes on with new sequence numbers,
    whatever became of the commit that was cut. ``commits`` has each commit that was answered: the sequence number of
    its last row, and when by time.monotonic().
    """

    def __init__(
        self,
        server: Connects,
        *,
        schema: str = SCHEMA,
        writer: int = 1,
        pause_s: float = 0.0,
        seed: int = 1,
        outlives_server: bool = False,
    ) -> None:
        self._server = server
        self._schema = schema
        self._writer = writer
        self._pause_s = pause_s
        self._outlives_server = outlives_server
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer {writer}")
        self._failure: BaseException | None = None
        self._sequence = 0
        self.transactions = 0
        self.commits: list[tuple[int, float]] = []

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
            while not self._stop.is_set():
                self._write_while_connected()
        except BaseException as error:  # noqa: BLE001 # a thread's outermost edge: stop() re-raises it
            self._failure = error

    def _write_while_connected(self) -> None:
        try:
            with contextlib.closing(self._server.connect(self._schema)) as connection:
                connection.autocommit(False)
                while not self._stop.is_set():
                    self._transaction(connection)
                    self._stop.wait(self._random.expovariate(1 / self._pause_s) if self._pause_s else 0)
        except (OSError, pymysql.err.OperationalError) as error:
            if error.args[0] != _DEADLOCK and not self._outlives_server:  # two writers replace the same rows of orders
                raise
            self._stop.wait(_RECONNECT_S)

    def _transaction(self, connection: pymysql.Connection[pymysql.cursors.Cursor]) -> None:
        with connection.cursor() as cursor:
            for _ in range(self._random.randint(1, 3)):
                self._sequence += 1
                note = "n" * self._random.randint(1, 150)
                cursor.execute("INSERT INTO ledger VALUES (%s, %s, %s)", (self._writer, self._sequence, note))
            item, price = self._random.choice(_ITEMS), Decimal(self._random.randint(1, 9999)) / 100
            order = (self._random.randint(1, 50), item, price)
            cursor.execute("REPLACE INTO orders (id, item, price) VALUES (%s, %s, %s)", order)
        connection.commit()
        self.commits.append((self._sequence, time.monotonic()))
        self.transactions += 1


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch came: ``at_s`` by time.monotonic(), given by the leader of ``epoch``."""

    at_s: float
    epoch: int


class Reader:
    """A client in a thread: records deliveries and answered acks, until it is left.

    Clients of the same client id share one ``checker``; ``filter`` must let the ledger pass for it to be told of
    anything.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        *,
        client_id: str = CLIENT_ID,
        instance: str = "shop",
        filter: str | None = None,  # noqa: A002 - the field's word
        checker: Checker | None = None,
        on_batch: Callable[[Batch], None] | None = None,
    ) -> None:
        self._client = Client(nodes, instance=instance, client_id=client_id, filter=filter)
        self._on_batch = on_batch
        self._thread = threading.Thread(target=self._run, name=f"client {client_id}")
        self._failure: BaseException | None = None
        self.checker = checker or Checker()
        self.arrivals: list[Arrival] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def epoch(self) -> int:
        """The epoch of the newest batch; 0 before the first one."""
        return self.arrivals[-1].epoch if self.arrivals else 0

    def arrival_after(self, epoch: int) -> Arrival | None:
        """Return the first batch that came from a later leader than that of ``epoch``."""
        return next((arrival for arrival in self.arrivals if arrival.epoch > epoch), None)

    def check(self) -> None:
        """Raise what the client died of, if it did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Close the client. Raises what it died of."""
        self._client.close()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            for batch in self._client:
                self._take(batch)
        except BaseException as error:  # noqa: BLE001 # a thread's outermost edge: stop() re-raises it
            self._failure = error

    def _take(self, batch: Batch) -> None:
        self.arrivals.append(Arrival(time.monotonic(), batch.epoch))
        deliveries = deliveries_of(batch)
        name = self._thread.name + hex(id(self))
        self.checker.deliver(
            deliveries, epoch=batch.epoch, batch=batch.server_id, client=name, at_s=self.arrivals[-1].at_s
        )
        if self._on_batch is not None:
            self._on_batch(batch)
        try:
            batch.ack()
        except (StaleEpochError, UnknownBatchError):
            return  # the leader changed in between: the batch comes again
        self.checker.acknowledge(deliveries, epoch=batch.epoch, batch=batch.server_id, at_s=time.monotonic())


def deliveries_of(batch: Batch) -> list[Delivery]:
    """Return the marked changes of a batch."""
    return [_delivery(change) for change in batch.changes if (change.table, change.kind) == ("ledger", "insert")]


def _delivery(change: Change) -> Delivery:
    row = change.row
    writer, sequence = row["writer"], row["sequence"]
    assert isinstance(writer, int), change
    assert isinstance(sequence, int), change
    return Delivery(change.event_id, (writer, sequence))
