from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.audited import AuditedJournal, audited
from tests.security.audit_tampering import WAYS, Tamper, overlooked, write_honestly

EACH = 20


@pytest.fixture(scope="module")
def journal() -> Iterator[AuditedJournal]:
    with audited() as journal:
        write_honestly(journal)
        yield journal


def test_an_honest_audit_of_processes_that_were_killed_is_whole(journal: AuditedJournal) -> None:
    report = journal.verify(journal.newest())

    assert ((), 0) == (report.breaks, report.unsealed)
    assert report.kept_since > 1
    assert report.chains > report.checkpoints


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_up_to_the_exported_checkpoint_every_change_is_found(journal: AuditedJournal, way: Tamper) -> None:
    assert 0 == overlooked(journal, way, EACH)
