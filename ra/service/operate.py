"""What operators do about transactions and certificates, whichever way they come in: list, show, approve, deny, revoke.

Whatever changes something is audited with who wanted it, in the commit that does it; the running service does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from connectors.api import RevocationReason
from ra.errors import RaError
from ra.journal import listing, settle, transactions
from ra.journal.audit import Event
from ra.journal.database import Journal
from ra.journal.listing import Cursor, Filter, Listed, Page
from ra.journal.outbox import Letter, NewLetter
from ra.journal.records import Occasion, Transaction
from ra.journal.sealing import JournalKey
from ra.journal.states import HELD, State
from ra.service.kept import decision_of
from ra.service.notices import Notices
from ra.service.ports import Clock, Entropy
from ra.service.situations import Situation, situation_of

MAX_CANDIDATES = 5
"""Transactions that are named where a text may mean several."""

DENIED = "DENIED"
"""The reason a notice gives where a person said no."""

_AWAITING = frozenset({State.AWAITING_APPROVAL})


class NotFound(RaError):
    """No transaction is called so."""


class Ambiguous(RaError):
    """Several transactions are called so."""


class NotPossible(RaError):
    """The transaction is in a state in which that cannot be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All there is to know of a transaction.

    Attributes:
        history: the audit's events of it, in the order of time.
        letters: what is still to be told to somebody, or was given up.
    """

    transaction: Transaction
    situation: Situation
    history: tuple[Event, ...]
    letters: tuple[Letter, ...]


class Operations:
    """The use cases. `who` is the person that the audit names."""

    def __init__(self, *, journal: Journal, key: JournalKey, clock: Clock, entropy: Entropy) -> None:
        self._journal = journal
        self._key = key
        self._notices = Notices(key, entropy)
        self._clock = clock

    async def find(self, which: Filter, after: Cursor | None, count: int) -> Page:
        """The newest of them, those that follow `after` where it is given; `count` at most."""
        return await self._journal.read(lambda c: listing.find_transactions(c, which, after, count))

    async def identify(self, text: str, *, by_device: bool = False) -> Listed:
        """The one transaction that is called so: by its id or how that begins, or by its certificate's serial number.

        Only to look at it, `by_device` allows its transactionID too: any device may call itself like another one.

        Raises:
            NotFound: there is none; the message names one that is nearly called so.
            Ambiguous: there are several; the message names them.
        """
        found = await self._journal.read(lambda c: listing.look_up(c, text, MAX_CANDIDATES + 1, by_device=by_device))
        if not found:
            near = await self._journal.read(lambda c: listing.look_near(c, text))
            hint = f"the nearest is {_named(near)}; " if near else ""
            raise NotFound(f"nothing is called {text!r}; {hint}`scep-ra transactions list` shows what there is")
        if len(found) > 1:
            raise Ambiguous(f"{text!r} may be {_all_named(found)}; write more of the id")
        return found[0]

    async def show(self, which: UUID) -> Account:
        """All there is to know of a transaction, which must exist."""
        transaction = await self._journal.read(lambda c: transactions.get(c, which))
        letters = await self._journal.read(lambda c: listing.letters_of(c, which))
        return Account(
            transaction=transaction,
            situation=situation_of(transaction, letters, self._clock.now()),
            history=await self._journal.read(lambda c: listing.events_of(c, which, transaction.created_at)),
            letters=letters,
        )

    async def approve(self, which: UUID, who: str) -> Transaction:
        """Says yes to a transaction that waits for it; the service sends it to the CA.

        Raises:
            NotPossible: it waits for nobody's approval.
        """
        now = self._clock.now()

        def work(connection: Connection) -> Transaction:
            _insist(connection, which, _AWAITING, "waits for nobody's approval")
            return transactions.approve(connection, which, who, now)

        return await self._journal.write(work)

    async def deny(self, which: UUID, who: str, why: str) -> Transaction:
        """Says no; whoever let the request in and wants to know is told so. A one-time secret stays spent.

        Raises:
            NotPossible: it waits for nobody's approval.
        """
        now = self._clock.now()

        def work(connection: Connection) -> Transaction:
            letters = self._letters(_insist(connection, which, _AWAITING, "waits for nobody's approval"), why, now)
            return transactions.deny(connection, which, who, why, now, letters=letters)

        return await self._journal.write(work)

    async def revoke(self, which: UUID, reason: RevocationReason, who: str, why: str) -> Transaction:
        """Has a certificate revoked: nothing is handed out any more, and the service asks the CA until it has confirmed.

        Raises:
            NotPossible: there is no certificate that stands.
        """
        now = self._clock.now()

        def work(connection: Connection) -> Transaction:
            transaction = _insist(connection, which, HELD, "has no certificate that could be revoked")
            return settle.revoke(connection, transaction, reason, why, now, who=who)

        return await self._journal.write(work)

    def _letters(self, transaction: Transaction, why: str, now: datetime) -> tuple[NewLetter, ...]:
        if not transaction.notify:
            return ()
        decision = decision_of(self._key, transaction)
        return self._notices.letters(transaction, decision, Occasion.FAILED, now, reason=DENIED, detail=why)


def _insist(connection: Connection, which: UUID, states: frozenset[State], otherwise: str) -> Transaction:
    transaction = transactions.get(connection, which)
    if transaction.state not in states:
        raise NotPossible(f"{which} {otherwise}: it is {transaction.state}")
    return transaction


def _named(one: Listed) -> str:
    return f"{one.id} ({one.subject}, {one.state})"


def _all_named(found: Sequence[Listed]) -> str:
    named = [_named(each) for each in found[:MAX_CANDIDATES]]
    return ", ".join(named) + (" and others" if len(found) > MAX_CANDIDATES else "")
