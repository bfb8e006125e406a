"""What a server says of itself: its capabilities, its certificates and their roles, and whether a chain ends there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from ra.client.algorithms import Algorithms
from ra.client.bags import read_bag
from ra.client.errors import PARSER_FAULTS, BadReply, TooWeak, reading
from ra.client.names import Cipher, Digest
from ra.client.signed import read_signed, verify_signed

_MAX_CHAIN = 8


@dataclass(frozen=True, slots=True)
class Capabilities:
    """GetCACaps' words, as sent (RFC 8894 §3.5.2). Ask with `in`, which ignores case as the RFC says."""

    words: tuple[str, ...]

    def __contains__(self, word: str) -> bool:
        implied = {"aes", "sha-256", "postpkioperation"} if self._says("SCEPStandard") else set()
        return self._says(word) or word.lower() in implied

    def _says(self, word: str) -> bool:
        return word.lower() in {said.lower() for said in self.words}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaCertificates:
    """GetCACert's certificates by what they are for.

    Attributes:
        recipients: what requests may be sealed to, the server's order; empty where no key is RSA.
        signers: who may sign replies.
        issuer: the CA that issues.
        chain: the CAs above it, issuer first.
        all: every certificate, the server's order.
    """

    recipients: tuple[x509.Certificate, ...]
    signers: tuple[x509.Certificate, ...]
    issuer: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    all: tuple[x509.Certificate, ...]

    def check_fingerprint(self, sha256_hex: str) -> None:
        """Holds the server to a fingerprint of the issuer that was learnt elsewhere (RFC 8894 §2.2).

        Raises:
            BadReply: the issuer is another, or did not issue what messages would be sealed to or signed with.
        """
        wanted = sha256_hex.replace(":", "").replace(" ", "").lower()
        found = self.issuer.fingerprint(hashes.SHA256()).hex()
        if wanted != found:
            raise BadReply(f"The CA's fingerprint is {found}, not the expected one; do not trust this server.")
        for certificate in (*self.recipients, *self.signers):
            if certificate != self.issuer and not issued_by(certificate, self.issuer):
                raise BadReply(f"{certificate.subject.rfc4514_string()} was not issued by the CA; do not trust it.")


def read_capabilities(body: bytes) -> Capabilities:
    """GetCACaps' answer; lines end in LF or CR LF."""
    return Capabilities(tuple(word for line in body.decode("latin-1").splitlines() if (word := line.strip())))


def choose_algorithms(capabilities: Capabilities, *, legacy: bool) -> Algorithms:
    """AES-128 and SHA-256 where announced (RFC 8894 §3.5.2); 3DES and SHA-1 otherwise, and only where `legacy` says so.

    Raises:
        TooWeak: nothing above the floor is announced. The answer is unauthenticated, so it must not lower the floor.
    """
    chosen = Algorithms(
        digest=Digest.SHA256 if "SHA-256" in capabilities else Digest.SHA1,
        cipher=Cipher.AES128_CBC if "AES" in capabilities else Cipher.DES3_CBC,
    )
    if chosen.legacy and not legacy:
        said = ", ".join(capabilities.words) or "nothing"
        raise TooWeak(f"The server announces no AES or no SHA-256 ({said}); allow legacy algorithms if you must.")
    return chosen


def read_ca_certificates(body: bytes) -> CaCertificates:
    """GetCACert's answer: one certificate, DER, or a degenerate SignedData (RFC 8894 §4.2.1).

    Raises:
        BadReply: it is neither, or holds no CA.
    """
    certificates = _read_certificates(body)
    with reading("A certificate of GetCACert"):
        authorities = [each for each in certificates if _is_ca(each)]
        others = [each for each in certificates if not _is_ca(each)]
        if not authorities:
            raise BadReply("GetCACert shows no CA certificate, so nothing that is issued could be checked.")
        issuer = _lowest(authorities)
        # Without an RA the CA itself receives and signs, whatever its key usage says (RFC 8894 §3.5.2).
        recipients = [each for each in others if _may(each, "key_encipherment")] or [issuer]
        return CaCertificates(
            recipients=tuple(each for each in recipients if isinstance(each.public_key(), rsa.RSAPublicKey)),
            signers=tuple(each for each in others if _may(each, "digital_signature")) or (issuer,),
            issuer=issuer,
            chain=_above(issuer, authorities),
            all=certificates,
        )


def read_next_ca(body: bytes, present: CaCertificates) -> tuple[x509.Certificate, ...]:
    """GetNextCACert's answer, signed by the present CA or its RA (RFC 8894 §4.7.1).

    Raises:
        BadReply: it cannot be read, is signed by somebody else, or is empty.
    """
    signed = read_signed(body, "The answer to GetNextCACert")
    verify_signed(signed, (present.issuer, *present.signers))
    certificates = read_bag(signed.content, "The content of GetNextCACert").certificates
    if not certificates:
        raise BadReply("The answer to GetNextCACert holds no certificate.")
    return certificates


def check_chain(certificate: x509.Certificate, extra: Sequence[x509.Certificate], trusted: CaCertificates) -> None:
    """Follows a certificate up to a CA of GetCACert, by way of `extra` where it must.

    Raises:
        BadReply: it does not get there.
    """
    anchors = (trusted.issuer, *trusted.chain)
    current = certificate
    for _ in range(_MAX_CHAIN):
        if any(issued_by(current, anchor) for anchor in anchors):
            return
        step = next((each for each in extra if _is_ca(each) and each != current and issued_by(current, each)), None)
        if step is None:
            break
        current = step
    raise BadReply("The certificate does not chain to the CA of GetCACert; do not install it.")


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer`'s name and key stand behind the certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *PARSER_FAULTS):
        return False
    return True


def _read_certificates(body: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return (x509.load_der_x509_certificate(body),)
    except PARSER_FAULTS:
        return read_bag(body, "The answer to GetCACert").certificates


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        # A version 1 root has no extensions to say so.
        return certificate.version is x509.Version.v1 and certificate.issuer == certificate.subject


def _may(certificate: x509.Certificate, usage: str) -> bool:
    try:
        key_usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return bool(getattr(key_usage, usage))


def _lowest(authorities: Sequence[x509.Certificate]) -> x509.Certificate:
    """The CA that issued no other CA of the list."""
    above = {each.issuer for each in authorities if each.issuer != each.subject}
    return next((each for each in authorities if each.subject not in above), authorities[0])


def _above(issuer: x509.Certificate, authorities: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    chain: list[x509.Certificate] = []
    current = issuer
    while step := next(
        (each for each in authorities if each not in (issuer, *chain) and issued_by(current, each)), None
    ):
        chain.append(step)
        current = step
    return tuple(chain)
