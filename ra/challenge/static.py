"""Secrets that are shared by many devices, each with a label, so that one can follow another without a gap.

```toml
[challenges.shared]
type = "static"
secrets = [
    { label = "spring", value_from = "file:challenge-spring.txt", not_after = 2031-07-01T00:00:00Z },
    { label = "summer", value_from = "env:SCEP_CHALLENGE_SUMMER", not_before = 2031-06-01T00:00:00Z },
]
```

Whoever knows such a secret can name a device as he likes: say in the profile which names are meant, or use one-time
secrets instead. A secret is read once, at the start; the line end of its file does not count.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from connectors.api import secret_reference
from ra.challenge.api import Attempt, Deny, Services, Verdict, is_strong
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from ra.scep.x509 import is_printable

MIN_LENGTH = 8
"""Characters: a shorter secret can be guessed through the enrolment URL, however slowly it answers."""


class SecretOptions(BaseModel):
    """One secret: `not_before` and `not_after` bound when it is accepted, both inclusive, and need a UTC offset."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    label: str = Field(min_length=1)
    """What log and audit call the secret."""
    value_from: Annotated[str, AfterValidator(secret_reference)]
    """`file:PATH` or `env:NAME`; at least 8 characters."""
    not_before: AwareDatetime | None = None
    """When it begins to be accepted, with a UTC offset."""
    not_after: AwareDatetime | None = None
    """When it is last accepted, with a UTC offset."""


class Options(BaseModel):
    """The block of a static challenge."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    secrets: tuple[SecretOptions, ...] = Field(min_length=1)
    """Any of them is accepted, each in its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secret:
    label: str
    digest: bytes = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None

    def fault_at(self, moment: datetime) -> str | None:
        if self.not_before and moment < self.not_before:
            return "is not accepted yet"
        if self.not_after and moment > self.not_after:
            return "is no longer accepted"
        return None


@dataclass(frozen=True, slots=True)
class Static:
    """Grants what presents one of its secrets in time."""

    name: str
    secrets: tuple[_Secret, ...]

    async def check(self, attempt: Attempt) -> Verdict:
        if attempt.challenge_password is None:
            return Deny(detail="no challenge was presented")
        presented = _digest(attempt.challenge_password)
        # Every secret is compared, so that the time taken tells neither which one matches nor whether one does.
        matches = [each for each in self.secrets if hmac.compare_digest(each.digest, presented)]
        if not matches:
            return Deny(detail="the challenge is none of the secrets")
        if fault := matches[0].fault_at(attempt.arrived_at):
            return Deny(detail=f"the secret {matches[0].label!r} {fault}")
        return Grant(method=self.name, label=matches[0].label, is_strong=is_strong(attempt.challenge_password))

    async def aclose(self) -> None:
        """Nothing is held open."""


async def connect(options: Options, services: Services) -> Static:
    """Reads the secrets.

    Raises:
        Misconfigured: a secret is too short, or cannot be told from another.
    """
    secrets = tuple(_read(each, services) for each in options.secrets)
    for noun, values in (("label", [each.label for each in secrets]), ("secret", [each.digest for each in secrets])):
        if max(Counter(values).values()) > 1:
            raise Misconfigured(f"two secrets have the same {noun}")
    return Static(services.name, secrets)


def _read(options: SecretOptions, services: Services) -> _Secret:
    where = f"secret {options.label!r}"
    value = services.read_secret(options.value_from).reveal().removesuffix("\n").removesuffix("\r")
    if len(value) < MIN_LENGTH:
        raise Misconfigured(f"{where}: it has {len(value)} characters; at least {MIN_LENGTH} are needed")
    if options.not_before and options.not_after and options.not_before > options.not_after:
        raise Misconfigured(f"{where}: not_before lies after not_after")
    if not is_printable(value):  # Windows writes a challenge in no other type than PrintableString
        services.warn(f"{where}: Windows cannot send it; use letters, digits, space and '()+,-./:=? alone")
    if options.not_after and options.not_after < services.now():
        services.warn(f"{where}: it is no longer accepted since {options.not_after.isoformat()}")
    return _Secret(
        label=options.label, digest=_digest(value), not_before=options.not_before, not_after=options.not_after
    )


def _digest(secret: str) -> bytes:
    """All of one length, so that the comparison does not tell that of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
