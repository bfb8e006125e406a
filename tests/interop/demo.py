"""`make demo`: sets scep-ra up, serves it, and enrols one device with its own client and with every real one installed."""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.interop.clients import CLIENTS, Client, ClientFailed, Order, Refused
from tests.interop.running import RunningRa, running_ra

SHOWN = ("-subject", "-issuer", "-serial", "-startdate", "-enddate", "-ext", "subjectAltName,keyUsage,extendedKeyUsage")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="scep-ra-demo-") as name, running_ra(Path(name) / "var") as ra:
        print(f"scep-ra serves at {ra.url}, challenge {ra.challenge}\n")
        _show("scep-ra client", _enrol_with_own_client(ra, Path(name) / "own"), ra)
        failed = [_enrol(client, ra, Path(name)) for client in CLIENTS]
    return int(any(failed))


def _enrol_with_own_client(ra: RunningRa, out: Path) -> Path:
    options = ["--url", ra.url, "--challenge", ra.challenge, "--out", str(out), "--subject", "CN=demo-device"]
    command = [sys.executable, "-m", "ra", "client", "enrol", *options, "--json"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Path(json.loads(said)["certificate"])


def _enrol(client: Client, ra: RunningRa, directory: Path) -> bool:
    """Enrols with one client; says whether it failed. One that is not installed is named and left out."""
    if not client.is_installed():
        print(f"== {client.name}: not installed (.ci/run lists the packages; `make peers` builds the rest)\n")
        return False
    place = directory / client.name
    place.mkdir()
    try:
        certificate = client.enrol(Order(ra.url_of(client.profile), ra.challenge, place, "demo-device"))
    except (ClientFailed, Refused) as fault:
        print(f"== {client.name}: FAILED\n{fault}\n")
        return True
    _show(client.name, certificate, ra)
    return False


def _show(who: str, certificate: Path, ra: RunningRa) -> None:
    verify = ["openssl", "verify", "-CAfile", str(ra.ca_certificate), str(certificate)]
    subprocess.run(verify, check=True, capture_output=True)
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(certificate), "-noout", *SHOWN], check=True, capture_output=True, text=True
    )
    print(f"== {who}: enrolled, and openssl verifies the chain\n{shown.stdout}")


if __name__ == "__main__":
    sys.exit(main())
