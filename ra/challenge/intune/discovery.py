"""Where Intune's services are: asked of Microsoft Graph, kept, and asked anew when they are not there any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid4

import httpx
import structlog

from connectors.api import AuthFailed, ConnectorError, Misconfigured, ProtocolViolation, Services
from connectors.transport import Call, Effect, Transport, shown
from ra.challenge.intune.answers import EndpointsAnswer, explain
from ra.challenge.intune.flights import Flights
from ra.challenge.intune.options import Options
from ra.challenge.intune.tokens import Tokens

FRESH = timedelta(minutes=30)
"""For so long what was found is used without asking again."""

STALE = timedelta(hours=24)
"""For so long it is used when Graph cannot be asked."""

PAUSE = timedelta(minutes=1)
"""For so long Graph is left alone when it could not be asked and something stale is at hand, or did not name the service."""


class Service(StrEnum):
    """Intune's services that we ask, by the names that Graph has for them, in lower case."""

    SCEP = "sceprequestvalidationfeservice"
    REVOCATION = "pkiconnectorfeservice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service is, and the way there."""

    url: str
    transport: Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    urls: Mapping[str, str]
    found_at: datetime
    ask_at: datetime


class Discovery:
    """The places that are known."""

    def __init__(self, options: Options, tokens: Tokens, services: Services) -> None:
        self._options = options
        self._tokens = tokens
        self._services = services
        self._graph = Transport(options.to_server(options.graph), services, explain=explain)
        self._transports: dict[str, Transport] = {}
        self._found: _Found | None = None
        self._flights: Flights[_Found] = Flights()

    async def find(self, service: Service) -> Place:
        """Where a service is.

        Raises:
            ConnectorError: Graph cannot be asked, or does not name it.
        """
        found = self._found
        if found is None or self._services.now() >= found.ask_at:
            found = await self._flights.join("endpoints", self._ask)
        url = found.urls.get(service)
        if url is None:
            raise Misconfigured(
                f"{self._services.name}: Graph names no {service}: grant the app registration Intune's "
                "scep_challenge_provider, with admin consent, and look at the tenant's Intune licence"
            )
        return Place(url=url, transport=self._transport_to(url))

    def doubt(self, place: Place) -> bool:
        """Has Graph asked before the place is used again; whether that was not just done."""
        found = self._found
        if found is None or place.url not in found.urls.values():
            return True
        now = self._services.now()
        if now - found.found_at < PAUSE:
            return False
        self._found = _Found(urls=found.urls, found_at=found.found_at, ask_at=now)
        return True

    async def _ask(self) -> _Found:
        now = self._services.now()
        try:
            urls = await self._endpoints()
        except ConnectorError as error:
            held = self._found
            if held is None or now - held.found_at >= STALE:
                raise
            log = structlog.get_logger("ra.challenge.intune")
            log.warning("Intune is looked for where it was", validator=self._services.name, detail=str(error))
            self._found = _Found(urls=held.urls, found_at=held.found_at, ask_at=now + PAUSE)
            return self._found
        # Without the service we wait for an administrator, who does not wait for half an hour.
        self._found = _Found(urls=urls, found_at=now, ask_at=now + (FRESH if Service.SCEP in urls else PAUSE))
        return self._found

    async def _endpoints(self) -> Mapping[str, str]:
        scope = self._options.graph_scope
        token = await self._tokens.get(scope)
        call = Call(
            operation="discovery",
            effect=Effect.REPEATABLE,
            url=f"{self._options.graph}/v1.0/servicePrincipals/appId={self._options.intune_app_id}/endpoints",
            headers={"Authorization": token.header, "client-request-id": str(uuid4())},
        )
        try:
            answer = await self._graph.call(call)
        except AuthFailed:
            if not self._tokens.drop(scope, token):
                raise
            token = await self._tokens.get(scope)
            answer = await self._graph.call(replace(call, headers={**call.headers, "Authorization": token.header}))
        urls = {each.name: each.uri.rstrip("/") for each in answer.parse(EndpointsAnswer).value if each.uri}
        wanted = {name: url for name, url in urls.items() if name in set(Service)}
        for name, url in wanted.items():
            if not self._options.allows(url):
                raise ProtocolViolation(
                    f"{self._services.name}: Graph says that {name} is at {shown(url)!r}, which is not in allowed_hosts"
                )
        return wanted

    def _transport_to(self, url: str) -> Transport:
        """One for each server: there are few of them, and a new one would mean new connections."""
        parsed = httpx.URL(url)
        server = str(parsed.copy_with(path="/"))
        if server not in self._transports:
            self._transports[server] = Transport(self._options.to_server(server), self._services, explain=explain)
        return self._transports[server]

    async def aclose(self) -> None:
        await self._flights.aclose()
        for each in (self._graph, *self._transports.values()):
            await each.aclose()
