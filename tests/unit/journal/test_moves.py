"""Random operations in random order, by two processes that hold what they were given until long after it is true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from sqlalchemy import Connection, select

from connectors.api import RevocationReason
from ra.errors import Reason, Refused
from ra.journal import outbox, receipts, verdicts
from ra.journal.claims import claim_authorised, claim_due, lose_leases
from ra.journal.moves import advance
from ra.journal.purge import Retention, purge
from ra.journal.records import RequestIdentity, Transaction
from ra.journal.settle import (
    accept,
    arrive_late,
    back_to_authorised,
    expire,
    issue,
    postpone,
    quarantine,
    revoke,
    revoked,
    settle_pending,
    settle_rejected,
    settle_unknown,
)
from ra.journal.states import FINAL, FIRST, HELD, OPEN, TRANSITIONS, IllegalTransition, LostRace, State
from ra.journal.tables import outbox as letters
from ra.journal.tables import spent_secrets, transactions
from ra.journal.transactions import approve, authorise, begin, deny, mark_delivered, recall, remember
from tests.fakes.enrolments import (
    A_STRAY,
    DAY,
    MINUTE,
    NOW,
    a_certificate,
    a_letter,
    a_secret,
    a_transaction,
    an_identity,
    audited,
)

LEASE = MINUTE
KEPT = Retention(rejected_days=2, expired_days=2, revoked_days=2, secrets_days_after_expiry=10_000)
ENOUGH_MOVES = 10
"""Different ones, of the two dozen there are: a walk that makes fewer shows little."""
CESSATION = RevocationReason.CESSATION_OF_OPERATION
AT_REST = FINAL | {State.RELEASED, State.QUARANTINED}
HAS_CERTIFICATE = HELD | {State.REVOKING, State.REVOKED}

COLUMNS = [each.name for each in fields(Transaction)]
SAID = verdicts.Verdict(who="ada", why="the role is corrected")
SAYS = {
    "decision": "",
    "outcome": "",
    "approved": State.AUTHORISED.value,
    "denied": State.REJECTED.value,
}
"""What an event says of the state; nothing where it says so itself."""

Settle = Callable[[Connection, Transaction, tuple[outbox.NewLetter, ...], datetime], Transaction]

SETTLE: dict[str, Settle] = {
    "begin": lambda c, t, _, now: begin(c, t, now, due_at=now + LEASE),
    "issue": lambda c, t, some, now: issue(
        c, t, a_certificate(), now, delivered=False, letters=some, undelivered_until=now + DAY
    ),
    "issue, waited for": lambda c, t, some, now: issue(
        c, t, a_certificate(), now, delivered=True, letters=some, undelivered_until=now + DAY
    ),
    "pending": lambda c, t, _, now: settle_pending(c, t, "order", now + LEASE, now),
    "rejected": lambda c, t, some, now: settle_rejected(c, t, "policy", "no", now, letters=some),
    "unknown": lambda c, t, _, now: settle_unknown(c, t, "reset", now, now),
    "again": lambda c, t, some, now: back_to_authorised(c, t, "again", now, now, orphan=bool(some)),
    "quarantine": lambda c, t, _, now: quarantine(c, t, A_STRAY, "another key", now),
    "accept": lambda c, t, some, now: accept(c, t, a_certificate(), now, letters=some, undelivered_until=now + DAY),
    "reject": lambda c, t, some, now: verdicts.reject(c, t, SAID, now, letters=some),
    "retry": lambda c, t, _, now: verdicts.retry(c, t, UUID(int=9), SAID, now),
    "expire": lambda c, t, some, now: expire(c, t, "late", now, now, letters=some),
    "expire for good": lambda c, t, some, now: expire(c, t, "late", None, now, letters=some),
    "arrive late": lambda c, t, _, now: arrive_late(c, t, a_certificate(), now),
    "revoke": lambda c, t, _, now: revoke(c, t, CESSATION, "lost", now),
    "revoked": lambda c, t, _, now: revoked(c, t, now),
    "postpone": lambda c, t, _, now: postpone(
        c, t, "later", None if t.state is State.EXPIRED or t.due_at is None else now + LEASE, now
    ),
}


LEGAL = {
    State.AUTHORISED: ["begin", "expire", "expire for good", "postpone"],
    State.AWAITING_APPROVAL: ["expire", "expire for good", "postpone"],
    State.SUBMITTING: ["issue", "issue, waited for", "pending", "rejected", "unknown", "again", "quarantine"],
    State.PENDING: ["issue", "pending", "rejected", "quarantine", "expire", "expire for good", "postpone"],
    State.UNKNOWN: ["issue", "pending", "again", "quarantine", "postpone", "reject", "retry"],
    State.QUARANTINED: ["postpone", "accept", "reject", "retry"],
    State.ISSUED: ["revoke", "postpone"],
    State.RELEASED: ["revoke", "postpone"],
    State.EXPIRED: ["arrive late", "postpone"],
    State.REVOKING: ["revoked", "postpone"],
    State.REJECTED: ["postpone"],
    State.REVOKED: ["postpone"],
}
"""What may be done with what is in a state; `settle_wildly` keeps to nothing."""


@dataclass
class Known:
    """What the model remembers of a transaction."""

    state: State
    secret: bytes | None
    gives_back: bool = False
    certificate: bytes | None = None


class TwoProcesses:
    """Each operation runs in a savepoint, as the writer runs it: one that fails leaves nothing."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.connection = connection
        self.random = Random(seed)  # noqa: S311 - the same walk every time is what is wanted
        self.now = NOW
        self.known: dict[UUID, Known] = {}
        self.denied: set[UUID] = set()
        self.held: tuple[list[Transaction], list[Transaction]] = ([], [])
        self.moves: set[tuple[State, State]] = set()

    def walk(self, steps: int) -> None:
        """One thing after the other, in no order; what must hold is looked at after each."""
        ways = {
            self.authorise: 4,
            self.claim: 2,
            self.settle: 8,
            self.settle_wildly: 3,
            self.say: 2,
            self.fetch: 1,
            self.come_again: 1,
            self.receive: 2,
            self.wait: 2,
            self.forget: 1,
        }
        for step in self.random.choices([*ways], [*ways.values()], k=steps):
            step()
            self.holds()

    def attempt(self, operation: Callable[[], Transaction]) -> Transaction | Exception:
        self.connection.exec_driver_sql("SAVEPOINT job")
        count = len(audited(self.connection))
        answer: Transaction | Exception
        try:
            answer = operation()
        except (IllegalTransition, LostRace, Refused) as error:
            self.connection.exec_driver_sql("ROLLBACK TO job")
            del audited(self.connection)[count:]
            answer = error
        self.connection.exec_driver_sql("RELEASE job")
        return answer

    def rows(self) -> dict[UUID, Transaction]:
        found = self.connection.execute(select(transactions)).mappings()
        return {row["id"]: Transaction(**{name: row[name] for name in COLUMNS}) for row in found}

    # ------------------------------------------------------------------------------------------ steps
    def an_identity(self) -> RequestIdentity:
        key, name, names = self.random.choice(b"abcd"), self.random.choice(b"1234"), self.random.choice(b"xy")
        return an_identity(
            signer_key=bytes([key]) * 32,
            transaction_id=bytes([name]),
            csr_key=bytes([key]) * 32,
            names=bytes([names]) * 32,
        )

    def letters(self) -> tuple[outbox.NewLetter, ...]:
        strict = self.random.choice([(), (), (False,), (True,), (True, False), (True, True)])
        return tuple(a_letter(is_strict=each, deadline_at=self.now + DAY) for each in strict)

    def authorise(self) -> None:
        identity, key = self.an_identity(), self.random.choice([None, None, b"a", b"b", b"c", b"d"])
        before = recalled(self.connection, identity, self.now)
        if isinstance(before, Refused):
            return  # nobody authorises what `recall` refuses
        new = a_transaction(
            identity,
            spend=a_secret(key) if key else None,
            state=self.random.choice(sorted(FIRST)),
            due_at=self.now + LEASE,
            expires_at=self.now + 3 * MINUTE,
        )
        is_spent = key in self.spenders()

        answer = self.attempt(lambda: authorise(self.connection, new, self.now))

        if isinstance(answer, Refused):
            assert (Reason.CHALLENGE_REFUSED, True, None) == (answer.reason, is_spent, before)
            return
        assert isinstance(answer, Transaction)
        assert (answer.id == new.id) == (before is None)
        if before is not None:
            assert before.id == answer.id
            return
        assert not is_spent
        self.known[new.id] = Known(state=new.state, secret=key)
        self.random.choice(self.held).append(answer)

    def claim(self) -> None:
        operation = self.random.choice([claim_authorised, lose_leases, claim_due])
        taken = operation(self.connection, "lab", self.now, self.now + LEASE, self.random.randint(1, 3))
        self.random.choice(self.held).extend(taken)

    def settle(self) -> None:
        """As what was given last may be settled, if it is still as it was."""
        held = self.random.choice(self.held)
        if held:
            self.try_to(self.random.choice(LEGAL[held[-1].state]), held[-1], held)

    def settle_wildly(self) -> None:
        """As comes to mind, with whatever was given some time."""
        held = self.random.choice(self.held)
        if held:
            self.try_to(self.random.choice(sorted(SETTLE)), self.random.choice(held), held)

    def try_to(self, name: str, given: Transaction, held: list[Transaction]) -> None:
        """Whoever has lost a race forgets what it was given."""
        stands, told = self.rows().get(given.id), self.letters()

        answer = self.attempt(lambda: SETTLE[name](self.connection, given, told, self.now))

        is_true = stands is not None and (stands.state, stands.due_at) == (given.state, given.due_at)
        if isinstance(answer, Transaction):
            # An accepted letter may have wiped the request meanwhile, which is no change of what is true.
            assert replace(answer, request=None) == replace(self.rows()[given.id], request=None)
            assert is_true or name == "revoke"
            held.append(answer)
        else:
            assert isinstance(answer, IllegalTransition | LostRace)
            assert not (is_true and isinstance(answer, LostRace)) or name == "revoke"
        if not isinstance(answer, IllegalTransition):
            held.remove(given)

    def say(self) -> None:
        """A person's word on something, be it waiting for one or not."""
        rows = self.rows()
        if not rows:
            return
        which = self.random.choice(sorted(rows))
        is_waiting, told = rows[which].state is State.AWAITING_APPROVAL, self.letters()
        if says_yes := self.random.choice([True, False]):
            answer = self.attempt(lambda: approve(self.connection, which, "alice", self.now))
        else:
            answer = self.attempt(lambda: deny(self.connection, which, "alice", "no", self.now, letters=told))
        assert is_waiting == isinstance(answer, Transaction)
        if is_waiting and not says_yes:
            self.denied.add(which)

    def fetch(self) -> None:
        rows = self.rows()
        if rows:
            which = self.random.choice(sorted(rows))
            assert mark_delivered(self.connection, which, self.now) == self.rows()[which]

    def come_again(self) -> None:
        identity = self.an_identity()
        answer = recalled(self.connection, identity, self.now)
        if isinstance(answer, Transaction):
            assert answer.state in OPEN | HELD
            if answer.state in OPEN:
                remember(self.connection, answer.id, identity)

    def receive(self) -> None:
        """Somebody is told, and says what he thinks of it."""
        waiting = outbox.waiting(self.connection, 100)
        if not waiting:
            return
        letter = self.random.choice(waiting)
        if self.random.choice([True, True, False]):
            receipts.accepted(self.connection, letter, self.now, undelivered_until=self.now + DAY)
        else:
            receipts.refused(self.connection, letter, "no", self.now)

    def wait(self) -> None:
        self.now += timedelta(seconds=self.random.choice([1, 1, 30, 61, 3601, 2 * 86_400]))

    def forget(self) -> None:
        before = self.rows()
        purge(self.connection, KEPT, self.now, 2)
        gone = [row for which, row in before.items() if which not in self.rows()]
        assert {row.state for row in gone} <= FINAL | {State.RELEASED}
        assert {row.due_at for row in gone} <= {None}

    # ------------------------------------------------------------------------------------------ what always holds
    def holds(self) -> None:
        self.only_legal_moves_are_made()
        self.a_secret_is_spent_once_and_given_back_exactly_when_it_must_be()
        self.one_row_answers_for_a_request_and_one_open_row_has_a_name()
        self.a_certificate_is_never_lost_or_exchanged()
        self.a_request_is_kept_while_somebody_needs_it_and_no_longer()
        self.whatever_is_not_at_rest_is_looked_at_some_time()
        self.the_audit_says_where_everything_stands()

    def spenders(self) -> dict[bytes | None, UUID]:
        """Which transaction has which secret, by what the model has seen."""
        return {each.secret: which for which, each in self.known.items() if each.secret and not each.gives_back}

    def only_legal_moves_are_made(self) -> None:
        for which, row in self.rows().items():
            known = self.known[which]
            if row.state is not known.state:
                self.moves.add((known.state, row.state))
                assert row.state in reachable(known.state), f"{known.state} -> {row.state}"
            known.gives_back |= row.state is State.EXPIRED or (row.state is State.REJECTED and which not in self.denied)
            known.state = row.state

    def a_secret_is_spent_once_and_given_back_exactly_when_it_must_be(self) -> None:
        spent = self.connection.execute(select(spent_secrets.c.key, spent_secrets.c.transaction)).all()
        assert self.spenders() == {row.key: row.transaction for row in spent}
        having = [each.secret for each in self.known.values() if each.secret and not each.gives_back]
        assert len(having) == len(set(having))

    def one_row_answers_for_a_request_and_one_open_row_has_a_name(self) -> None:
        found = self.connection.execute(select(transactions)).all()
        live = [(row.csr_key, row.names) for row in found if row.request_key is not None]
        names = [(row.signer_key, row.transaction_id) for row in found if row.state in OPEN]
        assert len(live) == len(set(live))
        assert len(names) == len(set(names))
        assert [row.state in OPEN for row in found] == [bool(row.is_open) for row in found]
        assert all(row.request_key is not None for row in found if row.state in OPEN)
        assert all(row.request_key is None for row in found if row.state not in OPEN | HELD)

    def a_certificate_is_never_lost_or_exchanged(self) -> None:
        for which, row in self.rows().items():
            known = self.known[which]
            assert (row.certificate is not None) == (row.state in HAS_CERTIFICATE)
            assert known.certificate in {None, row.certificate}
            known.certificate = row.certificate

    def a_request_is_kept_while_somebody_needs_it_and_no_longer(self) -> None:
        told = set(self.connection.execute(select(letters.c.transaction)).scalars())
        for which, row in self.rows().items():
            is_over = row.state in {State.RELEASED, State.REJECTED, State.REVOKED} or (
                row.state is State.EXPIRED and row.due_at is None
            )
            if row.state in OPEN or row.state is State.ISSUED or (row.state is State.EXPIRED and row.due_at):
                assert row.request is not None
            elif is_over and which not in told:
                assert row.request is None

    def whatever_is_not_at_rest_is_looked_at_some_time(self) -> None:
        assert all(row.due_at is not None for row in self.rows().values() if row.state not in AT_REST)

    def the_audit_says_where_everything_stands(self) -> None:
        said: dict[str, str] = {}
        for _, event in audited(self.connection):
            if event["event"] in SAYS:
                said[event["transaction"]] = SAYS[event["event"]] or event["outcome"]
        for which, row in self.rows().items():
            first = {State.SUBMITTING: State.AUTHORISED.value}.get(row.state)
            assert said[str(which)] in {row.state.value, first}


def reachable(before: State) -> frozenset[State]:
    """In one commit: a certificate may be issued and released at once, a strict letter's last word may revoke it."""
    onwards = TRANSITIONS[State.ISSUED] if State.ISSUED in TRANSITIONS[before] else frozenset()
    return TRANSITIONS[before] | onwards


def recalled(connection: Connection, identity: RequestIdentity, now: datetime) -> Transaction | Refused | None:
    try:
        return recall(connection, identity, now)
    except Refused as error:
        return error


@pytest.mark.parametrize("seed", range(4))
def test_whatever_two_processes_do_in_whatever_order_the_journal_holds(connection: Connection, seed: int) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")  # its driver begins nothing before the first change
    processes = TwoProcesses(connection, seed)

    processes.walk(400)

    assert len(processes.moves) >= ENOUGH_MOVES


def test_every_move_of_the_table_is_made_by_somebody(connection: Connection) -> None:
    """An operation for each; and none for a move that the table does not hold."""
    made = set()
    for before, after in ((before, after) for before in State for after in State):
        row = replace(authorise(connection, a_transaction(), NOW), state=before)
        try:
            advance(connection, row, frozenset({before}), (after,), NOW, due_at=None)
        except LostRace:
            made.add((before, after))
        except IllegalTransition:
            continue
        else:
            made.add((before, after))

    assert {(before, after) for before, afters in TRANSITIONS.items() for after in afters} == made
