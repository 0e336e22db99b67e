"""The peer: mysql-replication in one process, iterating the rows of rows events.

Set up as its own examples are: asked for rows events alone, all else as it comes. (`freeze_schema`, which forbids ALTER
TABLE, together with `enable_logging=False` makes it up to three times as fast on one-row transactions, and no faster
on bulk; nobody who follows tables that change can use it.) It tests no checksums. It is not told of MariaDB: it would
then leave the file and offset out of account.
Each event's rows are decoded by the library, and counted; nothing else is done. It ends with the last row; if it loses
some, it waits for them until its time is over.
"""

from __future__ import annotations

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from ha_canal.testing.bench.task import Task

_SERVER_ID = 0x7FFF0002


def iterate_rows(task: Task) -> tuple[int, int, int]:
    """Read up to the mark; return the numbers of rows and rows events, and (if the task says check) the sum of ids."""
    stream = BinLogStreamReader(
        connection_settings={"host": task.host, "port": task.port, "user": task.user, "passwd": task.password},
        server_id=_SERVER_ID,
        resume_stream=True,
        log_file=task.until.file,
        log_pos=4,
        blocking=True,
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
    )
    rows = events = ids = 0
    try:
        for event in stream:
            found = event.rows
            rows += len(found)
            events += 1
            if task.check:
                ids += sum((row.get("values") or row["after_values"])["id"] for row in found)
            if rows >= task.until.rows:
                break
    finally:
        stream.close()
    return rows, events, ids if task.check else -1
