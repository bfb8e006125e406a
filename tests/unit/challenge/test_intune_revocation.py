"""Certificates that Intune wants revoked: those that it has let in, at the CA, and reported when it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from connectors.api import BackendUnavailable, Capability
from ra.bootstrap.errands import errands_of
from ra.challenge import intune
from ra.challenge.combine import Checked
from ra.errors import Unavailable
from ra.journal.states import State
from ra.service.revocations import Revocations
from tests.fakes import pki
from tests.fakes.device import Device
from tests.fakes.intunes import Managed, managed
from tests.fakes.issuing import IssuingCa
from tests.fakes.simulated import Front, listening_front

pytestmark = pytest.mark.anyio

CA = pki.root()


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as listening:
        yield listening


@dataclass(kw_only=True)
class Site:
    """The RA, and the errand of its validator."""

    here: Managed
    issuing: IssuingCa

    async def enrol(self, **device: Any) -> int:
        """The serial number of a new certificate."""
        one = Device(**device)
        return one.obtain((await self.here.send(one)).body).serial_number

    async def run(self, **options: Any) -> None:
        """One round; while it waits for the CA, the sweeper works."""

        async def sleep(_: float) -> None:
            await self.here.ra.sweep()

        beside = self.here.beside
        services = replace(beside.services(), sleep=sleep)
        validator = await intune.connect(beside.options(revocation=options), services)
        certificates = Revocations(journal=self.here.ra.journal, validator="shared", clock=beside.clock)
        try:
            (errand,) = (each for each in validator.errands if each.name == "revocations")
            await errand.run(certificates)
        finally:
            await validator.aclose()

    @property
    def results(self) -> list[tuple[bool, str]]:
        return [(each["succeeded"], each["errorCode"]) for each in self.here.intune.revocations.results]

    async def states(self) -> list[State]:
        return [each.state for each in await self.here.ra.transactions()]


@pytest.fixture
async def site(tmp_path: Path, front: Front) -> AsyncIterator[Site]:
    issuing = IssuingCa(CA, Capability.IDEMPOTENT, Capability.NOT_AFTER, Capability.REVOKE)
    async with managed(tmp_path, front, issuing, CA) as here:
        yield Site(here=here, issuing=issuing)


@pytest.mark.parametrize("form", ["{:X}", "{:x}", "{:d}", "00{:X}", "0x{:x}"])
async def test_a_certificate_is_revoked_whichever_way_its_number_is_written(site: Site, form: str) -> None:
    serial = await site.enrol()
    site.here.intune.revocations.ask_for(form.format(serial))

    await site.run()

    assert [State.REVOKED] == await site.states()
    assert 1 == len(site.issuing.revoked)
    assert [(True, "None")] == site.results
    assert {} == site.here.intune.revocations.waiting


async def test_one_that_is_revoked_already_is_reported_as_done(site: Site) -> None:
    serial = f"{await site.enrol():X}"
    for _ in range(2):
        site.here.intune.revocations.ask_for(serial)
        await site.run()

    assert [(True, "None"), (True, "None")] == site.results
    assert 1 == len(site.issuing.revoked)


async def test_one_of_another_connector_is_left_to_it(site: Site) -> None:
    await site.enrol()
    site.here.intune.revocations.ask_for("1234567890ABCDEF")

    await site.run()

    assert [] == site.results
    assert 1 == len(site.here.intune.revocations.waiting)
    assert [State.RELEASED] == await site.states()


async def test_each_of_another_connector_is_told_of_once(site: Site) -> None:
    asked = site.here.intune.revocations
    validator = await site.here.beside.validator(revocation={})
    (errand,) = (each for each in validator.errands if each.name == "revocations")
    certificates = Revocations(journal=site.here.ra.journal, validator="shared", clock=site.here.beside.clock)

    with capture_logs() as log:
        for serial in ("1234567890ABCDEF", None, "FEDCBA0987654321"):
            if serial is not None:
                asked.ask_for(serial)
            await errand.run(certificates)
    await validator.aclose()

    assert [["1234567890ABCDEF"], ["FEDCBA0987654321"]] == [each["serials"] for each in log if "serials" in each]


@pytest.mark.parametrize(
    ("issuer", "state"),
    [
        ("Test CA", State.REVOKED),
        ("CN=test ca, O=Example", State.REVOKED),
        ("", State.REVOKED),
        ("Other CA", State.RELEASED),
    ],
)
async def test_a_short_number_is_another_one_s_under_another_issuer(site: Site, issuer: str, state: State) -> None:
    site.issuing.serial = 0x1001
    await site.enrol()
    site.here.intune.revocations.ask_for("1001", issuer)

    await site.run()

    assert [state] == await site.states()
    assert [(True, "None")] * (state is State.REVOKED) == site.results


async def test_the_simulated_console_names_the_issuer_that_it_was_told(site: Site) -> None:
    serial = f"{await site.enrol():X}"
    url = f"{site.here.beside.url}/simulator/revoke"

    async with httpx.AsyncClient() as client:
        await client.post(url, params={"serial": serial})

    (waiting,) = site.here.intune.revocations.waiting.values()
    assert "Test CA" == waiting["issuerName"]


async def test_one_of_another_challenge_is_left_alone(site: Site) -> None:
    serial = await site.enrol()
    journal, clock = site.here.ra.journal, site.here.beside.clock

    other = Revocations(journal=journal, validator="other", clock=clock)

    assert "NOT_OURS" == (await other.revoke(f"{serial:x}", "why")).name
    assert [State.RELEASED] == await site.states()


async def test_what_does_not_exist_is_reported_where_that_is_wanted(site: Site) -> None:
    site.here.intune.revocations.ask_for("no number")

    await site.run(unknown="report")

    assert [(False, "CertificateNotFoundError")] == site.results


async def test_what_the_ca_has_not_confirmed_is_reported_the_next_time(site: Site) -> None:
    serial = await site.enrol()
    site.here.intune.revocations.ask_for(f"{serial:X}")
    site.issuing.revocation = BackendUnavailable("away", maybe_issued=False)

    await site.run()
    before, state = site.results, await site.states()
    site.issuing.revocation = None
    await site.here.ra.sweep(timedelta(hours=1))
    await site.run()

    assert ([], [State.REVOKING]) == (before, state)
    assert [(True, "None")] == site.results


async def test_more_than_are_named_at_once_are_asked_for_again(site: Site) -> None:
    serials = [await site.enrol(subject=f"CN=device {number}") for number in range(5)]
    for each in serials:
        site.here.intune.revocations.ask_for(f"{each:X}")

    await site.run(max_requests=2)

    assert 5 == len(site.results)
    assert [State.REVOKED] * 5 == await site.states()


async def test_foreign_ones_in_front_do_not_make_it_ask_for_ever(site: Site) -> None:
    for number in range(3):
        site.here.intune.revocations.ask_for(f"ABCDEF{number}")

    await site.run(max_requests=2)

    assert 2 == len([path for _, path in site.here.intune.asked if path.endswith("downloadRevocationRequests")])


async def test_foreign_ones_in_front_do_not_hide_what_is_ours(site: Site) -> None:
    for number in range(3):
        site.here.intune.revocations.ask_for(f"ABCDEF{number}")
    site.here.intune.revocations.ask_for(f"{await site.enrol():X}")

    await site.run(max_requests=2)

    assert [State.REVOKED] == await site.states()
    assert [(True, "None")] == site.results


async def test_results_that_are_not_recorded_come_again(site: Site) -> None:
    serial = await site.enrol()
    site.here.intune.revocations.ask_for(f"{serial:X}")
    site.here.intune.revocations.records = False

    await site.run()
    site.here.intune.revocations.records = True
    await site.run()

    assert [(True, "None"), (True, "None")] == site.results
    assert {} == site.here.intune.revocations.waiting


async def test_intune_being_away_is_said_and_changes_nothing(site: Site) -> None:
    site.here.intune.faults.always("downloadRevocationRequests", None)

    with pytest.raises(Unavailable, match="revocations"):
        await site.run()


async def test_the_housekeeping_of_one_process_runs_the_errands(site: Site) -> None:
    serial = await site.enrol()
    site.here.intune.revocations.ask_for(f"{serial:X}")
    validator = Checked("shared", await site.here.beside.validator(), lambda *_: None)
    clock, journal = site.here.beside.clock, site.here.ra.journal
    houses = [errands_of({"shared": validator}, journal, clock) for _ in range(2)]

    for each in houses:
        await each.keep()

    assert [State.REVOKING] == await site.states()
    assert 1 == len([path for _, path in site.here.intune.asked if path.endswith("downloadRevocationRequests")])
    await validator.aclose()


async def test_nothing_is_asked_for_where_that_is_switched_off(site: Site) -> None:
    validator = await site.here.beside.validator(revocation={"enabled": False})

    assert ["credential"] == [each.name for each in validator.errands]
    await validator.aclose()
