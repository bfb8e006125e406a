"""`scep-ra simulate ejbca`: what it prints is what a connector needs, client certificate included."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

from connectors import ejbca
from connectors.api import Issued, Pending, Secret, Services
from ra.cli.app import run
from tests.fakes.simulated import now
from tests.fakes.vaults import request


def test_what_the_simulated_ejbca_prints_lets_a_connector_issue_after_an_approval(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["simulate", "ejbca", "--listen", f"127.0.0.1:{port}", "--directory", str(tmp_path), "--approvals"]
    with subprocess.Popen([sys.executable, "-m", "ra", *arguments, "--json"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        block = json.loads(process.stdout.readline())
        kind = block.pop("type")
        try:
            results = asyncio.run(_issue_and_poll(ejbca.Options(**block), tmp_path))
        finally:
            process.send_signal(signal.SIGINT)

    assert "ejbca" == kind
    assert [Pending, Pending, Issued] == [type(each) for each in results]
    assert 0o600 == stat.S_IMODE((tmp_path / "client.key").stat().st_mode)


def test_an_address_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    code = run(["simulate", "ejbca", "--listen", "8443", "--directory", str(tmp_path / "new")])

    assert 2 == code
    assert not (tmp_path / "new").exists()


async def _issue_and_poll(options: ejbca.Options, directory: Path) -> list[object]:
    services = Services(name="ejbca", directory=directory, now=now, read_secret=Secret)
    connector = await ejbca.connect(options, services)
    asked = request()
    try:
        first = await connector.issue(asked)
        assert isinstance(first, Pending)
        return [first, *[await connector.poll(first.reference, asked) for _ in range(2)]]
    finally:
        await connector.aclose()
