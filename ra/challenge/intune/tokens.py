"""Access tokens from Entra: one for each resource, kept for nearly as long as it lives, dropped when it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from connectors.api import Secret, Services
from connectors.transport import Answer, Call, Effect, Meaning, Transport
from ra.challenge.intune.answers import TokenAnswer, explain, is_unknown_to_entra
from ra.challenge.intune.credentials import Credential
from ra.challenge.intune.flights import Flights
from ra.challenge.intune.options import Options

_EARLY = timedelta(minutes=5)
"""So long before its end a token is replaced."""

_YOUNG = timedelta(seconds=60)
"""A younger token is not the reason for a refusal: another one would be no better."""

_CREDENTIALS = {
    "secret": ("credential.client_secret",),
    "certificate": ("credential.certificate", "credential.key"),
    "federated": ("credential.token",),
}
"""Which settings prove who we are, by the credential's method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token, and until when it is used."""

    value: Secret
    obtained_at: datetime
    good_until: datetime

    @property
    def header(self) -> Secret:
        return Secret(f"Bearer {self.value.reveal()}")


class Tokens:
    """The tokens that are held, by scope."""

    def __init__(self, options: Options, credential: Credential, services: Services) -> None:
        self._options = options
        self._credential = credential
        self._services = services
        self._transport = Transport(
            options.to_server(options.authority_url),
            services,
            explain=explain,
            credentials=_CREDENTIALS[options.credential.method],
        )
        self._held: dict[str, Token] = {}
        self._flights: Flights[Token] = Flights()

    async def get(self, scope: str) -> Token:
        """A token that is good.

        Raises:
            ConnectorError: Entra does not give us one, or cannot be asked.
        """
        held = self._held.get(scope)
        if held is not None and self._services.now() < held.good_until:
            return held
        return await self._flights.join(scope, partial(self._obtain, scope))

    def drop(self, scope: str, token: Token) -> bool:
        """Forgets a token that was refused; whether there is any point in trying another one.

        A token that was obtained before an administrator has consented lacks what was consented to.
        """
        if self._held.get(scope) is not token:
            return True
        if self._services.now() - token.obtained_at < _YOUNG:
            return False
        del self._held[scope]
        return True

    async def _obtain(self, scope: str) -> Token:
        own = self._options
        call = Call(
            operation="token",
            effect=Effect.REPEATABLE,
            method="POST",
            url=own.token_url,
            form={
                "client_id": str(own.client_id),
                "scope": scope,
                "grant_type": "client_credentials",
                **self._credential.form(own.token_url),
            },
            # RFC 6749 §5.2: invalid_client may come as either.
            statuses={400: _meaning, 401: _meaning},
            settings=("tenant", "client_id", "cloud"),
        )
        now = self._services.now()
        answer = (await self._transport.call(call)).parse(TokenAnswer)
        lifetime = timedelta(seconds=max(0.0, answer.expires_in))
        token = Token(
            value=Secret(answer.access_token.get_secret_value()),
            obtained_at=now,
            good_until=now + max(lifetime - _EARLY, lifetime / 2),
        )
        self._held[scope] = token
        return token

    async def aclose(self) -> None:
        await self._flights.aclose()
        await self._transport.aclose()


def _meaning(answer: Answer) -> Meaning:
    """Whether it is the credential, or nobody knows who it should prove."""
    return Meaning.MISCONFIGURED if is_unknown_to_entra(answer) else Meaning.NOT_ALLOWED
