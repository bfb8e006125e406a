"""Certificates and requests in the shapes that backends send and take them: PEM texts, PKCS #7 bags, chains. No I/O.

What a backend sends and cannot be read is a ProtocolViolation.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from connectors.api import Misconfigured, ProtocolViolation

_LONGEST_CHAIN = 8


def csr_pem(csr: bytes) -> str | None:
    """A PKCS #10 (DER) as PEM, byte for byte inside; None where it cannot be read."""
    try:
        return x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode("ascii")
    except ValueError:
        return None


def from_pem(*texts: str) -> tuple[bytes, ...]:
    """Certificates, DER, out of PEM texts that hold at least one each.

    Raises:
        ProtocolViolation: a text holds none.
    """
    try:
        found = [each for text in texts for each in x509.load_pem_x509_certificates(text.encode())]
    except ValueError as error:
        raise ProtocolViolation("a certificate of the answer cannot be read") from error
    return tuple(each.public_bytes(Encoding.DER) for each in found)


def from_pkcs7(bag: bytes) -> tuple[bytes, ...]:
    """The certificates, DER, of a certs-only PKCS #7 (DER), at least one, in no order that means anything.

    Raises:
        ProtocolViolation: it is none.
    """
    try:
        found = pkcs7.load_der_pkcs7_certificates(bag)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ProtocolViolation("the PKCS #7 of the answer cannot be read") from error
    if not found:
        raise ProtocolViolation("the PKCS #7 of the answer holds no certificate")
    return tuple(each.public_bytes(Encoding.DER) for each in found)


def crl_from_der(crl: bytes) -> bytes:
    """The CRL (DER), once it is seen to be one.

    Raises:
        ProtocolViolation: it is none.
    """
    try:
        return x509.load_der_x509_crl(crl).public_bytes(Encoding.DER)
    except ValueError as error:
        raise ProtocolViolation("the CRL of the answer cannot be read") from error


def chain_above(first: bytes, known: Iterable[bytes]) -> tuple[bytes, ...]:
    """`first`, and above it one after the other what of `known` has issued it, DER, up to a root if there is one.

    Raises:
        ProtocolViolation: a certificate cannot be read.
    """
    chain, rest = [load(first)], [load(each) for each in known]
    while len(chain) < _LONGEST_CHAIN and not has_issued(chain[-1], chain[-1]):
        above = next((each for each in rest if has_issued(each, chain[-1])), None)
        if above is None:
            break
        chain.append(above)
    return tuple(each.public_bytes(Encoding.DER) for each in chain)


def load(certificate: bytes) -> x509.Certificate:
    """Raises ProtocolViolation where it is no certificate (DER)."""
    try:
        return x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise ProtocolViolation("a certificate of the answer cannot be read") from error


def load_own(certificate: bytes) -> x509.Certificate:
    """A certificate (DER) that the caller wants revoked.

    Raises:
        Misconfigured: it is none.
    """
    try:
        return x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise Misconfigured("what is no certificate cannot be revoked") from error


def has_issued(above: x509.Certificate, below: x509.Certificate) -> bool:
    """Whether `above` has signed `below`; False also where its key cannot be used."""
    try:
        below.verify_directly_issued_by(above)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
