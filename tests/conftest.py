"""Fixtures that several kinds of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tests.peers  # noqa: F401 - before all else: it takes its own variable out of the environment
from tests.interop.running import RunningRa, running_ra

_READABLE_BYTES = 16


def pytest_make_parametrize_id(val: object) -> str | None:
    """An id that can be read: of bytes that are no text the hex, or the length."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return val.hex() if len(val) <= _READABLE_BYTES else f"{len(val)} bytes"
    return None


@pytest.fixture(scope="session")
def ra_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRa]:
    """The real thing, started once for the session: `scep-ra init` and `scep-ra serve`."""
    with running_ra(tmp_path_factory.mktemp("ra") / "var") as ra:
        yield ra
