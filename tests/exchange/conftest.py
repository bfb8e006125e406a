"""Fixtures of the tests that run scep-ra as its users do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ra.cli.app import run
from tests.interop.running import free_ports


@pytest.fixture
def ports() -> tuple[int, int]:
    """Of the listener for devices and of that for operators."""
    public, admin = free_ports(2)
    return public, admin


@pytest.fixture
def directory(tmp_path: Path, ports: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> Path:
    """What `scep-ra init` makes, to listen on these ports."""
    public, admin = ports
    listen = (f"--listen=127.0.0.1:{public}", f"--admin-listen=127.0.0.1:{admin}")
    assert run(["init", str(tmp_path / "var"), "--yes", "--ca-key=ec:p256", *listen]) == 0
    capsys.readouterr()
    return tmp_path / "var"
