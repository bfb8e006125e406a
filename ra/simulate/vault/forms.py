"""How Vault says things: bodies with the fields and the order of Go's encoder, serial numbers, times, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from starlette.responses import Response

from ra.simulate.authority import Revocation, pem

_DNS_NAMES_LISTED = 5


class Refused(Exception):
    """A 400, with the sentence that says why."""


class Denied(Exception):
    """A 403; the sentences are put together as Go's multierror does."""

    def __init__(self, *reasons: str) -> None:
        count = "1 error" if len(reasons) == 1 else f"{len(reasons)} errors"
        super().__init__(f"{count} occurred:\n" + "".join(f"\t* {each}\n" for each in reasons) + "\n")


class NotThere(Exception):
    """A 404; without a sentence where the path is good and what it names is not there."""


def to_json(status: int, body: Any) -> Response:
    content = json.dumps(body, separators=(",", ":")) + "\n"
    return Response(content, status, {"Cache-Control": "no-store"}, "application/json")


def errors(status: int, *sentences: str) -> Response:
    return to_json(status, {"errors": list(sentences)})


def identifier(entropy: Callable[[int], bytes]) -> str:
    return str(UUID(bytes=entropy(16), version=4))


def trimmed(certificate: x509.Certificate) -> str:
    """PEM without the line end."""
    return pem(certificate).strip()


def colons(serial: int) -> str:
    return serial.to_bytes((serial.bit_length() + 7) // 8).hex(":")


def read_serial(text: str) -> int:
    """A serial number out of octets with colons or hyphens between."""
    try:
        return int(text.replace(":", "").replace("-", ""), 16)
    except ValueError:
        raise Refused(f"certificate with serial {text} not found.") from None


def rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def revoked(revocation: Revocation) -> dict[str, Any]:
    return {
        "revocation_time": int(revocation.at.timestamp()),
        "revocation_time_rfc3339": rfc3339(revocation.at),
        "state": "revoked",
    }


def details(certificate: x509.Certificate) -> dict[str, Any]:
    """What certs/detailed of OpenBao says of one certificate."""
    key = certificate.public_key()
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return {
        "common_name": str(names[0].value) if names else "",
        "dns_names": _dns_names(certificate)[:_DNS_NAMES_LISTED] or None,
        "issuer": certificate.issuer.rfc4514_string(),
        "key_bits": key.key_size if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else 256,
        "key_type": key_type(key),
        "not_after": rfc3339(certificate.not_valid_after_utc),
        "not_before": rfc3339(certificate.not_valid_before_utc),
    }


def key_type(key: object) -> str:
    """By Vault's word for it."""
    match key:
        case rsa.RSAPublicKey():
            return "rsa"
        case ec.EllipticCurvePublicKey():
            return "ec"
        case _:
            return "ed25519"


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)
