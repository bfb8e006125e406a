"""Fixtures that several kinds of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.running import RunningRa, running_ra


@pytest.fixture(scope="session")
def ra_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRa]:
    """The real thing, started once for the session: `scep-ra init` and `scep-ra serve`."""
    with running_ra(tmp_path_factory.mktemp("ra") / "var") as ra:
        yield ra
