"""What operators do, on both databases: it is found, told, done and audited, or refused in a sentence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import Connection

from connectors.api import RevocationReason
from ra.journal import audit, listing, outbox, transactions
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.listing import Filter
from ra.journal.records import Occasion, Transaction
from ra.journal.sealing import JournalKey
from ra.journal.states import State
from ra.policy.decide import decide, freeze
from ra.policy.grant import Grant, Notify
from ra.policy.profile import Profile
from ra.service.notices import Notices
from ra.service.operate import DENIED, Ambiguous, NotFound, NotPossible, Operations
from tests.fakes.clock import FakeClock
from tests.fakes.csrs import csr, enrolment
from tests.fakes.letters import NOW, a_letter, a_row, store

KEY = JournalKey(bytes(32))
HOOK = Notify(validator="hook", is_strict=False, patience=timedelta(hours=1))
ONE = UUID("0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11")
OTHER = UUID("0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c12")

T = TypeVar("T")
Work = Callable[[Journal, Operations], Awaitable[T]]


def operating(url: str, work: Work[T], *rows: Transaction) -> T:
    """What comes of the work, in a journal with these rows."""

    async def go() -> T:
        journal = await Journal.open(url, directory=Path(), companion=Chain())
        try:
            for row in rows:
                await journal.write(lambda c, row=row: store(c, row))  # type: ignore[misc]  # mypy infers no lambda with a default
            return await work(journal, Operations(journal=journal, key=KEY, clock=FakeClock(), entropy=os.urandom))
        finally:
            await journal.aclose()

    return asyncio.run(go())


def waiting_for_approval(*notify: Notify) -> Transaction:
    """With its decision, sealed."""
    grant = Grant(method="hook", label="device", notify=notify)
    decision = decide(enrolment(csr()), grant, Profile(name="default"), NOW)
    row = a_row(State.AWAITING_APPROVAL, grant_method="hook", notify=notify, certificate=None, serial=None)
    return replace(row, request=KEY.seal(row.id, freeze(decision), bytes(12)))


async def events(journal: Journal) -> list[dict[str, Any]]:
    """What was audited, but that chains began and ended."""
    return [each.read() for each in await journal.read(audit.list_events) if each.read()["event"] != "opened"]


def test_a_page_of_what_was_asked_for_is_found(journal_url: str) -> None:
    rows = a_row(State.PENDING), a_row(State.RELEASED)

    page = operating(
        journal_url, lambda _, operations: operations.find(Filter(states=frozenset({State.PENDING})), None, 10), *rows
    )

    assert [rows[0].id] == [each.id for each in page.rows]


@pytest.mark.parametrize("text", ["0f8c2a4e", "A1:B2:C3"])
def test_one_is_identified_by_a_prefix_or_a_serial(text: str, journal_url: str) -> None:
    row = a_row(id=ONE, serial="a1b2c3")

    found = operating(journal_url, lambda _, operations: operations.identify(text), row)

    assert ONE == found.id


def test_a_device_cannot_call_itself_what_an_operator_acts_upon(journal_url: str) -> None:
    rows = a_row(id=ONE), a_row(transaction_id=b"0f8c2a4e")

    async def work(_: Journal, operations: Operations) -> None:
        assert ONE == (await operations.identify("0f8c2a4e")).id
        with pytest.raises(Ambiguous):
            await operations.identify("0f8c2a4e", by_device=True)

    operating(journal_url, work, *rows)


def test_what_is_not_there_is_told_with_the_nearest(journal_url: str) -> None:
    async def work(_: Journal, operations: Operations) -> None:
        with pytest.raises(NotFound, match=rf"the nearest is {ONE} \(CN=device, issued\)"):
            await operations.identify("0f8c2a4f")
        with pytest.raises(NotFound, match="nothing is called 'printer'; `scep-ra transactions list`"):
            await operations.identify("printer")

    operating(journal_url, work, a_row(id=ONE))


def test_of_several_the_newest_are_named(journal_url: str) -> None:
    rows = [a_row(id=UUID(int=(0xABCD << 112) + number)) for number in range(7)]

    async def work(_: Journal, operations: Operations) -> None:
        with pytest.raises(Ambiguous, match=r"may be abcd0000.* and others; write more of the id"):
            await operations.identify("abcd0000")
        with pytest.raises(Ambiguous) as ambiguous:
            await operations.identify("7XXEY", by_device=True)
        assert 2 == str(ambiguous.value).count("CN=device")
        assert "others" not in str(ambiguous.value)

    operating(journal_url, work, *rows, *(a_row(transaction_id=b"7XXEY") for _ in range(2)))


def test_all_there_is_to_know_is_shown(journal_url: str) -> None:
    row, letter = a_row(State.ISSUED), a_letter()

    async def work(journal: Journal, operations: Operations) -> None:
        await journal.write(lambda c: outbox.put(c, row.id, (letter,), NOW))
        await journal.write(lambda c: _outcome(c, row.id))

        account = await operations.show(row.id)

        assert row == account.transaction
        assert "There is a certificate" in account.situation.state
        assert ["outcome"] == [each.read()["event"] for each in account.history]
        assert [letter.id] == [each.id for each in account.letters]

    operating(journal_url, work, row)


def _outcome(connection: Connection, which: UUID) -> None:
    audit.record(connection, NOW, {"event": "outcome", "outcome": "issued", "transaction": str(which)})


def test_a_yes_makes_it_due_and_says_who(journal_url: str) -> None:
    row = waiting_for_approval()

    async def work(journal: Journal, operations: Operations) -> None:
        approved = await operations.approve(row.id, "ada")

        assert (State.AUTHORISED, NOW) == (approved.state, approved.due_at)
        assert approved == await journal.read(lambda c: transactions.get(c, row.id))
        said = [(each["event"], each["who"]) for each in await events(journal)]
        assert [("approved", "ada")] == said

    operating(journal_url, work, row)


def test_a_no_says_who_and_why_and_tells_whoever_wants_to_know(journal_url: str) -> None:
    row = waiting_for_approval(HOOK)

    async def work(journal: Journal, operations: Operations) -> None:
        denied = await operations.deny(row.id, "ada", "nobody knows it")

        assert (State.REJECTED, "nobody knows it") == (denied.state, denied.detail)
        assert [("denied", "ada", "nobody knows it")] == [
            (each["event"], each["who"], each["detail"]) for each in await events(journal)
        ]
        (letter,) = await journal.read(lambda c: listing.letters_of(c, row.id))
        notice = Notices(KEY, os.urandom).open(letter)
        assert (Occasion.FAILED, DENIED, "nobody knows it") == (notice.occasion, notice.reason, notice.detail)

    operating(journal_url, work, row)


def test_where_nobody_wants_to_know_a_no_leaves_nothing_behind(journal_url: str) -> None:
    row = waiting_for_approval()

    async def work(journal: Journal, operations: Operations) -> None:
        denied = await operations.deny(row.id, "ada", "no")

        assert denied.request is None
        assert () == await journal.read(lambda c: listing.letters_of(c, row.id))

    operating(journal_url, work, row)


@pytest.mark.parametrize("state", [State.ISSUED, State.RELEASED])
def test_a_certificate_that_stands_is_revoked_by_somebody(state: State, journal_url: str) -> None:
    row = a_row(state)

    async def work(journal: Journal, operations: Operations) -> None:
        revoking = await operations.revoke(row.id, RevocationReason.KEY_COMPROMISE, "ada", "it was lost")

        assert (State.REVOKING, NOW, "keyCompromise") == (revoking.state, revoking.due_at, revoking.revocation)
        (event,) = await events(journal)
        assert ("revoking", "keyCompromise", "ada", "it was lost") == tuple(
            event[name] for name in ("outcome", "revocation", "who", "detail")
        )

    operating(journal_url, work, row)


@pytest.mark.parametrize("state", sorted(set(State) - {State.AWAITING_APPROVAL}))
def test_nobody_has_a_word_about_what_does_not_wait_for_one(state: State, journal_url: str) -> None:
    row = a_row(state)

    async def work(journal: Journal, operations: Operations) -> None:
        with pytest.raises(NotPossible, match=f"waits for nobody's approval: it is {state}"):
            await operations.approve(row.id, "ada")
        with pytest.raises(NotPossible, match=f"waits for nobody's approval: it is {state}"):
            await operations.deny(row.id, "ada", "no")
        assert [] == await events(journal)

    operating(journal_url, work, row)


@pytest.mark.parametrize("state", sorted(set(State) - {State.ISSUED, State.RELEASED}))
def test_what_has_no_certificate_that_stands_is_not_revoked(state: State, journal_url: str) -> None:
    row = a_row(state)

    async def work(journal: Journal, operations: Operations) -> None:
        with pytest.raises(NotPossible, match=f"has no certificate that could be revoked: it is {state}"):
            await operations.revoke(row.id, RevocationReason.UNSPECIFIED, "ada", "")
        assert [] == await events(journal)

    operating(journal_url, work, row)
