from __future__ import annotations

import pytest

from connectors.api import Rejection
from ra.errors import Reason
from ra.journal.records import UNAVAILABLE
from ra.service.reasons import MEANINGS, UNKNOWN, meaning_of


def test_every_reason_has_its_sentences() -> None:
    assert set(Reason.__members__) | set(Rejection) | {UNAVAILABLE} == MEANINGS.keys()


@pytest.mark.parametrize("reason", MEANINGS)
def test_a_sentence_is_one(reason: str) -> None:
    meaning = meaning_of(reason)

    assert all(each[0].isupper() and each.endswith(".") for each in (meaning.means, meaning.advice))


def test_what_a_later_version_has_written_is_unknown() -> None:
    assert UNKNOWN is meaning_of("SOMETHING_NEW")
