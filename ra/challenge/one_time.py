"""One-time secrets as devices present them: how one is written and read, what names a request asks for, where they are.

A secret is written in Crockford's base32, in groups of four. Its alphabet has neither I, L, O nor U, and every character
is one of a PrintableString. Case, hyphens and spaces do not count when it is read, O is taken for 0, I and L for 1.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from connectors.api import Secret
from ra.errors import Unavailable
from ra.journal.database import Journal
from ra.journal.one_time import look_up, mint_within
from ra.journal.records import OneTimeSecret
from ra.journal.sealing import JournalKey
from ra.policy.sid import SID_EXTENSION, read_sid
from ra.scep.csr import Csr
from ra.scep.words import RDN_ATTRIBUTES

BITS_OF_CHARACTER = 5

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_GROUP = 4
_SHOWN_CHARACTERS = 200
_AS_MEANT = str.maketrans(
    dict(zip(string.ascii_lowercase, string.ascii_uppercase, strict=True))
    | dict.fromkeys("Oo", "0")
    | dict.fromkeys("IiLl", "1")
    | dict.fromkeys("- ")
)

SID_KIND = "sid"
"""The Microsoft security identifier of extension 1.3.6.1.4.1.311.25.2, which names an account as a SAN would."""


def write_secret(entropy: Callable[[int], bytes], length: int) -> str:
    """A new secret of so many characters, 5 bits each, hyphens not counted."""
    bits = int.from_bytes(entropy(-(-length * BITS_OF_CHARACTER // 8)))
    characters = "".join(_ALPHABET[bits >> BITS_OF_CHARACTER * place & 31] for place in range(length))
    return "-".join(characters[start : start + _GROUP] for start in range(0, length, _GROUP))


def read_secret(presented: str) -> str:
    """The one spelling of a secret, whichever it was typed in; of anything else, something that is no secret."""
    return presented.translate(_AS_MEANT)


def subject_name(oid: str, value: str) -> str:
    """An attribute of a subject, as a secret is bound to it: `CN=device`, `1.3.6.1.4.1.99999.1=x`."""
    return f"{RDN_ATTRIBUTES.get(oid, oid)}={value}"


def alternative_name(kind: str, value: str) -> str:
    """A subject alternative name, as a secret is bound to it: `dns:device.example.org`, `sid:S-1-5-21-…`."""
    return f"{kind}:{value}"


def names_asked(csr: Csr) -> frozenset[str]:
    """Everything a CSR wants to be called.

    Order, number and string types do not count. An attribute has `=` before any colon and an alternative name does not,
    so that none is taken for another. A SID that does not read is a name too, and equals none.
    """
    subject = {subject_name(each.oid, each.value) for rdn in csr.subject for each in rdn}
    names = {alternative_name(each.kind, each.value) for each in csr.subject_alternative_names}
    sids = {
        alternative_name(SID_KIND, read_sid(each.value) or f"unreadable {each.value.hex()}")
        for each in csr.extensions
        if each.oid == SID_EXTENSION
    }
    return frozenset(subject | names | sids)


def names_in_words(csr: Csr) -> str:
    """The same names in one line, as the request wrote them: the commonName first, then the rest of the subject."""
    names = sorted(names_asked(csr), key=lambda name: (":" in name.partition("=")[0], not name.startswith("CN="), name))
    return ", ".join(names)


def name_mismatch(bound: frozenset[str], asked: frozenset[str]) -> str | None:
    """What a request asks for more, or less, than it may, in words for a log; None where it is just that."""
    more, less = asked - bound, bound - asked
    faults = [f"does not allow {_shown(more)}"] * bool(more) + [f"wants {_shown(less)} asked for"] * bool(less)
    return " and ".join(faults) or None


def _shown(names: frozenset[str]) -> str:
    """For a log: escaped, and cut."""
    return ascii(", ".join(sorted(names))[:_SHOWN_CHARACTERS])


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret that a validator hands out itself.

    Attributes:
        method: the validator's name.
        label: what lists and audit call it: whom it was handed to.
    """

    method: str
    label: str
    created_at: datetime
    expires_at: datetime


class KeptSecrets:
    """The journal's one-time secrets. Validators are built before the journal is open: it is bound when it is.

    Implements ra.challenge.api.OneTimeSecrets.
    """

    def __init__(self) -> None:
        self._kept: tuple[Journal, JournalKey] | None = None

    def bind(self, journal: Journal, key: JournalKey) -> None:
        """From now on, secrets are looked for there."""
        self._kept = (journal, key)

    async def find(self, presented: str) -> OneTimeSecret | None:
        """The secret that was presented, whatever has become of it; None: there is none.

        Raises:
            Unavailable: the database is lost, or not open yet.
        """
        journal, key = self._opened()
        digest = digest_of(presented, key)
        return await journal.read(lambda connection: look_up(connection, digest))

    async def mint(self, wanted: NewSecret, secret: Secret, who: str, max_outstanding: int) -> bool:
        """Keeps a new secret; False where `max_outstanding` of its method and label could still be used.

        Raises:
            Unavailable: the database is lost, or not open yet.
        """
        journal, key = self._opened()
        kept = OneTimeSecret(
            key=digest_of(secret.reveal(), key),
            method=wanted.method,
            label=wanted.label,
            profile=None,
            names=None,
            created_at=wanted.created_at,
            expires_at=wanted.expires_at,
        )
        return await journal.write(lambda connection: mint_within(connection, kept, who, max_outstanding))

    def _opened(self) -> tuple[Journal, JournalKey]:
        if self._kept is None:
            raise Unavailable("one-time secrets cannot be looked up: the journal is not open")
        return self._kept


def digest_of(secret: str, key: JournalKey) -> bytes:
    """By which the journal knows a secret, however it is typed."""
    return key.digest(read_secret(secret))
