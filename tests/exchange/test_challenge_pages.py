"""What a management does: it fetches a challenge from a running scep-ra, and a device enrols with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from ra.cli.app import run
from tests.fakes.ndes_clients import read_as_fleet
from tests.fakes.serving import serving

Output = pytest.CaptureFixture[str]

PASSWORD = "correct horse battery"
CHALLENGES = """
[challenges.ndes]
type = "ndes"
accounts = [{ label = "mdm", user = "mdm", password = "file:mdm.txt" }]

[challenges.jamf]
type = "jamf_webhook"
accounts = [{ label = "jamf", user = "jamf", password = "file:mdm.txt" }]

[profiles.macs]
connector = "lab"
challenge = { any_of = ["jamf", "ndes"] }
"""


def asked_as_jamf(url: str, password: Path, capsys: Output) -> str:
    capsys.readouterr()
    assert 0 == run(["simulate", "jamf-webhook", url, "--user", "jamf", "--password", str(password), "--json"])
    return str(json.loads(capsys.readouterr().out)["challenge"])


def enrol(url: str, challenge: str, out: Path, capsys: Output) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    arguments = ["client", "enrol", "--url", url, "--challenge", challenge, "--out", str(out), "--json"]
    code = run([*arguments, "--subject", f"CN={out.name}"])
    said = capsys.readouterr()
    answer: dict[str, Any] = json.loads(said.out or said.err)
    return code, answer


def test_a_challenge_that_was_handed_out_lets_in_one_device(
    directory: Path, ports: tuple[int, int], tmp_path: Path, capsys: Output
) -> None:
    (directory / "mdm.txt").write_text(PASSWORD + "\n", "utf-8")
    with (directory / "ra.toml").open("a", encoding="utf-8") as file:
        file.write(CHALLENGES)
    with serving(directory, ports, "--json") as served:
        host = served.url.removesuffix("/scep")
        page = httpx.get(f"{host}/CertSrv/mscep_admin/", auth=("mdm", PASSWORD))
        stranger = httpx.get(f"{host}/certsrv/mscep_admin", auth=("mdm", "something else"))
        challenge = asked_as_jamf(f"{host}/mdm/jamf/challenge", directory / "mdm.txt", capsys)
        outcomes = [
            enrol(f"{served.url}/macs", challenge, tmp_path / name, capsys)[1].get("status", "refused")
            for name, challenge in (
                ("one", read_as_fleet(page.content)),
                ("two", read_as_fleet(page.content)),
                ("three", challenge),
                ("four", challenge),
            )
        ]

    log = served.log.read_text("utf-8")
    assert [200, 401] == [each.status_code for each in (page, stranger)]
    assert ["issued", "refused", "issued", "refused"] == outcomes
    assert not [secret for secret in (read_as_fleet(page.content), challenge, PASSWORD) if secret in log]
    alarms = [line for line in map(json.loads, log.splitlines()) if line.get("alarm")]
    assert 2 == len(alarms)
