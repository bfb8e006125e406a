"""Starts scep-ra the way its users do, `init` and `serve`, and stops it again. Needs no test framework: the demo uses it too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from connectors.api import Secret
from connectors.internal.creation import create_ca

READY_SECONDS = 30
STOP_SECONDS = 30
PAUSE_SECONDS = 0.05

LEGACY_PROFILE = """
[profiles.legacy]                       # for clients that know nothing better
ca_id = 2
connector = "lab"
challenge = "shared"
legacy = ["3des", "sha1", "des"]
renewal_threshold_days = 366            # so that a certificate can be renewed from its first day on
"""
MORE_PROFILES = f"""{LEGACY_PROFILE}
[connectors.leaving]                    # the same CA, with one that will follow it
type = "internal"
key_passphrase = "file:ca.passphrase"
next_ca = "next/ca.pem"

[profiles.complete]                     # all that is off unless somebody wants it
ca_id = 3
connector = "leaving"
challenge = "shared"
preset = "strongswan-old"
get_cert = "own"
get_crl = true
password_recipient = true

[profiles.ancient]
ca_id = 5
connector = "lab"
challenge = "shared"
preset = "scepclient-old"

[profiles.renewing]
ca_id = 4
connector = "lab"
challenge = "shared"
renewal_threshold_days = 366
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRa:
    """A scep-ra that serves, with five profiles.

    `default`; `legacy`, which lets in 3DES, SHA-1 and DES; `ancient`, by preset; `complete`; and `renewing`. `legacy` and `renewing` renew
    certificates from their first day on.

    Attributes:
        url: of the default profile.
        admin_url: of the admin listener.
        directory: with the configuration, keys and certificates.
        log: what it has written to standard output and standard error.
    """

    url: str
    admin_url: str
    challenge: str
    directory: Path
    log: Path

    @property
    def ca_certificate(self) -> Path:
        """The issuing CA's certificate, PEM."""
        return self.directory / "ca.pem"

    @property
    def outcomes(self) -> list[str]:
        """What the log says became of each PKIOperation so far."""
        return [outcome for _, outcome in self.operations]

    @property
    def operations(self) -> list[tuple[str, str]]:
        """The messageType of each PKIOperation so far, and what the log says became of it."""
        entries = [json.loads(line) for line in _text(self.log).splitlines()]
        return [(str(entry.get("message_type")), entry["outcome"]) for entry in entries if "outcome" in entry]

    def url_of(self, profile: str) -> str:
        return f"{self.url}/{profile}"


@contextmanager
def running_ra(directory: Path, prepare: Callable[[Path], Mapping[str, str]] = lambda _: {}) -> Iterator[RunningRa]:
    """Sets scep-ra up in a new directory, serves it on free loopback ports, and stops it with SIGTERM.

    `prepare` changes what `init` has written before it is served, and returns what is added to the environment.

    Raises:
        RuntimeError: it does not start, does not stop cleanly, or its log tells of a fault.
    """
    port, admin_port = free_ports(2)
    answer = _ra("init", str(directory), "--yes", "--json", "--ca-key=rsa:2048", *_listen(port, admin_port))
    (directory / "next").mkdir()
    now = datetime.now(UTC)  # noqa: TID251 - of a real server
    create_ca(directory / "next", key_spec="ec:p256", name="scep-ra next CA", passphrase=Secret("next"), now=now)
    with (directory / "ra.toml").open("a", encoding="utf-8") as configuration:
        configuration.write(MORE_PROFILES)
    environment = clean_environment() | dict(prepare(directory))
    ra = RunningRa(
        url=answer["url"],
        admin_url=f"http://127.0.0.1:{admin_port}",
        challenge=answer["challenge"],
        directory=directory,
        log=directory / "server.log",
    )
    with ra.log.open("wb") as log:
        command = [sys.executable, "-m", "ra", "serve", "--json", "--config", answer["config"]]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            _wait_until_ready(process, ra)
            yield ra
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
    _check_clean(process, ra)


def _ra(*arguments: str) -> dict[str, str]:
    """Runs one command of scep-ra and reads its JSON."""
    command = [sys.executable, "-m", "ra", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    if done.returncode != 0:
        raise RuntimeError(f"scep-ra {arguments[0]} failed:\n{done.stderr}")
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def clean_environment() -> dict[str, str]:
    """Ours without what begins with SCEP_RA_: to scep-ra that is configuration, and an unknown key stops it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SCEP_RA_")}  # noqa: TID251


def _listen(port: int, admin_port: int) -> tuple[str, str]:
    return f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{admin_port}"


def _wait_until_ready(process: subprocess.Popen[bytes], ra: RunningRa) -> None:
    for _ in range(int(READY_SECONDS / PAUSE_SECONDS)):
        try:
            httpx.get(f"{ra.admin_url}/readyz").raise_for_status()
        except httpx.HTTPError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PAUSE_SECONDS)
                break
        else:
            return
    raise RuntimeError(f"scep-ra did not start:\n{_text(ra.log)}")


def _check_clean(process: subprocess.Popen[bytes], ra: RunningRa) -> None:
    text = _text(ra.log)
    if process.returncode != 0:
        raise RuntimeError(f"scep-ra ended with {process.returncode}:\n{text}")
    if faults := faulty_lines(text):
        raise RuntimeError("scep-ra has faults in its log:\n" + "\n".join(faults))


def faulty_lines(log: str) -> list[str]:
    """The lines of a server's log that must not be there: errors, and what is no JSON, such as a traceback."""
    return [line for line in log.splitlines() if _is_faulty(line)]


def _is_faulty(line: str) -> bool:
    try:
        return json.loads(line).get("level") in {"error", "critical"}
    except (ValueError, AttributeError):
        return True


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until all are known, so that they differ."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
