"""The three ScepActions: what Intune is sent, and what its answer means."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from ra.challenge.intune.codes import result_of
from ra.challenge.intune.discovery import Service
from ra.challenge.intune.options import Options
from ra.challenge.intune.session import Request
from ra.journal.records import Notice

API_VERSION = "2018-02-20"

_MAX_DESCRIPTION = 255


def validation(options: Options, transaction_id: str, csr: bytes) -> Request:
    """Whether Intune lets a request in; `csr` is PKCS #10, DER, as received: the challenge is inside."""
    body = {"request": {**_named(transaction_id, csr), "callerInfo": options.provider_name}}
    return _request("validate", "validateRequest", body)


def success(options: Options, notice: Notice) -> Request:
    """That a certificate was issued."""
    if notice.certificate is None:
        raise ValueError("a notice of an issued certificate has none")
    certificate = x509.load_der_x509_certificate(notice.certificate)
    serial, issuer = f"{certificate.serial_number:X}", _common_name(certificate.issuer)
    # Intune's documentation names this digest; it identifies, and protects nothing.
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303
    told = {
        **_named(notice.transaction_id, notice.csr),
        "certificateThumbprint": thumbprint,
        "certificateSerialNumber": serial.zfill(len(serial) + len(serial) % 2),
        "certificateExpirationDateUtc": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%S}.000Z",
        "issuingCertificateAuthority": issuer,
        "callerInfo": options.provider_name,
        "caConfiguration": options.ca_configuration or issuer,
        "certificateAuthority": certificate.issuer.rfc4514_string(),
    }
    return _request("notify-success", "successNotification", {"notification": told})


def failure(options: Options, notice: Notice) -> Request:
    """That none was, and why."""
    told = {
        **_named(notice.transaction_id, notice.csr),
        "hResult": result_of(notice.reason),
        "errorDescription": f"{notice.reason}: {notice.detail}"[:_MAX_DESCRIPTION],
        "callerInfo": options.provider_name,
    }
    return _request("notify-failure", "failureNotification", {"notification": told})


def _request(operation: str, action: str, body: dict[str, Any]) -> Request:
    path = f"ScepActions/{action}"
    return Request(operation=operation, service=Service.SCEP, path=path, api_version=API_VERSION, body=body)


def _named(transaction_id: str, csr: bytes) -> dict[str, str]:
    return {"transactionId": transaction_id, "certificateRequest": b64encode(csr).decode("ascii")}


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
