from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.api import AuthFailed, Misconfigured, RateLimited
from connectors.api import Health as ConnectorHealth
from ra.errors import Unavailable
from ra.scep.header import CertificateId
from ra.scep.names import Digest
from ra.service.endpoint import Directory
from ra.service.gate import CONSECUTIVE_FAILURES
from ra.service.health import Component, Health, HealthReport, Status, free_bytes
from ra.service.ring import Holding, Ring
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, Assembled, assembled
from tests.fakes.device import Device
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA = pki.root()


async def report(ra: Assembled, **options: Any) -> HealthReport:
    directory = Directory({"default": ra.endpoint})
    return await Health(directory=directory, journal=ra.journal, clock=ra.clock, **options).check()


async def test_all_is_well(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        found = await report(ra)

    assert Status.OK == found.status
    assert {"database", "keys of profile default", "connector lab"} == set(found.components)


@pytest.mark.parametrize(
    "answer",
    [ConnectorHealth(ready=False, detail="sealed"), AuthFailed("token expired"), ZeroDivisionError()],
    ids=repr,
)
async def test_a_ca_that_is_away_degrades(tmp_path: Path, answer: ConnectorHealth | Exception) -> None:
    issuing = IssuingCa(CA)
    async with assembled(tmp_path, issuing, CA) as ra:
        issuing.state = answer
        found = await report(ra)

    assert (Status.DEGRADED, Status.OK) == (found.status, found.components["database"].status)


async def test_a_ca_that_is_left_alone_degrades_and_is_not_asked(tmp_path: Path) -> None:
    issuing = IssuingCa(CA)
    issuing.state = AssertionError("it was asked")
    async with assembled(tmp_path, issuing, CA) as ra:
        permit = ra.endpoint.backend.gate.try_enter()
        assert permit is not None
        with permit:
            permit.failed(RateLimited("slow down", retry_after_seconds=60))
        found = await report(ra)

    assert Status.DEGRADED == found.status
    assert "left alone" in found.components["connector lab"].detail


@pytest.mark.parametrize(("least_free_bytes", "status"), [(0, Status.OK), (1 << 62, Status.FAILED)])
async def test_a_disk_that_is_nearly_full_is_seen_before_it_is_full(
    tmp_path: Path, least_free_bytes: int, status: Status
) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        found = await report(ra, disk=tmp_path, least_free_bytes=least_free_bytes)

    assert status == found.components["database"].status


async def test_what_is_free_is_what_the_file_system_says_is_available(tmp_path: Path) -> None:
    available = shutil.disk_usage(tmp_path).free

    free = free_bytes(tmp_path)

    assert free == pytest.approx(available, rel=0.05)


async def test_a_disk_that_is_gone_fails(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        found = await report(ra, disk=tmp_path / "gone")

    assert Status.FAILED == found.components["database"].status


async def test_a_database_that_somebody_else_has_for_himself_fails_in_time(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        with closing(sqlite3.connect(tmp_path / "ra.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            found = await report(ra, deadline_seconds=0.05)

    assert Component(status=Status.FAILED, detail="takes no writes") == found.components["database"]


async def test_looking_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        await report(ra)
        await report(ra)
        left = (await ra.transactions(), await ra.events())

    assert ([], []) == left


async def test_a_journal_without_a_writer_fails(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        await ra.journal.aclose()
        found = await report(ra)

    assert (Status.FAILED, Status.FAILED) == (found.status, found.components["database"].status)


async def test_a_database_that_has_lost_its_tables_fails(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        await ra.journal.write(lambda c: c.exec_driver_sql("DROP TABLE transactions"))
        found = await report(ra)

    assert Status.FAILED == found.components["database"].status


async def test_an_expired_ra_certificate_fails(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        ra.clock.advance(pki.NOW.replace(year=pki.NOW.year + 2) - pki.NOW)
        found = await report(ra)

    assert Status.FAILED == found.components["keys of profile default"].status


@pytest.mark.parametrize(
    ("identities", "trouble", "status"),
    [
        (False, "its certificate is being obtained from connector lab", Status.FAILED),
        (True, "the CA could not be asked: away", Status.DEGRADED),
        (True, None, Status.OK),
    ],
    ids=["none yet", "not renewed", "well"],
)
async def test_an_identity_that_is_missing_or_not_renewed_is_told(
    tmp_path: Path, identities: bool, trouble: str | None, status: Status
) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        held = Holding(name="ra", identities=ra.endpoint.identities if identities else (), trouble=trouble)
        found = await report(replace(ra, endpoint=replace(ra.endpoint, ring=Ring((held,)))))

    keys = found.components["keys of profile default"]
    assert status == keys.status
    assert trouble is None or f"identity ra: {trouble}" == keys.detail


async def test_a_token_that_is_away_fails(tmp_path: Path) -> None:
    class Away:
        """A signer whose token is gone."""

        certificate = b""
        certificate_id = CertificateId(issuer=b"", serial=1, key_id=None)
        signature_algorithm = "rsa"

        def sign(self, message: bytes, digest: Digest) -> bytes:
            raise Unavailable(f"token ra does not answer ({len(message)} {digest})")

    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        away = replace(ra.endpoint.identities[0], signer=Away(), is_remote=True)
        found = await report(replace(ra, endpoint=replace(ra.endpoint, ring=Ring.of(away))))

    assert Status.FAILED == found.components["keys of profile default"].status
    assert "token ra does not answer" in found.components["keys of profile default"].detail


async def test_health_says_which_setting_keeps_a_ca_from_issuing(tmp_path: Path) -> None:
    issuing = IssuingCa(CA)
    issuing.answer = Misconfigured("sign answered 400: unknown role: x (see role)", settings=("role",))
    async with assembled(tmp_path, issuing, CA) as ra:
        await ra.answer(Device().enrol_message(ra.ca, challenge=CHALLENGE))
        wrong = await report(ra)
        issuing.answer = None
        await ra.sweep(timedelta(minutes=10))
        right = await report(ra)

    component = wrong.components["connector lab"]
    assert (Status.DEGRADED, Status.DEGRADED) == (wrong.status, component.status)
    assert "unknown role: x (see role)" in component.detail
    assert Status.OK == right.status


async def test_a_ca_that_is_left_alone_says_why(tmp_path: Path) -> None:
    async with assembled(tmp_path, IssuingCa(CA), CA) as ra:
        for _ in range(CONSECUTIVE_FAILURES):
            permit = ra.endpoint.backend.gate.try_enter()
            assert permit is not None
            with permit:
                permit.failed(AuthFailed("login answered 400: invalid secret id (see login.secret_id)"))
        found = await report(ra)

    assert "left alone" in found.components["connector lab"].detail
    assert "(see login.secret_id)" in found.components["connector lab"].detail
