"""SIGTERM in the middle of enrolments: what was taken on is finished, here or by whoever starts next."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import httpx
import pytest

from ra.client.replies import Pending, Success
from tests.fakes.device import Device
from tests.fakes.held_ca import asked, configure
from tests.fakes.herd import Herd, post
from tests.fakes.serving import DEADLINE_SECONDS, Serving, serving
from tests.interop.running import faulty_lines

DEVICES = range(3)


def is_certified(served: Serving, device: Device, message: bytes) -> bool:
    return isinstance(device.open(post(served.url, message).content), Success)


def stop(served: Serving) -> None:
    served.process.send_signal(signal.SIGTERM)
    served.wait_for("Shutting down")


def test_requests_in_flight_are_answered_before_it_ends(directory: Path, ports: tuple[int, int]) -> None:
    environment = configure(directory)

    with serving(directory, ports, "--json", environment=environment) as served, Herd.of(served.url, directory) as herd:
        devices = [herd.device(number) for number in DEVICES]
        answers = [herd.send(message) for _, message in devices]
        served.until(lambda: len(asked(directory)) == len(DEVICES))
        stop(served)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{served.url}?operation=GetCACaps")
        (directory / "ca.open").touch()
        certificates = [
            device.obtain(answer.result().content) for (device, _), answer in zip(devices, answers, strict=True)
        ]
        code = served.process.wait(DEADLINE_SECONDS)

    assert code == 0
    assert len(DEVICES) == len({each.serial_number for each in certificates})
    assert faulty_lines(served.log.read_text("utf-8")) == []


def test_what_the_ca_is_still_asked_for_is_settled_after_the_device_has_been_told_to_wait(
    directory: Path, ports: tuple[int, int]
) -> None:
    environment = configure(directory, profile="wait_seconds = 0")

    with serving(directory, ports, "--json", environment=environment) as served, Herd.of(served.url, directory) as herd:
        device, message = herd.device(0)
        told = device.open(herd.send(message).result().content)
        stop(served)
        (directory / "ca.open").touch()
        code = served.process.wait(DEADLINE_SECONDS)
    with serving(directory, ports, "--json", environment=environment) as served:
        certificate = device.obtain(post(served.url, device.poll_message(herd.ca)).content)

    assert isinstance(told, Pending)
    assert code == 0
    assert device.key.public_key() == certificate.public_key()
    assert len(asked(directory)) == 1


def test_a_second_start_finishes_what_the_first_could_not(directory: Path, ports: tuple[int, int]) -> None:
    """The CA does not answer in time: who waits is told to come back, and what is left lies in the journal."""
    environment = configure(directory, "shutdown_grace_seconds = 1", "issue_timeout_seconds = 2")

    with serving(directory, ports, "--json", environment=environment) as served, Herd.of(served.url, directory) as herd:
        device, message = herd.device(0)
        answer = herd.send(message)
        served.until(lambda: len(asked(directory)) == 1)
        stop(served)
        told = answer.result()
        code = served.process.wait(DEADLINE_SECONDS)
    (directory / "ca.open").touch()
    with serving(directory, ports, "--json", environment=environment) as served:
        served.until(partial(is_certified, served, device, message))
        certificate = device.obtain(post(served.url, message).content)

    assert (503, "30") == (told.status_code, told.headers["retry-after"])
    assert code == 0
    assert device.key.public_key() == certificate.public_key()
    assert len(set(asked(directory))) == 1


def test_a_load_balancer_is_told_first_and_everything_is_answered_meanwhile(
    directory: Path, ports: tuple[int, int]
) -> None:
    environment = configure(directory, f"shutdown_notice_seconds = {10 * DEADLINE_SECONDS}")

    with serving(directory, ports, "--json", environment=environment) as served, Herd.of(served.url, directory) as herd:
        before = httpx.get(f"{served.admin_url}/readyz").status_code
        devices = [herd.device(number) for number in DEVICES]
        answers = [herd.send(devices[0][1])]
        served.until(lambda: len(asked(directory)) == 1)
        served.process.send_signal(signal.SIGTERM)
        served.until(lambda: httpx.get(f"{served.admin_url}/readyz").status_code == 503)
        answers += [herd.send(message) for _, message in devices[1:]]
        (directory / "ca.open").touch()
        for (device, _), answer in zip(devices, answers, strict=True):
            device.obtain(answer.result().content)
        stop(served)
        code = served.process.wait(DEADLINE_SECONDS)

    assert (200, 0) == (before, code)
    assert faulty_lines(served.log.read_text("utf-8")) == []


def test_nothing_new_is_asked_of_the_ca_once_it_stops(directory: Path, ports: tuple[int, int]) -> None:
    environment = configure(directory, "", "max_concurrent = 1\nissue_timeout_seconds = 2", "wait_seconds = 0")

    with serving(directory, ports, "--json", environment=environment) as served, Herd.of(served.url, directory) as herd:
        devices = [herd.device(number) for number in DEVICES]
        told = [device.open(herd.send(message).result().content) for device, message in devices]
        stop(served)
        code = served.process.wait(DEADLINE_SECONDS)
    asked_by_the_first = asked(directory)
    (directory / "ca.open").touch()
    with serving(directory, ports, "--json", environment=environment) as served:
        for device, message in devices:
            served.until(partial(is_certified, served, device, message))

    assert [Pending()] * len(DEVICES) == told
    assert code == 0
    assert len(asked_by_the_first) == 1
    assert len(set(asked(directory))) == len(DEVICES)
