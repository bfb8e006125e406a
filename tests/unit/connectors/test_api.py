from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from connectors.api import ApprovedContents, IssueRequest


def test_what_is_printed_of_a_request_does_not_hold_the_csr_and_its_challenge() -> None:
    contents = ApprovedContents(
        subject=(),
        subject_alternative_names=(),
        spki=b"",
        key_usage=frozenset(),
        extended_key_usage=(),
        validity=timedelta(days=1),
        sid=None,
    )

    request = IssueRequest(
        csr=b"the challenge",
        contents=contents,
        profile="default",
        idempotency_key=UUID(int=1),
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    )

    assert "the challenge" not in repr(request)
