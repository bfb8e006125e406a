"""What it means for a test that a real client or server is missing."""

from __future__ import annotations

import os

import pytest

from tests.interop.installed import find


def require(program: str) -> str:
    """Path of a peer; without it the test is skipped, or fails where every peer is demanded.

    SCEP_RA_REQUIRE_PEERS=1 demands every peer, as continuous integration does.
    """
    found = find(program)
    if found is not None:
        return found
    reason = f"{program} is missing: it comes from the system's packages (listed in .ci/run) or from `make peers`"
    if os.environ.get("SCEP_RA_REQUIRE_PEERS") == "1":  # noqa: TID251 - asked of the test run, not of the service
        pytest.fail(reason)
    pytest.skip(reason)
