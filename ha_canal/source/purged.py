"""What of the binlog is gone, in words and numbers: for errors, and for the record of a gap that was accepted."""

from __future__ import annotations

from ha_canal.model.gtid import MariadbGtidPosition, MysqlGtidSet, parse_gtid_set
from ha_canal.model.position import Position, file_sequence


def missing_mysql(done: MysqlGtidSet, purged: MysqlGtidSet) -> str:
    """Say which purged transactions are not in ``done``; ``""``: none."""
    return shown_mysql(purged.difference(done))


def shown_mysql(gtids: MysqlGtidSet) -> str:
    """Return a set with the number of its transactions; ``""`` for the empty set."""
    count = sum(last - first + 1 for _, _, intervals in gtids.items() for first, last in intervals)
    return f"{gtids} ({_transactions(count)})" if count else ""


def missing_mariadb(done: MariadbGtidPosition, purged: MariadbGtidPosition) -> str:
    """Say how far ``done`` is behind what is purged, domain by domain; ``""``: nowhere.

    Sequence numbers may have holes, so the number of transactions is the most that it can be.
    """
    mine, gone = done.by_domain(), purged.by_domain()
    parts = []
    for domain, last in gone.items():
        behind = _sequence(last) - _sequence(mine[domain]) if domain in mine else _sequence(last)
        if behind > 0:
            parts.append(f"from {mine.get(domain, 'the start of domain ' + domain)} to {last}, up to {behind}")
    return "; ".join(parts)


def extra_mariadb(done: MariadbGtidPosition, executed: MariadbGtidPosition, binlog_state: str) -> str:
    """Say what of ``done`` the server has not; ``""``: nothing.

    ``binlog_state`` lists the last number of each server in each domain; with it a transaction is also missed where
    another server's took its number: the histories have parted.
    """
    theirs = executed.by_domain()
    last_of = _last_of_servers(binlog_state)
    parts = []
    for domain, gtid in done.by_domain().items():
        server = gtid.rpartition("-")[0]
        if domain not in theirs or _sequence(theirs[domain]) < _sequence(gtid):
            parts.append(f"{gtid}, and it ends at {theirs.get(domain, 'nothing')} in that domain")
        elif last_of and last_of.get(server, 0) < _sequence(gtid):
            parts.append(f"{gtid}, whose number another server's transaction has there: their histories have parted")
    return "; ".join(parts)


def kept_mariadb(
    done: MariadbGtidPosition, executed: MariadbGtidPosition, binlog_state: str
) -> MariadbGtidPosition | None:
    """Return the last of ``done`` that the server has, domain by domain; None where there is no such place.

    Where histories have parted, that is the last transaction that it has of the server which wrote the one we had.
    """
    theirs, last_of = executed.by_domain(), _last_of_servers(binlog_state)
    kept = MariadbGtidPosition()
    for domain, gtid in done.by_domain().items():
        server = gtid.rpartition("-")[0]
        has = last_of.get(server, 0)
        if domain not in theirs:
            return None
        if _sequence(theirs[domain]) >= _sequence(gtid) and (not last_of or has >= _sequence(gtid)):
            kept.add(gtid)
        elif has:
            kept.add(f"{server}-{has}")
        elif _sequence(theirs[domain]) < _sequence(gtid):
            kept.add(theirs[domain])
        else:
            return None
    return kept


def _last_of_servers(binlog_state: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for gtid in filter(None, binlog_state.split(",")):
        server, _, sequence = gtid.strip().rpartition("-")
        found[server] = max(found.get(server, 0), int(sequence))
    return found


def _sequence(gtid: str) -> int:
    return int(gtid.rpartition("-")[2])


def missing_files(cursor: Position, oldest: Position) -> str:
    """Say from where to where the binlog is gone: ``cursor`` is in a file before the ``oldest`` one."""
    files = file_sequence(oldest.file)[0] - file_sequence(cursor.file)[0]
    return f"from {cursor.file}:{cursor.offset} to the start of {oldest.file}, {files} file{'s' * (files != 1)}"


def joined(done: str, gone: str) -> str:
    """Return the GTIDs that are in either: what counts as done once a gap is accepted. Texts of one flavour."""
    left, right = parse_gtid_set(done), parse_gtid_set(gone) if gone else None
    if isinstance(left, MysqlGtidSet) and isinstance(right, MysqlGtidSet):
        left.update(right)
    elif isinstance(left, MariadbGtidPosition) and isinstance(right, MariadbGtidPosition):
        mine = left.by_domain()
        for domain, gtid in right.by_domain().items():
            if domain not in mine or _sequence(mine[domain]) < _sequence(gtid):
                left.add(gtid)
    return str(left)


def _transactions(count: int) -> str:
    return f"{count} transaction{'s' * (count != 1)}"
