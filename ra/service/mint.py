"""Makes one-time secrets, lists and withdraws them: for operators, whichever way they come in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.x509.oid import NameOID

from connectors.api import SanKind, Secret
from ra.challenge.one_time import SID_KIND, alternative_name, digest_of, subject_name, write_secret
from ra.errors import RaError
from ra.journal import one_time
from ra.journal.database import Journal
from ra.journal.one_time import Selection
from ra.journal.records import OneTimeSecret
from ra.journal.sealing import JournalKey
from ra.scep.words import RDN_ATTRIBUTES
from ra.service.ports import Clock, Entropy

_KINDS = frozenset({*SanKind, SID_KIND})
_ATTRIBUTES = {name: x509.ObjectIdentifier(oid) for oid, name in RDN_ATTRIBUTES.items()} | {
    "E": NameOID.EMAIL_ADDRESS,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
}


class BadName(RaError):
    """A text that is no name a secret can be bound to; the message says how to write one."""


class NotOffered(RaError):
    """No challenge of the profile takes what is to be minted, or several do; the message says what to name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A challenge of type `otp` that a profile asks, and what holds for its secrets where nothing else is said."""

    profile: str
    method: str
    ttl: timedelta
    length: int

    def terms(self, ttl: timedelta | None) -> Terms:
        return Terms(method=self.method, profile=self.profile, ttl=ttl or self.ttl, length=self.length)


def choose(offers: Iterable[Offer], profile: str, method: str | None) -> Offer:
    """The one offer of a profile, or of its challenge of that name.

    Raises:
        NotOffered: there is none, or there are several.
    """
    found = [each for each in offers if each.profile == profile and method in {None, each.method}]
    if len(found) != 1:
        sentence = "has several: name one as challenge" if found else 'asks no challenge of type "otp"'
        raise NotOffered(f"profiles.{profile}.challenge {sentence}{f' named {method}' if method else ''}")
    return found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for all secrets that are minted together.

    Attributes:
        method: the name of the challenge, of type `otp`, that is to let them in.
        profile: the only one they are good for; None: any that asks this challenge.
        ttl: a request must arrive before it is over.
        length: characters of a secret, hyphens not counted.
    """

    method: str
    profile: str | None
    ttl: timedelta
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One secret that is wanted.

    Attributes:
        names: as `read_names` returns them.
    """

    label: str
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A new secret, for the only time that anybody sees it."""

    label: str
    secret: Secret = field(repr=False)
    names: tuple[str, ...] | None
    expires_at: datetime


class Mint:
    """The use case. `who` is the person that the audit names."""

    def __init__(self, *, journal: Journal, key: JournalKey, clock: Clock, entropy: Entropy) -> None:
        self._journal = journal
        self._key = key
        self._clock = clock
        self._entropy = entropy

    async def create(self, terms: Terms, wishes: Sequence[Wish], who: str) -> tuple[Minted, ...]:
        """Mints one secret for each wish, in their order and in one commit.

        Raises:
            Unavailable: the database is locked, full or lost, and nothing is minted.
        """
        now = self._clock.now()
        minted = tuple(
            Minted(
                label=wish.label,
                secret=Secret(write_secret(self._entropy, terms.length)),
                names=wish.names,
                expires_at=now + terms.ttl,
            )
            for wish in wishes
        )
        kept = [self._kept(each, terms, now) for each in minted]
        if kept:
            await self._journal.write(lambda connection: one_time.mint(connection, kept, who))
        return minted

    def _kept(self, minted: Minted, terms: Terms, now: datetime) -> OneTimeSecret:
        return OneTimeSecret(
            key=digest_of(minted.secret.reveal(), self._key),
            method=terms.method,
            label=minted.label,
            profile=terms.profile,
            names=minted.names,
            created_at=now,
            expires_at=minted.expires_at,
        )

    async def list_secrets(self, which: Selection, count: int) -> tuple[OneTimeSecret, ...]:
        """The newest of them first, no more than `count`."""
        return await self._journal.read(lambda connection: one_time.list_secrets(connection, which, count))

    async def revoke(self, which: Selection, who: str) -> tuple[OneTimeSecret, ...]:
        """Withdraws those that could still let something in, and returns them. What they have let in stays."""
        now = self._clock.now()
        return await self._journal.write(lambda connection: one_time.revoke(connection, which, who, now))


def read_names(subject: str | None, alternative_names: Iterable[str]) -> tuple[str, ...] | None:
    """What a request must ask for, from `CN=device,O=Example` (RFC 4514) and `dns:…`, `sid:…`; None where both are empty.

    Raises:
        BadName: one of them is none.
    """
    names = {*_read_subject(subject or ""), *map(_read_alternative_name, alternative_names)}
    return tuple(sorted(names)) or None


def _read_subject(text: str) -> list[str]:
    try:
        name = x509.Name.from_rfc4514_string(text, _ATTRIBUTES)
    except ValueError:
        raise BadName(f"{text!r} is no subject; write it as CN=device,O=Example") from None
    return [subject_name(each.oid.dotted_string, str(each.value)) for each in name]


def _read_alternative_name(text: str) -> str:
    kind, _, value = text.partition(":")
    try:
        if kind in _KINDS and value:
            return alternative_name(kind, str(ip_address(value)) if kind == SanKind.IP else value)
    except ValueError:
        raise BadName(f"{text!r} is no name: {value!r} is no IP address") from None
    raise BadName(f"{text!r} is no name; write it as KIND:VALUE, the kind one of {', '.join(sorted(_KINDS))}")
