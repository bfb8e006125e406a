"""Changes an audit in every way somebody with the database in his hands might, and counts what `verify` overlooks.

`python -m tests.security.audit_tampering 10000` tries so many; the test a few hundred.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ra.journal.chain import NOTHING_BEFORE, digest
from tests.fakes.audited import AuditedJournal, audited

STRANGER = Ed25519PrivateKey.from_private_bytes(b"x" * 32)

Tamper = Callable[["Attacker"], None]


def write_honestly(journal: AuditedJournal) -> None:
    """Processes that write at the same time, end, are killed, and are sealed; a part of it is old and removed."""
    random = Random(7)  # noqa: S311 - the same journal in every run
    processes = [journal.process() for _ in range(3)]
    for step in range(60):
        one = random.randrange(len(processes))
        journal.commit(processes[one], *["decision", "outcome"][: random.randint(1, 2)])
        if step % 7 == 0:
            journal.end(processes[one])
        if step % 11 == 0:
            processes[one] = journal.process()  # the other was killed
        if step % 5 == 0:
            journal.seal()
        if step == 30:
            journal.now += timedelta(days=3)
    journal.seal(before=journal.now - timedelta(days=2))
    for each in processes:
        journal.commit(each, "decision")
    journal.seal()
    journal.now += timedelta(hours=2)
    journal.commit(processes[0], "decision")
    journal.seal()


class Attacker:
    """Who can write to the database, knows how the audit is made, and lacks the key."""

    def __init__(self, journal: AuditedJournal, random: Random) -> None:
        self.journal = journal
        self.random = random

    def run(self, statement: str, *values: Any) -> list[Any]:
        result = self.journal.connection.exec_driver_sql(statement, values)
        return list(result) if result.returns_rows else []

    def event(self) -> Any:
        """(chain, number, at, event, digest) of any event."""
        return self.random.choice(self.run("SELECT * FROM audit_events"))

    def checkpoint(self) -> Any:
        """(number, at, statement, signature) of any checkpoint."""
        return self.random.choice(self.run("SELECT * FROM audit_checkpoints"))

    def set_event(self, row: Any, column: str, value: Any) -> None:
        self.run(f"UPDATE audit_events SET {column} = ? WHERE chain = ? AND number = ?", value, row[0], row[1])  # noqa: S608

    def set_checkpoint(self, row: Any, column: str, value: Any) -> None:
        self.run(f"UPDATE audit_checkpoints SET {column} = ? WHERE number = ?", value, row[0])  # noqa: S608

    def insert(self, *row: Any) -> None:
        self.run("INSERT INTO audit_events VALUES (?, ?, ?, ?, ?)", *row)

    def make_fit(self, chain: str) -> None:
        """Numbers and digests of the whole chain anew, so that each follows the one before."""
        previous = NOTHING_BEFORE
        rows = self.run("SELECT * FROM audit_events WHERE chain = ? ORDER BY number", chain)
        self.run("DELETE FROM audit_events WHERE chain = ?", chain)
        for number, (_, _, at, event, _) in enumerate(rows, 1):
            previous = digest(previous, UUID(chain), number, at, event)
            self.insert(chain, number, at, event, previous)

    @property
    def ages_ago(self) -> int:
        """A time, in microseconds, that was over long before the last checkpoint."""
        newest: int = self.run("SELECT max(at) FROM audit_checkpoints")[0][0]
        return newest - 3_600_000_000

    def seal_some(self) -> None:
        """As the service does in its next minute, or not yet."""
        if self.random.random() < 0.5:
            self.journal.seal()

    def changed(self, value: Any) -> Any:
        """The value with one bit, character or unit of it changed."""
        if isinstance(value, int):
            return value + self.random.choice([-1, 1, 10**6, -(10**15)])
        place = self.random.randrange(len(value))
        if isinstance(value, bytes):
            return value[:place] + bytes([value[place] ^ 1 << self.random.randrange(8)]) + value[place + 1 :]
        other = self.random.choice([each for each in 'a1"}\n\u00e9' if each != value[place]])
        return value[:place] + other + value[place + 1 :]


def edit_an_event(attacker: Attacker) -> None:
    row, column = attacker.event(), attacker.random.choice(["at", "event", "digest"])
    attacker.set_event(row, column, attacker.changed(row[["chain", "number", "at", "event", "digest"].index(column)]))


def edit_into_another_type(attacker: Attacker) -> None:
    column = attacker.random.choice(["at", "event", "digest", "number"])
    attacker.set_event(attacker.event(), column, attacker.random.choice(["text", b"\xff\xfe", 1e300, 2**62]))


def edit_and_make_fit(attacker: Attacker) -> None:
    row = attacker.event()
    attacker.set_event(row, "event", row[3].replace("{", '{"forged":true,', 1))
    attacker.make_fit(row[0])


def delete_an_event(attacker: Attacker) -> None:
    row = attacker.event()
    attacker.run("DELETE FROM audit_events WHERE chain = ? AND number = ?", row[0], row[1])


def delete_and_make_fit(attacker: Attacker) -> None:
    row = attacker.event()
    attacker.run("DELETE FROM audit_events WHERE chain = ? AND number = ?", row[0], row[1])
    attacker.make_fit(row[0])


def delete_a_time(attacker: Attacker) -> None:
    since = attacker.event()[2]
    attacker.run("DELETE FROM audit_events WHERE at BETWEEN ? AND ?", since, since + 5_000_000)


def delete_a_chain(attacker: Attacker) -> None:
    attacker.run("DELETE FROM audit_events WHERE chain = ?", attacker.event()[0])


def delete_everything(attacker: Attacker) -> None:
    attacker.run("DELETE FROM audit_events")
    if attacker.random.random() < 0.5:
        attacker.run("DELETE FROM audit_checkpoints")


def cut_off_the_end_of_a_chain(attacker: Attacker) -> None:
    row = attacker.event()
    attacker.run("DELETE FROM audit_events WHERE chain = ? AND number >= ?", row[0], row[1])


def go_back_to_an_earlier_time(attacker: Attacker) -> None:
    """As if a backup had been restored."""
    number, at, _, _ = attacker.checkpoint()
    attacker.run("DELETE FROM audit_events WHERE at > ?", at)
    attacker.run("DELETE FROM audit_checkpoints WHERE number >= ?", number)


def swap_two_events(attacker: Attacker) -> None:
    one, other = attacker.event(), attacker.event()
    while (one[0], one[1]) == (other[0], other[1]):
        other = attacker.event()
    for column, index in (("at", 2), ("event", 3), ("digest", 4)):
        attacker.set_event(one, column, other[index])
        attacker.set_event(other, column, one[index])


def move_an_event(attacker: Attacker) -> None:
    row = attacker.event()
    attacker.set_event(row, "number", attacker.random.choice([0, -1, 10**6, 2**62]))


def rename_a_chain(attacker: Attacker) -> None:
    name = attacker.random.choice(["f" * 32, "0" * 32, "no name", b"\x00"])
    attacker.run("UPDATE audit_events SET chain = ? WHERE chain = ?", name, attacker.event()[0])


def put_in_an_event(attacker: Attacker) -> None:
    """Before the beginning, or anywhere; what follows is moved up."""
    chain, number, at, event, own = attacker.event()
    if attacker.random.random() < 0.3:
        number = attacker.random.choice([1, 0, -7])
    for each in attacker.run("SELECT * FROM audit_events WHERE chain = ? ORDER BY number DESC", chain):
        if each[1] >= number:
            attacker.set_event(each, "number", each[1] + 1)
    attacker.insert(chain, number, at, event, own)


def put_in_an_event_and_make_fit(attacker: Attacker) -> None:
    chain, _, at, event, own = attacker.event()
    attacker.insert(chain, 0, at, event, own)
    attacker.make_fit(chain)


def go_on_with_a_chain_that_was_closed(attacker: Attacker) -> None:
    closed = attacker.run("SELECT * FROM audit_events WHERE event LIKE '%closed%'")
    chain, number, at, event, _ = attacker.random.choice(closed)
    attacker.insert(chain, number + 1, at, event, bytes(32))
    attacker.make_fit(chain)


def add_a_chain_of_the_past(attacker: Attacker) -> None:
    """All of it fits; and the service may seal it, like any other."""
    chain, at = f"{attacker.random.getrandbits(128):032x}", attacker.event()[2] - 3_600_000_000
    for number, event in enumerate(['{"event":"opened"}', '{"event":"decision"}', '{"event":"closed"}'], 1):
        attacker.insert(chain, number, at + number, event, bytes(32))
    attacker.make_fit(chain)
    attacker.seal_some()


def add_the_past_to_a_chain_that_was_killed(attacker: Attacker) -> None:
    ends = "SELECT chain, max(number), at, event FROM audit_events GROUP BY chain"
    killed = [row for row in attacker.run(ends) if "closed" not in row[3] and row[2] < attacker.ages_ago]
    chain, number, at, event = attacker.random.choice(killed)
    attacker.insert(chain, number + 1, at + 1, event, bytes(32))
    attacker.make_fit(chain)
    attacker.seal_some()


def edit_a_checkpoint(attacker: Attacker) -> None:
    row, column = attacker.checkpoint(), attacker.random.choice(["at", "statement", "signature"])
    attacker.set_checkpoint(
        row, column, attacker.changed(row[["number", "at", "statement", "signature"].index(column)])
    )


def renumber_a_checkpoint(attacker: Attacker) -> None:
    attacker.set_checkpoint(attacker.checkpoint(), "number", attacker.random.choice([0, -3, 10**9]))


def sign_with_another_key(attacker: Attacker) -> None:
    row = attacker.checkpoint()
    attacker.set_checkpoint(row, "signature", STRANGER.sign(row[2].encode()))


def delete_a_checkpoint(attacker: Attacker) -> None:
    attacker.run("DELETE FROM audit_checkpoints WHERE number = ?", attacker.checkpoint()[0])


def delete_the_checkpoints(attacker: Attacker) -> None:
    attacker.run("DELETE FROM audit_checkpoints WHERE number >= ?", attacker.checkpoint()[0])


def rewrite_history(attacker: Attacker) -> None:
    """An event and all that follows, with the checkpoints that do not fit removed."""
    edit_and_make_fit(attacker)
    delete_the_checkpoints(attacker)


WAYS: tuple[Tamper, ...] = (
    edit_an_event,
    edit_into_another_type,
    edit_and_make_fit,
    delete_an_event,
    delete_and_make_fit,
    delete_a_time,
    delete_a_chain,
    delete_everything,
    cut_off_the_end_of_a_chain,
    go_back_to_an_earlier_time,
    swap_two_events,
    move_an_event,
    rename_a_chain,
    put_in_an_event,
    put_in_an_event_and_make_fit,
    go_on_with_a_chain_that_was_closed,
    add_a_chain_of_the_past,
    add_the_past_to_a_chain_that_was_killed,
    edit_a_checkpoint,
    renumber_a_checkpoint,
    sign_with_another_key,
    delete_a_checkpoint,
    delete_the_checkpoints,
    rewrite_history,
)


@contextmanager
def undone(journal: AuditedJournal) -> Iterator[None]:
    """What is done to the database within it is undone at its end."""
    journal.connection.exec_driver_sql("SAVEPOINT honest")
    yield
    journal.connection.exec_driver_sql("ROLLBACK TO honest")
    journal.connection.exec_driver_sql("RELEASE honest")


def overlooked(journal: AuditedJournal, way: Tamper, count: int) -> int:
    """How many of so many changes of that kind `verify` does not find, given the last checkpoint."""
    exported, missed = journal.newest(), 0
    for seed in range(count):
        with undone(journal):
            way(Attacker(journal, Random(seed)))  # noqa: S311 - to be repeated, not to be secret
            missed += journal.verify(exported).broken == 0
    return missed


def main(count: int) -> int:
    with audited() as journal:
        write_honestly(journal)
        missed = Counter({way.__name__: overlooked(journal, way, -(-count // len(WAYS))) for way in WAYS})
    for name, number in missed.items():
        print(f"{name:40} {-(-count // len(WAYS)):6} tried {number:6} overlooked")  # noqa: T201 - a program
    return 1 if missed.total() else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
