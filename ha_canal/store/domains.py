"""How far a start reaches in each MariaDB replication domain of a ring.

A domain is done up to and including one very GTID, in the order of the stream. Sequence numbers do not tell that order:
outside the strict mode (the default) two primaries, or ``SET gtid_seq_no``, commit lower numbers behind higher ones
(knowledge base, "gtid_strict_mode"). Invariant: what is called done is a beginning of what precedes that GTID, so an
unknown order costs a repetition, and never a transaction.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from ha_canal.model.change import Transaction
from ha_canal.model.gtid import MariadbGtidPosition


class Domains:
    """``done`` is the start's position; ``before`` is where the ring begins now: what lies behind it is in the ring.

    ``is_beyond`` tells, for a ring filled by the server on which the start was noted, whether a transaction lies
    behind the start's place; None where places cannot be compared. Without it the sequence numbers must do, and a
    transaction whose number is not below the awaited one ends what is done.
    """

    def __init__(
        self,
        done: MariadbGtidPosition,
        *,
        before: MariadbGtidPosition,
        is_beyond: Callable[[Transaction], bool] | None,
    ) -> None:
        begun = before.by_domain()
        self._done = done.by_domain()
        self._is_beyond = is_beyond or self._has_passed_by_sequence
        self._left_at = {domain: 0 for domain, gtid in self._done.items() if begun.get(domain) == gtid}
        self._awaited = {gtid: domain for domain, gtid in self._done.items() if domain not in self._left_at}

    def saw(self, gtid: str, sequence: int) -> None:
        """Learn that the transaction ``gtid`` ends at ``sequence`` in the ring."""
        domain = self._awaited.pop(gtid, None)
        if domain is not None:
            self._left_at[domain] = min(self._left_at.get(domain, sys.maxsize), sequence + 1)

    @property
    def awaited(self) -> list[str]:
        """The GTIDs up to which something is done, as far as they were not seen."""
        return list(self._awaited)

    def are_left(self, gtids: MariadbGtidPosition, sequence: int) -> bool:
        """Whether it is known that of the domains of ``gtids`` nothing is done from ``sequence`` on."""
        domains = self._done.keys() & gtids.by_domain().keys()
        return all(self._left_at.get(domain, sys.maxsize) <= sequence for domain in domains)

    def may_hide(self, gtids: Iterable[str], sequence: int) -> None:
        """Learn that a mark, which begins at ``sequence``, has more of these domains than their last ``gtids``.

        What is still awaited may be among it: from there on nothing is called done.
        """
        awaited = set(self._awaited.values())
        for domain in awaited.intersection(gtid.partition("-")[0] for gtid in gtids):
            self._left_at.setdefault(domain, sequence)

    def has(self, transaction: Transaction, sequence: int) -> bool:
        """Whether ``transaction``, which begins at ``sequence`` in the ring, is done. Later calls answer the same."""
        domain = transaction.gtid.partition("-")[0]
        if domain not in self._done:
            return False
        left_at = self._left_at.get(domain)
        if left_at is not None:
            return sequence < left_at
        if transaction.gtid != self._done[domain] and self._is_beyond(transaction):
            self._left_at[domain] = sequence
            return False
        return True

    def news_of(self, mark: MariadbGtidPosition, sequence: int) -> MariadbGtidPosition:
        """Return those of a mark's GTIDs that are not done; ``sequence`` is the mark's last."""
        return mark.without({domain for domain in self._done if self._left_at.get(domain, sys.maxsize) > sequence})

    def _has_passed_by_sequence(self, transaction: Transaction) -> bool:
        domain, _, rest = transaction.gtid.partition("-")
        awaited = self._done[domain].rpartition("-")[2]
        return int(rest.rpartition("-")[2]) >= int(awaited)
