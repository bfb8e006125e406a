"""`scep-ra client` where the CA takes its time, or a person has to decide: what is printed, kept and returned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ra.cli.app import run
from ra.cli.device import CERTIFICATE, PENDING
from tests.fakes.held_ca import configure
from tests.fakes.serving import serving

Output = pytest.CaptureFixture[str]


def asked(arguments: list[str], capsys: Output) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    exit_code = run(["client", *arguments, "--json"])
    said = capsys.readouterr()
    answer: dict[str, Any] = json.loads(said.out or said.err)
    return exit_code, answer


def test_what_is_pending_is_no_failure_and_is_polled_until_there_is_a_certificate(
    directory: Path, ports: tuple[int, int], tmp_path: Path, capsys: Output
) -> None:
    environment, path = configure(directory, profile="wait_seconds = 0"), directory / "ra.toml"
    path.write_text(
        path.read_text("utf-8").replace("renewal_threshold_days = 30", "renewal_threshold_days = 366"), "utf-8"
    )
    challenge, old, new = (directory / "challenge.txt").read_text("utf-8").strip(), tmp_path / "old", tmp_path / "new"

    with serving(directory, ports, environment=environment) as served:
        enrol = ["enrol", "--url", served.url, "--challenge", challenge, "--out", str(old)]
        poll = ["poll", "--url", served.url, "--out"]
        told = [asked(enrol, capsys), asked([*poll, str(old)], capsys)]
        (directory / "ca.open").touch()
        served.until(lambda: asked([*poll, str(old)], capsys)[1]["status"] == "issued")
        (directory / "ca.open").unlink()
        renewal = asked(["renew", "--url", served.url, "--from", str(old), "--out", str(new)], capsys)
        (directory / "ca.open").touch()
        served.until(lambda: asked([*poll, str(new)], capsys)[1]["status"] == "issued")
        again = asked([*poll, str(new)], capsys)

    assert [(0, "pending")] * 3 == [(exit_code, said["status"]) for exit_code, said in [*told, renewal]]
    assert (2, f"Nothing is pending in {new}: there is no {PENDING}.") == (again[0], again[1]["error"])
    assert (old / CERTIFICATE).read_bytes() != (new / CERTIFICATE).read_bytes()


def test_what_waits_for_a_person_is_polled_until_somebody_says_yes(
    directory: Path, ports: tuple[int, int], tmp_path: Path, capsys: Output
) -> None:
    path, out = directory / "ra.toml", tmp_path / "device"
    text = path.read_text("utf-8").replace('challenge = "shared"', 'challenge = { all_of = ["shared", "person"] }')
    path.write_text(f'{text}\n[challenges.person]\ntype = "approval"\n', "utf-8")
    challenge, config = (directory / "challenge.txt").read_text("utf-8").strip(), ["--config", str(path)]

    with serving(directory, ports) as served:
        poll = ["poll", "--url", served.url, "--out", str(out)]
        told = [
            asked(["enrol", "--url", served.url, "--challenge", challenge, "--out", str(out)], capsys),
            asked(poll, capsys),
        ]
        assert run(["transactions", "list", "--state", "awaiting-approval", "--json", *config]) == 0
        (waiting,) = json.loads(capsys.readouterr().out)["transactions"]
        assert run(["transactions", "approve", waiting["id"], *config]) == 0
        served.until(lambda: asked(poll, capsys)[1]["status"] == "issued")

    assert [(0, "pending")] * 2 == [(exit_code, said["status"]) for exit_code, said in told]
    assert (out / CERTIFICATE).exists()
