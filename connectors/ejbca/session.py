"""Who we are to EJBCA: a TLS client certificate, and where the configuration says so an OAuth bearer token as well."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.api import Misconfigured, Secret, Services
from connectors.ejbca.answers import Token
from connectors.transport import Answer, BaseUrl, Call, Effect, Meaning, SecretReference, Transport, read_secret

_REFUSED = (401, 403)


class _Login(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class TokenLogin(_Login):
    """A token that somebody else obtains; it is read anew for every request."""

    method: Literal["token"]
    """`token`."""
    token: SecretReference
    """`file:PATH` or `env:NAME`."""


class ClientCredentialsLogin(_Login):
    """A token from an OAuth server (RFC 6749 §4.4)."""

    method: Literal["client-credentials"]
    """`client-credentials`."""
    token_url: BaseUrl
    """The OAuth server's token endpoint; its TLS certificate comes from a CA in `ca_file`, too."""
    client_id: str
    """Names us; it is no secret."""
    client_secret: SecretReference
    """`file:PATH` or `env:NAME`."""
    scope: str | None = None
    """Scopes with spaces between, where the server wants some."""
    audience: str | None = None
    """For servers that issue tokens for several services."""


Login = Annotated[TokenLogin | ClientCredentialsLogin, Field(discriminator="method")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A token, and until when it is taken for good; without an end where the server has told none."""

    value: Secret
    good_until: datetime | None


def keys_of(login: Login | None) -> tuple[str, ...]:
    """The keys of the options that say who we are."""
    match login:
        case TokenLogin():
            return ("login.token",)
        case ClientCredentialsLogin():
            return "login.client_id", "login.client_secret"
        case None:
            return "client_certificate", "login"


class Session:
    """Sends calls as somebody whom EJBCA knows."""

    def __init__(self, login: Login | None, transport: Transport, services: Services) -> None:
        self.transport = transport
        self._login = login
        self._services = services
        self._one_at_a_time = asyncio.Lock()
        self._held: _Held | None = None

    async def call(self, call: Call) -> Answer:
        """Sends a call; with a token that the OAuth server has just issued once more where the first was refused.

        Raises:
            ConnectorError: as the transport does; also where no token is to be had.
        """
        if self._login is None:
            return await self.transport.call(call)
        if isinstance(self._login, TokenLogin):
            return await self._send(call, read_secret(self._login.token, self._services))
        token = await self._good(self._login)
        # A refusal comes before anything is done, and EJBCA says it to a token that has run out as to one without rights.
        answer = await self._send(
            replace(call, statuses={**call.statuses, **dict.fromkeys(_REFUSED, Meaning.ANSWER)}), token.value
        )
        if answer.status not in _REFUSED:
            return answer
        return await self._send(call, (await self._good(self._login, instead_of=token)).value)

    async def _send(self, call: Call, token: Secret) -> Answer:
        bearer = Secret(f"Bearer {token.reveal()}")
        return await self.transport.call(replace(call, headers={**call.headers, "Authorization": bearer}))

    async def _good(self, login: ClientCredentialsLogin, instead_of: _Held | None = None) -> _Held:
        async with self._one_at_a_time:
            held, now = self._held, self._services.now()
            if held is None or held is instead_of or (held.good_until is not None and now >= held.good_until):
                self._held = held = await self._obtained(login)
            return held

    async def _obtained(self, login: ClientCredentialsLogin) -> _Held:
        form: dict[str, str | Secret] = {
            "grant_type": "client_credentials",
            "client_id": login.client_id,
            "client_secret": read_secret(login.client_secret, self._services),
        }
        form |= {name: value for name in ("scope", "audience") if (value := getattr(login, name)) is not None}
        call = Call(
            operation="login",
            effect=Effect.REPEATABLE,
            method="POST",
            url=login.token_url,
            form=form,
            # RFC 6749 §5.2: invalid_client may come as either.
            statuses={400: Meaning.NOT_ALLOWED},
        )
        now = self._services.now()
        token = (await self.transport.call(call)).parse(Token)
        lease = timedelta(seconds=max(0.0, token.expires_in)) if token.expires_in is not None else None
        return _Held(
            value=Secret(token.access_token.get_secret_value()),
            good_until=now + lease * 2 / 3 if lease is not None else None,
        )


def check_login(login: Login | None, services: Services) -> None:
    """Whether the secret of a login can be read; nothing is sent.

    Raises:
        Misconfigured: it cannot.
    """
    if login is None:
        return
    reference = login.token if isinstance(login, TokenLogin) else login.client_secret
    if not read_secret(reference, services).reveal():
        raise Misconfigured(f"{services.name}: {reference} is empty")
