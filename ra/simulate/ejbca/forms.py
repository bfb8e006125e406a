"""How EJBCA says things: bodies with the fields and the order of its encoder, refusals, names as it writes them."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from starlette.responses import Response

from ra.simulate.authority import Revocation

UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
ACTIVE, REVOKED = 20, 40
_UTF8_STRING = 0x0C

_OIDS = {
    "CN": NameOID.COMMON_NAME,
    "SURNAME": NameOID.SURNAME,
    "SN": NameOID.SERIAL_NUMBER,
    "C": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "T": NameOID.TITLE,
    "POSTALCODE": NameOID.POSTAL_CODE,
    "GIVENNAME": NameOID.GIVEN_NAME,
    "INITIALS": NameOID.INITIALS,
    "DN": NameOID.DN_QUALIFIER,
    "UID": NameOID.USER_ID,
    "DC": NameOID.DOMAIN_COMPONENT,
    "E": NameOID.EMAIL_ADDRESS,
    "UNSTRUCTUREDNAME": NameOID.UNSTRUCTURED_NAME,
}
_NAMES = {oid: name for name, oid in _OIDS.items()}

_REASONS = (
    ("UNSPECIFIED", x509.ReasonFlags.unspecified),
    ("KEY_COMPROMISE", x509.ReasonFlags.key_compromise),
    ("CA_COMPROMISE", x509.ReasonFlags.ca_compromise),
    ("AFFILIATION_CHANGED", x509.ReasonFlags.affiliation_changed),
    ("SUPERSEDED", x509.ReasonFlags.superseded),
    ("CESSATION_OF_OPERATION", x509.ReasonFlags.cessation_of_operation),
    ("CERTIFICATE_HOLD", x509.ReasonFlags.certificate_hold),
    ("REMOVE_FROM_CRL", x509.ReasonFlags.remove_from_crl),
    ("PRIVILEGES_WITHDRAWN", x509.ReasonFlags.privilege_withdrawn),
    ("AA_COMPROMISE", x509.ReasonFlags.aa_compromise),
)
REASONS = dict(_REASONS)


class Refused(Exception):
    """What EJBCA's REST API answers with an error body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Waiting(Exception):
    """A 202: somebody has to approve."""

    def __init__(self, message: str, request_id: int) -> None:
        super().__init__(message)
        self.request_id = request_id


def to_json(status: int, body: Any) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), status, media_type="application/json")


def error(status: int, message: str) -> Response:
    return to_json(status, {"error_code": status, "error_message": message})


def waiting(found: Waiting, url: str) -> Response:
    """The link ends where the first "/v" stands, host included, and lacks `v1/certificate`: as EJBCA does it."""
    link = f"{url[: url.index('/v')]}/{found.request_id}/finalize"
    body = {"status_code": 202, "info_message": str(found), "request_id": found.request_id, "link": link}
    return to_json(202, body)


def base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def der(value: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return value.public_bytes(Encoding.DER)


def serial_text(serial: int) -> str:
    return f"{serial:X}"


def iso8601(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def enrolled(certificate: x509.Certificate, chain: tuple[x509.Certificate, ...] | None) -> Response:
    body: dict[str, Any] = {
        "certificate": base64(der(certificate)),
        "serial_number": serial_text(certificate.serial_number),
        "response_format": "DER",
    }
    if chain is not None:
        body["certificate_chain"] = [base64(der(each)) for each in chain]
    return to_json(201, body)


def revocation(issuer: str, serial: str, found: Revocation | None, message: str | None) -> Response:
    """Of `revoke` and of `revocationstatus`."""
    body = {
        "issuer_dn": issuer,
        "serial_number": serial,
        "revocation_reason": reason_name(found),
        "revocation_date": iso8601(found.at) if found is not None else None,
        "message": message,
        "revoked": found is not None,
    }
    return to_json(200, {name: value for name, value in body.items() if value is not None})


def reason_name(found: Revocation | None) -> str:
    if found is None:
        return "NOT_REVOKED"
    return next((name for name, flag in _REASONS if flag is found.reason), "UNSPECIFIED")


def listed(certificate: x509.Certificate, username: str, csr: str, found: Revocation | None) -> dict[str, Any]:
    """One item of a search of version 2. The certificate is base64 twice, and the CSR is there with all that is in it."""
    return {
        "fingerprint": certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - an identifier, as EJBCA has it
        "cAFingerprint": None,
        "certificateProfileId": 1,
        "endEntityProfileId": 1,
        "expireDate": _milliseconds(certificate.not_valid_after_utc),
        "issuerDN": dn_text(certificate.issuer),
        "notBefore": _milliseconds(certificate.not_valid_before_utc),
        "revocationDate": _milliseconds(found.at) if found is not None else -1,
        "revocationReason": [name for name, _ in _REASONS].index(reason_name(found)) if found is not None else -1,
        "serialNumber": serial_text(certificate.serial_number),
        "status": REVOKED if found is not None else ACTIVE,
        "subjectAltName": None,
        "subjectDN": dn_text(certificate.subject),
        "subjectKeyId": None,
        "tag": None,
        "type": 1,
        "username": username,
        "certificateRequest": csr,
        "crlPartitionIndex": 0,
        "base64Cert": base64(base64(der(certificate)).encode("ascii")),
        "udpateTime": _milliseconds(certificate.not_valid_before_utc),
    }


def dn_text(name: x509.Name) -> str:
    """A name as EJBCA writes it, the common name first."""
    return ",".join(
        f"{_NAMES.get(each.oid, each.oid.dotted_string)}={_escaped(str(each.value))}" for each in reversed(list(name))
    )


def read_dn(text: str) -> x509.Name:
    """A distinguished name in EJBCA's words, in the order given.

    Raises:
        Refused: it is none.
    """
    return x509.Name([_attribute(each) for each in re.split(r"(?<!\\),", text) if each])


def read_alternative_names(text: str) -> list[x509.GeneralName]:
    """Subject alternative names in EJBCA's words.

    Raises:
        Refused: it is none.
    """
    return list(_general_names(text))


def _attribute(text: str) -> x509.NameAttribute[str]:
    name, equals, value = text.partition("=")
    if not equals or name.upper() not in _OIDS:
        raise Refused(422, f"Illegal name: {text}")
    return x509.NameAttribute(_OIDS[name.upper()], re.sub(r"\\(.)", r"\1", value))


def _general_names(text: str) -> Iterator[x509.GeneralName]:
    for each in filter(None, text.split(",")):
        kind, _, value = each.partition("=")
        match kind.lower():
            case "dnsname":
                yield x509.DNSName(value)
            case "rfc822name":
                yield x509.RFC822Name(value)
            case "ipaddress":
                yield x509.IPAddress(ip_address(value))
            case "uniformresourceid":
                yield x509.UniformResourceIdentifier(value)
            case "upn":
                octets = value.encode()
                yield x509.OtherName(UPN, bytes((_UTF8_STRING, len(octets))) + octets)
            case _:
                raise Refused(422, f"Illegal subject alternative name: {each}")


def _escaped(value: str) -> str:
    return re.sub(r'([,+"\\<>;=#])', r"\\\1", value)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
