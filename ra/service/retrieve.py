"""GetCert and GetCRL (RFC 8894 §4.5, §4.6): for devices that hold a certificate of the profile, where it says so.

Whatever is not found, not allowed or not understood is one and the same badCertId. Who may not ask is told so before
anything is decrypted.
"""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from connectors.api import Capability
from ra.errors import Misconfigured, Reason, Refused, Unavailable
from ra.journal.certificates import Held, held, revoked_at
from ra.journal.database import Journal
from ra.journal.states import State
from ra.policy.profile import Profile
from ra.scep.certificate import is_issued_by
from ra.scep.messages import CertQuery, CrlDelivery, Issuance, Outer, SignerCertificate
from ra.scep.names import MessageType
from ra.scep.x509 import same_name
from ra.service.asking import ask
from ra.service.backend import Backend
from ra.service.crls import Crl, Crls
from ra.service.endpoint import Endpoint
from ra.service.gate import Overloaded
from ra.service.ports import Clock, Metrics
from ra.service.replies import Told

QUERIES = frozenset({MessageType.GET_CERT, MessageType.GET_CRL})

TIMEOUT_SECONDS = 10.0
"""A device waits meanwhile."""


def insist_on_source(profile: Profile, backend: Backend) -> None:
    """Whether the CA can give what the profile offers.

    Raises:
        Misconfigured: it cannot.
    """
    if profile.get_crl and not backend.can(Capability.CRL):
        raise Misconfigured(f"get_crl: the connector {backend.name!r} cannot give a CRL")
    if profile.get_cert == "any" and not backend.can(Capability.GET_CERTIFICATE):
        raise Misconfigured(
            f'get_cert = "any": the connector {backend.name!r} cannot look up certificates; write "own"'
        )


class Retrieval:
    """Answers GetCert and GetCRL."""

    def __init__(self, *, journal: Journal, crls: Crls, clock: Clock, metrics: Metrics) -> None:
        self._journal = journal
        self._crls = crls
        self._clock = clock
        self._metrics = metrics

    async def admit(self, endpoint: Endpoint, outer: Outer) -> None:
        """Lets a query go on if it is signed with a certificate of this profile that is in force; others go on as they are.

        Raises:
            Refused: it is not, or such queries are switched off.
            Unavailable: whether the certificate is revoked cannot be told now.
        """
        kind, profile = outer.header.message_type, endpoint.profile
        if kind not in QUERIES:
            return
        if not (profile.get_crl if kind is MessageType.GET_CRL else profile.get_cert != "off"):
            raise Refused(Reason.CERTIFICATE_UNKNOWN, f"{kind.name} is switched off")
        serial = outer.signer.certificate_id.serial
        backend, own = await self._own(endpoint, outer.signer)
        if own.profile != profile.name:
            raise Refused(Reason.CERTIFICATE_UNKNOWN, f"the signer's certificate is of the profile {own.profile!r}")
        if own.state is not State.RELEASED or not _is_in_force(own, self._clock.now()):
            raise Refused(Reason.CERTIFICATE_UNKNOWN, f"the signer's certificate is {own.state}, or not in force")
        await self._insist_on_no_revocation(backend, serial)

    async def retrieve(self, endpoint: Endpoint, query: CertQuery) -> Told:
        """What is asked for, once the query is admitted.

        Raises:
            Refused: there is no such thing.
            Unavailable: the CA has to be asked, and cannot be asked now.
        """
        backend = next((each for each in endpoint.issuers if same_name(query.issuer, _name_of(each))), None)
        if backend is None:
            raise Refused(Reason.CERTIFICATE_UNKNOWN, "the query names another issuer")
        if query.outer.header.message_type is MessageType.GET_CRL:
            # §4.6.1: "only the most recent CRL"
            return Told(reply=CrlDelivery(crl=(await self._crl(backend)).der))
        certificate, chain = await self._find(endpoint.profile, backend, query.serial)
        return Told(reply=Issuance(certificates=(certificate, *(chain if endpoint.profile.include_chain else ()))))

    async def _own(self, endpoint: Endpoint, signer: SignerCertificate) -> tuple[Backend, Held]:
        """The signer's certificate as the journal keeps it, and the CA that issued it: the profile's, or one before."""
        for backend in endpoint.issuers:
            for each in await self._held(backend, signer.certificate_id.serial):
                if each.certificate == signer.der:
                    return backend, each
        raise Refused(Reason.CERTIFICATE_UNKNOWN, "the signer's certificate is none that was issued for this profile")

    async def _crl(self, backend: Backend) -> Crl:
        """The CA's CRL, not older than what the journal knows to be revoked."""
        if not backend.can(Capability.CRL):
            raise Refused(Reason.CERTIFICATE_UNKNOWN, f"{backend.name} cannot give a CRL")
        since = await self._journal.read(lambda c: revoked_at(c, backend.name))
        return await self._crls.current(backend, since=since)

    async def _find(self, profile: Profile, backend: Backend, serial: int) -> tuple[bytes, tuple[bytes, ...]]:
        """A certificate of that serial number, and its chain: the journal's, or else the CA's where it may be that."""
        known = await self._held(backend, serial)
        for each in known:
            if each.state is State.RELEASED and (profile.get_cert == "any" or each.profile == profile.name):
                return each.certificate, each.chain
        # What the journal keeps and does not release must not come by way of the CA either.
        if known or profile.get_cert != "any" or not backend.can(Capability.GET_CERTIFICATE):
            raise Refused(Reason.CERTIFICATE_UNKNOWN, "no such certificate may be handed out")
        found = await self._look_up(backend, serial)
        if found is None:
            raise Refused(Reason.CERTIFICATE_UNKNOWN, "the CA knows no such certificate")
        if not _is_meant(found, serial, backend.ca_chain[0]):
            raise Refused(Reason.CERTIFICATE_UNKNOWN, "the CA gave something else than the certificate asked for")
        return found, backend.ca_chain

    async def _look_up(self, backend: Backend, serial: int) -> bytes | None:
        try:
            permit = await backend.gate.enter(TIMEOUT_SECONDS, anew=False)
        except Overloaded as error:
            raise Unavailable(str(error), int(error.retry_after_seconds)) from error
        timeout_seconds = min(TIMEOUT_SECONDS, backend.issue_timeout_seconds)
        asking = backend.connector.get_certificate(serial)
        answer = await ask(backend, permit, asking, self._metrics, timeout_seconds)
        if isinstance(answer, Exception):
            raise Unavailable(f"{backend.name}: {type(answer).__name__}: {answer}") from answer
        return answer.certificate if answer else None

    async def _held(self, backend: Backend, serial: int) -> tuple[Held, ...]:
        return await self._journal.read(lambda c: held(c, backend.name, serial))

    async def _insist_on_no_revocation(self, backend: Backend, serial: int) -> None:
        """The CA may have revoked what the journal knows nothing of; one without CRLs is believed to have not."""
        if not backend.can(Capability.CRL):
            return
        crl = await self._crl(backend)
        if crl.revocation(serial) is not None:
            raise Refused(Reason.CERTIFICATE_UNKNOWN, "the signer's certificate is revoked")


def _name_of(backend: Backend) -> bytes:
    return x509.load_der_x509_certificate(backend.ca_chain[0]).subject.public_bytes()


def _is_in_force(own: Held, now: datetime) -> bool:
    return x509.load_der_x509_certificate(own.certificate).not_valid_before_utc <= now < own.not_after


def _is_meant(certificate: bytes, serial: int, issuer: bytes) -> bool:
    """Whether the CA has issued it, under that serial number: what a CA sends may be anything."""
    return is_issued_by(certificate, issuer) and x509.load_der_x509_certificate(certificate).serial_number == serial
