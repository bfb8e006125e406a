"""ScepClient: asks one SCEP server over HTTP, and believes nothing it cannot verify.

    with ScepClient("https://ra.example/scep") as scep:
        key = rsa.generate_private_key(65537, 2048)
        csr = write_csr(key, read_subject("CN=device"), challenge_password="…")
        outcome = scep.enrol(key, csr)              # Enrolled, or Waiting when the server says PENDING
        if isinstance(outcome, Waiting):
            outcome = scep.poll(outcome.transaction)

A Transaction holds all that must be kept to poll later; an Enrolled knows the Signer that renews it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID

from ra.client.algorithms import LEGACY, Algorithms, Entropy, Key
from ra.client.authority import (
    CaCertificates,
    Capabilities,
    check_chain,
    choose_algorithms,
    read_ca_certificates,
    read_capabilities,
    read_next_ca,
)
from ra.client.csr import self_signed, spki
from ra.client.errors import BadArgument, BadReply, HttpRefused, NotOffered, RequestFailed, TooWeak, reading
from ra.client.http import Exchange
from ra.client.identifiers import issuer_and_serial, issuer_and_subject
from ra.client.names import MessageType
from ra.client.replies import Failure, Reply, Success, open_reply
from ra.client.requests import key_transaction_id, write_request
from ra.client.signed import Signer

_TIMEOUT_SECONDS = 30.0
_SIGNER_KEY_BITS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What must be kept until the certificate is there.

    Attributes:
        key: the key to be certified.
        csr: PKCS #10, DER; it holds the challenge in clear.
        signer: who signed the request; replies are sealed to it.
    """

    key: Key = field(repr=False)
    csr: bytes = field(repr=False)
    signer: Signer
    transaction_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A certificate that holds our key and chains to the CA; `chain` is what else the reply carried, as sent."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    transaction: Transaction

    @property
    def signer(self) -> Signer:
        """What signs the renewal."""
        return Signer(key=self.transaction.key, certificate=self.certificate)


@dataclass(frozen=True, slots=True)
class Waiting:
    """PENDING: keep the transaction and poll."""

    transaction: Transaction


class ScepClient:
    """One SCEP server. Capabilities and CA certificates are fetched once and kept.

    Every method raises ClientError: Unreachable, HttpRefused, BadReply, NotOffered, TooWeak or RequestFailed.
    """

    def __init__(
        self,
        url: str,
        http: httpx.Client | None = None,
        *,
        ca_fingerprint: str | None = None,
        algorithms: Algorithms | None = None,
        legacy: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),  # noqa: TID251 - a program's default; tests pass theirs
        entropy: Entropy = os.urandom,
    ) -> None:
        """A client of the server at `url`.

        Args:
            url: the SCEP URL, without an operation.
            http: closed with the client.
            ca_fingerprint: SHA-256 of the issuing CA's certificate, hexadecimal, learnt elsewhere.
            algorithms: chosen by capability when None.
            legacy: whether 3DES, DES, SHA-1 and MD5 are acceptable.
            now: the time, UTC and aware.
            entropy: as many random bytes as asked for.
        """
        self._http = http or httpx.Client(timeout=_TIMEOUT_SECONDS)
        self.url = url
        self._exchange = Exchange(url, self._http)
        self._ca_fingerprint = ca_fingerprint
        self._algorithms = algorithms
        self._legacy = legacy
        self._now = now
        self._entropy = entropy
        self._capabilities: Capabilities | None = None
        self._ca_certificates: CaCertificates | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def caps(self) -> Capabilities:
        """GetCACaps; an HTTP error means none (RFC 8894 §3.5.2)."""
        if self._capabilities is None:
            try:
                body = self._exchange.get("GetCACaps")
            except HttpRefused:
                body = b""
            self._capabilities = read_capabilities(body)
        return self._capabilities

    def ca_certificates(self) -> CaCertificates:
        """GetCACert, held to the fingerprint where one is given."""
        if self._ca_certificates is None:
            found = read_ca_certificates(self._exchange.get("GetCACert"))
            if self._ca_fingerprint is not None:
                found.check_fingerprint(self._ca_fingerprint)
            self._ca_certificates = found
        return self._ca_certificates

    def next_ca(self) -> tuple[x509.Certificate, ...]:
        """GetNextCACert, its signature verified."""
        if "GetNextCACert" not in self.caps():
            raise NotOffered("The server does not announce GetNextCACert, so it has no next CA to show.")
        return read_next_ca(self._exchange.get("GetNextCACert"), self.ca_certificates())

    def enrol(
        self, key: Key, csr: bytes, signer: Signer | None = None, *, by_password: bool = False
    ) -> Enrolled | Waiting:
        """PKCSReq for a CSR, DER, made with `key`; signed by `signer`, or self-signed when None.

        With `by_password` it is signed with `key` itself, of whatever kind; where that is not RSA, the reply is sealed with
        the challenge (RFC 8894 §3.1), and the server must be willing.
        """
        subject = _subject(csr, key)
        own = signer or self.new_signer(key, subject, by_password=by_password)
        return self._request(MessageType.PKCS_REQ, key, csr, own)

    def renew(self, signer: Signer, key: Key, csr: bytes) -> Enrolled | Waiting:
        """Asks for a successor of the signer's certificate: RenewalReq, or PKCSReq where that is not announced."""
        _subject(csr, key)
        message_type = MessageType.RENEWAL_REQ if "Renewal" in self.caps() else MessageType.PKCS_REQ
        return self._request(message_type, key, csr, signer)

    def poll(self, transaction: Transaction) -> Enrolled | Waiting:
        """CertPoll for what was PENDING."""
        subject = _subject(transaction.csr, transaction.key)
        content = issuer_and_subject(self.ca_certificates().issuer, subject)
        password = _challenge(transaction.csr)
        reply = self._ask(MessageType.CERT_POLL, content, transaction.signer, transaction.transaction_id, password)
        return self._outcome(reply, transaction)

    def get_cert(self, serial: int, signer: Signer) -> x509.Certificate:
        """GetCert: the CA's certificate of that serial number."""
        reply = self._query(MessageType.GET_CERT, serial, signer)
        found = next((each for each in reply.certificates if each.serial_number == serial), None)
        if found is None:
            raise BadReply("The reply carries another certificate than the one asked for.")
        check_chain(found, reply.certificates, self.ca_certificates())
        return found

    def get_crl(self, serial: int, signer: Signer) -> x509.CertificateRevocationList:
        """GetCRL: the CRL that the CA's certificate of that serial number would be on."""
        crl = self._query(MessageType.GET_CRL, serial, signer).crl
        issuer = self.ca_certificates().issuer
        with reading("The CRL"):
            # RFC 5280 §6.3.3: a CRL counts when its issuer's key signed it.
            if crl is None or crl.issuer != issuer.subject or not crl.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]  # a DSA-less union; other kinds raise TypeError
                raise BadReply("The reply carries no CRL that the CA signed.")
        return crl

    def new_signer(self, key: Key, subject: x509.Name, *, by_password: bool = False) -> Signer:
        """A self-signed signer: `key` where it is RSA, else a fresh RSA key, because replies are sealed to it.

        `by_password`: they are not, and any key will do.
        """
        own = (
            key
            if by_password or isinstance(key, rsa.RSAPrivateKey)
            else rsa.generate_private_key(65537, _SIGNER_KEY_BITS)
        )
        serial = int.from_bytes(self._entropy(16)) | 1
        return Signer(key=own, certificate=self_signed(own, subject, self._now(), serial))

    def _request(self, message_type: MessageType, key: Key, csr: bytes, signer: Signer) -> Enrolled | Waiting:
        transaction = Transaction(key=key, csr=csr, signer=signer, transaction_id=key_transaction_id(key))
        reply = self._ask(message_type, csr, signer, transaction.transaction_id, _challenge(csr))
        return self._outcome(reply, transaction)

    def _query(self, message_type: MessageType, serial: int, signer: Signer) -> Success:
        content = issuer_and_serial(self.ca_certificates().issuer, serial)
        reply = self._ask(message_type, content, signer, self._entropy(16).hex())
        if not isinstance(reply.result, Success):
            raise BadReply("The server says PENDING to a query, which RFC 8894 does not foresee.")
        return reply.result

    def _ask(
        self,
        message_type: MessageType,
        content: bytes,
        signer: Signer,
        transaction_id: str,
        password: str | None = None,
    ) -> Reply:
        """Sends one request and opens the answer, held to the floor."""
        if password is None and not isinstance(signer.key, rsa.RSAPrivateKey):
            raise BadArgument(
                "No reply can be sealed to a key that is not RSA: give the challenge too, and the reply is sealed with that."
            )
        ca = self.ca_certificates()
        if not ca.recipients:
            raise NotOffered(
                "GetCACert shows no RSA key, so no request can be sealed; the server needs an RA with one."
            )
        request = write_request(
            message_type,
            content,
            signer=signer,
            recipients=ca.recipients[:1],
            transaction_id=transaction_id,
            algorithm=self._algorithms or choose_algorithms(self.caps(), legacy=self._legacy),
            password=password,
            entropy=self._entropy,
        )
        body = self._exchange.pki_operation(request.message, post="POSTPKIOperation" in self.caps())
        reply = open_reply(body, request, ca.signers)
        if isinstance(reply.result, Failure):
            raise RequestFailed(reply.result.fail_info, reply.result.text)
        self._check_floor(reply)
        return reply

    def _check_floor(self, reply: Reply) -> None:
        used = {reply.digest, *([reply.result.cipher] if isinstance(reply.result, Success) else [])}
        if not self._legacy and (weak := sorted(used & LEGACY)):
            raise TooWeak(f"The reply is made with {', '.join(weak)}; allow legacy algorithms if you must.")

    def _outcome(self, reply: Reply, transaction: Transaction) -> Enrolled | Waiting:
        if not isinstance(reply.result, Success):
            return Waiting(transaction)
        wanted = spki(transaction.key)
        certificates = reply.result.certificates
        with reading("The issued certificate"):
            own = next((each for each in certificates if _spki_of(each) == wanted), None)
        if own is None:
            raise BadReply("The reply carries no certificate for our key.")
        others = tuple(each for each in certificates if each is not own)
        check_chain(own, others, self.ca_certificates())
        return Enrolled(certificate=own, chain=others, transaction=transaction)


def _subject(csr: bytes, key: Key) -> x509.Name:
    try:
        request = x509.load_der_x509_csr(csr)
        own = _spki_of(request) == spki(key)
        subject = request.subject
    except ValueError as fault:
        raise BadArgument("The CSR cannot be read; it must be a PKCS #10 in DER.") from fault
    if not own:
        raise BadArgument("The CSR was made with another key than the one given.")
    return subject


def _challenge(csr: bytes) -> str | None:
    """The challenge in a CSR, DER."""
    try:
        attribute = x509.load_der_x509_csr(csr).attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD)
    except x509.AttributeNotFound:
        return None
    return attribute.value.decode()


def _spki_of(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
