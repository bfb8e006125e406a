"""Challenges as Intune makes them: opaque to everybody else, bound to what the profile says, good for an hour.

What is inside the original is not known, and nobody needs to: a registration authority hands it on as it is.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import AttributeOID

from ra.simulate.authority import Clock

T = TypeVar("T", bound=x509.ExtensionType)

LIFETIME = timedelta(minutes=60)
_NONCE_LENGTH = 12


class Denied(Exception):
    """One of Intune's codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the profile lets a device ask for. What is left out is not looked at.

    Attributes:
        subject: RFC 4514.
        sans: as `dns:…`, `email:…` or `uri:…`, in any order.
        key_bits: of an RSA key.
        extended_key_usage: dotted OIDs.
        profile: assigned to the device when the challenge was made.
    """

    subject: str | None = None
    sans: tuple[str, ...] | None = None
    key_bits: int | None = None
    extended_key_usage: tuple[str, ...] | None = None
    profile: str = "wifi"


class Challenges:
    """Makes challenges and opens them.

    Attributes:
        assigned: profiles that are assigned to anybody.
    """

    def __init__(self, *, now: Clock, entropy: Callable[[int], bytes]) -> None:
        self._now = now
        self._entropy = entropy
        self._key = AESGCM(entropy(32))
        self.assigned = {"wifi"}

    def mint(self, expected: Expected | None = None, *, made_at: datetime | None = None) -> str:
        """A challenge in base64, some hundred characters of it."""
        inside = asdict(expected or Expected()) | {"made_at": (made_at or self._now()).isoformat()}
        nonce = self._entropy(_NONCE_LENGTH)
        return b64encode(nonce + self._key.encrypt(nonce, json.dumps(inside).encode(), None)).decode("ascii")

    def check(self, csr: str) -> None:
        """Whether a request, PKCS #10 in base64, is what its challenge was made for.

        Raises:
            Denied: with Intune's code.
        """
        request = _read(csr)
        expected, made_at = self._open(request)
        age = self._now() - made_at
        if age > LIFETIME:
            raise Denied("ChallengeExpired")
        if age < -LIFETIME:
            raise Denied("ChallengeInvalidTimestamp")
        if expected.profile not in self.assigned:
            raise Denied("ScepProfileNoLongerTargetedToTheClient")
        _check_subject(request, expected)
        _check_names(request, expected)
        _check_key(request, expected)
        _check_usage(request, expected)

    def _open(self, request: x509.CertificateSigningRequest) -> tuple[Expected, datetime]:
        try:
            challenge = request.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value
        except x509.AttributeNotFound:
            raise Denied("ChallengePasswordMissing") from None
        try:
            sealed = b64decode(challenge, validate=True)
        except ValueError:
            raise Denied("ChallengeDecodingError") from None
        try:
            opened = self._key.decrypt(sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:], None)
        except (InvalidTag, ValueError):
            raise Denied("ChallengeDecryptionError") from None
        said = json.loads(opened)
        made_at = datetime.fromisoformat(said.pop("made_at"))
        said |= {name: _tuple(said[name]) for name in ("sans", "extended_key_usage")}
        return Expected(**said), made_at


def is_name(text: str) -> bool:
    """Whether a text is a subject of RFC 4514."""
    try:
        return bool(list(x509.Name.from_rfc4514_string(text)))
    except ValueError:
        return False


def _tuple(value: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def _read(csr: str) -> x509.CertificateSigningRequest:
    try:
        return x509.load_der_x509_csr(b64decode(csr, validate=True))
    except ValueError:
        raise Denied("CertificateRequestDecodingFailed") from None


def _check_subject(request: x509.CertificateSigningRequest, expected: Expected) -> None:
    if expected.subject is None:
        return
    if not list(request.subject):
        raise Denied("SubjectNameMissing")
    if request.subject != x509.Name.from_rfc4514_string(expected.subject):
        raise Denied("SubjectNameMismatch")


def _check_names(request: x509.CertificateSigningRequest, expected: Expected) -> None:
    if expected.sans is None:
        return
    found = _extension(request, x509.SubjectAlternativeName)
    if found is None and expected.sans:
        raise Denied("SubjectAltNameMissing")
    names = found or ()
    if sorted(map(_text, names)) != sorted(expected.sans):
        raise Denied("SubjectAltNameMismatch")


def _check_key(request: x509.CertificateSigningRequest, expected: Expected) -> None:
    key = request.public_key()
    if expected.key_bits is not None and not (isinstance(key, rsa.RSAPublicKey) and key.key_size == expected.key_bits):
        raise Denied("KeyLengthMismatch")


def _check_usage(request: x509.CertificateSigningRequest, expected: Expected) -> None:
    if expected.extended_key_usage is None:
        return
    found = _extension(request, x509.ExtendedKeyUsage)
    if found is None:
        raise Denied("EnhancedKeyUsageMissing")
    if {each.dotted_string for each in found} != set(expected.extended_key_usage):
        raise Denied("EnhancedKeyUsageMismatch")


def _extension(request: x509.CertificateSigningRequest, kind: type[T]) -> T | None:
    try:
        return request.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _text(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName(value=value):
            return f"dns:{value}"
        case x509.RFC822Name(value=value):
            return f"email:{value}"
        case x509.UniformResourceIdentifier(value=value):
            return f"uri:{value}"
        case _:
            return repr(name)
