from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ra.journal import verify as verify_module
from ra.journal.verify import LATE, verify
from tests.fakes.audited import AuditedJournal, audited
from tests.fakes.enrolments import NOW

FIRST, SECOND = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def journal() -> Iterator[AuditedJournal]:
    """Two chains; checkpoint 1 seals the first up to 3, checkpoint 2 the first up to 5 and the second up to 4."""
    with audited() as journal:
        one, other = journal.process(), journal.process()
        journal.commit(one, "decision", "outcome")
        journal.seal()
        journal.commit(one, "decision", "outcome")
        journal.commit(other, "decision", "outcome")
        journal.end(other)
        journal.seal()
        yield journal


def sql(journal: AuditedJournal, statement: str, *values: object) -> None:
    named = statement.replace("FIRST", f"'{FIRST.replace('-', '')}'").replace("SECOND", f"'{SECOND.replace('-', '')}'")
    journal.connection.exec_driver_sql(named, values)


def breaks(journal: AuditedJournal) -> list[str]:
    return [str(each) for each in journal.verify(journal.newest()).breaks]


def test_an_honest_audit_is_sealed_up_to_its_last_checkpoint(journal: AuditedJournal) -> None:
    report = journal.verify(journal.newest())

    assert ((), 0) == (report.breaks, report.broken)
    assert (9, 2, 2) == (report.events, report.chains, report.checkpoints)
    assert (2, NOW + timedelta(seconds=5)) == (report.sealed_by, report.sealed_at)
    assert 0 == report.unsealed


def test_an_empty_audit_is_honest() -> None:
    with audited() as journal:
        report = journal.verify()

    assert (0, 0, None, None, 0) == (report.broken, report.events, report.sealed_by, report.sealed_at, report.unsealed)


def test_chains_without_an_end_are_those_of_processes_that_were_killed(journal: AuditedJournal) -> None:
    for _ in range(5):
        journal.commit(journal.process(), "decision")

    report = journal.verify(journal.newest())

    assert (0, 10, 2) == (report.broken, report.unsealed, report.sealed_by)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE audit_events SET event = replace(event, 'number', 'other') WHERE chain = FIRST AND number = 2",
            [f"chain {FIRST}, event 2: it was changed, or another one stood before it"],
        ),
        (
            "UPDATE audit_events SET at = at + 1 WHERE chain = FIRST AND number = 3",
            [f"chain {FIRST}, event 3: it was changed, or another one stood before it"],
        ),
        (
            "UPDATE audit_events SET digest = zeroblob(32) WHERE chain = FIRST AND number = 2",
            [f"chain {FIRST}, event 2: it was changed, or another one stood before it"],
        ),
        (
            "DELETE FROM audit_events WHERE chain = FIRST AND number = 2",
            [f"chain {FIRST}, event 3: event 2 is missing before it"],
        ),
        (
            "DELETE FROM audit_events WHERE chain = FIRST AND number < 3",
            [
                f"chain {FIRST}, event 3: events 1 to 2 are missing before it",
            ],
        ),
        (
            "DELETE FROM audit_events WHERE chain = SECOND AND number > 2",
            [f"checkpoint 2, chain {SECOND}: events 3 to 4 are missing at the end, though sealed"],
        ),
        (
            "DELETE FROM audit_events WHERE chain = SECOND",
            [f"checkpoint 2, chain {SECOND}: events 1 to 4 are missing at the end, though sealed"],
        ),
        (
            "UPDATE audit_events SET number = 0 WHERE chain = FIRST AND number = 2",
            [
                f"chain {FIRST}, event 0: it was put in",
                f"chain {FIRST}, event 3: event 2 is missing before it",
            ],
        ),
        (
            "UPDATE audit_events SET number = 'two' WHERE chain = FIRST AND number = 2",
            [
                f"chain {FIRST}, event 3: event 2 is missing before it",
                "audit: 1 events have a number, or belong to a chain, that cannot be",
            ],
        ),
        (
            "DELETE FROM audit_checkpoints WHERE number = 1",
            ["audit: the audit is kept since checkpoint 1, and begins with 2"],
        ),
        (
            "UPDATE audit_checkpoints SET signature = zeroblob(64) WHERE number = 1",
            ["checkpoint 1: its signature is wrong: it was changed, or signed with another key"],
        ),
        (
            "UPDATE audit_checkpoints SET at = at + 1 WHERE number = 1",
            ["checkpoint 1: its number or time is not the one that was signed"],
        ),
        (
            "DELETE FROM audit_checkpoints WHERE number = 2",
            ["checkpoint 2: it was exported, and the journal ends with 1: the end was cut off"],
        ),
    ],
)
def test_a_break_is_told_where_it_is(journal: AuditedJournal, statement: str, expected: list[str]) -> None:
    exported = journal.newest()
    sql(journal, statement)

    report = journal.verify(exported)

    assert expected == [str(each) for each in report.breaks]
    assert len(expected) == report.broken


def test_nothing_is_sealed_beyond_the_first_break(journal: AuditedJournal) -> None:
    sql(journal, "UPDATE audit_events SET at = at + 1 WHERE chain = FIRST AND number = 4")

    assert 1 == journal.verify().sealed_by


def test_checkpoints_that_are_missing_between_others_are_told(journal: AuditedJournal) -> None:
    chain = journal.process()
    for _ in range(3):
        journal.commit(chain, "decision")
        journal.seal()
    sql(journal, "DELETE FROM audit_checkpoints WHERE number IN (2, 3)")

    assert "checkpoint 4: checkpoints 2 to 3 are missing before it" == breaks(journal)[0]


def test_another_key_signs_nothing_here(journal: AuditedJournal) -> None:
    report = verify(journal.connection, Ed25519PrivateKey.from_private_bytes(b"o" * 32).public_key(), journal.newest())

    assert 3 == report.broken
    assert report.sealed_by is None


def test_a_checkpoint_of_another_journal_is_not_its_own(journal: AuditedJournal) -> None:
    with audited() as another:
        another.commit(another.process(), "decision")
        another.seal()
        exported = another.newest()

    assert ["checkpoint 1: it is not the one that was exported"] == [
        str(each) for each in journal.verify(exported).breaks
    ]


def test_an_exported_checkpoint_is_not_believed_without_its_signature(journal: AuditedJournal) -> None:
    exported = replace(journal.newest(), signature=bytes(64))

    assert ["checkpoint 2: the exported one is not signed with this key"] == [
        str(each) for each in journal.verify(exported).breaks
    ]


def test_an_exported_checkpoint_may_be_older_than_what_is_kept(journal: AuditedJournal) -> None:
    exported = journal.newest()
    journal.now += timedelta(days=3)
    journal.seal(before=journal.now - timedelta(days=1))

    assert 0 == journal.verify(exported).broken


def test_an_old_checkpoint_that_was_removed_and_is_there_again_is_told(journal: AuditedJournal) -> None:
    rows = journal.connection.exec_driver_sql("SELECT * FROM audit_checkpoints").all()
    journal.now += timedelta(days=3)
    journal.seal(before=journal.now - timedelta(days=1))
    for row in rows:
        sql(journal, "INSERT INTO audit_checkpoints VALUES (?, ?, ?, ?)", *row)

    assert "audit: the audit is kept since checkpoint 3, and begins with 1" in breaks(journal)


def test_what_is_not_sealed_yet_is_held_together_by_its_digests(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision", "outcome")
    third = FIRST[:-1] + "3"
    sql(journal, "UPDATE audit_events SET event = '{}' WHERE chain = ? AND number = 1", third.replace("-", ""))

    assert [
        f"chain {third}, event 1: it was changed, or another one stood before it",
        f"chain {third}, event 1: a chain begins with another event",
    ] == breaks(journal)


def test_what_is_dated_before_a_checkpoint_that_did_not_seal_it_is_told(journal: AuditedJournal) -> None:
    journal.now += timedelta(days=1)
    journal.commit(journal.process(), "decision")
    journal.seal()
    journal.now -= LATE + timedelta(minutes=1)
    journal.commit(journal.process(), "decision")
    journal.now += timedelta(days=1)
    unsealed = breaks(journal)
    journal.seal()

    told = "it is older than a checkpoint that did not seal it: it was added later, or a clock was wrong"
    fourth = FIRST[:-1] + "4"
    assert [f"chain {fourth}, event {number}: {told}" for number in (1, 2)] == unsealed == breaks(journal)


def test_what_is_dated_after_the_checkpoint_that_seals_it_is_told(journal: AuditedJournal) -> None:
    journal.now += LATE + timedelta(minutes=1)
    journal.commit(journal.process(), "decision")
    journal.now -= LATE + timedelta(minutes=1)
    journal.seal()

    told = "it is younger than the checkpoint that seals it: it was made up, or a clock was wrong"
    third = FIRST[:-1] + "3"
    assert [f"chain {third}, event {number}: {told}" for number in (1, 2)] == breaks(journal)


def test_clocks_may_differ_a_little(journal: AuditedJournal) -> None:
    almost = LATE - timedelta(seconds=10)
    for apart in (almost, -almost):
        journal.now += apart
        journal.commit(journal.process(), "decision")
        journal.now -= apart
        journal.seal()

    assert [] == breaks(journal)


def test_a_checkpoint_with_a_number_that_cannot_be_is_counted(journal: AuditedJournal) -> None:
    sql(journal, "UPDATE audit_checkpoints SET number = 'two' WHERE number = 2")

    assert "audit: 1 checkpoints have a number that cannot be" in [str(each) for each in journal.verify().breaks]


def test_what_follows_the_end_of_a_chain_is_told(journal: AuditedJournal) -> None:
    closed = "SELECT chain, 5, at, event, digest FROM audit_events WHERE chain = SECOND AND number = 4"
    sql(journal, f"INSERT INTO audit_events {closed}")

    assert f"chain {SECOND}, event 5: it follows the end of the chain" in breaks(journal)


def test_of_very_many_breaks_the_first_are_told_and_all_are_counted(journal: AuditedJournal) -> None:
    count = verify_module.MAX_TOLD + 50
    journal.commit(journal.process(), *["outcome"] * count)
    sql(journal, "UPDATE audit_events SET digest = randomblob(32) WHERE number > 5")

    report = journal.verify()

    assert verify_module.MAX_TOLD == len(report.breaks)
    assert count + 1 - 5 == report.broken
