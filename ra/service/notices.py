"""From what became of a request to sealed letters for those who let it in, and back when they are delivered.

A letter holds all that there is to tell: it can be delivered when the request, the profile or the CA is gone.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from connectors.api import Issued
from ra.journal.outbox import Letter, NewLetter
from ra.journal.records import Notice, Occasion, Transaction
from ra.journal.sealing import NONCE_LENGTH, JournalKey
from ra.policy.decide import Decision
from ra.policy.grant import Grant, Notify
from ra.service.ports import Entropy


class Notices:
    """Seals letters and opens them."""

    def __init__(self, key: JournalKey, entropy: Entropy) -> None:
        self._key = key
        self._entropy = entropy

    def letters(
        self,
        transaction: Transaction,
        decision: Decision,
        occasion: Occasion,
        now: datetime,
        *,
        issued: Issued | None = None,
        reason: str | None = None,
        detail: str | None = None,
    ) -> tuple[NewLetter, ...]:
        """For everybody who wants to know what became of a transaction; they go into the commit that they tell of."""
        notice = partial(
            Notice,
            occasion=occasion,
            profile=transaction.profile,
            transaction=transaction.id,
            transaction_id=transaction.transaction_id.decode("ascii", "backslashreplace"),
            attributes=transaction.grant_attributes,
            csr=decision.csr,
            certificate=issued.certificate if issued else None,
            chain=issued.chain if issued else (),
            reason=reason,
            detail=detail,
        )
        return self._sealed(notice, occasion, transaction.notify, now)

    def refusals(
        self, grant: Grant, profile: str, transaction_id: str, csr: bytes, now: datetime, *, reason: str, detail: str
    ) -> tuple[NewLetter, ...]:
        """For everybody who has let a request in that was refused before it became a transaction; `csr` is DER."""
        notice = partial(
            Notice,
            occasion=Occasion.FAILED,
            profile=profile,
            transaction=None,
            transaction_id=transaction_id,
            attributes=grant.attributes,
            csr=csr,
            reason=reason,
            detail=detail,
        )
        return self._sealed(notice, Occasion.FAILED, grant.notify, now)

    def open(self, letter: Letter) -> Notice:
        """What a letter says.

        Raises:
            NotOurs: it is sealed with another key.
        """
        return _thaw(self._key.open(letter.id, letter.notice))

    def _sealed(
        self, notice: Callable[..., Notice], occasion: Occasion, receivers: Iterable[Notify], now: datetime
    ) -> tuple[NewLetter, ...]:
        letters = []
        for each in receivers:
            which = UUID(bytes=self._entropy(16), version=4)
            letters.append(
                NewLetter(
                    id=which,
                    validator=each.validator,
                    is_strict=each.is_strict and occasion is Occasion.ISSUED,  # of a failure nothing waits
                    notice=self._key.seal(which, _freeze(notice(id=which)), self._entropy(NONCE_LENGTH)),
                    deadline_at=now + each.patience,
                )
            )
        return tuple(letters)


def _freeze(notice: Notice) -> bytes:
    said: dict[str, Any] = asdict(notice)
    said["id"] = notice.id.hex
    said["transaction"] = notice.transaction and notice.transaction.hex
    said["attributes"] = dict(notice.attributes)
    said["csr"] = _text(notice.csr)
    said["certificate"] = notice.certificate and _text(notice.certificate)
    said["chain"] = [_text(each) for each in notice.chain]
    return json.dumps(said, separators=(",", ":")).encode()


def _thaw(frozen: bytes) -> Notice:
    said: dict[str, Any] = json.loads(frozen)
    said["id"] = UUID(said["id"])
    said["occasion"] = Occasion(said["occasion"])
    said["transaction"] = said["transaction"] and UUID(said["transaction"])
    said["csr"] = b64decode(said["csr"])
    said["certificate"] = said["certificate"] and b64decode(said["certificate"])
    said["chain"] = tuple(map(b64decode, said["chain"]))
    return Notice(**said)


def _text(der: bytes) -> str:
    return b64encode(der).decode()
