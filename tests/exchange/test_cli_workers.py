"""`scep-ra serve --workers 2`, on every database: the workers share what is spent, and devices outlive one of them."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest
from cryptography import x509

from ra.cli.app import run
from ra.client import replies
from ra.client.authority import CaCertificates, read_ca_certificates
from ra.client.names import FailInfo
from tests.fakes.device import Device, pooled_key
from tests.fakes.herd import post
from tests.fakes.postgres import DATABASES, Cluster
from tests.fakes.serving import Serving, put_into, serving, workers_of

STATIC = 'type = "static"\nsecrets = [{ label = "first", value_from = "file:challenge.txt" }]'
LANES, DEVICES = 8, 24
TRIES, PAUSE_SECONDS = 300, 0.1


@pytest.fixture(params=DATABASES)
def shared(request: pytest.FixtureRequest, directory: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What `init` makes, with one-time secrets, and a journal on each database."""
    path = directory / "ra.toml"
    text = path.read_text("utf-8")
    assert STATIC in text
    # What a death has cut short is taken up by the other one after a few seconds.
    text = text.replace('type = "internal"', 'type = "internal"\nissue_timeout_seconds = 1.5')
    path.write_text(text.replace(STATIC, 'type = "otp"'), "utf-8")
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgres")
        put_into(directory, cluster.empty())
    assert run(["db", "upgrade", "--config", str(path)]) == 0
    capsys.readouterr()
    return directory


@contextmanager
def two_workers(directory: Path, ports: tuple[int, int]) -> Iterator[Serving]:
    with serving(directory, ports, "--workers", "2") as served:
        served.wait_for("Application startup complete.", times=2)
        yield served


def mint(directory: Path, count: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run(["otp", "create", f"--count={count}", "--json", "--config", str(directory / "ra.toml")]) == 0
    return [each["secret"] for each in json.loads(capsys.readouterr().out)["secrets"]]


def known(served: Serving) -> CaCertificates:
    return read_ca_certificates(httpx.get(f"{served.url}?operation=GetCACert").raise_for_status().content)


def of_its_own(number: int) -> Device:
    """A device with a key that no other has."""
    return Device(subject=f"CN=device-{number}", key=pooled_key(1000 + number))


def ask_until_answered(served: Serving, device: Device, message: bytes, begun: Event) -> x509.Certificate:
    """As a device does that gets no answer, or is told to wait."""
    for _ in range(TRIES):
        try:
            answer = post(served.url, message)
        except httpx.TransportError:
            pass
        else:
            begun.set()
            if answer.status_code == httpx.codes.OK and not isinstance(device.open(answer.content), replies.Pending):
                return device.obtain(answer.content)
        Event().wait(PAUSE_SECONDS)
    pytest.fail("it never got its certificate")


def listed(directory: Path, capsys: pytest.CaptureFixture[str]) -> Counter[tuple[str, str]]:
    """How many transactions of each state each subject has."""
    assert run(["transactions", "list", "--count=1000", "--json", "--config", str(directory / "ra.toml")]) == 0
    rows = json.loads(capsys.readouterr().out)["transactions"]
    return Counter((each["subject"], each["state"]) for each in rows)


@contextmanager
def asleep(worker: int) -> Iterator[None]:
    """Whoever connects meanwhile is answered by the other one."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_one_time_secret_that_one_worker_has_spent_is_spent_for_the_other(
    shared: Path, ports: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    [secret] = mint(shared, 1, capsys)
    first, second = of_its_own(1), of_its_own(2)
    with two_workers(shared, ports) as served:
        ca = known(served)
        messages = [each.enrol_message(ca, challenge=secret) for each in (first, second)]
        one, other = workers_of(served.process.pid)
        with asleep(other):
            spent = first.open(post(served.url, messages[0]).content)
        with asleep(one):
            again = second.open(post(served.url, messages[1]).content)
            same = first.open(post(served.url, messages[0]).content)

    assert isinstance(spent, replies.Success)
    assert isinstance(again, replies.Failure)
    assert FailInfo.BAD_REQUEST is again.fail_info
    assert spent == same
    assert {("CN=device-1", "released"): 1} == listed(shared, capsys)


def test_devices_outlive_a_worker(shared: Path, ports: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    """One is killed in the middle; who had no answer asks again, and nobody gets two certificates, or none."""
    secrets = mint(shared, DEVICES, capsys)
    with two_workers(shared, ports) as served, ThreadPoolExecutor(LANES) as lanes:
        ca, begun = known(served), Event()
        devices = [of_its_own(number) for number in range(DEVICES)]
        made = [each.enrol_message(ca, challenge=secret) for each, secret in zip(devices, secrets, strict=True)]
        answers = [lanes.submit(ask_until_answered, served, *each, begun) for each in zip(devices, made, strict=True)]
        begun.wait()
        os.kill(workers_of(served.process.pid)[0], signal.SIGKILL)
        certificates = [each.result() for each in answers]
        served.wait_for("Application startup complete.", times=3)
        alive = len(workers_of(served.process.pid))

    assert DEVICES == len({each.serial_number for each in certificates})
    assert {(each.subject, "released"): 1 for each in devices} == listed(shared, capsys)
    assert 2 == alive
    assert 0 == served.process.returncode
