"""What Intune has said yes to and the journal does not have yet: a device that asks again is not looked up again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from datetime import datetime, timedelta

from ra.challenge.api import Attempt
from ra.policy.grant import Grant

KEPT_FOR = timedelta(minutes=10)
"""A part of the 60 minutes for which Intune's challenges are good."""

MAX_KEPT = 10_000

Key = tuple[str, bytes]
"""transactionID and digest of the request, byte for byte: it holds the challenge."""


def key_of(transaction_id: str, csr: bytes) -> Key:
    return transaction_id, hashlib.sha256(csr).digest()


class KeptGrants:
    """Grants, the oldest first, for a while. From the first commit on the journal answers, and these are not asked."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[datetime, Grant]] = OrderedDict()

    def find(self, attempt: Attempt, now: datetime) -> Grant | None:
        kept = self._kept.get(key_of(attempt.transaction_id, attempt.csr.der))
        return kept[1] if kept is not None and now - kept[0] < KEPT_FOR else None

    def keep(self, attempt: Attempt, grant: Grant, now: datetime) -> None:
        self._kept[key_of(attempt.transaction_id, attempt.csr.der)] = now, grant
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def forget(self, transaction_id: str, csr: bytes) -> None:
        """It has come to an end: whoever asks again is a new request to Intune."""
        self._kept.pop(key_of(transaction_id, csr), None)
