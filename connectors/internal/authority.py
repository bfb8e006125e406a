"""The issuing CA itself: its certificate and key, and what it signs. No file, no clock.

Deterministic: one request always yields the same certificate, byte for byte. The serial number is a keyed function of
the idempotency key and of everything else the certificate says, so that two that differ never share one; the dates
follow from `requested_at`, and both signature schemes are without randomness.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from cryptography.x509.oid import AuthorityInformationAccessOID

from connectors.api import IssueRequest, Misconfigured, Rejection
from connectors.contents import extensions, subject_name
from connectors.keyfiles import PrivateKey

SubjectKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}

EXPIRED_LISTED = timedelta(days=366)
"""For so long a CRL goes on listing a certificate that has expired: it may still be asked to renew itself."""

_RSA_BITS = (2048, 4096)
_EXPIRED_CERTS_ON_CRL = x509.ObjectIdentifier("2.5.29.60")


class NotIssuable(Exception):
    """What was approved cannot be certified by this CA."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(detail)
        self.rejection = rejection


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How this CA issues, beyond what each request says.

    Attributes:
        backdate: how far notBefore lies before the approval, for devices whose clock is slow.
    """

    digest: str | None
    max_validity: timedelta
    backdate: timedelta
    aia_url: str | None
    ocsp_url: str | None
    crl_urls: tuple[str, ...]


class Authority:
    """One issuing CA."""

    def __init__(self, certificate: x509.Certificate, key: PrivateKey, rules: Rules) -> None:
        """Takes a certificate and the key that `check` has found to belong to it."""
        self.certificate = certificate
        self._key = key
        self._rules = rules
        self._hash = HASHES[rules.digest]() if rules.digest else hash_for(key)
        self._rfc_6979 = True if isinstance(key, ec.EllipticCurvePrivateKey) else None
        self._serial_key = _serial_key(key)
        self._key_id = _authority_key_id(certificate)
        self._own_extensions = tuple((each, False) for each in (self._key_id, *_pointers(rules)))
        self._own_octets = (
            certificate.subject.public_bytes(),
            self._hash.name.encode(),
            *_octets_of(self._own_extensions),
        )

    def issue(self, request: IssueRequest) -> tuple[bytes, int]:
        """The certificate, DER, and its serial number, made from what was approved; nothing in it comes from the CSR.

        Raises:
            NotIssuable: never, whatever is tried again.
            Misconfigured: the CA's own certificate has run out.
        """
        subject_key = self._subject_key(request.contents.spki)
        not_before, not_after = self._validity(request)
        try:
            subject = subject_name(request.contents.subject)
            approved = tuple(extensions(request.contents))
            serial = self._serial(
                request.idempotency_key.bytes,
                f"{not_before} {not_after}".encode(),
                subject.public_bytes(),
                request.contents.spki,
                *_octets_of(approved),
            )
            builder = (
                x509.CertificateBuilder()
                .serial_number(serial)
                .issuer_name(self.certificate.subject)
                .not_valid_before(not_before)
                .not_valid_after(not_after)
                .subject_name(subject)
                .public_key(subject_key)
            )
            key_id = x509.SubjectKeyIdentifier.from_public_key(subject_key)
            for value, critical in (*approved, (key_id, False), *self._own_extensions):
                builder = builder.add_extension(value, critical)
            certificate = builder.sign(self._key, self._hash, ecdsa_deterministic=self._rfc_6979)
        except (ValueError, TypeError) as error:
            raise NotIssuable(Rejection.NAME, f"a name or a usage cannot be written: {error}") from error
        return certificate.public_bytes(Encoding.DER), serial

    def sign_crl(self, number: int, revoked: list[x509.RevokedCertificate], now: datetime, until: datetime) -> bytes:
        """A CRL v2 (RFC 5280 §5), DER."""
        # The list goes in whole, because adding one by one copies it every time.
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, now, until, [], revoked)
        builder = builder.add_extension(self._key_id, critical=False)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        # X.509 §9.5.2.8: which expired certificates it covers; without it a CRL covers none.
        since = (now - EXPIRED_LISTED).strftime("%Y%m%d%H%M%SZ").encode()
        covered = x509.UnrecognizedExtension(_EXPIRED_CERTS_ON_CRL, bytes((0x18, len(since))) + since)
        builder = builder.add_extension(covered, critical=False)
        crl = builder.sign(self._key, self._hash, ecdsa_deterministic=self._rfc_6979)
        return crl.public_bytes(Encoding.DER)

    def sign_message(self, content: bytes) -> bytes:
        """SignedData over `content` of type data, with the CA's certificate in it, DER (RFC 8894 §4.7.1)."""
        builder = PKCS7SignatureBuilder().set_data(content).add_signer(self.certificate, self._key, self._hash)
        return builder.sign(Encoding.DER, [PKCS7Options.Binary, PKCS7Options.NoCapabilities])

    def _subject_key(self, spki: bytes) -> SubjectKey:
        try:
            key = load_der_public_key(spki)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise NotIssuable(Rejection.KEY, f"the public key cannot be read: {error}") from error
        if not isinstance(key, SubjectKey):
            raise NotIssuable(Rejection.KEY, "the public key is neither RSA, EC nor EdDSA")
        if key == self._key.public_key():
            raise NotIssuable(Rejection.KEY, "the public key is the CA's own")
        return key

    def _validity(self, request: IssueRequest) -> tuple[datetime, datetime]:
        # Never outside the CA's own validity, because chains are commonly checked as nested.
        approved = request.requested_at.replace(microsecond=0)
        ca_not_after = self.certificate.not_valid_after_utc
        if approved >= ca_not_after:
            raise Misconfigured(f"the CA certificate ran out at {ca_not_after}: renew the CA")
        not_before = max(approved - self._rules.backdate, self.certificate.not_valid_before_utc)
        not_after = min(approved + min(request.contents.validity, self._rules.max_validity), ca_not_after)
        if not_after <= approved:
            raise NotIssuable(Rejection.VALIDITY, f"a validity of {request.contents.validity} is none")
        return not_before, not_after

    def _serial(self, *parts: bytes) -> int:
        """17 octets: 01, so that it is positive and of one length, and 128 bits that nobody can guess."""
        joined = b"".join(len(part).to_bytes(4) + part for part in (*self._own_octets, *parts))
        return int.from_bytes(b"\x01" + hmac.digest(self._serial_key, joined, "sha256")[:16])


def check(chain: Sequence[x509.Certificate], key: PrivateKey) -> None:
    """Whether a chain, issuing certificate first, and a key make a CA.

    Raises:
        Misconfigured: they do not.
    """
    issuing = chain[0]
    if issuing.public_key() != key.public_key():
        raise Misconfigured("the CA key does not belong to the first certificate of the CA's file")
    if not _may_issue(issuing):
        raise Misconfigured(
            "the first certificate of the CA's file is no CA certificate with basicConstraints CA:TRUE, "
            "keyUsage keyCertSign and cRLSign, and a subjectKeyIdentifier"
        )
    if isinstance(key, rsa.RSAPrivateKey) and not _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]:
        raise Misconfigured(f"the CA key has {key.key_size} bits; it must have {_RSA_BITS[0]} to {_RSA_BITS[1]}")
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        raise Misconfigured(f"the CA key is on {key.curve.name}; it must be on P-256 or P-384")
    for below, above in pairwise(chain):
        try:
            below.verify_directly_issued_by(above)
        except (InvalidSignature, ValueError, TypeError) as error:
            names = f"{below.subject.rfc4514_string()!r} is not issued by {above.subject.rfc4514_string()!r}"
            raise Misconfigured(f"the CA's file holds no chain, issuing certificate first: {names}") from error


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return False
    return basic.ca and usage.key_cert_sign and usage.crl_sign


def hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """As strong as the curve; SHA-256 for RSA, which every device verifies."""
    strong = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)
    return hashes.SHA384() if strong else hashes.SHA256()


def _octets_of(values: Iterable[tuple[x509.ExtensionType, bool]]) -> Iterator[bytes]:
    for extension, critical in values:
        yield f"{extension.oid.dotted_string} {critical}".encode()
        yield extension.public_bytes()


def _serial_key(key: PrivateKey) -> bytes:
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return HKDF(hashes.SHA256(), length=32, salt=None, info=b"scep-ra internal CA: serial numbers").derive(secret)


def _authority_key_id(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """RFC 5280 §4.2.1.1: the subject key identifier of the issuer, which a CA MUST have (§4.2.1.2)."""
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _pointers(rules: Rules) -> Iterator[x509.ExtensionType]:
    """Where the issuer's certificate, its OCSP responder and its CRLs are."""
    where = (
        (AuthorityInformationAccessOID.OCSP, rules.ocsp_url),
        (AuthorityInformationAccessOID.CA_ISSUERS, rules.aia_url),
    )
    access = [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in where if url]
    if access:
        yield x509.AuthorityInformationAccess(access)
    if rules.crl_urls:
        names = [x509.UniformResourceIdentifier(each) for each in rules.crl_urls]
        yield x509.CRLDistributionPoints([x509.DistributionPoint(names, None, None, None)])
