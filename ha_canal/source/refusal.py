"""What a server means when it ends a binlog dump with an error packet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ha_canal.binlog.packets import ServerError
from ha_canal.binlog.stream import BinlogStream
from ha_canal.errors import CanalError, PositionPurgedError, SourceBusyError, SourceLostError, SourceRefusedError
from ha_canal.mysql.connection import ServerInfo

_PURGED = (
    "Could not find first log file name in binary log index file",
    "has purged binary logs containing GTIDs",  # MySQL 5.6, 5.7
    "purged required binary logs",  # MySQL 8 and later
    "required binlog files have been purged",  # MariaDB: no file holds the GTID state that was asked for
    "not in the master's binlog",  # MariaDB: the GTID itself
    "could not be found",  # MySQL: a file between two others
)
"""Words of error 1236 that mean "gone", from both servers; its code alone means anything at all."""
_PARTED = ("has diverged", "has more GTIDs than", "position > file size", "impossible position")
"""Words of the same error that mean: the server does not have, or no longer has, what we have read."""
_CUT = (4052,)
_SLAVE_UUID_TAKEN = "with the same server_uuid/server_id"


@contextmanager
def server_errors_explained(info: ServerInfo, stream: BinlogStream) -> Iterator[None]:
    """Turn an error packet that ends the dump, which ``stream`` reads, into our error."""
    try:
        yield
    except ServerError as error:
        raise explain_server_error(error, info, stream) from None


def explain_server_error(error: ServerError, info: ServerInfo, stream: BinlogStream) -> CanalError:
    """Turn the error packet that ended a dump into ours. 1236 is the server's word for every trouble with a dump."""
    where = f"{info.address}, reading at {stream.file}:{stream.offset}"
    if error.code in _CUT or _SLAVE_UUID_TAKEN in error.message:
        return SourceBusyError(
            f"{where}: another reader with our server id took over the binlog connection ({error.message}). "
            "If it is not another node of this cluster, give this instance a server_id of its own"
        )
    if any(word in error.message for word in _PARTED):
        return SourceRefusedError(
            f"{where}: the server's binlog does not hold what was read before ({error.code}: {error.message}). It lost "
            "its end in a crash, was reset, or is another server: point the instance at one that has it, or move the "
            "cursors"
        )
    if any(word in error.message for word in _PURGED):
        return PositionPurgedError(f"{where}: the binlog that is needed is gone ({error.code}: {error.message})")
    if error.code in {1040, 1053, 1317, 2013}:
        return SourceLostError(f"{where}: the server ended the binlog connection ({error.message})")
    if error.code in {1045, 1227}:
        return SourceRefusedError(
            f"{where}: the right REPLICATION SLAVE is missing ({error.message}). "
            f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user"
        )
    return SourceRefusedError(f"{where}: the server refused the binlog dump ({error.code}: {error.message})")
