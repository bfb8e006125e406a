"""The two applications and the one ASGI entry that tells them apart by the socket a request came in on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from ra.challenge.pages import Listener
from ra.errors import Misconfigured, Unavailable
from ra.web import pages, scep
from ra.web.admin import metrics_router
from ra.web.callers import Callers
from ra.web.edge import Edge
from ra.web.health import health_router, probe_router, recent_health
from ra.web.info import info_router
from ra.web.openapi import describe_protocol
from ra.web.otp import otp_router
from ra.web.replies import HttpRefusal, reply_to
from ra.web.services import Services


def build_public(services: Services) -> ASGIApp:
    """What devices reach: the protocol, and the service's pages.

    The protocol's routes stand before the framework, whose layers took 4 % of the samples of a loaded worker.
    """
    app = _application(services, "/openapi.json" if services.debug else None)
    callers, reports = Callers(services.api_keys, debug=services.debug), recent_health(services)
    app.include_router(info_router(services, reports, callers))
    app.include_router(health_router(reports, callers))
    describe_protocol(app)
    at_once = [*scep.routes(services), *pages.routes(services.pages, Listener.PUBLIC)]
    protocol = Router(routes=at_once, redirect_slashes=False, default=app)
    return Edge(protocol, clock=services.clock, metrics=services.metrics)


def build_admin(services: Services) -> ASGIApp:
    """What operators and probes reach, on a listener of its own."""
    app = _application(services, "/openapi.json")
    app.include_router(probe_router(services, recent_health(services)))
    app.include_router(metrics_router(services))
    if services.mint is not None:
        # Debug mode opens what is read, never what is minted.
        app.include_router(otp_router(services, services.mint, Callers(services.api_keys, debug=False)))
    app.router.routes.extend(pages.routes(services.pages, Listener.ADMIN))
    return Edge(app, clock=services.clock, metrics=services.metrics, quiet=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Both applications, and the port that the admin listener is bound to."""

    public: ASGIApp
    admin: ASGIApp
    admin_port: int


class Application:
    """The ASGI application that a worker serves on both sockets.

    `opened` is entered when the worker starts and left when it stops; what it yields answers in between. A worker
    whose start is stopped by Misconfigured says so in one line.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[Listeners]]) -> None:
        self._opened = opened
        self._listeners: Listeners | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and self._listeners is not None:
            await self._listener(self._listeners, scope)(scope, receive, send)

    @staticmethod
    def _listener(listeners: Listeners, scope: Scope) -> ASGIApp:
        server = scope.get("server")
        return listeners.admin if server and server[1] == listeners.admin_port else listeners.public

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                self._listeners = await stack.enter_async_context(self._opened())
            except Misconfigured as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _application(services: Services, openapi_url: str | None) -> FastAPI:
    """FastAPI without what it does by itself: redirects, pages that load scripts from elsewhere, and telemetry.

    An environment variable could otherwise switch telemetry on, and it would carry queries away.
    """
    app = FastAPI(
        title="scep-ra",
        version=services.version,
        openapi_url=openapi_url,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    for each in (HttpRefusal, Unavailable):
        app.add_exception_handler(each, _refuse)
    app.add_exception_handler(404, _point_the_way)
    return app


async def _point_the_way(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("Nothing is here. SCEP is at /scep, this service's own page at /api/v1/scep/info.\n", 404)


async def _refuse(_request: Request, error: Exception) -> Response:
    reply = reply_to(error)
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return PlainTextResponse(reply.body, reply.status, headers)
