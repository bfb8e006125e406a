"""Five clients that others wrote renew what they have enrolled, and ask again for what is PENDING."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from tests.fakes import held_ca
from tests.interop.clients import CLIENTS, TIMEOUT_SECONDS, Client, Order
from tests.interop.running import PAUSE_SECONDS, RunningRa, running_ra
from tests.peers import require

pytestmark = pytest.mark.peer

every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def hold(directory: Path) -> Mapping[str, str]:
    """Puts the CA behind a door, and has devices told PENDING at once."""
    environment = held_ca.configure(directory)
    path = directory / "ra.toml"
    path.write_text(
        path.read_text("utf-8").replace('challenge = "shared"\n', 'challenge = "shared"\nwait_seconds = 0\n')
    )
    return environment


@pytest.fixture(scope="module")
def held_ra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRa]:
    with running_ra(tmp_path_factory.mktemp("held") / "ra", hold) as ra:
        yield ra


def order_of(ra: RunningRa, profile: str, directory: Path) -> Order:
    return Order(ra.url_of(profile), ra.challenge, directory, "interop.example")


def read(certificate: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.read_bytes())


def wait_for_pending(ra: RunningRa, seen: int) -> None:
    for _ in range(int(TIMEOUT_SECONDS / PAUSE_SECONDS)):
        if "pending" in ra.outcomes[seen:]:
            return
        time.sleep(PAUSE_SECONDS)
    pytest.fail(f"nobody was told PENDING: {ra.operations[seen:]}")


@every_client
def test_a_real_client_renews_without_a_challenge(client: Client, ra_server: RunningRa, tmp_path: Path) -> None:
    for program in client.programs:
        require(program)
    order = order_of(ra_server, client.renewing_profile, tmp_path)
    first = read(client.enrol(order))
    seen = len(ra_server.operations)

    second = read(client.renew(order))

    assert [(client.renews_by, "success")] == ra_server.operations[seen:]
    assert first.subject == second.subject
    assert first.serial_number != second.serial_number


@every_client
def test_a_real_client_asks_again_for_what_is_pending(client: Client, held_ra: RunningRa, tmp_path: Path) -> None:
    for program in client.programs:
        require(program)
    door, seen = held_ra.directory / "ca.open", len(held_ra.operations)
    door.unlink(missing_ok=True)

    with ThreadPoolExecutor(1) as threads:
        enrolment = threads.submit(client.enrol, order_of(held_ra, client.profile, tmp_path))
        try:
            wait_for_pending(held_ra, seen)
        finally:
            door.touch()
        certificate = read(enrolment.result())

    operations = held_ra.operations[seen:]
    assert ("PKCS_REQ", "pending") == operations[0]
    assert (client.polls_by, "success") == operations[-1]
    assert "interop.example" in certificate.subject.rfc4514_string()
