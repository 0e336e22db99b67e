"""The application of the whole path: reads an instance through the SDK and touches every value of every row.

"Touch" is what an application cannot do without: it takes the typed values of each changed row out of the row, as a
list. Batches are acknowledged as they are done, without waiting for the answer; the last one is waited for.
"""

from __future__ import annotations

from ha_canal.client import Client
from ha_canal.testing.bench.task import Task

INSTANCE = "bench"


def read_rows(task: Task) -> tuple[int, int, int]:
    """Read as many rows as the mark says; return the numbers of rows and transactions and the sum of ids."""
    rows = ids = 0
    transactions: set[str] = set()
    with Client([task.address], instance=INSTANCE, client_id="bench") as client:
        for batch in client:
            for change in batch:
                assert change.after is not None
                values = list(change.after.values())
                row_id = values[0]
                assert isinstance(row_id, int)
                ids += row_id
                rows += 1
            if task.check:
                transactions.update(change.transaction for change in batch.changes)
            done = rows >= task.until.rows
            batch.ack(wait=done)
            if done:
                break
    return rows, len(transactions) if task.check else -1, ids
