"""One-time secrets: minted beforehand, each good for one request of one profile, and where wanted for one name.

```toml
[challenges.once]
type = "otp"
ttl_minutes = 1440
length = 28
```

`scep-ra otp create` mints them. The journal keeps a keyed digest alone, so that nobody can read a secret a second time.
One that was minted for names is good for a request that asks for exactly these names: every attribute of the subject,
every subject alternative name and the SID. What asks for one more, or one less, is denied.

A secret is in time when the request arrived in time, however long it waited for its turn. It is spent by the commit
that authorises, not here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from ra.challenge.api import Attempt, Deny, OneTimeSecrets, Services, Unavailable, Verdict, is_strong
from ra.challenge.one_time import BITS_OF_CHARACTER, name_mismatch, names_asked
from ra.errors import Unavailable as NotNow
from ra.journal.records import OneTimeSecret
from ra.policy.grant import Grant, Spend

MIN_BITS = 128
"""Whoever reaches the enrolment URL can try secrets there; one of so many bits is never found."""

DECIDED_AFTER = timedelta(days=1)
"""How long after its secret expired a request that came in time may at most be decided; until then it stays spent."""


class Options(BaseModel):
    """The block of a one-time challenge."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ttl_minutes: int = Field(default=1440, ge=1, le=527_040)
    """For so long a secret is accepted, where it is minted without saying otherwise; at most 366 days."""
    length: int = Field(default=28, ge=-(-MIN_BITS // BITS_OF_CHARACTER), le=64)
    """Characters of a secret, hyphens not counted; 26 have 130 bits."""

    @property
    def ttl(self) -> timedelta:
        return timedelta(minutes=self.ttl_minutes)


@dataclass(frozen=True, slots=True)
class OneTime:
    """Grants what presents a secret that was minted for it."""

    name: str
    secrets: OneTimeSecrets = field(repr=False)

    async def check(self, attempt: Attempt) -> Verdict:
        if attempt.challenge_password is None:
            return Deny(detail="no challenge was presented")
        try:
            secret = await self.secrets.find(attempt.challenge_password)
        except NotNow as error:
            return Unavailable(detail=str(error), retry_after_seconds=error.retry_after_seconds)
        if secret is None:
            return Deny(detail="the challenge is no one-time secret")
        if fault := self._fault(secret, attempt):
            return Deny(detail=f"the one-time secret {secret.label!r} {fault}")
        # The same key may be the same request, overtaken by itself since it was looked for: the commit can tell.
        if secret.spent_key not in {None, hashlib.sha256(attempt.csr.spki).digest()}:
            if secret.spent_key in attempt.earlier_keys:
                return Deny(detail=f"the one-time secret {secret.label!r} is spent, by this device itself")
            return Deny(detail=f"the one-time secret {secret.label!r} is spent, by another key", alarm=True)
        return Grant(
            method=self.name,
            label=secret.label,
            is_strong=is_strong(attempt.challenge_password),
            spend=Spend(key=secret.key, expires_at=secret.expires_at + DECIDED_AFTER),
        )

    def _fault(self, secret: OneTimeSecret, attempt: Attempt) -> str | None:
        if secret.method != self.name:
            return f"was minted for the challenge {secret.method!r}"
        if secret.profile not in {None, attempt.profile}:
            return f"was minted for the profile {secret.profile!r}"
        if secret.revoked_at is not None:
            return "is revoked"
        if attempt.arrived_at > secret.expires_at:
            return "has expired"
        return None if secret.names is None else name_mismatch(frozenset(secret.names), names_asked(attempt.csr))

    async def aclose(self) -> None:
        """Nothing is held open."""


async def connect(_: Options, services: Services) -> OneTime:
    """Nothing is looked for before the first check; the options are for whoever mints."""
    return OneTime(services.name, services.one_time)
