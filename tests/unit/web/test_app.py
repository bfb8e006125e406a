"""Two applications behind one entry: who sees what, and how a worker lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message

from ra.errors import Misconfigured
from ra.web.app import Application, Listeners, build_admin, build_public
from tests.fakes.services import FakeRa, ask

ADMIN_PORT = 8081
ADMIN_PATHS = ["/livez", "/readyz", "/metrics", "/openapi.json"]


@asynccontextmanager
async def opened() -> AsyncIterator[Listeners]:
    services = FakeRa().services()
    yield Listeners(public=build_public(services), admin=build_admin(services), admin_port=ADMIN_PORT)


async def status_on(port: int, path: str) -> int:
    """What a worker answers to a request that came in on a port."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    application = Application(opened)
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    async with living(application):
        await application({**scope, "root_path": "", "server": ("127.0.0.1", port)}, receive, send)
    return statuses[0]


@asynccontextmanager
async def living(application: Application) -> AsyncIterator[list[Message]]:
    """The worker between its start and its stop; what it told the server."""
    orders: asyncio.Queue[Message] = asyncio.Queue()
    told: list[Message] = []
    changed = asyncio.Event()

    async def send(message: Message) -> None:
        told.append(message)
        changed.set()

    await orders.put({"type": "lifespan.startup"})
    task = asyncio.create_task(application({"type": "lifespan"}, orders.get, send))
    await changed.wait()
    yield told
    await orders.put({"type": "lifespan.shutdown"})
    await task


@pytest.mark.parametrize("path", ADMIN_PATHS)
def test_the_admin_port_has_what_the_public_port_has_not(path: str) -> None:
    statuses = [asyncio.run(status_on(port, path)) for port in (ADMIN_PORT, 8080)]

    assert statuses == [200, 404]


@pytest.mark.parametrize("path", ["/api/v1/scep/info", "/api/v1/scep/health"])
def test_the_public_port_has_what_the_admin_port_has_not(path: str) -> None:
    statuses = [asyncio.run(status_on(port, path)) for port in (8080, ADMIN_PORT)]

    assert statuses == [200, 404]


def test_a_worker_opens_and_closes_what_it_serves() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def watched() -> AsyncIterator[Listeners]:
        seen.append("opened")
        async with opened() as listeners:
            yield listeners
        seen.append("closed")

    async def live() -> list[Message]:
        async with living(Application(watched)) as told:
            seen.append("serving")
        return told

    told = asyncio.run(live())

    assert seen == ["opened", "serving", "closed"]
    assert [each["type"] for each in told] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_worker_that_is_misconfigured_says_why_and_does_not_start() -> None:
    def broken() -> AbstractAsyncContextManager[Listeners]:
        raise Misconfigured("profiles.default: there is no connector lab")

    async def live() -> list[Message]:
        async with living(Application(broken)) as told:
            return told

    assert asyncio.run(live()) == [
        {"type": "lifespan.startup.failed", "message": "profiles.default: there is no connector lab"}
    ]


@pytest.mark.parametrize(("debug", "status"), [(False, 404), (True, 200)])
def test_the_public_description_is_for_debugging(debug: bool, status: int) -> None:
    reply = asyncio.run(ask(build_public(FakeRa(debug=debug).services()), "GET", "/openapi.json"))

    assert status == reply.status_code


@pytest.mark.parametrize("path", ["/", "/health", "/configuration", "/api/v1"])
def test_who_asks_at_the_wrong_place_is_shown_the_way(path: str) -> None:
    reply = asyncio.run(ask(build_public(FakeRa().services()), "GET", path))

    assert reply.status_code == 404
    assert reply.headers["content-type"].startswith("text/plain")
    assert "SCEP is at /scep" in reply.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect"])
def test_no_page_loads_scripts_from_elsewhere(path: str) -> None:
    services = FakeRa(debug=True).services()

    statuses = [
        asyncio.run(ask(app, "GET", path)).status_code for app in (build_public(services), build_admin(services))
    ]

    assert statuses == [404, 404]


def test_the_description_names_the_protocol_and_the_pages() -> None:
    description = asyncio.run(ask(build_public(FakeRa(debug=True).services()), "GET", "/openapi.json")).json()

    assert description["paths"].keys() == {
        "/api/v1/scep",
        "/scep/{profile}",
        "/api/v1/scep/info",
        "/api/v1/scep/health",
        "/api/v1/scep/configuration",
    }
    assert description["paths"]["/api/v1/scep"].keys() == {"get", "post"}
