"""Asks a receiver of step-ca's SCEPCHALLENGE webhook, and tells one of its NOTIFYING webhook: theirs work unchanged.

```toml
[challenges.hook]
type = "webhook"
url = "https://hooks.example.org/scep/challenge"
id = "8f3c1f0e-2a43-4f3e-9d5b-1f5d6a1c7b11"
secret = "file:webhook.secret"
bearer = "file:webhook.token"
provisioner_name = "wifi"
attributes = ["role"]

[challenges.hook.notifying]
url = "https://hooks.example.org/scep/notify"
id = "5f0b6c52-9e0a-4c5b-8a86-0d5f0a3d2c77"
secret = "file:notifying.secret"
```

Each body is signed: `X-Smallstep-Signature` is HMAC-SHA-256 in hex under the secret, which is kept in base64 as step-ca
prints it. After a fault of the network, or a status of 500 and above, it is asked once more, a second later. Only
`"allow": true` lets a request in; an answer that is no JSON, and a status of 400 and above, make the device come back
later. The body holds the challenge: what the receiver says beside a status is not repeated in any log.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from pydantic import Field, model_validator

from connectors.api import BackendUnavailable, ConnectorError, Secret
from connectors.transport import (
    Answer,
    AnswerModel,
    Call,
    Effect,
    Meaning,
    Meanings,
    SecretReference,
    Transport,
    TransportOptions,
    shown,
)
from ra.challenge.api import Accepted, Attempt, Deny, Receipt, Services, Verdict
from ra.challenge.remote import below, open_transport, unavailable
from ra.challenge.webhook.bodies import challenge_body, notice_body
from ra.errors import Misconfigured
from ra.journal.records import Notice
from ra.policy.grant import Grant, Notify

RETRY_SECONDS = 1.0
"""Between the two attempts, as step-ca has it."""

MAX_ATTRIBUTE_CHARACTERS = 200
"""Of what a receiver says of a device, so much is audited."""


_REFUSALS = {401, 407, *range(500, 600)}
_OF_A_HEAD: Meanings = {status: Meaning.ANSWER for status in range(300, 600) if status not in _REFUSALS}
"""Whoever answers that he takes no HEAD can be reached."""


class Hook(TransportOptions):
    """One webhook as step-ca keeps it."""

    id: str = Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")
    """Sent as X-Smallstep-Webhook-ID: ASCII, without spaces."""
    secret: SecretReference
    """`file:PATH` or `env:NAME`: the signing key in base64, as step-ca prints it."""
    bearer: SecretReference | None = None
    """`file:PATH` or `env:NAME`: a bearer token."""
    basic: SecretReference | None = None
    """`file:PATH` or `env:NAME` of `user:password`, where there is no bearer token."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=14)
    """For a whole call, the second attempt included."""

    @model_validator(mode="after")
    def _one_authorization(self) -> Self:
        if self.bearer and self.basic:
            raise ValueError("bearer and basic are two ways to do one thing: write one of them")
        return self


class Options(Hook):
    """The block of a webhook challenge."""

    provisioner_name: str = Field(default="", max_length=255)
    """Sent as provisionerName; where it is empty, the profile's name."""
    attributes: tuple[str, ...] = ()
    """Members of the answer's `data` that go into the audit: texts, numbers and booleans."""
    notifying: Hook | None = None
    """A NOTIFYING webhook, which is told what became of what was let in."""
    on_renewal: bool = True
    """Whether a certificate of ours must not stand in for it: step-ca asks its receivers about renewals too."""
    patience_hours: int = Field(default=24, ge=1, le=720)
    """For so long a notification is tried."""


class _Error(AnswerModel):
    code: str = ""
    message: str = ""


class _Said(AnswerModel):
    """What a receiver answers. Go's decoder takes an `allow` that is left out for a no, and so do we."""

    allow: bool = Field(default=False, strict=True)
    data: Any = None
    error: _Error | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """The way to one webhook."""

    hook: Hook
    transport: Transport
    key: bytes = field(repr=False)
    authorization: Secret | None
    sleep: Callable[[float], Awaitable[None]] = field(repr=False)

    async def send(self, operation: str, body: bytes, request_id: str | None = None) -> Answer:
        """One body, and once more where it may not have arrived.

        Raises:
            ConnectorError: there is no answer, or none that means one.
        """
        headers = self._headers(body) | {"Content-Type": "application/json"}
        if request_id is not None:
            headers["X-Request-Id"] = request_id
        call = Call(
            operation=operation, effect=Effect.ONCE, method="POST", url=self.hook.url, headers=headers, content=body
        )
        try:
            async with asyncio.timeout(self.hook.timeout_seconds):
                try:
                    return await self.transport.call(call)
                except BackendUnavailable:
                    await self.sleep(RETRY_SECONDS)
                return await self.transport.call(call)
        except TimeoutError as error:
            raise BackendUnavailable(f"{operation}: no answer in time", maybe_issued=False) from error

    async def reach(self) -> str:
        """A HEAD with what says who we are: it asks for nothing, and most receivers do not know it.

        Raises:
            ConnectorError: there is no answer, or our credentials are not accepted.
        """
        call = Call(
            operation="reach",
            effect=Effect.REPEATABLE,
            method="HEAD",
            url=self.hook.url,
            headers=self._headers(b""),
            statuses=_OF_A_HEAD,
        )
        return f"{self.hook.url} answers a HEAD with {(await self.transport.call(call)).status}, and was asked nothing else"

    def _headers(self, body: bytes) -> dict[str, str | Secret]:
        headers: dict[str, str | Secret] = {
            "X-Smallstep-Signature": hmac.new(self.key, body, hashlib.sha256).hexdigest(),
            "X-Smallstep-Webhook-ID": self.hook.id,
        }
        return headers if self.authorization is None else {**headers, "Authorization": self.authorization}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Grants what the receiver allows."""

    name: str
    options: Options
    services: Services = field(repr=False)
    challenge: _Line
    notifying: _Line | None

    @property
    def demands_challenge_on_renewal(self) -> bool:
        return self.options.on_renewal

    async def check(self, attempt: Attempt) -> Verdict:
        if not attempt.challenge_password:
            return Deny(detail="no challenge was presented")
        provisioner = self.options.provisioner_name or attempt.profile
        body = challenge_body(
            attempt.csr, provisioner, attempt.challenge_password, attempt.transaction_id, self.services.now()
        )
        try:
            said = (await self.challenge.send("challenge", body)).parse(_Said)
        except ConnectorError as error:
            return unavailable(error)
        if not said.allow:
            return Deny(detail=_because(said.error, attempt.challenge_password))
        return Grant(
            method=self.name, label=self.options.id, attributes=self._attributes(said.data), notify=self._notify()
        )

    async def notify(self, notice: Notice) -> Receipt:
        if self.notifying is None:
            return Deny(detail="there is no notifying webhook any more")
        body = notice_body(notice, self.services.now())
        try:
            await self.notifying.send("notify", body, str(notice.id))
        except ConnectorError as error:
            return unavailable(error, otherwise_seconds=0)
        return Accepted()

    async def reach(self) -> str:
        reached = [await self.challenge.reach()]
        if self.notifying is not None:
            with below("notifying"):
                reached.append(await self.notifying.reach())
        return "; ".join(reached)

    def _attributes(self, data: Any) -> dict[str, str]:
        members = data if isinstance(data, dict) else {}
        found = {name: members.get(name) for name in self.options.attributes}
        return {
            name: str(value)[:MAX_ATTRIBUTE_CHARACTERS]
            for name, value in found.items()
            if isinstance(value, str | int | float)
        }

    def _notify(self) -> tuple[Notify, ...]:
        if self.notifying is None:
            return ()
        return (Notify(validator=self.name, is_strict=False, patience=timedelta(hours=self.options.patience_hours)),)

    async def aclose(self) -> None:
        await self.challenge.transport.aclose()
        if self.notifying is not None:
            await self.notifying.transport.aclose()


async def connect(options: Options, services: Services) -> Webhook:
    """Reads the secrets; asks nobody.

    Raises:
        Misconfigured: a secret is no base64, or a file is missing.
    """
    return Webhook(
        name=services.name,
        options=options,
        services=services,
        challenge=_line(options, services),
        notifying=_line(options.notifying, services) if options.notifying else None,
    )


def _line(hook: Hook, services: Services) -> _Line:
    try:
        key = b64decode(services.read_secret(hook.secret).reveal().strip(), validate=True)
    except NotBase64:
        raise Misconfigured("secret: it is no base64; write it as step-ca has printed it") from None
    if not key:
        raise Misconfigured("secret: it is empty")
    return _Line(
        hook=hook,
        transport=open_transport(hook, services, explain=_nothing, credentials=_credentials(hook)),
        key=key,
        authorization=_authorization(hook, services),
        sleep=services.sleep,
    )


def _authorization(hook: Hook, services: Services) -> Secret | None:
    if hook.bearer:
        return Secret(f"Bearer {services.read_secret(hook.bearer).reveal().strip()}")
    if hook.basic:
        credentials = services.read_secret(hook.basic).reveal().strip()
        return Secret(f"Basic {b64encode(credentials.encode()).decode()}")
    return None


def _credentials(hook: Hook) -> tuple[str, ...]:
    more = [each for each in ("bearer", "basic") if getattr(hook, each)]
    return ("secret", "id", *more)


def _nothing(answer: Answer) -> str:
    """What a receiver says of an error may hold the challenge, which no table of secrets knows."""
    return f"{len(answer.body)} bytes, which are not repeated here"


def _because(error: _Error | None, challenge: str) -> str:
    said = " ".join(each for each in (error and error.code, error and error.message) if each)
    text = shown(said.replace(challenge, "***")) if said else "no reason is given"
    return f"the webhook does not allow it: {text}"
