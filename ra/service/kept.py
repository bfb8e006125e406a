"""Decisions that were committed with their transactions, and how they come back."""

from __future__ import annotations

from ra.journal.records import Transaction
from ra.journal.sealing import JournalKey
from ra.policy.decide import Decision, thaw


def decision_of(key: JournalKey, transaction: Transaction) -> Decision:
    """The decision that was committed with it: sealed by the journal's key, so that nobody else can have made it.

    Raises:
        NotOurs: it is sealed with another key, or wiped.
    """
    return thaw(key.open(transaction.id, transaction.request or b""), transaction.grant)
