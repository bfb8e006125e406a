"""The validator `attended`: one-time secrets, and somebody who wants to be told, or asked, before a device gets anything.

What that is goes by the device's name, so that whoever judges the end knows what it had to be. Notices that were accepted
are written into the ledger before the RA hears so; each is answered alike however often it comes.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from benchmarks.ledger.book import Book, key_digest
from ra.challenge import otp
from ra.challenge.api import Accepted, Attempt, Deny, Receipt, Services, Unavailable, Verdict
from ra.journal.records import Notice, Occasion
from ra.policy.grant import Grant, Notify

BEFORE_NOTICE, AFTER_NOTICE = "notice:before-send", "notice:after-answer"

_PATIENCE, _SHORT_PATIENCE = timedelta(minutes=5), timedelta(seconds=3)
_LATE_ONE_IN = 40
_LATE_SECONDS = 2.0
"""Longer than the RA waits for the answer to a notice."""

_FAILS_ONE_IN = 20


class Kind(StrEnum):
    """What is to become of a device; its name begins so."""

    PLAIN = "device"
    TOLD = "told"
    """Its certificate waits until somebody has accepted a notice."""
    UNHEARD = "unheard"
    """The same, and the notice is never accepted: the certificate is revoked."""
    UNWANTED = "unwanted"
    """The same, and the notice is refused."""
    APPROVED = "approved"
    """Waits for a person, who says yes."""
    DENIED = "denied"
    """Waits for a person, who says no."""
    LATE = "late"
    """The CA takes its time, and the request expires meanwhile: what arrives is revoked."""

    @classmethod
    def of(cls, name: str) -> Kind:
        """By the name of a device; a stranger's is plain."""
        word = name.partition("-")[0]
        return cls(word) if word in set(cls) else cls.PLAIN


FORBIDDEN = frozenset({Kind.UNHEARD, Kind.UNWANTED, Kind.DENIED})
"""Devices that must not get a certificate."""

_ATTENDED = frozenset({Kind.TOLD, Kind.UNHEARD, Kind.UNWANTED})
_ASKED = frozenset({Kind.APPROVED, Kind.DENIED})


class Options(otp.Options):
    """Those of one-time secrets, and where the ledger is."""

    book: Path
    """SQLite file; every process of the RA shares it."""


async def connect(options: Options, services: Services) -> AttendedOneTime:
    """The ledger is made where it is missing."""
    inner = otp.OneTime(services.name, services.one_time)
    return AttendedOneTime(inner, Book(services.directory / options.book), services)


class AttendedOneTime:
    """Grants what a one-time secret lets in, on the terms of the device's kind."""

    def __init__(self, inner: otp.OneTime, book: Book, services: Services) -> None:
        self._inner = inner
        self._book = book
        self._services = services
        self._random = random.Random()  # noqa: S311 - delays

    async def check(self, attempt: Attempt) -> Verdict:
        verdict = await self._inner.check(attempt)
        if not isinstance(verdict, Grant):
            return verdict
        kind = _kind_of(attempt.csr.der)
        patience = _SHORT_PATIENCE if kind is Kind.UNHEARD else _PATIENCE
        notify = (Notify(validator=self._services.name, is_strict=True, patience=patience),)
        return replace(verdict, notify=notify if kind in _ATTENDED else (), needs_approval=kind in _ASKED)

    async def notify(self, notice: Notice) -> Receipt:
        self._services.reached(BEFORE_NOTICE)
        receipt = self._receive(notice)
        if self._random.randrange(_LATE_ONE_IN) == 0:
            await asyncio.sleep(_LATE_SECONDS)
        self._services.reached(AFTER_NOTICE)
        return receipt

    def _receive(self, notice: Notice) -> Receipt:
        kind = _kind_of(notice.csr)
        if kind is Kind.UNHEARD or self._random.randrange(_FAILS_ONE_IN) == 0:
            return Unavailable(detail="nobody is in", retry_after_seconds=0)
        if kind is Kind.UNWANTED:
            return Deny(detail="the device is not wanted")
        if notice.occasion is Occasion.ISSUED:
            self._book.accept(self._services.now().timestamp(), str(notice.id), _key_of(notice.csr))
        return Accepted()

    async def aclose(self) -> None:
        self._book.close()


def _kind_of(csr: bytes) -> Kind:
    names = x509.load_der_x509_csr(csr).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Kind.of(str(names[0].value))


def _key_of(csr: bytes) -> str:
    key = x509.load_der_x509_csr(csr).public_key()
    return key_digest(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
