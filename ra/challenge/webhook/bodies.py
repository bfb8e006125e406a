"""The bodies that step-ca's webhooks get, member for member as Go's encoder writes them. No I/O.

Smallstep's `webhook/types.go`, and `x509util.CertificateRequest` inside it: names that are absent are null, an extended
key usage that is absent is an empty list.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ra.journal.records import Notice, Occasion
from ra.scep.csr import Csr, GeneralNameKind, read_csr

_MAX_DESCRIPTION = 500

_LISTS = {
    "2.5.4.6": "country",
    "2.5.4.10": "organization",
    "2.5.4.11": "organizationalUnit",
    "2.5.4.7": "locality",
    "2.5.4.8": "province",
    "2.5.4.9": "streetAddress",
    "2.5.4.17": "postalCode",
}
_SINGLE = {"2.5.4.5": "serialNumber", "2.5.4.3": "commonName"}

_KEY_USAGES = {
    "digitalSignature": "digitalSignature",
    "nonRepudiation": "contentCommitment",
    "keyEncipherment": "keyEncipherment",
    "dataEncipherment": "dataEncipherment",
    "keyAgreement": "keyAgreement",
    "keyCertSign": "certSign",
    "cRLSign": "crlSign",
    "encipherOnly": "encipherOnly",
    "decipherOnly": "decipherOnly",
}
_EXTENDED_KEY_USAGES = {
    "2.5.29.37.0": "any",
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.5": "ipsecEndSystem",
    "1.3.6.1.5.5.7.3.6": "ipsecTunnel",
    "1.3.6.1.5.5.7.3.7": "ipsecUser",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "ocspSigning",
    "1.3.6.1.4.1.311.10.3.3": "microsoftServerGatedCrypto",
    "2.16.840.1.113730.4.1": "netscapeServerGatedCrypto",
    "1.3.6.1.4.1.311.2.1.22": "microsoftCommercialCodeSigning",
    "1.3.6.1.4.1.311.61.1.1": "microsoftKernelCodeSigning",
}
_BASIC_CONSTRAINTS = "2.5.29.19"


def challenge_body(csr: Csr, provisioner: str, challenge: str, transaction_id: str, now: datetime) -> bytes:
    """The body of SCEPCHALLENGE, JSON."""
    return _body(
        {
            "timestamp": _time(now),
            "provisionerName": provisioner,
            "x509CertificateRequest": _request(csr),
            "scepChallenge": challenge,
            "scepTransactionID": transaction_id,
        }
    )


def notice_body(notice: Notice, now: datetime) -> bytes:
    """The body of NOTIFYING, JSON: a certificate, or why there is none."""
    said: dict[str, Any] = {"timestamp": _time(now), "x509CertificateRequest": _request(read_csr(notice.csr))}
    if notice.occasion is Occasion.ISSUED and notice.certificate is not None:
        said["x509Certificate"] = _certificate(notice.certificate)
    said["scepTransactionID"] = notice.transaction_id
    if notice.occasion is Occasion.FAILED:
        # step-ca leaves scepErrorCode out where it is 0, and it knows no other code of an RA.
        why = ": ".join(each for each in (notice.reason, notice.detail) if each)
        said["scepErrorDescription"] = why[:_MAX_DESCRIPTION] or "refused"
    return _body(said)


def _request(csr: Csr) -> dict[str, Any]:
    usages = csr.extended_key_usage or ()
    return {
        "version": 0,
        "subject": _subject(csr),
        "rawSubject": _base64(csr.subject_der),
        "dnsNames": _names(csr, GeneralNameKind.DNS),
        "emailAddresses": _names(csr, GeneralNameKind.EMAIL),
        "ipAddresses": _names(csr, GeneralNameKind.IP),
        "uris": _names(csr, GeneralNameKind.URI),
        "sans": None,
        "extensions": [
            {"id": each.oid, "critical": each.critical, "value": _base64(each.value)} for each in csr.extensions
        ]
        or None,
        "keyUsage": _chosen(_KEY_USAGES, csr.key_usage or ()) or None,
        "extKeyUsage": [_EXTENDED_KEY_USAGES[each] for each in usages if each in _EXTENDED_KEY_USAGES],
        "unknownExtKeyUsage": [each for each in usages if each not in _EXTENDED_KEY_USAGES] or None,
        "basicConstraints": _basic_constraints(csr),
        "signatureAlgorithm": "",
        "publicKey": _base64(csr.spki),
        "publicKeyAlgorithm": _algorithm(csr.public_key),
        "raw": _base64(csr.der),
    }


def _certificate(der: bytes) -> dict[str, Any]:
    certificate = x509.load_der_x509_certificate(der)
    key = certificate.public_key()
    return {
        "publicKey": _base64(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        "publicKeyAlgorithm": _algorithm(key),
        "notBefore": _time(certificate.not_valid_before_utc),
        "notAfter": _time(certificate.not_valid_after_utc),
        "raw": _base64(der),
    }


def _subject(csr: Csr) -> dict[str, Any]:
    said: dict[str, Any] = {}
    extra: list[dict[str, str]] = []
    for attribute in (each for rdn in csr.subject for each in rdn):
        if attribute.oid in _LISTS:
            said.setdefault(_LISTS[attribute.oid], []).append(attribute.value)
        elif attribute.oid in _SINGLE:
            said[_SINGLE[attribute.oid]] = attribute.value
        else:
            extra.append({"type": attribute.oid, "value": attribute.value})
    return {**said, "extraNames": extra} if extra else said


def _names(csr: Csr, kind: GeneralNameKind) -> list[str] | None:
    return [each.value for each in csr.subject_alternative_names if each.kind is kind] or None


def _chosen(words: Mapping[str, str], names: Iterable[str]) -> list[str]:
    return [word for name, word in words.items() if name in names]


def _basic_constraints(csr: Csr) -> dict[str, Any] | None:
    """A path length that is not asked for is -1; one that is asked for is not read here, and no profile grants it."""
    if all(each.oid != _BASIC_CONSTRAINTS for each in csr.extensions):
        return None
    return {"isCA": csr.basic_constraints_ca, "maxPathLen": -1}


def _algorithm(key: object) -> str:
    """As Go's x509.PublicKeyAlgorithm says it."""
    match key:
        case rsa.RSAPublicKey():
            return "RSA"
        case ec.EllipticCurvePublicKey():
            return "ECDSA"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case _:
            return "0"


def _time(moment: datetime) -> str:
    """RFC 3339 as Go writes it: no zeros at the end of a fraction."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{text}{fraction}Z"


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _body(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
