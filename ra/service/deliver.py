"""Tells validators what became of the requests they have let in: every letter at least once, until its time is over.

A letter is claimed, handed to its validator, and what that said is committed. Whatever ends a process in between, the
claim runs out and the letter is handed over again, under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from ra.challenge.api import Accepted, Deny, Receipt, Unavailable
from ra.challenge.combine import Checked
from ra.errors import Unavailable as JournalAway
from ra.journal import outbox, receipts, transactions
from ra.journal.database import Journal
from ra.journal.outbox import Letter
from ra.journal.records import Notice, Transaction
from ra.journal.sealing import NotOurs
from ra.journal.states import LostRace, State
from ra.service.background import Background
from ra.service.notices import Notices
from ra.service.pauses import pause
from ra.service.ports import Clock, Entropy, Metrics

CALL_SECONDS = 15.0
"""How long a validator is given to take a notice."""

LEASE = timedelta(seconds=2 * CALL_SECONDS)
"""For so long nobody else has a letter: it is handed over, and what became of it is committed."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 900.0
"""Between two attempts, growing."""

AT_ONCE = 32
"""Letters that one validator is given at the same time by one process, where it does not say itself how many."""

IDLE_SECONDS = 1.0
"""Between two looks, when nothing was due."""

_UNKNOWN = "unknown"
"""In place of what stands in a letter that cannot be opened."""


@dataclass(slots=True)
class _Receiver:
    """A validator, and how many letters it may be given beside those it has; None: no configured one takes them."""

    notifier: Checked | None
    free: int

    @classmethod
    def of(cls, notifier: Checked | None) -> _Receiver:
        return cls(notifier, cls._at_once(notifier))

    @property
    def kept(self) -> int:
        """Half of them are kept for letters that a device waits for."""
        return self._at_once(self.notifier) // 2

    @staticmethod
    def _at_once(notifier: Checked | None) -> int:
        return (notifier.notices_at_once if notifier else None) or AT_ONCE


class Deliveries:
    """Delivers what is due. `undelivered_until` says of a profile until when a released certificate is to be fetched."""

    def __init__(
        self,
        *,
        journal: Journal,
        notices: Notices,
        validators: Mapping[str, Checked],
        undelivered_until: Callable[[str, datetime], datetime | None],
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._journal = journal
        self._call_seconds = call_seconds
        self._lease = LEASE * (call_seconds / CALL_SECONDS)
        self._notices = notices
        self._receivers = {name: _Receiver.of(each) for name, each in validators.items() if each.takes_notices}
        self._undelivered_until = undelivered_until
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._background: Background[None] = Background()
        self._has_room = asyncio.Event()
        self._log = structlog.get_logger("ra.service.deliver")

    async def run(self) -> None:
        """Delivers until it is cancelled; with the database away, it waits on."""
        while True:
            try:
                begun = await self.deliver_due()
            except JournalAway as error:
                self._log.warning("deliveries wait", detail=str(error))
                begun = 0
            if not begun:
                await self._rest()

    async def deliver_due(self) -> int:
        """One pass: how many letters were taken up. They are delivered in the background."""
        self._has_room.clear()
        now = self._clock.now()
        names = await self._journal.read(lambda c: outbox.due(c, now))
        return sum([await self._deliver_to(name) for name in names])

    async def drain(self) -> None:
        """Waits until every letter that was taken up has its answer."""
        await self._background.drain()

    async def deliver_now(self, transaction: Transaction) -> Transaction:
        """Hands over what a certificate waits for, for whoever has just written it; what the transaction is then.

        A validator that has its hands full gets its letter later.
        """
        if transaction.state is not State.ISSUED:
            return transaction
        names = {each.validator for each in transaction.notify if each.is_strict}
        free = [each for name, each in self._receivers.items() if name in names and each.free]
        if len(free) < len(names):
            return transaction
        for each in free:
            each.free -= 1
        try:
            until = self._clock.now() + self._lease
            letters = await self._journal.write(lambda c: outbox.claim_of(c, transaction.id, until))
            await asyncio.gather(*(self._deliver(self._receivers[each.validator], each) for each in letters))
        finally:
            for each in free:
                self._give_back(each)
        return await self._journal.read(lambda c: transactions.get(c, transaction.id))

    async def give_up(self, transaction: Transaction) -> Transaction:
        """An ISSUED certificate whose notices were not accepted in time: it is revoked, and nobody ever gets it."""
        now, until = self._clock.now(), self._undelivered_until(transaction.profile, self._clock.now())
        settled, letters = await self._journal.write(
            lambda c: receipts.give_up(c, transaction, now, undelivered_until=until)
        )
        for each in letters:
            self._report(each, self._open(each), "dead", "its time is over")
        return settled

    # ------------------------------------------------------------ one validator
    async def _deliver_to(self, name: str) -> int:
        receiver = self._receivers.setdefault(name, _Receiver.of(None))
        now, count = self._clock.now(), receiver.free - receiver.kept
        if count <= 0:
            return 0
        receiver.free -= count
        letters: tuple[Letter, ...] = ()
        try:
            letters = await self._journal.write(lambda c: outbox.claim(c, name, now, now + self._lease, count))
        finally:
            receiver.free += count - len(letters)
        for each in letters:
            self._background.start(each.id, self._deliver_and_give_back(receiver, each))
        return len(letters)

    async def _deliver_and_give_back(self, receiver: _Receiver, letter: Letter) -> None:
        try:
            await self._deliver(receiver, letter)
        finally:
            self._give_back(receiver)

    def _give_back(self, receiver: _Receiver) -> None:
        """Letters are claimed several at once: one by one, each would cost a commit of its own."""
        receiver.free += 1
        if receiver.free >= receiver.kept + receiver.kept // 2:
            self._has_room.set()

    async def _rest(self) -> None:
        """Until something may be due, or there is room again for what is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._has_room.wait()

    # ------------------------------------------------------------ one letter
    async def _deliver(self, receiver: _Receiver, letter: Letter) -> None:
        """Never raises for what may be: an outcome that cannot be committed is had again once the lease is over."""
        notice = self._open(letter)
        try:
            answer = await self._tell(receiver, letter, notice)
            outcome, detail = await self._settle(letter, notice, answer)
        except (JournalAway, LostRace) as error:
            self._log.warning("a notification is repeated", letter=str(letter.id), detail=str(error))
            return
        self._report(letter, notice, outcome, detail)

    def _open(self, letter: Letter) -> Notice | None:
        try:
            return self._notices.open(letter)
        except NotOurs:
            return None

    async def _tell(self, receiver: _Receiver, letter: Letter, notice: Notice | None) -> Receipt:
        if notice is None:
            self._metrics.alarmed(_UNKNOWN, "JOURNAL_KEY")
            return Unavailable(detail="it is sealed with another key", retry_after_seconds=0)
        if receiver.notifier is None:
            self._metrics.alarmed(notice.profile, "NOTIFIER_UNKNOWN")
            detail = f"no challenge named {letter.validator!r} takes notices"
            return Unavailable(detail=detail, retry_after_seconds=0)
        seconds = await self._seconds_for(letter)
        if seconds <= 0:
            return Unavailable(detail="no certificate waits for it any more", retry_after_seconds=0)
        try:
            async with asyncio.timeout(seconds):
                return await receiver.notifier.notify(notice)
        except TimeoutError:
            return Unavailable(detail=f"no answer within {seconds:.0f} s", retry_after_seconds=0)

    async def _seconds_for(self, letter: Letter) -> float:
        """How long a validator may take; of a certificate that is being revoked nobody is to hear that it was issued."""
        which = letter.transaction
        if not letter.is_strict or which is None:
            return self._call_seconds
        transaction = await self._journal.read(lambda c: transactions.get(c, which))
        if transaction.state is not State.ISSUED:
            return 0.0
        return min(self._call_seconds, (letter.deadline_at - self._clock.now()).total_seconds())

    async def _settle(self, letter: Letter, notice: Notice | None, answer: Receipt) -> tuple[str, str]:
        """Commits what a validator said; the outcome in a word, and why."""
        now = self._clock.now()
        match answer:
            case Accepted():
                until = self._undelivered_until(notice.profile, now) if notice else None
                await self._journal.write(lambda c: receipts.accepted(c, letter, now, undelivered_until=until))
                return "accepted", ""
            case Deny(detail=detail):
                await self._journal.write(lambda c: receipts.refused(c, letter, detail, now))
                return "refused", detail
            case Unavailable(detail=detail, retry_after_seconds=seconds):
                due_at = self._next_attempt(letter, seconds, now)
                await self._journal.write(lambda c: receipts.failed(c, letter, detail, due_at, now))
                return "failed" if due_at else "dead", detail

    def _next_attempt(self, letter: Letter, retry_after_seconds: int, now: datetime) -> datetime | None:
        """After a pause that grows, and after what the receiver asked for; the last one when time runs out."""
        left = letter.deadline_at - now - timedelta(seconds=self._call_seconds)
        if left <= timedelta(0):
            return None
        grown = pause(
            letter.attempts - 1,
            self._entropy,
            first_seconds=FIRST_PAUSE_SECONDS,
            longest_seconds=LONGEST_PAUSE_SECONDS,
        )
        return now + timedelta(seconds=min(left.total_seconds(), grown.total_seconds() + retry_after_seconds))

    def _report(self, letter: Letter, notice: Notice | None, outcome: str, detail: str) -> None:
        occasion = notice.occasion.value if notice else _UNKNOWN
        self._metrics.notified(letter.validator, occasion, outcome)
        if outcome in {"refused", "dead"}:
            self._metrics.alarmed(notice.profile if notice else _UNKNOWN, "NOTIFICATION_LOST")
            which = {"validator": letter.validator, "letter": str(letter.id)}
            self._log.error("a notification is given up", **which, outcome=outcome, detail=detail)
