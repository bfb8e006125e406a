"""How we log in to Vault, and the token that comes of it: renewed at two thirds of its life, replaced once on 403."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.api import AuthFailed, BackendUnavailable, ConnectorError, Misconfigured, Secret, Services
from connectors.transport import Answer, Call, Effect, Meaning, SecretReference, Transport, read_secret, shown
from connectors.vault.answers import Auth, LoggedIn, TokenFound, Unwrapped, Wrapping
from connectors.vault.requests import get, post

Segment = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$")]
"""One segment of a path: a role, an issuer, a user."""
Mount = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]
"""Where an engine is mounted, without a slash at either end."""


class _Login(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class TokenLogin(_Login):
    """A token that somebody else obtains; the file is read again when it is refused."""

    method: Literal["token"]
    """`token`."""
    token: SecretReference
    """`file:PATH` or `env:NAME`."""


class AppRoleLogin(_Login):
    """An AppRole, as services have."""

    method: Literal["approle"]
    """`approle`."""
    mount: Mount = "approle"
    """Where the method is mounted, without a slash at either end."""
    role_id: str
    """Names the role; it is no secret."""
    secret_id: SecretReference
    """`file:PATH` or `env:NAME`."""
    secret_id_is_wrapped: bool = False
    """The reference leads to a response-wrapping token, which is unwrapped once: for a server with one worker."""


class KubernetesLogin(_Login):
    """The service account of the pod."""

    method: Literal["kubernetes"]
    """`kubernetes`."""
    mount: Mount = "kubernetes"
    """Where the method is mounted, without a slash at either end."""
    role: str
    """The role of the method."""
    jwt: SecretReference = "file:/var/run/secrets/kubernetes.io/serviceaccount/token"
    """The service account's token, read anew for every login, because it is replaced under us."""


class JwtLogin(_Login):
    """A JWT that somebody else obtains."""

    method: Literal["jwt"]
    """`jwt`."""
    mount: Mount = "jwt"
    """Where the method is mounted, without a slash at either end."""
    role: str
    """The role of the method."""
    jwt: SecretReference
    """`file:PATH` or `env:NAME`, read anew for every login."""


class CertLogin(_Login):
    """The TLS client certificate, which `client_certificate` and `client_key` name."""

    method: Literal["cert"]
    """`cert`."""
    mount: Mount = "cert"
    """Where the method is mounted, without a slash at either end."""
    role: str
    """The name of the certificate role."""


class UserpassLogin(_Login):
    """A user and a password."""

    method: Literal["userpass"]
    """`userpass`."""
    mount: Mount = "userpass"
    """Where the method is mounted, without a slash at either end."""
    user: Segment
    """The user."""
    password: SecretReference
    """`file:PATH` or `env:NAME`."""


_CredentialLogin = AppRoleLogin | KubernetesLogin | JwtLogin | CertLogin | UserpassLogin
Login = Annotated[TokenLogin | _CredentialLogin, Field(discriminator="method")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """A token, and its life; without an end where it has none."""

    value: Secret
    lease: timedelta
    renewable: bool
    renew_at: datetime | None
    ends_at: datetime | None

    def is_over(self, now: datetime) -> bool:
        return self.ends_at is not None and now >= self.ends_at

    def is_due(self, now: datetime) -> bool:
        return self.renew_at is not None and now >= self.renew_at


def _token(value: Secret, lease_seconds: int, *, renewable: bool, now: datetime) -> _Token:
    lease = timedelta(seconds=max(0, lease_seconds))
    renew_at, ends_at = (now + lease * 2 / 3, now + lease) if lease else (None, None)
    return _Token(value=value, lease=lease, renewable=renewable, renew_at=renew_at, ends_at=ends_at)


def keys_of(login: Login) -> tuple[str, ...]:
    """The keys of the options that say who we are."""
    match login:
        case TokenLogin():
            return ("login.token",)
        case AppRoleLogin():
            return "login.role_id", "login.secret_id"
        case KubernetesLogin() | JwtLogin():
            return "login.role", "login.jwt"
        case CertLogin():
            return "login.role", "client_certificate"
        case UserpassLogin():
            return "login.user", "login.password"


class Session:
    """Sends calls with a token that is good."""

    def __init__(self, login: Login, transport: Transport, services: Services, namespace: str | None) -> None:
        self.transport = transport
        self._login = login
        self._services = services
        # Agents and proxies of Vault may demand the first, against requests that are forged by way of other servers.
        self._headers: dict[str, str | Secret] = {"X-Vault-Request": "true"}
        if namespace is not None:
            self._headers["X-Vault-Namespace"] = namespace
        self._one_at_a_time = asyncio.Lock()
        self._held: _Token | None = None
        # A wrapping token that is spent, and the secret id that was in it.
        self._unwrapped: tuple[Secret, Secret] | None = None

    async def call(self, call: Call) -> Answer:
        """Sends a call as whoever we are; once more, with a new token, where it was refused.

        Raises:
            ConnectorError: as the transport does; also where there is no logging in.
        """
        token = await self._good()
        answer = await self._send(replace(call, statuses={**call.statuses, 403: Meaning.ANSWER}), token)
        if answer.status != 403:  # noqa: PLR2004 - a policy says no, or the token is none any more: Vault tells neither
            return answer
        return await self._send(call, await self._other_than(token))

    async def open_call(self, call: Call) -> Answer:
        """Sends a call that needs no token."""
        return await self.transport.call(replace(call, headers=self._headers))

    async def _send(self, call: Call, token: _Token) -> Answer:
        return await self.transport.call(replace(call, headers={**self._headers, "X-Vault-Token": token.value}))

    async def _good(self) -> _Token:
        async with self._one_at_a_time:
            now = self._services.now()
            if self._held is None or self._held.is_over(now):
                self._held = await self._log_in()
            elif self._held.is_due(now):
                self._held = await self._renewed(self._held, now)
            return self._held

    async def _other_than(self, refused: _Token) -> _Token:
        async with self._one_at_a_time:
            if self._held is None or self._held.value == refused.value:
                self._held = None
                self._held = await self._log_in()
            return self._held

    async def _renewed(self, held: _Token, now: datetime) -> _Token:
        """A token with a new lease; the old one while Vault is not there."""
        try:
            return await self._extended(held) if held.renewable else await self._log_in()
        except BackendUnavailable:
            ends_at = held.ends_at or now
            return replace(held, renew_at=now + (ends_at - now) / 2)

    async def _extended(self, held: _Token) -> _Token:
        """The same token for longer; another where it is refused, or has come near the longest life it may have."""
        increment = f"{int(held.lease.total_seconds())}s"
        try:
            answer = await self._send(post("renew", "v1/auth/token/renew-self", {"increment": increment}), held)
            token = self._from(answer.parse(LoggedIn).auth)
        except BackendUnavailable:
            raise
        except ConnectorError:
            return await self._log_in()
        return token if token.lease > held.lease / 2 else await self._log_in()

    def _from(self, auth: Auth) -> _Token:
        value = Secret(auth.client_token.get_secret_value())
        return _token(value, auth.lease_duration, renewable=auth.renewable, now=self._services.now())

    async def _log_in(self) -> _Token:
        if isinstance(self._login, TokenLogin):
            return await self._look_up(read_secret(self._login.token, self._services))
        path, body = await self._credentials(self._login)
        # A 400 is what most methods say to credentials that are wrong.
        call = post("login", path, body, statuses={400: Meaning.NOT_ALLOWED}, settings=("login.mount",))
        return self._from((await self.open_call(call)).parse(LoggedIn).auth)

    async def _look_up(self, token: Secret) -> _Token:
        headers = {**self._headers, "X-Vault-Token": token}
        call = replace(get("login", "v1/auth/token/lookup-self"), headers=headers)
        data = (await self.transport.call(call)).parse(TokenFound).data
        return _token(token, data.ttl, renewable=data.renewable, now=self._services.now())

    async def _credentials(self, login: _CredentialLogin) -> tuple[str, dict[str, Any]]:
        path = f"v1/auth/{login.mount}/login"
        match login:
            case AppRoleLogin():
                return path, {"role_id": login.role_id, "secret_id": await self._secret_id(login)}
            case KubernetesLogin() | JwtLogin():
                return path, {"role": login.role, "jwt": read_secret(login.jwt, self._services)}
            case CertLogin():
                return path, {"name": login.role}
            case UserpassLogin():
                return f"{path}/{login.user}", {"password": read_secret(login.password, self._services)}

    async def _secret_id(self, login: AppRoleLogin) -> Secret:
        kept = read_secret(login.secret_id, self._services)
        if not login.secret_id_is_wrapped:
            return kept
        if self._unwrapped is None or self._unwrapped[0] != kept:
            self._unwrapped = kept, await self._unwrap(kept, login.mount)
        return self._unwrapped[1]

    async def _unwrap(self, token: Secret, mount: str) -> Secret:
        """The secret id in a wrapping token, once it is seen that it was made to hold one.

        Raises:
            AuthFailed: it is spent, or was made elsewhere: somebody may have been there before us.
        """
        spent = {400: Meaning.NOT_ALLOWED}
        lookup = post("unwrap", "v1/sys/wrapping/lookup", {"token": token}, statuses=spent)
        unwrap = post("unwrap", "v1/sys/wrapping/unwrap", effect=Effect.ONCE, statuses=spent)
        try:
            _check_origin((await self.open_call(lookup)).parse(Wrapping).data.creation_path, mount)
            # The token goes in the header alone: in header and body at once it is revoked.
            answer = await self.transport.call(replace(unwrap, headers={**self._headers, "X-Vault-Token": token}))
        except AuthFailed as error:
            why = "the wrapped secret id cannot be had: if nobody of yours has unwrapped it, somebody else has it"
            raise AuthFailed(f"{error}; {why}") from error
        return Secret(answer.parse(Unwrapped).data.secret_id.get_secret_value())


def check_login(login: object, services: Services) -> None:
    """Whether the secrets of a login can be read; nothing is sent.

    Raises:
        Misconfigured: they cannot.
    """
    references = (getattr(login, name, None) for name in ("token", "secret_id", "jwt", "password"))
    for reference in references:
        if reference is not None and not read_secret(reference, services).reveal():
            raise Misconfigured(f"{services.name}: {reference} is empty")


def _check_origin(creation_path: str, mount: str) -> None:
    if not (creation_path.startswith(f"auth/{mount}/role/") and creation_path.endswith("/secret-id")):
        raise AuthFailed(f"the wrapping token was made at {shown(creation_path)}, and not to hold a secret id")
