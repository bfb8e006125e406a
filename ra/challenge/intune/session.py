"""Calls of Intune's services: with a token that is good, at the place where the service is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel

from connectors.api import AuthFailed, BackendUnavailable, ConnectorError, Misconfigured, RateLimited, Services
from connectors.transport import Answer, Call, Effect
from ra.challenge.intune.credentials import Credential
from ra.challenge.intune.discovery import Discovery, Place, Service
from ra.challenge.intune.options import Options
from ra.challenge.intune.tokens import Token, Tokens
from ra.errors import Unavailable

M = TypeVar("M", bound=BaseModel)

_RETRY_AFTER_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. `api_version` is that of the service."""

    operation: str
    service: Service
    path: str
    api_version: str
    body: Mapping[str, Any]


class Session:
    """Asks Intune as the app registration."""

    def __init__(self, options: Options, credential: Credential, services: Services) -> None:
        self._options = options
        self._services = services
        self._tokens = Tokens(options, credential, services)
        self._discovery = Discovery(options, self._tokens, services)

    async def ask(self, request: Request, model: type[M]) -> tuple[M, str]:
        """What Intune answers, and the client-request-id under which Microsoft finds the call.

        A token that is refused, or a service that is not there any more, is replaced once.

        Raises:
            Unavailable: no usable answer was had, whatever the reason; the message has the client-request-id.
        """
        which = str(uuid4())
        try:
            answer = await self._call(request, which)
            return answer.parse(model), which
        except ConnectorError as error:
            asked = error.retry_after_seconds if isinstance(error, BackendUnavailable) else None
            raise Unavailable(
                f"{error} (client-request-id {which})", _RETRY_AFTER_SECONDS if asked is None else asked
            ) from error

    async def reach(self) -> dict[str, str]:
        """Where Intune's services are, with tokens for both resources obtained.

        Raises:
            ConnectorError: something is missing; the message says what.
        """
        try:
            await self._tokens.get(self._options.intune_scope)
            return {each.name: (await self._discovery.find(each)).url for each in Service}
        except ConnectorError as error:  # no address is an option of its own: they are the cloud's
            error.settings = tuple("cloud" if each == "url" else each for each in error.settings)
            raise

    async def _call(self, request: Request, which: str) -> Answer:
        scope = self._options.intune_scope
        token, place = await self._tokens.get(scope), await self._discovery.find(request.service)
        try:
            return await self._send(request, which, token, place)
        except AuthFailed:
            if not self._tokens.drop(scope, token):
                raise
        except RateLimited:
            raise
        except (BackendUnavailable, Misconfigured):
            if not self._discovery.doubt(place):
                raise
        token, place = await self._tokens.get(scope), await self._discovery.find(request.service)
        return await self._send(request, which, token, place)

    async def _send(self, request: Request, which: str, token: Token, place: Place) -> Answer:
        call = Call(
            operation=request.operation,
            effect=Effect.REPEATABLE,
            method="POST",
            url=f"{place.url}/{request.path}",
            headers={
                "Authorization": token.header,
                "client-request-id": which,
                "api-version": request.api_version,
                "Content-Type": "application/json; charset=utf-8",
                "UserAgent": self._options.provider_name,
            },
            json=request.body,
        )
        return await place.transport.call(call)

    async def aclose(self) -> None:
        await self._discovery.aclose()
        await self._tokens.aclose()
