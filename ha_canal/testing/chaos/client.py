"""A client process of the campaign: reads, writes its journal, acknowledges, for as long as it lives.

`python -m ha_canal.testing.chaos.client JOURNAL INSTANCE CLIENT_ID NODE [NODE ...]`
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from ha_canal.client import Client
from ha_canal.errors import StaleEpochError, UnknownBatchError
from ha_canal.testing.chaos.journal import Journal
from ha_canal.testing.workload import deliveries_of


def main(path: str, instance: str, client_id: str, nodes: list[str]) -> None:
    """Read until somebody ends the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    journal = Journal(Path(path))
    for batch in Client(nodes, instance=instance, client_id=client_id):
        journal.handed(time.monotonic(), batch.epoch, batch.server_id, deliveries_of(batch))
        try:
            batch.ack()
        except (StaleEpochError, UnknownBatchError):
            continue  # the leader, or the holder of the lock, changed in between: the batch comes again
        journal.answered(time.monotonic(), batch.epoch, batch.server_id)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
