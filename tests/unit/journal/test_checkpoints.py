from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from ra.journal import checkpoints
from ra.journal.audit import list_events
from ra.journal.chain import CLOSED_WITHIN
from ra.journal.checkpoints import Checkpoint, Known, Sealed, Unreadable, chains, learn, seal, stream_checkpoints
from ra.journal.tables import audit_events
from tests.fakes.audited import SIGNER, AuditedJournal, audited
from tests.fakes.enrolments import NOW

FIRST, SECOND = UUID("00000000-0000-4000-8000-000000000001"), UUID("00000000-0000-4000-8000-000000000002")
DAY = timedelta(days=1)


@pytest.fixture
def journal() -> Iterator[AuditedJournal]:
    with audited() as journal:
        yield journal


def ranges(checkpoint: Checkpoint | None) -> dict[UUID, tuple[int, int]]:
    assert checkpoint is not None
    return {chain: (sealed.first, sealed.last) for chain, sealed in checkpoint.chains.items()}


def numbers(journal: AuditedJournal) -> list[int]:
    return [each.number for each in stream_checkpoints(journal.connection)]


@given(
    st.builds(
        Checkpoint,
        number=st.integers(1, 2**62),
        at=st.datetimes().map(lambda each: each.replace(tzinfo=NOW.tzinfo)),
        previous=st.binary(max_size=32).map(bytes.hex),
        kept_since=st.integers(1, 2**62),
        chains=st.dictionaries(
            st.uuids(), st.builds(Sealed, st.integers(1, 2**62), st.integers(1, 2**62), st.binary(max_size=32))
        ),
    )
)
def test_a_statement_is_one_line_of_ascii_and_reads_as_what_was_written(checkpoint: Checkpoint) -> None:
    statement = checkpoint.write()

    assert checkpoint == Checkpoint.read(statement)
    assert statement.isascii()
    assert statement.isprintable()


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "[]",
        "{}",
        '{"type":"another","number":1,"at":"2026-11-23T12:00:00Z","previous":"","kept_since":1,"chains":{}}',
        '{"type":"scep-ra audit checkpoint 1","number":"x","at":"2026-11-23T12:00:00Z","previous":"","kept_since":1,"chains":{}}',
        '{"type":"scep-ra audit checkpoint 1","number":1,"at":"noon","previous":"","kept_since":1,"chains":{}}',
        '{"type":"scep-ra audit checkpoint 1","number":1,"at":"2026-11-23T12:00:00Z","previous":"","kept_since":1,"chains":[]}',
        '{"type":"scep-ra audit checkpoint 1","number":1,"at":"2026-11-23T12:00:00Z","previous":"","kept_since":1,"chains":{"x":{}}}',
        '{"type":"scep-ra audit checkpoint 1","number":0,"at":"2026-11-23T12:00:00Z","previous":"","kept_since":1,"chains":{}}',
        '{"type":"scep-ra audit checkpoint 1","number":9223372036854775808,"at":"2026-11-23T12:00:00Z","previous":"","kept_since":1,"chains":{}}',
        "[" * 100_000,
    ],
)
def test_anything_else_is_unreadable(statement: str) -> None:
    with pytest.raises(Unreadable):
        Checkpoint.read(statement)


def test_all_chains_are_sealed_together(journal: AuditedJournal) -> None:
    one, other = journal.process(), journal.process()
    journal.commit(one, "decision")
    journal.commit(other, "decision", "outcome")

    checkpoint = journal.seal()

    last = {each.chain: each.digest for each in list_events(journal.connection)}
    assert {FIRST: (1, 2), SECOND: (1, 3)} == ranges(checkpoint)
    assert checkpoint is not None
    assert last == {chain: sealed.digest for chain, sealed in checkpoint.chains.items()}
    assert (1, "", 1) == (checkpoint.number, checkpoint.previous, checkpoint.kept_since)


def test_a_later_checkpoint_lists_what_has_grown_and_holds_the_digest_of_the_one_before(
    journal: AuditedJournal,
) -> None:
    one, other = journal.process(), journal.process()
    journal.commit(one, "decision")
    journal.commit(other, "decision")
    journal.seal()
    before = journal.newest()
    journal.commit(other, "outcome")

    checkpoint = journal.seal()

    assert {SECOND: (3, 3)} == ranges(checkpoint)
    assert checkpoint is not None
    assert sha256(before.statement.encode()).hexdigest() == checkpoint.previous


def test_a_statement_stays_small_however_many_chains_have_ended(journal: AuditedJournal) -> None:
    for _ in range(300):
        journal.commit(journal.process(), "decision")
    journal.seal()
    journal.commit(journal.process(), "decision")

    checkpoint = journal.seal()

    assert checkpoint is not None
    assert len(checkpoint.write()) < 500


def test_nothing_is_sealed_twice(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision")
    journal.seal()

    assert journal.seal() is None
    assert [1] == numbers(journal)


def test_the_statement_is_what_is_signed(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision")
    journal.seal()

    stored = journal.newest()

    SIGNER.public_key().verify(stored.signature, stored.statement.encode())
    assert 1 == json.loads(stored.statement)["number"]


def test_of_two_that_seal_at_the_same_time_one_does(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision")
    journal.seal()
    behind = Known()
    journal.commit(journal.process(), "decision")

    assert seal(journal.connection, SIGNER, behind, journal.now) is None
    assert [1] == numbers(journal)


def test_what_is_known_grows_with_what_others_have_sealed(journal: AuditedJournal) -> None:
    known, chain = Known(), journal.process()
    empty = learn(journal.connection, known)
    journal.commit(chain, "decision")
    journal.seal()
    journal.commit(chain, "outcome")
    journal.seal()

    assert (False, True, False) == (empty, learn(journal.connection, known), learn(journal.connection, known))
    assert (2, {FIRST: 3}, journal.newest().digest) == (known.number, known.heads, known.digest)


def test_a_checkpoint_that_cannot_be_read_does_not_stop_the_sealing(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.seal()
    journal.connection.exec_driver_sql("UPDATE audit_checkpoints SET statement = 'gone'")
    journal.commit(chain, "decision")

    checkpoint = journal.seal()

    assert {FIRST: (1, 3)} == ranges(checkpoint)
    assert [1, 2] == numbers(journal)


@pytest.mark.parametrize("change", ["chain = 'no name'", "number = 'no number'", "chain = x'00'"])
def test_an_event_that_cannot_be_placed_does_not_stop_the_sealing(journal: AuditedJournal, change: str) -> None:
    one, other = journal.process(), journal.process()
    journal.commit(one, "decision")
    journal.commit(other, "decision")
    journal.connection.exec_driver_sql(f"UPDATE audit_events SET {change} WHERE chain = '{FIRST.hex}' AND number = 2")  # noqa: S608

    assert (1, 2) == ranges(journal.seal())[SECOND]


@pytest.mark.parametrize(
    ("change", "unreadable"),
    [
        ("chain = CAST(x'ff' AS TEXT)", "chain \ufffd, event 2"),
        ("digest = 'no digest'", f"chain {FIRST}, event 2"),
        ("digest = CAST(x'ff' AS TEXT)", f"chain {FIRST}, event 2"),
        ("number = CAST(x'ff' AS TEXT)", f"chain {FIRST.hex}, event \ufffd"),
        ("number = 1.5", f"chain {FIRST.hex}, event 1.5"),
    ],
)
def test_what_is_no_text_is_told_and_does_not_stop_the_sealing(
    journal: AuditedJournal, change: str, unreadable: str
) -> None:
    one, other, known = journal.process(), journal.process(), Known()
    journal.commit(one, "decision")
    journal.commit(other, "decision")
    journal.connection.exec_driver_sql(f"UPDATE audit_events SET {change} WHERE chain = '{FIRST.hex}' AND number = 2")  # noqa: S608

    checkpoint = seal(journal.connection, SIGNER, known, journal.now)

    assert (1, 2) == ranges(checkpoint)[SECOND]
    assert {unreadable} == known.unreadable


@pytest.mark.parametrize(
    "change",
    ["statement = CAST(x'ff' AS TEXT)", "at = CAST(x'ff' AS TEXT)", "signature = 7", "number = CAST(x'ff' AS TEXT)"],
)
def test_a_checkpoint_that_is_no_text_does_not_stop_the_sealing(journal: AuditedJournal, change: str) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.seal()
    journal.connection.exec_driver_sql(f"UPDATE audit_checkpoints SET {change}")  # noqa: S608
    journal.now += 3 * DAY
    journal.commit(chain, "decision")

    assert journal.verify().broken
    assert journal.seal(before=journal.now - DAY) is not None


def test_what_is_sealed_is_learned_in_parts(journal: AuditedJournal) -> None:
    chain, known = journal.process(), Known()
    for _ in range(checkpoints.LEARNED + 1):
        journal.commit(chain, "decision")
        journal.seal()

    learned = [known.number for _ in range(3) if learn(journal.connection, known)]

    assert [checkpoints.LEARNED, checkpoints.LEARNED + 1] == learned


def test_every_chain_is_found_with_its_last_number(journal: AuditedJournal) -> None:
    empty = chains(journal.connection)
    for count in (1, 2, 3):
        journal.commit(journal.process(), *["decision"] * count)

    assert {} == empty
    assert [2, 3, 4] == list(chains(journal.connection).values())


# ---------------------------------------------------------------- removal
def test_what_was_sealed_long_ago_is_removed_as_whole_chains_and_the_rest_verifies(journal: AuditedJournal) -> None:
    old, lasting = journal.process(), journal.process()
    journal.commit(old, "decision")
    journal.commit(lasting, "decision")
    journal.seal()
    journal.commit(old, "outcome")
    journal.seal()
    journal.now += 3 * DAY
    journal.connection.info["companion"] = lasting
    journal.commit(lasting, "outcome")
    journal.seal()

    checkpoint = journal.seal(before=journal.now - DAY)

    assert checkpoint is not None
    assert (4, 3) == (checkpoint.number, checkpoint.kept_since)
    assert [3, 4] == numbers(journal)
    assert FIRST not in chains(journal.connection)
    report = journal.verify(journal.newest())
    assert ((), 4, 3) == (report.breaks, report.sealed_by, report.kept_since)


def test_a_chain_that_goes_on_is_kept_from_its_beginning(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.seal()
    journal.now += timedelta(hours=11)
    journal.commit(chain, "outcome")
    journal.seal()
    journal.now += timedelta(hours=30)
    journal.commit(journal.process(), "decision")

    checkpoint = journal.seal(before=journal.now)

    assert checkpoint is not None
    assert (2, {SECOND: (1, 2)}) == (checkpoint.kept_since, ranges(checkpoint))
    assert 5 == len(list_events(journal.connection))
    assert 0 == journal.verify(journal.newest()).broken


def test_a_chain_that_may_still_be_closed_is_not_removed(journal: AuditedJournal) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.seal()
    journal.now += CLOSED_WITHIN - timedelta(minutes=1)
    removal = journal.seal(before=journal.now)
    journal.commit(chain, "outcome")
    journal.seal()

    assert removal is None
    assert 0 == journal.verify(journal.newest()).broken


def test_a_process_that_had_nothing_to_audit_does_not_go_on_with_a_chain_that_was_removed(
    journal: AuditedJournal,
) -> None:
    chain = journal.process()
    journal.commit(chain, "decision")
    journal.seal()
    journal.now += 3 * DAY
    journal.seal(before=journal.now - DAY)

    journal.commit(chain, "outcome")
    journal.seal()

    assert [SECOND] == list(chains(journal.connection))
    assert ((), 0) == (journal.verify(journal.newest()).breaks, journal.verify().unsealed)


def test_the_last_checkpoint_may_seal_the_removal_alone(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision")
    journal.seal()
    journal.now += 3 * DAY

    checkpoint = journal.seal(before=journal.now - DAY)

    assert {} == ranges(checkpoint)
    assert [2] == numbers(journal)
    assert () == list_events(journal.connection)
    assert 0 == journal.verify(journal.newest()).broken
    assert journal.seal(before=journal.now - DAY) is None


def test_an_audit_that_rests_comes_to_rest(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision")
    for _ in range(5):
        journal.now += 3 * DAY
        journal.seal(before=journal.now - DAY)

    assert [2] == numbers(journal)


def test_the_removal_goes_on_in_bounded_parts(journal: AuditedJournal) -> None:
    size = checkpoints.MAX_REMOVED // 2 + 1
    for _ in range(3):
        journal.commit(journal.process(), *["outcome"] * size)
        journal.seal()
    journal.now += 3 * DAY
    left = []
    while journal.seal(before=journal.now - DAY):
        left.append(journal.connection.execute(select(func.count()).select_from(audit_events)).scalar_one())
        assert 0 == journal.verify(journal.newest()).broken

    assert [2 * (size + 1), size + 1, 0] == left


def test_nothing_is_removed_where_nothing_is_old(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision")
    journal.seal()

    assert journal.seal(before=NOW) is None
    assert 2 == len(list_events(journal.connection))


def test_of_two_that_seal_at_the_same_time_only_the_one_that_does_removes(journal: AuditedJournal) -> None:
    journal.commit(journal.process(), "decision")
    journal.seal()
    behind = Known()
    learn(journal.connection, behind)
    journal.now += 3 * DAY
    journal.commit(journal.process(), "decision")
    journal.seal()

    assert seal(journal.connection, SIGNER, behind, journal.now, before=journal.now - DAY) is None
    assert {FIRST, SECOND} == set(chains(journal.connection))
