"""What error 1236 and its relatives mean, by their words: those of both servers, of all their versions."""

from __future__ import annotations

import pytest

from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.stream import BinlogStream
from ha_canal.errors import CanalError, PositionPurgedError, SourceBusyError, SourceLostError, SourceRefusedError
from ha_canal.mysql.connection import ServerInfo
from ha_canal.source.refusal import explain_server_error

INFO = ServerInfo("mysql", "9.7.4", "", 1, gtids=True, row_metadata_full=True, address="db:3306")


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (1236, "Could not find first log file name in binary log index file", PositionPurgedError),
        (
            1236,
            (
                "The slave is connecting using CHANGE MASTER TO MASTER_AUTO_POSITION = 1, but the master "
                "has purged binary "
                "logs containing GTIDs that the slave requires."
            ),
            PositionPurgedError,
        ),
        (
            1236,
            (
                "Cannot replicate because the master purged required binary logs. Replicate the missing "
                "transactions from "
                "elsewhere, or provision a new slave from backup."
            ),
            PositionPurgedError,
        ),
        (1236, "Cannot replicate because the source purged required binary logs. Replicate …", PositionPurgedError),
        (
            1236,
            (
                "Could not find GTID state requested by slave in any binlog files. Probably the slave "
                "state is too old and "
                "required binlog files have been purged."
            ),
            PositionPurgedError,
        ),
        (
            1236,
            "Error: connecting slave requested to start from GTID 0-1-3, which is not in the master's binlog",
            PositionPurgedError,
        ),
        (
            1236,
            (
                "Error: connecting slave requested to start from GTID 0-1-3, which is not in the master's "
                "binlog. Since "
                "the master's binlog contains GTIDs with higher sequence numbers, it probably means that "
                "the slave has diverged "
                "due to executing extra erroneous transactions"
            ),
            SourceRefusedError,
        ),
        (1236, "Slave has more GTIDs than the master has, using the master's SERVER_UUID.", SourceRefusedError),
        (1236, "Client requested source to start replication from position > file size", SourceRefusedError),
        (1236, "Client requested master to start replication from impossible position", SourceRefusedError),
        (
            1236,
            "log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source",
            SourceRefusedError,
        ),
        (
            1236,
            "A replica with the same server_uuid/server_id as this replica has connected to the source; the first …",
            SourceBusyError,
        ),
        (
            4052,
            "A slave with the same server_uuid/server_id as this slave has connected to the master",
            SourceBusyError,
        ),
        (1053, "Server shutdown in progress", SourceLostError),
        (1227, "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s)", SourceRefusedError),
    ],
)
def test_what_the_words_mean(code: int, message: str, kind: type[CanalError]) -> None:
    stream = BinlogStream(file="bin.000003", offset=4, server_uuid="")
    error = explain_server_error(ServerError(code, "HY000", message), INFO, stream)
    assert type(error) is kind
    assert "db:3306, reading at bin.000003:4" in str(error)
