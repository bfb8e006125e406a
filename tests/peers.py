"""What it means for a test that a real client or server, or a file too large for the repository, is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from tests.interop.installed import find

# Taken out of the environment: to scep-ra what begins with SCEP_RA_ is configuration, and this is none of it.
DEMANDED = os.environ.pop("SCEP_RA_REQUIRE_PEERS", "") == "1"  # noqa: TID251 - asked of the test run, not of the service
"""SCEP_RA_REQUIRE_PEERS=1 demands every peer, as continuous integration does."""


def require(program: str) -> str:
    """Path of a peer, if it is not `missing`."""
    found = find(program)
    if found is None:
        missing(f"{program} is missing: it comes from the system's packages (listed in .ci/run) or from `make peers`")
    return found


def missing(reason: str) -> NoReturn:
    """Skips the test, or fails it where every peer is demanded."""
    if DEMANDED:
        pytest.fail(reason)
    pytest.skip(reason)
