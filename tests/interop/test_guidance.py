"""The set-up lines that the service shows are typed as they stand, for the clients that are installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ra.web.guidance import instructions
from tests.interop.running import RunningRa
from tests.peers import require

# A certmonger of this test's own; without it the lines speak to the machine's.
OWN_CERTMONGER = """
getcert() { command getcert "$1" -s "${@:2}"; }
"""
WAIT_FOR_CERTMONGER = """
for attempt in $(seq 300); do [ -e certificate.pem ] && exit; sleep 0.2; done
"""


def typed(ra: RunningRa, profile: str, client: str) -> str:
    return "\n".join(instructions(ra.url_of(profile))[client]).replace("CHALLENGE", ra.challenge)


def subject_of(directory: Path) -> str:
    command = ["openssl", "x509", "-in", "certificate.pem", "-noout", "-subject", "-nameopt", "RFC2253"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout.strip()


def test_strongswan(ra_server: RunningRa, tmp_path: Path) -> None:
    require("pki")
    script = typed(ra_server, "complete", "strongswan")

    subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True)

    assert subject_of(tmp_path) == "subject=CN=device"


def test_certmonger(ra_server: RunningRa, tmp_path: Path) -> None:
    for program in ("getcert", "certmonger-session", "dbus-run-session"):
        require(program)
    script = OWN_CERTMONGER + typed(ra_server, "default", "certmonger") + WAIT_FOR_CERTMONGER

    command = ["env", f"HOME={tmp_path}", "dbus-run-session", "--", "bash", "-ec", script]
    subprocess.run(command, cwd=tmp_path, check=True)

    assert subject_of(tmp_path) == "subject=CN=device"
