"""`keys rotate` while devices enrol, with two workers: no enrolment fails, before, during or after; real clients too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event

import httpx
import pytest
from cryptography import x509

from ra.cli.app import run
from ra.client.authority import CaCertificates, read_ca_certificates
from tests.fakes.device import Device, pooled_key
from tests.fakes.herd import post
from tests.fakes.serving import DEADLINE_SECONDS, Serving, serving
from tests.interop.clients import CLIENTS, Client, Order
from tests.interop.running import LEGACY_PROFILE, clean_environment, faulty_lines
from tests.peers import require

FILES = 'certificate = "ra.pem"\nkey = "ra.key"\nkey_passphrase = "file:ra.passphrase"'
SHOW_AFTER_SECONDS = 10
ALIKE = 12
"""So many times in a row both workers have shown the same for certain."""

JUDGES = ("micromdm scepclient 2.1", "strongSwan pki")


@pytest.fixture
def managed(tmp_path: Path, ports: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> Path:
    """What `init` makes, with two workers and an identity that is managed; scepclient takes no CA whose key is not RSA."""
    directory = tmp_path / "var"
    public, admin = ports
    listen = (f"--listen=127.0.0.1:{public}", f"--admin-listen=127.0.0.1:{admin}")
    assert run(["init", str(directory), "--yes", "--ca-key=rsa:2048", "--workers=2", *listen]) == 0
    capsys.readouterr()
    path = directory / "ra.toml"
    text = path.read_text("utf-8")
    assert FILES in text
    text = text.replace(FILES, f"managed = {{ show_after_seconds = {SHOW_AFTER_SECONDS} }}")
    path.write_text(text + LEGACY_PROFILE, "utf-8")
    for each in ("ra.pem", "ra.key", "ra.passphrase"):
        (directory / each).unlink()
    return directory


def shown(served: Serving) -> CaCertificates:
    return read_ca_certificates(httpx.get(f"{served.url}?operation=GetCACert").raise_for_status().content)


def serial(ca: CaCertificates) -> int:
    return ca.recipients[0].serial_number


def is_ready(served: Serving) -> bool:
    """Both workers have taken up the first certificate."""
    answers = [httpx.get(f"{served.url}?operation=GetCACert").status_code for _ in range(ALIKE)]
    return set(answers) == {200}


@dataclass
class Load:
    """Devices that enrol one after the other; `remembered` is what those know that ask GetCACert once in their life."""

    served: Serving
    challenge: str
    remembered: CaCertificates
    stop: Event = field(default_factory=Event)
    addressed: list[int] = field(default_factory=list)

    def enrol(self, number: int, *, remembers: bool) -> int:
        """Returns how many certificates it got; anything else ends it by an error."""
        for done in count():
            if self.stop.is_set():
                return done
            ca = self.remembered if remembers else shown(self.served)
            device = Device(subject=f"CN=device-{number}-{done}", key=pooled_key(number))
            device.obtain(post(self.served.url, device.enrol_message(ca, challenge=self.challenge)).content)
            self.addressed.append(serial(ca))
        return 0


@contextmanager
def load(served: Serving, directory: Path) -> Iterator[tuple[Load, list[Future[int]]]]:
    challenge = (directory / "challenge.txt").read_text("utf-8").strip()
    running = Load(served, challenge, shown(served))
    with ThreadPoolExecutor(4) as threads:
        devices = [threads.submit(running.enrol, number, remembers=number % 2 == 0) for number in range(4)]
        try:
            yield running, devices
        finally:
            running.stop.set()


def judge(client: Client, served: Serving, load: Load, directory: Path) -> x509.Certificate:
    directory.mkdir(parents=True)
    certificate = client.enrol(Order(f"{served.url}/{client.profile}", load.challenge, directory, directory.name))
    return x509.load_pem_x509_certificate(certificate.read_bytes())


@pytest.mark.peer
@pytest.mark.rfc8894("rollover-recipient")
def test_no_enrolment_fails_while_the_identity_is_rotated(
    managed: Path, ports: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judges = [each for each in CLIENTS if each.name in JUDGES]
    for each in judges:
        for program in each.programs:
            require(program)
    with serving(managed, ports, "--json") as served:
        served.until(lambda: is_ready(served))
        with load(served, managed) as (running, devices):
            old = serial(running.remembered)
            for number, each in enumerate(judges):
                judge(each, served, running, tmp_path / "before" / f"client-{number}.example")
            rotating = subprocess.Popen(
                [sys.executable, "-m", "ra", "keys", "rotate", "--wait", "60", "--config", str(managed / "ra.toml")],
                env=clean_environment(),
            )
            during = 0
            while rotating.poll() is None:
                judge(judges[during % 2], served, running, tmp_path / "during" / f"client-{during}.example")
                during += 1
            served.until(lambda: all(serial(shown(served)) != old for _ in range(ALIKE)))
            enrolled = len(running.addressed)
            for number, each in enumerate(judges):
                judge(each, served, running, tmp_path / "after" / f"client-{number}.example")
            served.until(lambda: len(running.addressed) > enrolled + 2 * len(devices))
            running.stop.set()
            certificates = [each.result(DEADLINE_SECONDS) for each in devices]
        capsys.readouterr()
        assert run(["keys", "status", "--json", "--config", str(managed / "ra.toml")]) == 0
        status = json.loads(capsys.readouterr().out)["identities"]

    assert rotating.returncode == 0
    assert ["previous", "shown"] == [each["phase"] for each in status]
    assert 2 <= during
    assert all(count > 1 for count in certificates)
    assert old in running.addressed[enrolled:]
    assert {old, int(status[1]["serial"], 16)} == set(running.addressed)
    lines = served.log.read_text("utf-8")
    assert faulty_lines(lines) == []
    outcomes = {entry["outcome"] for entry in map(json.loads, lines.splitlines()) if entry.get("message_type")}
    assert {"success"} == outcomes
