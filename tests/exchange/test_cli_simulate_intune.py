"""`scep-ra simulate intune` beside `scep-ra serve`: what it prints is what the configuration needs; `scep-ra intune`."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ra.cli.app import run
from tests.fakes.serving import serving
from tests.interop.running import free_ports

PROPS = "AAD_APP_ID=11111111-2222-3333-4444-555555555555\nAAD_APP_KEY=the secret\nTENANT=contoso.example\nOTHER=1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A configuration of `init` with the challenge that the simulated Intune has printed, and where both answer."""

    directory: Path
    ports: tuple[int, int]
    url: str

    def challenge(self, subject: str) -> str:
        return httpx.get(f"{self.url}/simulator/challenge", params={"subject": subject}).raise_for_status().text

    def heard(self) -> list[str]:
        return [each["action"] for each in httpx.get(f"{self.url}/simulator/heard").raise_for_status().json()]


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Rehearsal]:
    port, public, admin = free_ports(3)
    directory = tmp_path / "ra"
    listen = (f"--listen=127.0.0.1:{public}", f"--admin-listen=127.0.0.1:{admin}")
    assert 0 == run(["init", str(directory), "--yes", "--ca-key", "rsa:2048", *listen])
    options = ("--listen", f"127.0.0.1:{port}", "--secret", str(directory / "intune.secret"))
    command = (sys.executable, "-m", "ra", "simulate", "intune", *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert [True, False] == [bool(process.stdout.readline().strip()) for _ in range(2)]
            block = "".join(iter(process.stdout.readline, "\n"))
            configuration = directory / "ra.toml"
            text = configuration.read_text("utf-8").replace('challenge = "shared"', 'challenge = "intune"')
            configuration.write_text(f"{text}\n{block}", "utf-8")
            yield Rehearsal(directory=directory, ports=(public, admin), url=f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGINT)


def test_a_device_enrols_by_a_challenge_that_the_simulated_intune_has_made(
    rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = "CN=device-7"
    with serving(rehearsal.directory, rehearsal.ports) as served:
        enrol = ["client", "enrol", "--url", served.url, "--subject", subject, "--json"]
        good = run([*enrol, "--out", str(rehearsal.directory / "good"), "--challenge", rehearsal.challenge(subject)])
        bad = run([*enrol, "--out", str(rehearsal.directory / "bad"), "--challenge", rehearsal.challenge("CN=other")])
        checked = run(["doctor", "--config", str(rehearsal.directory / "ra.toml")])
        log = served.log.read_text("utf-8")

    assert [0, 1, 0] == [good, bad, checked]
    assert ["validateRequest", "successNotification", "validateRequest"] == rehearsal.heard()
    assert "SubjectNameMismatch: the subject is not that of the profile" in log
    assert "StatelessScepRequestValidationService" in capsys.readouterr().out


def test_the_doctor_says_what_is_missing(rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]) -> None:
    (rehearsal.directory / "intune.secret").write_text("mistaken\n")

    code = run(["doctor", "--config", str(rehearsal.directory / "ra.toml")])

    assert 2 == code
    assert "the client secret is wrong" in capsys.readouterr().out


def test_the_file_of_another_connector_becomes_a_block_and_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    props, secret = tmp_path / "com.microsoft.intune.props", tmp_path / "intune.secret"
    props.write_text(PROPS)

    code = run(["intune", "import", str(props), "--secret", str(secret)])

    said = capsys.readouterr().out
    assert 0 == code
    assert "the secret\n" == secret.read_text()
    assert 0o600 == stat.S_IMODE(secret.stat().st_mode)
    assert 'tenant = "contoso.example"' in said
    assert "# OTHER has no counterpart" in said
    assert "the secret" not in said


def test_the_secret_is_named_as_seen_from_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    props, config = tmp_path / "com.microsoft.intune.props", str(tmp_path / "etc/ra.toml")
    props.write_text(PROPS)
    (tmp_path / "etc/sub").mkdir(parents=True)

    run(["intune", "import", str(props), "--secret", str(tmp_path / "etc/sub/x"), "--config", config])
    below = capsys.readouterr().out
    run(["intune", "import", str(props), "--secret", str(tmp_path / "elsewhere"), "--config", config])
    elsewhere = capsys.readouterr().out

    assert '"file:sub/x"' in below
    assert f'"file:{tmp_path}/elsewhere"' in elsewhere


def test_a_secret_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    props, secret = tmp_path / "com.microsoft.intune.props", tmp_path / "intune.secret"
    props.write_text(PROPS)
    secret.write_text("kept")

    code = run(["intune", "import", str(props), "--secret", str(secret)])

    assert 1 == code
    assert "kept" == secret.read_text()


def test_what_is_imported_as_json_is_a_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    props = tmp_path / "com.microsoft.intune.props"
    props.write_text(PROPS)

    run(["intune", "import", str(props), "--secret", str(tmp_path / "intune.secret"), "--json"])

    block: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {"type", "tenant", "client_id", "credential"} == block.keys()
