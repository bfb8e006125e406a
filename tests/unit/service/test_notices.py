"""Letters say all that there is to tell, to those who want to know, and to nobody without the journal's key."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.api import Issued
from ra.journal.outbox import Letter, NewLetter
from ra.journal.records import Notice, Occasion
from ra.journal.sealing import JournalKey, NotOurs
from ra.journal.states import State
from ra.policy.decide import Decision, decide
from ra.policy.grant import Grant, Notify
from ra.policy.profile import Profile
from ra.service.notices import Notices, _freeze, _thaw
from tests.fakes.csrs import csr, enrolment
from tests.fakes.letters import NOW, a_row

KEY = JournalKey(bytes(32))
STRICT = Notify(validator="intune", is_strict=True, patience=timedelta(minutes=30))
LAX = Notify(validator="hook", is_strict=False, patience=timedelta(days=2))
ISSUED = Issued(certificate=b"\x30\x00", chain=(b"\x30\x01\x05", b"\x30\x02\x05\x00"), reference="order 1")
GRANT = Grant(method="intune", label="device", attributes={"team": "blue"}, notify=(STRICT, LAX))


def notices() -> Notices:
    return Notices(KEY, os.urandom)


def a_decision() -> Decision:
    return decide(enrolment(csr(challenge_password="the challenge")), GRANT, Profile(name="default"), NOW)


def stored(letter: NewLetter) -> Letter:
    return Letter(
        id=letter.id,
        transaction=None,
        validator=letter.validator,
        is_strict=letter.is_strict,
        notice=letter.notice,
        created_at=NOW,
        deadline_at=letter.deadline_at,
        due_at=NOW,
        attempts=0,
        detail=None,
    )


def test_everybody_who_wants_to_know_is_told_of_a_certificate() -> None:
    row, decision = a_row(notify=(STRICT, LAX)), a_decision()

    letters = notices().letters(row, decision, Occasion.ISSUED, NOW, issued=ISSUED)

    told = [notices().open(stored(each)) for each in letters]
    assert [("intune", True, NOW + STRICT.patience), ("hook", False, NOW + LAX.patience)] == [
        (each.validator, each.is_strict, each.deadline_at) for each in letters
    ]
    assert [each.id for each in letters] == [each.id for each in told]
    assert (
        Notice(
            id=letters[0].id,
            occasion=Occasion.ISSUED,
            profile="default",
            transaction=row.id,
            transaction_id=row.transaction_id.decode(),
            attributes={"team": "blue"},
            csr=decision.csr,
            certificate=ISSUED.certificate,
            chain=ISSUED.chain,
        )
        == told[0]
    )


def test_of_a_failure_no_certificate_waits() -> None:
    row = a_row(State.REJECTED, notify=(STRICT,))

    (letter,) = notices().letters(row, a_decision(), Occasion.FAILED, NOW, reason="policy", detail="not this name")

    told = notices().open(stored(letter))
    assert not letter.is_strict
    assert (None, "policy", "not this name") == (told.certificate, told.reason, told.detail)


def test_nobody_is_told_where_nobody_wants_to_know() -> None:
    letters = notices().letters(a_row(notify=()), a_decision(), Occasion.ISSUED, NOW, issued=ISSUED)

    assert () == letters


def test_a_refusal_before_there_is_a_transaction_is_told_too() -> None:
    letters = notices().refusals(
        GRANT, "default", "7XX", b"\x30\x00", NOW, reason="KEY_NOT_ALLOWED", detail="1024 bits"
    )

    told = notices().open(stored(letters[0]))
    assert ["intune", "hook"] == [each.validator for each in letters]
    assert (Occasion.FAILED, None, "7XX", "KEY_NOT_ALLOWED") == (
        told.occasion,
        told.transaction,
        told.transaction_id,
        told.reason,
    )


def test_a_transaction_id_that_is_no_text_is_escaped() -> None:
    row = a_row(transaction_id=b"a\xffb", notify=(LAX,))

    (letter,) = notices().letters(row, a_decision(), Occasion.ISSUED, NOW, issued=ISSUED)

    assert "a\\xffb" == notices().open(stored(letter)).transaction_id


def test_a_letter_shows_neither_challenge_nor_device_without_the_key() -> None:
    (letter,) = notices().letters(a_row(notify=(LAX,)), a_decision(), Occasion.ISSUED, NOW, issued=ISSUED)

    assert b"the challenge" not in letter.notice
    with pytest.raises(NotOurs):
        Notices(JournalKey(b"o" * 32), os.urandom).open(stored(letter))


def test_a_sealed_notice_is_good_for_its_own_letter_alone() -> None:
    first, second = notices().letters(a_row(notify=(STRICT, LAX)), a_decision(), Occasion.ISSUED, NOW, issued=ISSUED)

    with pytest.raises(NotOurs):
        notices().open(stored(replace(first, notice=second.notice)))


@given(
    notice=st.builds(
        Notice,
        id=st.uuids(),
        occasion=st.sampled_from(Occasion),
        profile=st.text(),
        transaction=st.none() | st.uuids(),
        transaction_id=st.text(),
        attributes=st.dictionaries(st.text(), st.text()),
        csr=st.binary(),
        certificate=st.none() | st.binary(min_size=1),
        chain=st.lists(st.binary()).map(tuple),
        reason=st.none() | st.text(),
        detail=st.none() | st.text(),
    )
)
def test_a_notice_survives_the_journal(notice: Notice) -> None:
    assert notice == _thaw(_freeze(notice))


def test_two_letters_never_bear_one_id() -> None:
    row = replace(a_row(), id=uuid4(), notify=(LAX,) * 10)

    letters = notices().letters(row, a_decision(), Occasion.ISSUED, NOW, issued=ISSUED)

    assert 10 == len({each.id for each in letters})
