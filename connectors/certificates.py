"""Certificates and requests in the shapes that backends send and take them: PEM texts, PKCS #7 bags, chains. No I/O.

What a backend sends and cannot be read is a ProtocolViolation.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, pkcs7

from connectors.api import Misconfigured, ProtocolViolation

_LONGEST_CHAIN = 8
_PEM_LINE = 64


def csr_pem(csr: bytes) -> str | None:
    """A PKCS #10 (DER) as PEM, byte for byte inside; None where it cannot be read."""
    try:
        load_csr(csr)
    except ValueError:
        return None
    text = b64encode(csr).decode("ascii")
    lines = (text[at : at + _PEM_LINE] for at in range(0, len(text), _PEM_LINE))
    return "\n".join(["-----BEGIN CERTIFICATE REQUEST-----", *lines, "-----END CERTIFICATE REQUEST-----", ""])


def load_csr(csr: bytes) -> x509.CertificateSigningRequest:
    """A PKCS #10 (DER), to read names and key from; its attributes may stand in any order, as strongSwan writes them.

    What comes back is never sent on: the device has signed the bytes as they were.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return x509.load_der_x509_csr(csr)
    except ValueError:
        return x509.load_der_x509_csr(_in_order(csr))


def signed_part(csr: bytes) -> bytes:
    """The certificationRequestInfo of a PKCS #10 (DER), as its key has signed it.

    Raises:
        ValueError: it cannot be read.
    """
    return _elements(_content(csr))[0]


def _in_order(csr: bytes) -> bytes:
    """The same request, its attributes sorted as DER wants a SET OF (X.690 §11.6)."""
    info, *rest = _elements(_content(csr))
    *fields, attributes = _elements(_content(info))
    in_order = b"".join(sorted(_elements(_content(attributes))))
    return _wrapped(csr[0], _wrapped(info[0], b"".join(fields) + _wrapped(attributes[0], in_order)) + b"".join(rest))


def _content(element: bytes) -> bytes:
    head, _ = _lengths(element)
    return element[head:]


def _elements(content: bytes) -> list[bytes]:
    found = []
    while content:
        head, length = _lengths(content)
        found.append(content[: head + length])
        content = content[head + length :]
    return found


def _lengths(element: bytes) -> tuple[int, int]:
    """Of the head of a DER element, and of its content.

    Raises:
        ValueError: it is none.
    """
    if len(element) < 2:  # noqa: PLR2004 - tag and length
        raise ValueError("a DER element ends before it has begun")
    more = element[1] & 0x7F if element[1] & 0x80 else 0
    head, length = 2 + more, int.from_bytes(element[2 : 2 + more]) if more else element[1]
    if head + length > len(element):
        raise ValueError("a DER element ends too soon")
    return head, length


def _wrapped(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - X.690 §8.1.3.4, the short form
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


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
    except (ValueError, x509.InvalidVersion) as error:
        raise ProtocolViolation("a certificate of the answer cannot be read") from error


def load_own(certificate: bytes) -> x509.Certificate:
    """A certificate (DER) that the caller wants revoked.

    Raises:
        Misconfigured: it is none.
    """
    try:
        return x509.load_der_x509_certificate(certificate)
    except (ValueError, x509.InvalidVersion) as error:
        raise Misconfigured("what is no certificate cannot be revoked") from error


def spki(certificate: bytes) -> bytes:
    """SubjectPublicKeyInfo (DER) of a certificate (DER); empty where it cannot be read, so that it is nobody's."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def has_issued(above: x509.Certificate, below: x509.Certificate) -> bool:
    """Whether `above` has signed `below`; False also where its key cannot be used."""
    try:
        below.verify_directly_issued_by(above)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
