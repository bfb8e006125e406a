"""Two connections of PostgreSQL that do the same at the same moment: the second begins before the first has committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from ra.errors import Refused
from ra.journal import one_time
from ra.journal.claims import claim_authorised, take_lease
from ra.journal.purge import Retention, purge
from ra.journal.records import Transaction
from ra.journal.settle import issue, settle_rejected
from ra.journal.states import LostRace, NotItsOwn, State
from ra.journal.transactions import approve, authorise, deny, recall
from tests.fakes.enrolments import (
    DAY,
    MINUTE,
    NOW,
    Collected,
    a_certificate,
    a_minted,
    a_secret,
    a_transaction,
    an_identity,
    digest,
    submitting,
)
from tests.fakes.postgres import Cluster

T = TypeVar("T")

WAITS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.fixture
def engine(postgres: Cluster) -> Iterator[Engine]:
    engine = create_engine(postgres.journal().replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


@pytest.fixture
def first(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        connection.info["companion"] = Collected()
        yield connection


class Second:
    """Another process, in a thread of its own; what it does is committed at once."""

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._thread = thread

    def __call__(self, operation: Callable[[Connection], T]) -> T:
        return self.begin(operation).result(10)

    def begin(self, operation: Callable[[Connection], T]) -> Future[T]:
        def run() -> T:
            with self._engine.connect() as connection:
                connection.info["companion"] = Collected()
                result = operation(connection)
                connection.commit()
                return result

        return self._thread.submit(run)

    def begin_and_wait_for_the_first(self, operation: Callable[[Connection], T]) -> Future[T]:
        """Returns once the operation waits for a lock, which the first holds until it commits."""
        future = self.begin(operation)
        pause = threading.Event()
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.execute(WAITS).scalar_one():
                assert not future.done(), "it did not wait"
                pause.wait(0.01)
        return future


@pytest.fixture
def second(engine: Engine) -> Iterator[Second]:
    with ThreadPoolExecutor(max_workers=1) as thread:
        yield Second(engine, thread)


def written_by(first: Connection, count: int = 1) -> list[Transaction]:
    rows = [authorise(first, a_transaction(state=State.AUTHORISED, due_at=NOW), NOW) for _ in range(count)]
    first.commit()
    return rows


def claim(connection: Connection, count: int, until: datetime = NOW + MINUTE) -> set[object]:
    return {each.id for each in claim_authorised(connection, "lab", NOW, until, count)}


def test_what_one_is_claiming_the_other_passes_by_without_waiting(first: Connection, second: Second) -> None:
    rows = {each.id for each in written_by(first, 5)}

    mine = claim(first, 3)
    other = second(lambda c: claim(c, 3))
    first.commit()

    assert (3, 2) == (len(mine), len(other))
    assert rows == mine | other


def test_a_claim_that_is_undone_leaves_its_rows_to_the_next(first: Connection, second: Second) -> None:
    rows = {each.id for each in written_by(first, 2)}

    claim(first, 2)
    first.rollback()

    assert rows == second(lambda c: claim(c, 2))


def test_of_two_identical_requests_the_second_gets_the_transaction_of_the_first(
    first: Connection, second: Second
) -> None:
    new = a_transaction(spend=a_secret())
    same = a_transaction(replace(new.identity, transaction_id=b"again"), spend=a_secret())

    mine = authorise(first, new, NOW)
    other = second.begin_and_wait_for_the_first(lambda c: authorise(c, same, NOW))
    first.commit()

    assert mine == other.result(10)


def test_of_two_identical_requests_the_second_is_new_when_the_first_is_undone(
    first: Connection, second: Second
) -> None:
    new = a_transaction(spend=a_secret())
    same = a_transaction(new.identity, spend=a_secret())

    authorise(first, new, NOW)
    other = second.begin_and_wait_for_the_first(lambda c: authorise(c, same, NOW))
    first.rollback()

    assert same.id == other.result(10).id


def test_of_two_that_come_again_after_an_hour_one_is_new_and_the_other_the_same(
    first: Connection, second: Second
) -> None:
    new = a_transaction()
    old = submitting(first, new)
    issue(first, old, a_certificate(), NOW, delivered=True, undelivered_until=None)
    first.commit()
    again = [a_transaction(new.identity) for _ in range(2)]

    mine = authorise(first, again[0], NOW + DAY)
    other = second.begin_and_wait_for_the_first(lambda c: authorise(c, again[1], NOW + DAY))
    first.commit()

    assert (again[0].id, mine) == (mine.id, other.result(10))


def test_what_another_has_written_since_an_old_row_was_looked_at_is_the_answer_and_not_retired(
    first: Connection, second: Second
) -> None:
    new = a_transaction()
    issue(first, submitting(first, new), a_certificate(), NOW, delivered=True, undelivered_until=None)
    first.commit()
    faster, slower = (a_transaction(replace(new.identity, transaction_id=each)) for each in (b"faster", b"slower"))
    written: list[Transaction] = []

    def be_overtaken(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "SET request_key" in statement and not written:
            written.append(second(lambda c: authorise(c, faster, NOW + DAY)))

    event.listen(first, "before_cursor_execute", be_overtaken)
    mine = authorise(first, slower, NOW + DAY)
    first.commit()

    assert [faster.id] == [each.id for each in written]
    assert faster.id == mine.id


def test_of_two_that_take_one_certificate_in_the_same_moment_one_gets_it(first: Connection, second: Second) -> None:
    found = a_certificate()
    one, another = submitting(first), submitting(first)
    first.commit()

    issue(first, one, found, NOW, delivered=True, undelivered_until=None)
    other = second.begin_and_wait_for_the_first(
        lambda c: issue(c, another, found, NOW, delivered=True, undelivered_until=None)
    )
    first.commit()

    with pytest.raises(NotItsOwn):
        other.result(10)


def test_a_secret_that_is_being_withdrawn_lets_nothing_in(first: Connection, second: Second) -> None:
    spend = a_secret(digest("one-time"))
    one_time.mint(first, [a_minted(spend)], "alice")
    first.commit()

    one_time.revoke(first, one_time.Selection(), "bob", NOW)
    other = second.begin_and_wait_for_the_first(lambda c: authorise(c, a_transaction(spend=spend), NOW))
    first.commit()

    with pytest.raises(Refused, match="withdrawn"):
        other.result(10)


def test_a_request_that_comes_again_while_it_is_being_rejected_is_a_new_one(first: Connection, second: Second) -> None:
    new = a_transaction(spend=a_secret())
    transaction = submitting(first, new)
    first.commit()
    again = a_transaction(new.identity, spend=a_secret())

    settle_rejected(first, transaction, "policy", "no", NOW)
    other = second.begin_and_wait_for_the_first(lambda c: authorise(c, again, NOW))
    first.commit()

    assert again.id == other.result(10).id


def test_of_two_keys_that_present_one_secret_the_second_is_refused(first: Connection, second: Second) -> None:
    authorise(first, a_transaction(spend=a_secret()), NOW)
    thief = second.begin_and_wait_for_the_first(lambda c: authorise(c, a_transaction(spend=a_secret()), NOW))
    first.commit()

    with pytest.raises(Refused) as refused:
        thief.result(10)

    assert refused.value.alarm


def test_a_secret_that_is_being_given_back_may_be_spent_anew(first: Connection, second: Second) -> None:
    transaction = submitting(first, a_transaction(spend=a_secret()))
    first.commit()
    new = a_transaction(spend=a_secret())

    settle_rejected(first, transaction, "policy", "no", NOW)
    other = second.begin_and_wait_for_the_first(lambda c: authorise(c, new, NOW))
    first.commit()

    assert new.id == other.result(10).id


def test_of_two_approvers_one_has_the_word(first: Connection, second: Second) -> None:
    new = a_transaction(state=State.AWAITING_APPROVAL)
    authorise(first, new, NOW)
    first.commit()

    approve(first, new.id, "alice", NOW)
    other = second.begin_and_wait_for_the_first(lambda c: deny(c, new.id, "bob", "no", NOW))
    first.commit()

    with pytest.raises(LostRace):
        other.result(10)


def test_of_two_that_settle_one_loses(first: Connection, second: Second) -> None:
    transaction = submitting(first)
    first.commit()

    issue(first, transaction, a_certificate(), NOW, delivered=True, undelivered_until=None)
    other = second.begin_and_wait_for_the_first(lambda c: settle_rejected(c, transaction, "policy", "no", NOW))
    first.commit()

    with pytest.raises(LostRace):
        other.result(10)


def test_of_two_that_take_a_job_one_gets_it(first: Connection, second: Second) -> None:
    me, other = a_transaction().id, a_transaction().id

    taken = take_lease(first, "seal", me, NOW, NOW + MINUTE)
    lost = second.begin_and_wait_for_the_first(lambda c: take_lease(c, "seal", other, NOW, NOW + MINUTE))
    first.commit()

    assert (True, False) == (taken, lost.result(10))


def test_what_is_being_forgotten_is_passed_by_without_waiting(first: Connection, second: Second) -> None:
    identities = [an_identity() for _ in range(3)]
    for each in identities:
        settle_rejected(first, submitting(first, a_transaction(each)), "policy", "no", NOW)
    first.commit()
    later = NOW + 1000 * DAY

    mine = purge(first, Retention(), later, 2)["rejected"]
    other = second(lambda c: purge(c, Retention(), later, 2)["rejected"])
    first.commit()

    assert (2, 1) == (mine, other)
    assert [None] * 3 == [recall(first, each, NOW) for each in identities]
