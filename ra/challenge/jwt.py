"""Tokens (JWT) of an issuer outside, such as an identity provider or a portal, verified against its published keys.

```toml
[challenges.portal]
type = "jwt"
issuer = "https://portal.example.org"
audience = "scep-ra"
url = "https://portal.example.org/.well-known/jwks.json"
algorithms = ["ES256"]
common_name = "sub"
attributes = ["email"]
```

The device presents the token as its challenge. It must name issuer, audience and the end of its time, and it is bound:
the claim that `common_name` names must equal the one commonName that is asked for, and where `names` is set, that claim
lists all names that the request asks for, as `otp` writes them. The keys (JWKS) are fetched when they are first needed,
again after `refresh_minutes` and for a key that is not known, and used on for `stale_hours` when the issuer is away.

Windows cannot present a token: its text has characters that no PrintableString has. Use `signed` there.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from joserfc.jwk import Key
from pydantic import Field, model_validator

from connectors.api import ConnectorError, ProtocolViolation
from connectors.transport import AnswerModel, Call, Effect, Transport, TransportOptions
from ra.challenge.api import Attempt, Deny, Services, Verdict
from ra.challenge.fetched import Fetched
from ra.challenge.jws import Algorithm, BadToken, Token, candidates, read_jwks, read_token, verified_claims
from ra.challenge.one_time import name_mismatch, names_asked
from ra.challenge.otp import DECIDED_AFTER
from ra.challenge.remote import open_transport, unavailable
from ra.policy.grant import Grant, Spend

MAX_ATTRIBUTE_CHARACTERS = 200
_COMMON_NAME = "2.5.4.3"
_LATEST = 253_402_300_799


class Options(TransportOptions):
    """The block of a JWT challenge; `url` is the issuer's JWKS."""

    issuer: str = Field(min_length=1)
    """The claim `iss`, exactly."""
    audience: str = Field(min_length=1)
    """What the claim `aud` must be, or hold."""
    algorithms: tuple[Algorithm, ...] = Field(default=(Algorithm.ES256,), min_length=1)
    """What tokens may be signed with; each goes with one kind of key."""
    common_name: str | None = "sub"
    """The claim that must equal the commonName."""
    names: str | None = None
    """The claim that lists all names the request asks for, such as `["CN=device", "dns:device.example.org"]`."""
    profile: str | None = None
    """The claim that must equal the name of the profile."""
    once: bool = True
    """Whether a token lets in one request, or any number until it expires."""
    max_ttl_minutes: int = Field(default=1440, ge=1, le=527_040)
    """A token that expires later than this from now is refused."""
    leeway_seconds: int = Field(default=60, ge=0, le=300)
    """By so much the issuer's clock may differ."""
    attributes: tuple[str, ...] = ()
    """Claims that go into the audit: texts, numbers and booleans."""
    refresh_minutes: int = Field(default=60, ge=1, le=1440)
    """After so long the keys are fetched again."""
    stale_hours: int = Field(default=24, ge=1, le=168)
    """For so long they are used on when the issuer is away."""

    @model_validator(mode="after")
    def _bound(self) -> Self:
        if self.common_name is None and self.names is None:
            raise ValueError("set common_name or names: a token that is bound to no name lets in any")
        return self


class _Jwks(AnswerModel):
    keys: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """Grants what presents a token that the issuer has signed for it."""

    options: Options
    services: Services = field(repr=False)
    transport: Transport
    keys: Fetched[tuple[Key, ...]] = field(repr=False)

    async def check(self, attempt: Attempt) -> Verdict:
        presented = attempt.challenge_password
        if not presented:
            return Deny(detail="no challenge was presented")
        try:
            token = read_token(presented, self.options.algorithms)
            claims = verified_claims(token, await self._keys_for(token))
        except BadToken as error:
            return Deny(detail=f"the challenge is no token of the issuer: {error}")
        except ConnectorError as error:
            return unavailable(error)
        fault = self._time_fault(claims, attempt.arrived_at) or self._fault(claims, attempt)
        return Deny(detail=f"the token {fault}") if fault else self._granted(claims, presented)

    async def reach(self) -> str:
        """Fetches the issuer's keys, or has them already."""
        return f"the issuer's JWKS can be had: {len(await self.keys.get())} of its keys can be used"

    async def _keys_for(self, token: Token) -> tuple[Key, ...]:
        """The issuer may have new keys: for one that is not known they are fetched anew, but not at every stranger's word."""
        keys = await self.keys.get()
        return keys if candidates(token, keys) else await self.keys.get(insist=True)

    def _time_fault(self, claims: dict[str, Any], arrived_at: datetime) -> str | None:
        arrived, leeway = arrived_at.timestamp(), self.options.leeway_seconds
        expires, begins = _time(claims.get("exp")), _time(claims.get("nbf", 0))
        issued = _time(claims.get("iat", 0))
        if math.isnan(expires + begins + issued):
            return "does not say until when it is good, or says a time that is none"
        if arrived > expires + leeway:
            return "has expired"
        if max(begins, issued) > arrived + leeway:
            return "is not good yet"
        too_late = expires > arrived + leeway + self.options.max_ttl_minutes * 60
        return "expires later than max_ttl_minutes allows" if too_late else None

    def _fault(self, claims: dict[str, Any], attempt: Attempt) -> str | None:
        given = self.options
        audience = claims.get("aud")
        if claims.get("iss") != given.issuer:
            return "is of another issuer"
        if given.audience not in (audience if isinstance(audience, list) else [audience]):
            return "is for another audience"
        if given.profile is not None and claims.get(given.profile) != attempt.profile:
            return f"is for another profile, by its claim {given.profile!r}"
        if given.common_name is not None:
            asked = [each.value for rdn in attempt.csr.subject for each in rdn if each.oid == _COMMON_NAME]
            if [claims.get(given.common_name)] != asked:
                return f"is for another commonName, by its claim {given.common_name!r}"
        return self._names_fault(claims, attempt)

    def _names_fault(self, claims: dict[str, Any], attempt: Attempt) -> str | None:
        if self.options.names is None:
            return None
        listed = claims.get(self.options.names)
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            return f"lists no names in its claim {self.options.names!r}"
        return name_mismatch(frozenset(listed), names_asked(attempt.csr))

    def _granted(self, claims: dict[str, Any], presented: str) -> Grant:
        """What is spent is the token without its signature: of one algorithm a token may have several."""
        signed = presented.rpartition(".")[0]
        spend = Spend(
            key=hashlib.sha256(f"{self.services.name}\0{signed}".encode()).digest(),
            expires_at=datetime.fromtimestamp(claims["exp"], UTC) + DECIDED_AFTER,
        )
        attributes = {
            name: str(claims[name])[:MAX_ATTRIBUTE_CHARACTERS]
            for name in self.options.attributes
            if isinstance(claims.get(name), str | int | float)
        }
        return Grant(
            method=self.services.name,
            label=self.options.issuer,
            attributes=attributes,
            spend=spend if self.options.once else None,
            is_strong=True,  # nobody can guess the issuer's signature
        )

    async def aclose(self) -> None:
        await self.transport.aclose()


async def connect(options: Options, services: Services) -> Jwt:
    """Asks nobody: the keys are fetched when the first token comes.

    Raises:
        connectors.api.Misconfigured: a file of the transport is missing.
    """
    transport = open_transport(options, services, credentials=("url",))

    async def fetch() -> tuple[Key, ...]:
        answer = await transport.call(
            Call(operation="jwks", effect=Effect.REPEATABLE, url=options.url, settings=("url",))
        )
        keys = read_jwks(answer.parse(_Jwks).model_dump())
        if not keys:
            raise ProtocolViolation(f"{options.url} has no key that could be used")
        return keys

    keys = Fetched(
        fetch=fetch,
        now=services.now,
        fresh=timedelta(minutes=options.refresh_minutes),
        stale=timedelta(hours=options.stale_hours),
        on_stale=lambda error: services.report(f"the issuer's keys are used although they are old: {error}"),
    )
    return Jwt(options=options, services=services, transport=transport, keys=keys)


def _time(value: Any) -> float:
    """Seconds since 1970; NaN for what is no time."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= _LATEST else math.nan
