"""The contract between the registration authority and a challenge validator.

A validator is a module with

    class Options(pydantic.BaseModel)                    its block of the configuration, unknown keys forbidden
    async def connect(options, services) -> Validator    no request is sent before the first check

A verdict is a Grant, a Deny or an Unavailable; an exception that escapes `check` counts as Unavailable, never as a
Grant. A one-time secret is not spent by `check`: it travels in the Grant and is spent by the commit that authorises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from connectors.api import Secret
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from ra.scep.messages import SignerCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request that asks to be let in.

    Attributes:
        transaction_id: for validators that must name it to somebody else; it proves nothing.
        arrived_at: when the request was first seen (UTC); lifetimes are measured from it.
    """

    profile: str
    transaction_id: str
    csr: Csr
    signer: SignerCertificate
    arrived_at: datetime

    @property
    def challenge_password(self) -> str | None:
        return self.csr.challenge_password


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A no. `detail` is for the operator and names no secret; `alarm` marks what looks like an attack."""

    detail: str
    alarm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The validator cannot tell now: the device is told to come back, never that it was refused."""

    detail: str
    retry_after_seconds: int = 30


Verdict = Grant | Deny | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a validator is given.

    Attributes:
        name: of the configured instance; it becomes Grant.method.
        directory: relative paths of the options resolve against it.
        now: the time, UTC and aware.
        read_secret: reads a secret reference, `file:PATH` (relative to `directory`) or `env:NAME`.
        warn: reports what an operator should know about the configuration, in one sentence.
    """

    name: str
    directory: Path
    now: Callable[[], datetime]
    read_secret: Callable[[str], Secret]
    warn: Callable[[str], None]


class Validator(Protocol):
    """One challenge validator. `check` may be called concurrently."""

    async def check(self, attempt: Attempt) -> Verdict:
        """Whether this request may go on to policy."""

    async def aclose(self) -> None:
        """Gives up what is held open."""
