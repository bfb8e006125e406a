from __future__ import annotations

from pathlib import Path

import pytest

from connectors.api import AuthFailed
from connectors.api import Health as ConnectorHealth
from ra.service.endpoint import Directory
from ra.service.health import Health, HealthReport, Status
from tests.fakes import pki
from tests.fakes.assembled import Assembled, assembled
from tests.fakes.issuing import IssuingCa

pytestmark = pytest.mark.anyio

CA = pki.root()


async def report(ra: Assembled) -> HealthReport:
    return await Health(directory=Directory({"default": ra.endpoint}), journal=ra.journal, clock=ra.clock).check()


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
