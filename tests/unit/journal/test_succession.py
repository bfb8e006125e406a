from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from connectors.api import RevocationReason
from ra.journal import settle, transactions
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.succession import MAX_LINEAGE, lineage, supersede
from tests.fakes.enrolments import DAY, NOW, a_certificate, a_transaction, an_identity, digest


def renewal_of(connection: Connection, before: Transaction | None, number: int) -> Transaction:
    """A delivered certificate for key `number`, signed for with the one before it."""
    identity = an_identity(
        csr_key=digest(f"key {number}"),
        signer_key=digest(f"key {number - 1}") if before else digest(f"key {number}"),
        names=digest("names"),
        renewal_signer=digest(f"certificate {number - 1}") if before else None,
    )
    new = replace(a_transaction(identity), renews=before.id if before else None)
    begun = transactions.authorise(connection, new, NOW)
    return settle.issue(connection, begun, a_certificate(), NOW, delivered=True, undelivered_until=None)


def chain(connection: Connection, length: int) -> Transaction:
    newest = None
    for number in range(length):
        newest = renewal_of(connection, newest, number)
    assert newest is not None
    return newest


def test_a_lineage_goes_back_to_the_first_key(connection: Connection) -> None:
    newest = chain(connection, 4)

    assert {digest(f"key {number}") for number in range(4)} == lineage(connection, newest.id)


def test_a_lineage_is_followed_so_far_and_no_further(connection: Connection) -> None:
    newest = chain(connection, MAX_LINEAGE + 5)

    assert MAX_LINEAGE + 1 == len(lineage(connection, newest.id))


def test_the_key_before_is_known_when_its_transaction_is_forgotten(connection: Connection) -> None:
    identity = an_identity(csr_key=digest("new"), signer_key=digest("old"), renewal_signer=digest("certificate"))
    new = replace(a_transaction(identity), renews=a_transaction().id)
    transactions.authorise(connection, new, NOW)

    assert {digest("new"), digest("old")} == lineage(connection, new.id)


def test_what_was_replaced_stands_until_it_is_due(connection: Connection) -> None:
    newest = chain(connection, 2)
    assert newest.renews is not None

    supersede(connection, newest, NOW + DAY)
    supersede(connection, newest, NOW + 2 * DAY)

    before = transactions.get(connection, newest.renews)
    assert (State.RELEASED, "superseded", NOW + DAY) == (before.state, before.revocation, before.due_at)


def test_a_first_certificate_replaces_none(connection: Connection) -> None:
    first = chain(connection, 1)

    supersede(connection, first, NOW + DAY)

    assert transactions.get(connection, first.id).due_at is None


def test_a_certificate_that_is_being_revoked_already_is_left_alone(connection: Connection) -> None:
    newest = chain(connection, 2)
    assert newest.renews is not None
    before = transactions.get(connection, newest.renews)
    settle.revoke(connection, before, RevocationReason.KEY_COMPROMISE, "stolen", NOW)

    supersede(connection, newest, NOW + DAY)

    assert "keyCompromise" == transactions.get(connection, before.id).revocation
