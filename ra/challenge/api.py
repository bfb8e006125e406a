"""The contract between the registration authority and a challenge validator.

A validator is a module with

    class Options(pydantic.BaseModel)                    its block of the configuration, unknown keys forbidden
    async def connect(options, services) -> Validator    no request is sent before the first check

A verdict is a Grant, a Deny or an Unavailable; an exception that escapes `check` counts as Unavailable, never as a
Grant. A one-time secret is not spent by `check`: it travels in the Grant and is spent by the commit that authorises.

A validator that wants to be told what became of the requests it has let in is a Notifier too, and names itself in
`Grant.notify`. What it is to be told is kept until it has accepted it.

A renewal that a valid certificate of ours signs needs no challenge, and its validator is not asked; one that must be
asked all the same says so (AsksAtRenewal).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits
from typing import Protocol, runtime_checkable

from connectors.api import Secret
from ra.challenge.one_time import KeptSecrets, NewSecret
from ra.journal.records import Notice, OneTimeSecret
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from ra.scep.messages import SignerCertificate

_STRONG_LENGTHS = (
    (digits, 39),
    ("0123456789abcdef", 32),
    ("0123456789ABCDEF", 32),
    (ascii_lowercase + digits, 26),
    (ascii_uppercase + digits, 26),
    (ascii_letters + digits, 24),
)
"""How long a random secret of such characters is at least, to have 128 bits; other ones are not looked for in it."""

_LEAST_DIFFERENT = 8
"""Characters that a random secret of such a length has; what has fewer is a pattern."""


def is_strong(secret: str) -> bool:
    """Whether a secret can be one that nobody guesses, for Grant.is_strong.

    Whether it was made at random cannot be seen; but what is too short for it, repeats itself or is of words was not.
    """
    meant = secret.replace("-", "")  # as a one-time secret is written in groups
    needed = next((length for characters, length in _STRONG_LENGTHS if set(meant) <= set(characters)), None)
    return needed is not None and len(meant) >= needed and len(set(meant)) >= _LEAST_DIFFERENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request that asks to be let in.

    Attributes:
        transaction_id: for validators that must name it to somebody else; it proves nothing.
        arrived_at: when the request was first seen (UTC); lifetimes are measured from it.
        earlier_keys: digests of the SubjectPublicKeyInfos that were certified for this device before, where a certificate
            of ours signed the request. The secret that let one of them in counts as absent, not as stolen.
    """

    profile: str
    transaction_id: str
    csr: Csr
    signer: SignerCertificate
    arrived_at: datetime
    earlier_keys: frozenset[bytes] = frozenset()

    @property
    def challenge_password(self) -> str | None:
        return self.csr.challenge_password


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A no.

    Attributes:
        detail: for the operator; names no secret.
        alarm: it looks like an attack.
        granted: what others had said yes with before, where all were needed; whoever of them wants to be told what
            became of the request is told that it was refused.
    """

    detail: str
    alarm: bool = False
    granted: Grant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The validator cannot tell now: the device is told to come back, never that it was refused."""

    detail: str
    retry_after_seconds: int = 30


Verdict = Grant | Deny | Unavailable


@dataclass(frozen=True, slots=True)
class Accepted:
    """A notice has arrived and was understood: it is not sent again."""


Receipt = Accepted | Deny | Unavailable
"""What becomes of a notice. Deny is a final no; Unavailable means later, not before `retry_after_seconds`."""


def _unwatched(_: str) -> None:
    """Nobody wants to know."""


class OneTimeSecrets(Protocol):
    """Where one-time secrets are looked up."""

    async def find(self, presented: str) -> OneTimeSecret | None:
        """The secret that was presented, whatever has become of it; None: there is none.

        Raises:
            Unavailable: they cannot be looked up now.
        """

    async def mint(self, wanted: NewSecret, secret: Secret, who: str, max_outstanding: int) -> bool:
        """Keeps a new secret; False where `max_outstanding` of its method and label could still be used.

        Raises:
            Unavailable: it cannot be kept now.
        """


def _unreported(_sentence: str) -> None:
    """Nobody reads a log."""


def _unnoted(_ends_at: datetime) -> None:
    """Nobody keeps a calendar."""


def _unobserved(_operation: str, _outcome: str, _seconds: float) -> None:
    """Nobody measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a validator is given.

    Attributes:
        name: of the configured instance; it becomes Grant.method.
        directory: relative paths of the options resolve against it.
        now: the time, UTC and aware.
        read_secret: reads a secret reference, `file:PATH` (relative to `directory`) or `env:NAME`.
        warn: reports what an operator should know about the configuration, in one sentence.
        report: tells the log, while serving, that something is not as it should be; names no secret.
        one_time: the one-time secrets that were minted; none can be looked up before the journal is open.
        sleep: waits so many seconds.
        entropy: that many random bytes.
        observe: told of every call of somebody else: operation, outcome (a status or an error's name), seconds.
        credential_ends: told when the credential ends by which somebody else lets it in.
        reached: told what is about to happen, or has just happened, where a crash would matter.
    """

    name: str
    directory: Path
    now: Callable[[], datetime]
    read_secret: Callable[[str], Secret]
    warn: Callable[[str], None]
    report: Callable[[str], None] = _unreported
    one_time: OneTimeSecrets = field(default_factory=KeptSecrets)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    entropy: Callable[[int], bytes] = os.urandom
    observe: Callable[[str, str, float], None] = _unobserved
    credential_ends: Callable[[datetime], None] = _unnoted
    reached: Callable[[str], None] = _unwatched


class Validator(Protocol):
    """One challenge validator. `check` may be called concurrently.

    One that asks for nothing that a stranger could not know sets `knows_secrets = False`: it stands in an `all_of`
    beside one that does, or nowhere.
    """

    async def check(self, attempt: Attempt) -> Verdict:
        """Whether this request may go on to policy."""

    async def aclose(self) -> None:
        """Gives up what is held open."""


@runtime_checkable
class AsksAtRenewal(Protocol):
    """What a Validator is beside, when a certificate of ours may not stand in for its challenge.

    A validator that says nothing of the kind is not asked where a valid certificate signs the request.
    """

    @property
    def demands_challenge_on_renewal(self) -> bool: ...


def demands_challenge_on_renewal(validator: Validator) -> bool:
    """Whether a renewal needs the challenge too."""
    return isinstance(validator, AsksAtRenewal) and validator.demands_challenge_on_renewal


@runtime_checkable
class Notifier(Protocol):
    """What a Validator is beside, when its Grants carry `notify`. `notify` may be called concurrently.

    One that says `notices_at_once`, 2 at least, is told so many at the same time by each process.
    """

    async def notify(self, notice: Notice) -> Receipt:
        """Tells somebody what became of a request.

        At least once: `notice.id` is the same on every attempt. An exception counts as Unavailable. Where a certificate
        waits for the notice, a Deny has it revoked.
        """


class Revocation(Enum):
    """How far the revocation of a certificate is."""

    NOT_OURS = "not ours"
    """The validator has let no such certificate in."""
    UNDER_WAY = "under way"
    """It is committed and will be carried out; the CA has not confirmed it yet."""
    DONE = "done"


class Certificates(Protocol):
    """The certificates of the requests that one validator has let in."""

    async def revoke(self, serial: str, why: str, issuer: str | None = None) -> Revocation:
        """Has a certificate revoked; asking again does no harm.

        `serial` is in hex, with or without leading zeros and colons, or decimal: as whoever asks has kept it. `issuer` is
        what he calls its CA, its common name or a text around it: a serial number that is so short that another CA may
        well have it too means nothing under another name.

        Raises:
            Unavailable: the journal cannot be asked.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Something that a validator does again and again beside the requests, in one process at a time.

    An Unavailable that it raises puts it off until it is due again.
    """

    name: str
    every: timedelta
    run: Callable[[Certificates], Awaitable[None]]


@runtime_checkable
class Errands(Protocol):
    """What a Validator is beside, when it has errands."""

    @property
    def errands(self) -> tuple[Errand, ...]: ...


@runtime_checkable
class Reaching(Protocol):
    """What a Validator is beside, when it asks somebody else and can try that without a request."""

    async def reach(self) -> str:
        """Tries it; what was found, in a sentence.

        Nobody is let in by it, and nothing is spent.

        Raises:
            connectors.api.ConnectorError: it does not work; the message says what is missing, its `settings` where.
        """
