"""Events that change no rows: those that hold nothing for us, and those that stop the stream. Part of the stream."""

from __future__ import annotations

from collections.abc import Callable

from ha_canal.binlog.events import FLAG_IGNORABLE, Event, EventType, parse_incident
from ha_canal.errors import DecodeError

_NOTHING_FOR_US = (
    EventType.INTVAR,
    EventType.RAND,
    EventType.USER_VAR,
    EventType.IGNORABLE,
    EventType.ROWS_QUERY,
    EventType.PREVIOUS_GTIDS,
    EventType.TRANSACTION_CONTEXT,
    EventType.VIEW_CHANGE,
    EventType.ANNOTATE_ROWS,
    EventType.BINLOG_CHECKPOINT,
    EventType.GTID_LIST,
)


def logged_as_statement(verb: str) -> DecodeError:
    """Return the error for a change that the binlog holds as text."""
    return DecodeError(
        f"a {verb} was logged as a statement, without the rows it changed; set binlog_format = ROW for all sessions, "
        "then start from a position behind it"
    )


def _pass(event: Event) -> None:
    """Accounted for, and nothing in it for us."""


def _incident(event: Event) -> None:
    raise DecodeError(
        f"the source says that its binlog lacks changes ({parse_incident(event.body)}); "
        "read the tables anew and start from a position behind it"
    )


def _load_data(event: Event) -> None:
    raise logged_as_statement("LOAD DATA")


def _rows_of_old(event: Event) -> None:
    raise DecodeError("rows events of MySQL 5.1.15 and before cannot be read; the source must be 5.6 or later")


def _encryption(event: Event) -> None:
    if not event.flags & FLAG_IGNORABLE:
        raise DecodeError("the file is encrypted: read it through its server, which decrypts what it sends")


OTHER_RULES: dict[int, Callable[[Event], None]] = {
    **dict.fromkeys(_NOTHING_FOR_US, _pass),
    EventType.INCIDENT: _incident,
    EventType.BEGIN_LOAD_QUERY: _load_data,
    EventType.EXECUTE_LOAD_QUERY: _load_data,
    EventType.START_ENCRYPTION: _encryption,
    **dict.fromkeys((EventType.WRITE_ROWS_V0, EventType.UPDATE_ROWS_V0, EventType.DELETE_ROWS_V0), _rows_of_old),
}
"""What to do with each type: nothing, or raise."""

_OF_ROWS = (EventType.INCIDENT, EventType.BEGIN_LOAD_QUERY, EventType.EXECUTE_LOAD_QUERY)

LENIENT_RULES: dict[int, Callable[[Event], None]] = {**OTHER_RULES, **dict.fromkeys(_OF_ROWS, _pass)}
"""The same for who does not care about rows."""
