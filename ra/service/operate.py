"""What operators do about transactions and certificates, whichever way they come in: look, approve, settle, revoke.

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
from ra.journal import listing, settle, stops, strays, transactions, verdicts
from ra.journal.audit import Event
from ra.journal.database import Journal
from ra.journal.listing import Cursor, Filter, Listed, Page
from ra.journal.outbox import Letter, NewLetter
from ra.journal.records import Occasion, Transaction
from ra.journal.sealing import JournalKey
from ra.journal.states import HELD, State
from ra.journal.stops import Stop
from ra.journal.strays import Stray
from ra.journal.verdicts import Verdict, Word
from ra.service.kept import decision_of
from ra.service.notices import Notices
from ra.service.ports import Clock, Entropy
from ra.service.situations import Situation, situation_of

MAX_CANDIDATES = 5
"""Transactions that are named where a text may mean several."""

DENIED = "DENIED"
"""The reason a notice gives where a person said no."""

MAX_STRAYS = 100
"""Certificates that are listed of one connector; when there are so many, it is one fault that made them."""

_AWAITING = frozenset({State.AWAITING_APPROVAL})
_QUARANTINED = frozenset({State.QUARANTINED})


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
        strays: certificates that came for it and that nobody may have.
    """

    transaction: Transaction
    situation: Situation
    history: tuple[Event, ...]
    letters: tuple[Letter, ...]
    strays: tuple[Stray, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How it stands with a connector.

    Attributes:
        stop: why it is asked for nothing new; None: it is not stopped.
        strays: certificates of it that nobody may have and that are not revoked as far as is known, the oldest first;
            at most MAX_STRAYS.
    """

    name: str
    stop: Stop | None
    strays: tuple[Stray, ...]


class Operations:
    """The use cases. `who` is the person that the audit names."""

    def __init__(self, *, journal: Journal, key: JournalKey, clock: Clock, entropy: Entropy) -> None:
        self._journal = journal
        self._key = key
        self._notices = Notices(key, entropy)
        self._clock = clock
        self._entropy = entropy

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
        kept = await self._journal.read(lambda c: strays.of_transaction(c, which))
        return Account(
            transaction=transaction,
            situation=situation_of(transaction, letters, self._clock.now(), kept),
            history=await self._journal.read(lambda c: listing.events_of(c, which, transaction.created_at)),
            letters=letters,
            strays=kept,
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

    async def settle(self, which: UUID, word: Word, said: Verdict) -> Transaction:
        """Says what is to become of a transaction that is quarantined, or whose answer was lost.

        Raises:
            NotPossible: it is neither, or that cannot be done with it.
        """
        now = self._clock.now()

        def work(connection: Connection) -> Transaction:
            states = _QUARANTINED if word is Word.ACCEPT else verdicts.UNSETTLED
            nothing = "has no certificate that could be accepted" if word is Word.ACCEPT else "is nothing to settle"
            transaction = _insist(connection, which, states, nothing)
            match word:
                case Word.ACCEPT:
                    return verdicts.accept(connection, transaction, said, now)
                case Word.REJECT:
                    letters = self._letters(transaction, said.why, now, verdicts.GIVEN_UP)
                    return verdicts.reject(connection, transaction, said, now, letters=letters)
                case Word.RETRY:
                    key = UUID(bytes=self._entropy(16), version=4)
                    return verdicts.retry(connection, transaction, key, said, now)

        try:
            return await self._journal.write(work)
        except verdicts.TooLate as error:
            raise NotPossible(f"{which}: {error}") from error

    async def standings(self, names: Sequence[str]) -> tuple[Standing, ...]:
        """How it stands with each of these connectors, and with others that are stopped."""

        def look(connection: Connection) -> tuple[Standing, ...]:
            stopped = {each.connector: each for each in stops.list_stops(connection)}
            return tuple(
                Standing(name=name, stop=stopped.get(name), strays=strays.standing(connection, name, MAX_STRAYS))
                for name in dict.fromkeys([*names, *stopped])
            )

        return await self._journal.read(look)

    async def resume(self, connector: str, who: str) -> None:
        """Has a stopped connector asked again; the running service sends it what has waited.

        Raises:
            NotPossible: it is not stopped.
        """
        now = self._clock.now()
        if not await self._journal.write(lambda c: stops.resume(c, connector, who, now)):
            raise NotPossible(f"the connector {connector} is not stopped; `scep-ra connectors list` shows all")

    def _letters(
        self, transaction: Transaction, why: str, now: datetime, reason: str = DENIED
    ) -> tuple[NewLetter, ...]:
        if not transaction.notify:
            return ()
        decision = decision_of(self._key, transaction)
        return self._notices.letters(transaction, decision, Occasion.FAILED, now, reason=reason, detail=why)


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
