"""`scep-ra simulate`: what it prints is what a connector needs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors import vault
from connectors.api import Issued, Secret, Services
from ra.cli.app import run
from tests.fakes.simulated import now
from tests.fakes.vaults import request


@pytest.fixture
def block(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The connector's options, as a simulated Vault prints them that serves meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["simulate", "vault", "--listen", f"127.0.0.1:{port}", "--secret-id", str(tmp_path / "id"), "--json"]
    with subprocess.Popen([sys.executable, "-m", "ra", *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
    assert 128 + signal.SIGINT == process.returncode


def test_what_the_simulated_vault_prints_lets_a_connector_issue(tmp_path: Path, block: dict[str, Any]) -> None:
    async def issue() -> object:
        services = Services(
            name="vault",
            directory=tmp_path,
            now=now,
            read_secret=lambda reference: Secret(Path(reference.removeprefix("file:")).read_text().strip()),
        )
        connector = await vault.connect(vault.Options(**block), services)
        try:
            return await connector.issue(request())
        finally:
            await connector.aclose()

    assert "vault" == block.pop("type")
    assert isinstance(asyncio.run(issue()), Issued)
    assert 0o600 == stat.S_IMODE((tmp_path / "id").stat().st_mode)


@pytest.mark.parametrize(("kind", "file"), [("vault", "--secret-id"), ("ejbca", "--directory")])
def test_what_is_printed_for_people_has_the_identity_that_belongs_to_it(kind: str, file: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["simulate", kind, "--listen", f"127.0.0.1:{port}", file, str(tmp_path / "kept")]
    lines: list[str] = []
    with subprocess.Popen([sys.executable, "-m", "ra", *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while not lines or "`connector`" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], "it has ended"
        finally:
            process.send_signal(signal.SIGINT)

    printed = tomllib.loads("".join(lines))

    assert kind == printed["connectors"][kind]["type"]
    assert {"ra": {"managed": {}}} == printed["identities"]


@pytest.mark.parametrize("listen", ["8200", "127.0.0.1:", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["simulate", "vault", "--listen", listen, "--secret-id", str(tmp_path / "id")])

    assert 2 == code
    assert "--listen" in capsys.readouterr().err
    assert not (tmp_path / "id").exists()
