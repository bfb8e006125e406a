"""Health for people, and probes for machines."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest

from ra.service.health import Component, Status
from ra.web.app import build_admin, build_public
from tests.fakes.services import API_KEY, FakeRa, ask, report

HEALTH = "/api/v1/scep/health"


def public(ra: FakeRa, headers: dict[str, str] | None = None) -> httpx.Response:
    return asyncio.run(ask(build_public(ra.services()), "GET", HEALTH, headers=headers))


def admin(ra: FakeRa, url: str) -> httpx.Response:
    return asyncio.run(ask(build_admin(ra.services()), "GET", url))


@pytest.mark.parametrize(
    ("database", "connector", "http_status", "overall"),
    [
        (Status.OK, Status.OK, 200, "ok"),
        (Status.OK, Status.DEGRADED, 200, "degraded"),
        (Status.FAILED, Status.OK, 503, "failed"),
        (Status.FAILED, Status.DEGRADED, 503, "failed"),
    ],
)
def test_health_is_a_status_for_people_and_for_load_balancers(
    database: Status, connector: Status, http_status: int, overall: str
) -> None:
    ra = FakeRa(health=report(database, connector))

    replies = [public(ra), admin(ra, "/readyz")]

    assert [http_status] * 2 == [each.status_code for each in replies]
    assert [overall] * 2 == [each.json()["status"] for each in replies]
    assert database == replies[0].json()["components"]["database"]["status"]


def test_details_are_for_known_callers() -> None:
    stranger = public(FakeRa())
    known = public(FakeRa(), {"X-API-Key": API_KEY})
    operator = admin(FakeRa(), "/readyz")

    assert "of the database" not in stranger.text
    assert stranger.json()["components"]["database"] == {"status": "ok"}
    assert known.json()["components"]["database"]["detail"] == "of the database"
    assert operator.json()["components"]["database"]["detail"] == "of the database"


def test_a_stranger_learns_no_name_and_the_worst_state_of_each_kind() -> None:
    health = report(connector=Status.DEGRADED)
    health.components["connector second-site"] = Component(status=Status.OK, detail="of the second")
    health.components["keys of profile vip"] = Component(status=Status.OK, detail="loaded")

    stranger = public(FakeRa(health=health)).json()
    known = public(FakeRa(health=health), {"X-API-Key": API_KEY}).json()

    assert stranger["components"] == {
        "database": {"status": "ok"},
        "connector": {"status": "degraded"},
        "keys": {"status": "ok"},
    }
    assert known["components"].keys() == {"database", "connector lab", "connector second-site", "keys of profile vip"}


def test_a_flood_of_questions_checks_once_in_a_while() -> None:
    ra = FakeRa()
    app = build_public(ra.services())

    async def flood() -> None:
        for _ in range(10):
            await ask(app, "GET", HEALTH)
        ra.clock.advance(timedelta(seconds=2))
        await ask(app, "GET", HEALTH)

    asyncio.run(flood())

    assert ra.health_checks == 2


def test_a_process_that_answers_is_alive_whatever_else_fails() -> None:
    ra = FakeRa(health=report(database=Status.FAILED))

    reply = admin(ra, "/livez")

    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
    assert ra.health_checks == 0


def test_a_process_that_stops_says_so_at_once_and_goes_on_answering() -> None:
    ra = FakeRa()
    app = build_admin(ra.services())

    async def probe() -> list[httpx.Response]:
        before = await ask(app, "GET", "/readyz")
        ra.is_stopping = True
        return [before, await ask(app, "GET", "/readyz"), await ask(app, "GET", "/livez")]

    ready, stopping, alive = asyncio.run(probe())

    assert [200, 503, 200] == [each.status_code for each in (ready, stopping, alive)]
    assert "failed" == stopping.json()["status"]


def test_metrics_are_scraped_as_text() -> None:
    reply = admin(FakeRa(), "/metrics")

    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert reply.text == "scep_ra_faults_total 0\n"
