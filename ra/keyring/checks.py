"""What is looked at before an identity may answer devices: findings that say what is wrong, who is hurt, what to do.

An error stops the start, a warning is logged. The keys are tried, not looked into, so that it makes no difference
where they live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ra.errors import Misconfigured
from ra.scep.keys import Identity
from ra.scep.names import Digest, KeyTransport

T = TypeVar("T", bound=x509.ExtensionType)

_WINDOWS_ACCEPTS = frozenset({"1.3.6.1.5.5.7.3.1", "1.3.6.1.4.1.311.20.2.1", "2.5.29.37.0"})
"""serverAuth, Certificate Request Agent, anyExtendedKeyUsage."""

_RENEW_BEFORE = timedelta(days=30)
_LEAST_RSA_BITS = 2048
_PROBE_OCTETS = 32


class Severity(Enum):
    """What becomes of a finding."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, for the operator."""

    severity: Severity
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    identity: Identity
    decryption: x509.Certificate
    signing: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    now: datetime
    entropy: Callable[[int], bytes]

    @property
    def certificates(self) -> dict[str, x509.Certificate]:
        """Each once, by what an operator calls it."""
        if self.decryption == self.signing:
            return {"certificate": self.signing}
        return {"signing certificate": self.signing, "decryption certificate": self.decryption}


def examine(
    identity: Identity, ca_chain: Sequence[bytes], now: datetime, entropy: Callable[[int], bytes]
) -> tuple[Finding, ...]:
    """Everything that is wrong with an identity of a CA whose chain is `ca_chain`: issuing certificate first, DER.

    Raises:
        Misconfigured: a certificate cannot be read at all.
    """
    try:
        case = _Case(
            identity=identity,
            decryption=x509.load_der_x509_certificate(identity.decryptor.certificate),
            signing=x509.load_der_x509_certificate(identity.signer.certificate),
            chain=tuple(x509.load_der_x509_certificate(each) for each in ca_chain),
            now=now,
            entropy=entropy,
        )
        return tuple(
            Finding(each.severity, f'identity "{identity.name}": {each.message}')
            for check in _CHECKS
            for each in check(case)
        )
    except ValueError as error:
        raise Misconfigured(f'identity "{identity.name}" or its CA: a certificate cannot be read: {error}') from error


def insist(findings: Iterable[Finding]) -> None:
    """Stops the start where there is an error.

    Raises:
        Misconfigured: with every error, one to a line.
    """
    errors = [each.message for each in findings if each.severity is Severity.ERROR]
    if errors:
        raise Misconfigured("\n".join(errors))


def _error(message: str) -> Finding:
    return Finding(Severity.ERROR, message)


def _warning(message: str) -> Finding:
    return Finding(Severity.WARNING, message)


def _is_not_the_ca(case: _Case) -> Iterator[Finding]:
    ca_keys = [each.public_key() for each in case.chain]
    for name, certificate in case.certificates.items():
        basic = _extension(certificate, x509.BasicConstraints)
        if certificate.public_key() in ca_keys:
            yield _error(
                f"the {name} holds the CA's own key. Anybody may have messages decrypted by an RA, "
                "so the CA key must never be one: issue a certificate for a key of its own"
            )
        elif basic is not None and basic.ca:
            yield _error(
                f"the {name} is a CA certificate (CA:TRUE). A CA key must never open SCEP messages; and where GetCACert "
                "shows CAs alone, macOS and iOS end with errSec -67731, certmonger finds no RA, and jscep not who signed: "
                "issue an end-entity certificate for the RA"
            )


def _may_sign_and_decrypt(case: _Case) -> Iterator[Finding]:
    signing, decryption = _extension(case.signing, x509.KeyUsage), _extension(case.decryption, x509.KeyUsage)
    if signing is None or not signing.digital_signature:
        yield _error(
            "the certificate that signs the replies lacks keyUsage digitalSignature (RFC 8894 §2.1.2): strongSwan and "
            "certmonger tell the certificates of GetCACert apart by their usages, and clients reject what it signs: issue "
            "it with digitalSignature"
        )
    if decryption is None or not decryption.key_encipherment:
        # Q10: with application/x-x509-ca-ra-cert macOS and iOS choose the recipient by keyUsage.
        yield _error(
            "the certificate that requests are sealed to lacks keyUsage keyEncipherment (RFC 8894 §2.1.2): macOS and "
            "iOS then seal to the CA instead, whose key is not here, and so do clients that look for it, such as "
            "scepclient with -key-encipherment-selector: issue it with keyEncipherment"
        )


def _is_accepted_by_windows(case: _Case) -> Iterator[Finding]:
    for name, certificate in case.certificates.items():
        usage = _extension(certificate, x509.ExtendedKeyUsage)
        if usage is not None and _WINDOWS_ACCEPTS.isdisjoint(each.dotted_string for each in usage):
            yield _warning(
                f"the {name} has neither serverAuth nor Certificate Request Agent (1.3.6.1.4.1.311.20.2.1) among its "
                "extended key usages: Windows devices fail with 0x8010002c: issue it with one of them"
            )


def _chains_to_the_ca(case: _Case) -> Iterator[Finding]:
    for name, certificate in case.certificates.items():
        if not any(_is_issued_by(certificate, each) for each in case.chain):
            yield _error(
                f"the {name} is not issued by the CA that this profile's connector names: devices that check it, "
                "Windows with 0x8010002c, reject the RA: have it issued by that CA"
            )
    for below, above in pairwise(case.chain):
        if not _is_issued_by(below, above):
            yield _error(
                f"the CA chain is broken: {below.subject.rfc4514_string()} is not issued by "
                f"{above.subject.rfc4514_string()}: mend what the connector gives as its chain"
            )


def _is_valid_now(case: _Case) -> Iterator[Finding]:
    named = case.certificates | {f"CA certificate {each.subject.rfc4514_string()}": each for each in case.chain}
    for name, certificate in named.items():
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if case.now < begins:
            yield _error(f"the {name} is valid from {begins} on, which is not yet: mend it, or this machine's clock")
        elif case.now >= ends:
            yield _error(f"the {name} ran out at {ends}, and clients reject it: renew it")
        elif case.now >= ends - _RENEW_BEFORE:
            yield _warning(f"the {name} runs out at {ends}: renew it before")


def _key_signs_for_its_certificate(case: _Case) -> Iterator[Finding]:
    probe = case.entropy(_PROBE_OCTETS)
    if not _verifies(case.signing.public_key(), case.identity.signer.sign(probe, Digest.SHA256), probe):
        yield _error("the signing key does not belong to its certificate: configure the key that was certified")


def _key_opens_for_its_certificate(case: _Case) -> Iterator[Finding]:
    public_key = case.decryption.public_key()
    if not isinstance(public_key, rsa.RSAPublicKey):
        yield _error("the decryption certificate is not for an RSA key, and devices can seal to no other: issue one")
        return
    if public_key.key_size < _LEAST_RSA_BITS:
        yield _error(f"the decryption key has {public_key.key_size} bits: use {_LEAST_RSA_BITS} or more")
    probe = case.entropy(_PROBE_OCTETS)
    try:
        opened = case.identity.decryptor.unwrap(public_key.encrypt(probe, padding.PKCS1v15()), KeyTransport.PKCS1_V15)
    except ValueError:
        opened = b""
    if opened != probe:
        yield _error("the decryption key does not belong to its certificate: configure the key that was certified")


def _garbage_opens_to_garbage(case: _Case) -> Iterator[Finding]:
    public_key = case.decryption.public_key()
    if not isinstance(public_key, rsa.RSAPublicKey):
        return
    # A leading zero keeps the number below the modulus; what follows decrypts to nothing with a sensible padding.
    blob = b"\0" + case.entropy((public_key.key_size + 7) // 8 - 1)
    try:
        case.identity.decryptor.unwrap(blob, KeyTransport.PKCS1_V15)
    except ValueError:
        yield _warning(
            "the decryption key tells bad padding from good (no implicit rejection: OpenSSL before 3.2, or a token). "
            "Replies hide it, at the cost of a few microseconds of difference: use a newer library where you can"
        )
    except Exception as error:  # noqa: BLE001 - which exception may leak is what this finds out
        yield _error(
            f"the decryption key answers garbage with {type(error).__name__}, which would betray it: report it"
        )


_CHECKS: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
    _is_not_the_ca,
    _may_sign_and_decrypt,
    _is_accepted_by_windows,
    _chains_to_the_ca,
    _is_valid_now,
    _key_signs_for_its_certificate,
    _key_opens_for_its_certificate,
    _garbage_opens_to_garbage,
)


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _verifies(public_key: object, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(public_key, rsa.RSAPublicKey):
            public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(public_key, ec.EllipticCurvePublicKey):
            public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            return False
    except InvalidSignature:
        return False
    return True
