"""The CRLs of the CAs: asked for when one is needed, verified, and kept while they say how things are.

A CRL is asked for anew after REFRESH, because a CA may publish one early when it revokes. One that cannot be renewed
is made use of until its nextUpdate, and not a moment longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import Capability
from ra.errors import RaError, Unavailable
from ra.service.asking import ask
from ra.service.backend import Backend
from ra.service.gate import Overloaded
from ra.service.ports import Clock, Metrics

REFRESH = timedelta(minutes=5)
"""How old a CRL gets before the CA is asked whether there is a newer one."""

RETRY = timedelta(seconds=30)
"""For so long a CA that gave no usable CRL is not asked again."""

TIMEOUT_SECONDS = 10.0
"""A device waits meanwhile."""

CLOCK_SKEW = timedelta(hours=1)
"""How far a CA's clock may be ahead of ours."""

_EXPIRED_CERTS_ON_CRL = x509.ObjectIdentifier("2.5.29.60")
_SigningKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Crl:
    """A CRL that the CA has signed and that covers every certificate of it.

    Attributes:
        der: as it was received.
        issuer: Name of the CA, DER: certificates of another issuer are not judged by it.
        next_update: the end of its use; where the CA names none, REFRESH after it was received.
        revoked_at: by serial number; a certificate on hold counts.
        expired_since: it covers certificates that have expired since then; None: it need not list what has expired.
    """

    der: bytes = field(repr=False)
    issuer: bytes
    this_update: datetime
    next_update: datetime
    revoked_at: Mapping[int, datetime] = field(repr=False)
    expired_since: datetime | None = None

    def revocation(self, serial: int) -> datetime | None:
        """Since when the certificate is revoked; None: it is not."""
        return self.revoked_at.get(serial)

    def covers(self, not_after: datetime, now: datetime) -> bool:
        """Whether it would list a certificate that ends then: a CA takes what has expired off its CRL (RFC 5280 §3.3)."""
        return now <= not_after or (self.expired_since is not None and self.expired_since <= not_after)


class NoCrl(RaError):
    """What a CA gave is no CRL to rely on; the message says why."""


@dataclass(slots=True)
class _Kept:
    """What is known of one CA's CRL: `detail` is why there is none, or no newer one, since the last attempt."""

    crl: Crl | None = None
    asked_at: datetime | None = None
    ask_again_at: datetime | None = None
    detail: str = ""
    fetch: asyncio.Task[None] | None = None


class Crls:
    """Keeps the current CRL of each backend."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._kept: dict[str, _Kept] = {}

    async def current(self, backend: Backend, since: datetime | None = None) -> Crl:
        """The CA's CRL as of now. Whoever asks while it is fetched waits for the same answer.

        `since`: something was revoked then; what was asked for before does not do.

        Raises:
            Unavailable: there is none to rely on, and the CA cannot be asked now, or never gives any.
        """
        if not backend.can(Capability.CRL):
            raise Unavailable(f"{backend.name} cannot give its CRL")
        kept = self._kept.setdefault(backend.name, _Kept())
        if kept.fetch is None and self._is_due(kept, since):
            kept.fetch = asyncio.create_task(self._fetch(backend, kept))
        if kept.fetch is not None:
            await asyncio.shield(kept.fetch)  # who asked first may go; the others still wait
        if kept.crl is None or self._clock.now() >= kept.crl.next_update:
            raise Unavailable(kept.detail, retry_after_seconds=int(RETRY.total_seconds()))
        return kept.crl

    def _is_due(self, kept: _Kept, since: datetime | None) -> bool:
        if kept.ask_again_at is None or self._clock.now() >= kept.ask_again_at:
            return True
        return since is not None and kept.asked_at is not None and kept.asked_at <= since

    async def _fetch(self, backend: Backend, kept: _Kept) -> None:
        """Asks the CA; never raises, whatever comes of it is kept."""
        kept.asked_at = self._clock.now()
        try:
            found = await self._ask(backend, kept.crl)
            kept.crl, kept.detail = found, "its CRL has run out"
            kept.ask_again_at = min(self._clock.now() + REFRESH, found.next_update)
        except (NoCrl, Overloaded) as error:
            kept.detail = f"{backend.name} gives no CRL: {error}"
            kept.ask_again_at = self._clock.now() + RETRY
        finally:
            kept.fetch = None

    async def _ask(self, backend: Backend, before: Crl | None) -> Crl:
        permit = await backend.gate.enter(TIMEOUT_SECONDS, anew=False)
        timeout_seconds = min(TIMEOUT_SECONDS, backend.issue_timeout_seconds)
        answer = await ask(backend, permit, backend.connector.crl(), self._metrics, timeout_seconds)
        if isinstance(answer, Exception):
            raise NoCrl(f"{type(answer).__name__}: {answer}") from answer
        # A long list takes long to read, so it is read beside the loop.
        found = await asyncio.to_thread(read_crl, answer, backend.ca_chain[0], self._clock.now())
        if before is not None and found.this_update < before.this_update:
            raise NoCrl("it is older than the one before")
        return found


def read_crl(der: bytes, issuer: bytes, now: datetime) -> Crl:
    """A CRL that `issuer` (a certificate, DER) has signed, that is in force, and that covers all it has issued.

    Raises:
        NoCrl: it is anything else.
    """
    try:
        crl, authority = x509.load_der_x509_crl(der), x509.load_der_x509_certificate(issuer)
        _check_signature(crl, authority)
        _check_scope(crl)
        this_update, next_update = crl.last_update_utc, crl.next_update_utc or now + REFRESH
        revoked_at = {each.serial_number: each.revocation_date_utc for each in crl}
        expired_since = _expired_since(crl)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise NoCrl(f"it cannot be read: {type(error).__name__}: {error}") from error
    if not this_update - CLOCK_SKEW <= now < next_update:
        raise NoCrl(f"it is in force from {this_update} to {next_update}, which is not now")
    return Crl(
        der=der,
        issuer=crl.issuer.public_bytes(Encoding.DER),
        this_update=this_update,
        next_update=next_update,
        revoked_at=revoked_at,
        expired_since=expired_since,
    )


def _expired_since(crl: x509.CertificateRevocationList) -> datetime | None:
    """Its extension expiredCertsOnCRL, a GeneralizedTime (X.509 §9.5.2.8)."""
    try:
        value = crl.extensions.get_extension_for_oid(_EXPIRED_CERTS_ON_CRL).value
    except x509.ExtensionNotFound:
        return None
    said = value.public_bytes()[2:].decode("ascii")
    return datetime.strptime(said, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _check_signature(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> None:
    key = authority.public_key()
    if crl.issuer != authority.subject or not isinstance(key, _SigningKey):
        raise NoCrl("it is another CA's")
    if not crl.is_signature_valid(key):
        raise NoCrl("the CA has not signed it")


def _check_scope(crl: x509.CertificateRevocationList) -> None:
    """RFC 5280 §5.2: a critical extension narrows what a CRL says, so one that is not understood says too little."""
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint):
            if _is_partial(value):
                raise NoCrl("it covers a part of the CA's certificates alone")
        elif extension.critical:
            raise NoCrl(f"it has a critical extension that is not understood: {extension.oid.dotted_string}")


def _is_partial(point: x509.IssuingDistributionPoint) -> bool:
    """A name alone is not: AD CS gives one to the CRL of all."""
    return bool(
        point.only_contains_ca_certs
        or point.only_contains_attribute_certs
        or point.only_some_reasons
        or point.indirect_crl
    )
