"""`scep-ra simulate jamf`: what it prints is what a directory challenge needs; `jamf-webhook` asks as Jamf Pro does."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from connectors.api import Secret
from ra.challenge import directory
from ra.challenge.api import Deny, Services, Verdict
from ra.cli.app import run
from ra.policy.grant import Grant
from tests.fakes.challenges import attempt
from tests.fakes.csrs import csr, subject
from tests.fakes.simulated import listening, now

Output = pytest.CaptureFixture[str]


@pytest.fixture
def block(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The challenge's options, as a simulated Jamf Pro prints them that serves meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    secret = str(tmp_path / "secret")
    arguments = [
        "simulate",
        "jamf",
        "--listen",
        f"127.0.0.1:{port}",
        "--secret",
        secret,
        "--computer",
        "C02X",
        "--json",
    ]
    with subprocess.Popen([sys.executable, "-m", "ra", *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)


def test_a_directory_challenge_finds_the_computer(block: dict[str, Any], tmp_path: Path) -> None:
    services = Services(
        name="macs",
        directory=tmp_path,
        now=now,
        read_secret=lambda reference: Secret(Path(reference.removeprefix("file:")).read_text("utf-8")),
        warn=print,
    )

    async def ask() -> list[Verdict]:
        validator = await directory.connect(directory.Options.model_validate(block), services)
        asked = [csr(subject=subject(("2.5.4.3", serial))) for serial in ("C02X", "C02Y")]
        answers = [await validator.check(attempt(None, request=each)) for each in asked]
        await validator.aclose()
        return answers

    assert "directory" == block.pop("type")
    assert [Grant, Deny] == [type(each) for each in asyncio.run(ask())]


def test_a_webhook_is_asked_as_jamf_asks_it(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "password").write_text("secret\n", "utf-8")
    arguments = ["--user", "jamf", "--password", str(tmp_path / "password"), "--serial", "C02X", "--json"]

    with listening(PlainTextResponse("7K3F")) as url:
        code = run(["simulate", "jamf-webhook", f"{url}/mdm/jamf/challenge", *arguments])

    assert 0 == code
    assert {"challenge": "7K3F"} == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("answer", "code"), [(PlainTextResponse("no\x1b", 401), 1), (None, 3)])
def test_a_webhook_that_hands_out_nothing_is_said(
    tmp_path: Path, capsys: Output, answer: PlainTextResponse | None, code: int
) -> None:
    (tmp_path / "password").write_text("secret\n", "utf-8")
    arguments = ["--user", "jamf", "--password", str(tmp_path / "password")]

    if answer is None:
        done = run(["simulate", "jamf-webhook", "http://127.0.0.1:9/", *arguments])
    else:
        with listening(answer) as url:
            done = run(["simulate", "jamf-webhook", url, *arguments])

    said = capsys.readouterr().err
    assert code == done
    assert "secret" not in said
    assert "\x1b" not in said
