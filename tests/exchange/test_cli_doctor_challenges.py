"""`scep-ra doctor` asks the servers of validators: what is dead, and what does not let us in, is told before a device is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ra.cli.app import run
from ra.simulate.intune import CLIENT_ID, TENANT, SimulatedIntune
from ra.simulate.jamf import SimulatedJamf
from tests.fakes.configured import as_toml
from tests.fakes.processes import free_port
from tests.fakes.simulated import Front, listening_front, now

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "var"
    listen = (f"--listen=127.0.0.1:{free_port()}", f"--admin-listen=127.0.0.1:{free_port()}")
    assert 0 == run(["init", str(directory), "--yes", "--json", "--ca-key=ec:p256", *listen])
    return directory


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as opened:
        yield opened


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    directory = Path(shutil.copytree(made, tmp_path / "var"))
    (directory / "secret").write_text("wrong")
    (directory / "secret").chmod(0o600)
    (directory / "key").write_text(KEY)
    (directory / "key").chmod(0o600)
    return directory


def options_of(kind: str, url: str) -> dict[str, Any]:
    """A challenge of each kind that asks somebody; `secret` is a wrong one."""
    match kind:
        case "webhook":
            return {"type": kind, "url": url, "id": "hook", "secret": "file:key", "bearer": "file:secret"}
        case "jwt":
            return {"type": kind, "url": f"{url}/jwks", "issuer": "https://portal.example.org", "audience": "scep-ra"}
        case "inventory":
            source = {"url": f"{url}/devices.csv", "token": "file:secret"}
            return {"type": kind, "source": source, "columns": {"CN": "hostname"}}
        case "directory":
            source = {"kind": "jamf", "url": url, "client_id": "scep-ra", "client_secret": "file:secret"}
            return {"type": kind, "source": source}
        case _:
            own = {"tenant": TENANT, "client_id": CLIENT_ID, "authority": url, "graph_url": url}
            credential = {"method": "secret", "client_secret": "file:secret"}
            return {"type": kind, **own, "credential": credential, "allowed_hosts": ["127.0.0.1"]}


KINDS = ["webhook", "jwt", "inventory", "directory", "intune"]


def doctor(
    directory: Path, options: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    """Exit code, and what is found of a challenge `asked` of these options."""
    path = directory / "ra.toml"
    path.write_text(f"{path.read_text('utf-8')}\n[challenges.asked]\n{as_toml(options)}\n", "utf-8")
    capsys.readouterr()
    code = run(["doctor", "--json", "--config", str(path)])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = (each for each in findings if each["subject"] == "challenges.asked")
    return code, found


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_server_is_told(kind: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(directory, options_of(kind, f"http://127.0.0.1:{free_port()}"), capsys)

    assert (3, "unreachable") == (code, found["verdict"]), found
    assert "see whether the server runs" in found["advice"]
    setting = {"intune": "cloud", "inventory": "source.url", "directory": "source.url"}.get(kind, "url")
    assert [f"challenges.asked.{setting}"] == found["settings"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_out_of_order_is_told_to_be_at_fault(
    kind: str, front: Front, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    front.app = PlainTextResponse("Bad gateway", 502)

    code, found = doctor(directory, options_of(kind, front.url), capsys)

    assert (3, "unreachable") == (code, found["verdict"]), found
    assert "it answers that it is out of order" in found["advice"]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("webhook", ["secret", "id", "bearer"]),
        ("jwt", ["url"]),
        ("inventory", ["source.token"]),
        ("directory", ["source.client_id", "source.client_secret"]),
        ("intune", ["credential.client_secret"]),
    ],
)
def test_who_is_not_let_in_is_told_which_settings_say_who_we_are(
    kind: str, settings: list[str], front: Front, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    front.app = PlainTextResponse("Unauthorized", 401)

    code, found = doctor(directory, options_of(kind, front.url), capsys)

    assert (2, "misconfigured") == (code, found["verdict"]), found
    assert [f"challenges.asked.{each}" for each in settings] == found["settings"]


@pytest.mark.parametrize(
    ("changed", "settings"),
    [
        ({}, ["credential.client_secret"]),
        ({"client_id": "99999999-9999-9999-9999-999999999999"}, ["tenant", "client_id", "cloud"]),
    ],
)
def test_entra_says_whether_it_is_the_secret_or_the_application(
    changed: dict[str, str],
    settings: list[str],
    front: Front,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    front.app = SimulatedIntune(now=now, entropy=os.urandom).faults

    code, found = doctor(directory, options_of("intune", front.url) | changed, capsys)

    assert (2, "misconfigured") == (code, found["verdict"]), found
    assert [f"challenges.asked.{each}" for each in settings] == found["settings"]


@pytest.mark.parametrize(
    "answered",
    [
        ("webhook", Response(status_code=405), "answers a HEAD with 405"),
        (
            "jwt",
            JSONResponse({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": "1"}]}),
            "JWKS can be had",
        ),
        ("inventory", PlainTextResponse("hostname\nprinter\n"), "1 of its rows count"),
    ],
)
def test_what_can_be_reached_is_ok(
    answered: tuple[str, Response, str], front: Front, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, front.app, said = answered

    _, found = doctor(directory, options_of(kind, front.url), capsys)

    assert "ok" == found["verdict"], found
    assert said in found["detail"]


def test_a_directory_is_asked_for_a_device_that_nobody_has(
    front: Front, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jamf = SimulatedJamf(now=now, entropy=os.urandom)
    jamf.add("C02X")
    front.app = jamf.faults
    (directory / "secret").write_text(jamf.client_secret)

    _, found = doctor(directory, options_of("directory", front.url), capsys)

    assert "ok" == found["verdict"], found
    assert "answers a look-up" in found["detail"]
    assert [("POST", "/api/oauth/token"), ("GET", "/api/v3/computers-inventory")] == jamf.requests


def test_who_asks_nobody_is_said_to_have_been_read_alone(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = doctor(directory, {"type": "otp"}, capsys)

    assert "ok" == found["verdict"]
    assert "nobody was asked" in found["detail"]
