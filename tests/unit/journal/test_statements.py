from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

from connectors.api import RevocationReason
from ra.journal import claims, direct, purge, refusals, settle, statements, statistics, transactions
from ra.journal.states import State
from tests.fakes.enrolments import (
    MINUTE,
    NOW,
    a_certificate,
    a_letter,
    a_secret,
    a_transaction,
    an_identity,
    released,
    submitting,
)

POSTGRESQL = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy does not annotate it
SQLITE = SQLiteDialect()
STATEMENTS = {
    f"{module.__name__}.{name}": value
    for module in (refusals, statements, statistics)
    for name, value in vars(module).items()
    if isinstance(value, Executable) and isinstance(value, ClauseElement)
}
UPSERTS = {"AUTHORISE", "SPEND", "REMEMBER", "TAKE_LEASE"}
LOCKING = {"CLAIM_AUTHORISED", "LOSE_LEASES", "CLAIM_DUE", "ENDED_BEFORE", "OUTLIVED_BEFORE"}

ON_SQLITE = pytest.mark.parametrize("connection", ["sqlite"], indirect=True)
"""PostgreSQL plans by what a table holds, and here it holds nothing."""

Operation = Callable[[Connection], object]


class Counter:
    """Counts the statements a connection executes, by SQLAlchemy or past it, and remembers them."""

    counting: ClassVar[list[Counter]] = []

    def __init__(self, connection: Connection) -> None:
        self.seen: list[tuple[str, object]] = []
        event.listen(connection, "before_cursor_execute", self._note)
        self.counting.append(self)

    def _note(self, *details: object) -> None:
        self.seen.append((str(details[2]), details[3]))

    def count(self, operation: Callable[[], object]) -> int:
        before = len(self.seen)
        operation()
        return len(self.seen) - before


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tell = direct._told

    def noted(run: Any, text: str, values: Any) -> Any:
        given = tuple(values)
        for each in Counter.counting:
            each.seen.append((text, given))
        return tell(run, text, given)

    monkeypatch.setattr(direct, "_told", noted)
    yield
    Counter.counting.clear()


def turns(connection: Connection) -> int:
    """PostgreSQL has to be asked for one, where SQLite has one writer."""
    return int(connection.dialect.name == "postgresql")


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_every_statement_is_one_that_both_databases_understand(name: str) -> None:
    own = name.rsplit(".", 1)[-1]
    compiled = str(STATEMENTS[name].compile(dialect=POSTGRESQL))

    assert compiled.split(maxsplit=1)[0] in {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}
    assert ("ON CONFLICT" in compiled) == (own in UPSERTS)
    assert ("SKIP LOCKED" in compiled) == (own in LOCKING)
    assert "FOR UPDATE" not in str(STATEMENTS[name].compile(dialect=SQLITE))


@pytest.mark.parametrize("name", ["CLAIM_AUTHORISED", "LOSE_LEASES", "CLAIM_DUE"])
def test_how_many_are_claimed_is_decided_once_and_not_for_every_row(name: str) -> None:
    compiled = str(getattr(statements, name).compile(dialect=POSTGRESQL))

    assert compiled.startswith("WITH due AS MATERIALIZED")


def test_a_new_request_costs_one_statement_to_recall_three_to_authorise_by_a_secret_and_one_to_issue(
    connection: Connection,
) -> None:
    counter, new, certificate = Counter(connection), a_transaction(spend=a_secret()), a_certificate()

    recalled = counter.count(lambda: transactions.recall(connection, new.identity, NOW))
    authorised = counter.count(lambda: transactions.authorise(connection, new, NOW))
    transaction = transactions.get(connection, new.id)
    issued = counter.count(
        lambda: settle.issue(connection, transaction, certificate, NOW, delivered=True, undelivered_until=None)
    )

    assert (1, 3, 1 + turns(connection)) == (recalled, authorised, issued)


def test_a_request_with_no_one_time_secret_is_authorised_by_one_statement(connection: Connection) -> None:
    counter = Counter(connection)

    assert 1 == counter.count(lambda: submitting(connection))


def test_all_letters_of_an_outcome_cost_one_statement(connection: Connection) -> None:
    transaction, counter = submitting(connection), Counter(connection)
    letters = tuple(a_letter() for _ in range(3))

    issued = counter.count(
        lambda: settle.issue(
            connection, transaction, a_certificate(), NOW, delivered=True, letters=letters, undelivered_until=None
        )
    )

    assert 1 + 1 + turns(connection) == issued


def test_polling_and_every_other_outcome_cost_at_most_two_statements(connection: Connection) -> None:
    new = a_transaction(spend=a_secret())
    transaction, counter = submitting(connection, new), Counter(connection)
    pending = settle.settle_pending(connection, transaction, "order 1", NOW + MINUTE, NOW)

    moved = len(counter.seen)
    found = counter.count(
        lambda: transactions.find(connection, "default", new.identity.signer_key, new.identity.transaction_id)
    )
    rejected = counter.count(lambda: settle.settle_rejected(connection, pending, "policy", "not you", NOW))

    assert (1, 1, 2) == (moved, found, rejected)


def test_however_many_are_claimed_it_is_one_statement(connection: Connection) -> None:
    for _ in range(5):
        submitting(connection, a_transaction(state=State.AUTHORISED, due_at=NOW))
    counter = Counter(connection)

    claimed = counter.count(lambda: claims.claim_authorised(connection, "lab", NOW, NOW + MINUTE, 10))

    assert 1 == claimed


def plan(connection: Connection, operation: Operation) -> list[str]:
    """How SQLite goes about what the operation asks it."""
    counter = Counter(connection)
    operation(connection)
    asked = list(counter.seen)
    return [
        str(step.detail)
        for statement, parameters in asked
        for step in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)  # type: ignore[arg-type]  # as the driver had them
    ]


def scans(steps: list[str]) -> list[str]:
    return [step for step in steps if step.startswith("SCAN") and step not in {"SCAN CONSTANT ROW", "SCAN due"}]


LOOK_UPS: dict[str, Operation] = {
    "recall": lambda c: transactions.recall(c, an_identity(), NOW),
    "find": lambda c: transactions.find(c, "default", bytes(32), b"one"),
    "remember": lambda c: transactions.remember(c, submitting(c).id, an_identity()),
    "give back": lambda c: settle.settle_rejected(c, submitting(c), "policy", "no", NOW),
    "wipe": lambda c: purge.wipe(c, submitting(c).id),
    "revoke": lambda c: settle.revoke(c, released(c), RevocationReason.UNSPECIFIED, "lost", NOW),
    "deliver": lambda c: transactions.mark_delivered(c, released(c).id, NOW),
    "purge": lambda c: purge.purge(c, purge.Retention(), NOW, 10),
}


@ON_SQLITE
@pytest.mark.parametrize("name", sorted(LOOK_UPS))
def test_no_lookup_scans_a_table(connection: Connection, name: str) -> None:
    assert [] == scans(plan(connection, LOOK_UPS[name]))


CLAIMS: dict[str, Operation] = {
    "authorised": lambda c: claims.claim_authorised(c, "lab", NOW, NOW, 10),
    "lost": lambda c: claims.lose_leases(c, "lab", NOW, NOW, 10),
    "due": lambda c: claims.claim_due(c, "lab", NOW, NOW, 10),
}


@ON_SQLITE
@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_what_is_claimed_is_found_by_its_time_in_its_order_and_by_an_index_alone(
    connection: Connection, name: str
) -> None:
    steps = plan(connection, CLAIMS[name])

    assert [] == scans(steps)
    assert [] == [step for step in steps if "TEMP B-TREE" in step]
    assert 1 == sum("INDEX transactions_due (due_at<?)" in step for step in steps)


@ON_SQLITE
def test_which_connectors_have_something_due_is_read_from_an_index_alone(connection: Connection) -> None:
    steps = plan(connection, lambda c: claims.due(c, NOW))

    assert "SEARCH transactions USING COVERING INDEX transactions_due (due_at<?)" in steps


@ON_SQLITE
def test_what_is_forgotten_is_found_by_its_own_indexes(connection: Connection) -> None:
    steps = plan(connection, lambda c: purge.purge(c, purge.Retention(), NOW, 10))

    assert 3 == sum("INDEX transactions_ended (state=? AND updated_at<?)" in step for step in steps)
    assert 1 == sum("INDEX transactions_not_after (not_after<?)" in step for step in steps)


@ON_SQLITE
def test_no_count_reads_a_table(connection: Connection) -> None:
    steps = plan(connection, statistics.count)

    assert 2 == sum("COVERING INDEX transactions_certificates" in step for step in steps)
