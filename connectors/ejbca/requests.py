"""Requests to EJBCA, as the transport takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from connectors.api import Secret
from connectors.ejbca import answers
from connectors.transport import Answer, Call, Effect, Meaning, Meanings

PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EndEntity:
    """A device, as EJBCA is to know it.

    Attributes:
        csr: of the device, PEM.
        code: the enrolment code, which EJBCA calls the password.
    """

    username: str
    code: Secret
    csr: str = field(repr=False)
    authority: str
    certificate_profile: str
    end_entity_profile: str


def get(operation: str, url: str, statuses: Meanings | None = None) -> Call:
    return Call(operation=operation, effect=Effect.REPEATABLE, url=url, statuses=statuses or {}, settings=("url",))


def enroll(entity: EndEntity, not_after: datetime | None) -> Call:
    """Makes or changes the end entity and issues, in one step; the names are those of the CSR."""
    body = {
        "certificate_request": entity.csr,
        "certificate_profile_name": entity.certificate_profile,
        "end_entity_profile_name": entity.end_entity_profile,
        "certificate_authority_name": entity.authority,
        "username": entity.username,
        "password": entity.code,
        "include_chain": True,
    }
    if not_after is not None:
        # Any other form of a time is left out of account, and only EJBCA's log says so.
        body["end_time"] = f"{not_after.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return _issuing("enroll", "v1/certificate/pkcs10enroll", body, answers.ENROLMENT_STATUSES)


def add(entity: EndEntity, subject: str, alternative_names: str) -> Call:
    """Makes the end entity. Sent twice, the second would wait for an approval of its own."""
    body = {
        "username": entity.username,
        "password": entity.code,
        "subject_dn": subject,
        "subject_alt_name": alternative_names,
        "ca_name": entity.authority,
        "certificate_profile_name": entity.certificate_profile,
        "end_entity_profile_name": entity.end_entity_profile,
        "token": "USERGENERATED",
    }
    return _once("add", "v1/endentity", body)


def renew(entity: EndEntity) -> Call:
    """Lets the end entity have one more certificate."""
    body = {"password": entity.code, "token": "USERGENERATED", "status": "NEW"}
    return _once("renew", f"v1/endentity/{quote(entity.username, safe='')}/setstatus", body)


def certificate_request(entity: EndEntity) -> Call:
    """Issues to an end entity that is new, or new again."""
    body = {
        "certificate_request": entity.csr,
        "username": entity.username,
        "password": entity.code,
        "certificate_authority_name": entity.authority,
        "certificate_request_type": "PKCS10",  # the latest versions fail without it; older ones do not look
        "include_chain": True,
    }
    return _issuing("enroll", "v1/certificate/certificaterequest", body, answers.ENROLMENT_STATUSES)


def finalize(entity: EndEntity, request_id: int, *, has_csr: bool) -> Call:
    """Issues after an approval; an end entity that was made without a CSR gets nothing this way."""
    body = {"password": entity.code, "response_format": "DER"}
    statuses = answers.ENROLMENT_STATUSES if has_csr else {**answers.ENROLMENT_STATUSES, 500: answers.of_500}
    return _issuing("finalize", f"v1/certificate/{request_id}/finalize", body, statuses)


def search(username: str, page: int) -> Call:
    """One page, from 1 on, of an end entity's certificates that are neither revoked nor archived."""
    body = {
        "criteria": [
            {"property": "QUERY", "value": username, "operation": "EQUAL"},
            {"property": "STATUS", "value": answers.ACTIVE, "operation": "EQUAL"},
        ],
        "pagination": {"page_size": PAGE, "current_page": page},
        "sort": {"property": "USERNAME", "operation": "ASC"},
    }
    return Call(operation="search", effect=Effect.REPEATABLE, method="POST", url="v2/certificate/search", json=body)


def revoke(issuer: str, serial: int, reason: str) -> Call:
    return Call(
        operation="revoke",
        effect=Effect.REPEATABLE,
        method="PUT",
        url=f"{_certificate(issuer, serial)}/revoke?reason={reason}",
        # 202: it waits for an approval, and is not revoked. 409: it is revoked already.
        statuses={202: Meaning.DOWN, 400: answers.of_revocation_400, 409: Meaning.ANSWER},
    )


def revocation_status(issuer: str, serial: int) -> Call:
    return get("certificate", f"{_certificate(issuer, serial)}/revocationstatus", {404: _of_404})


def chain(subject: str) -> Call:
    return get("chain", f"v1/ca/{quote(subject, safe='')}/certificate/download")


def crl(issuer: str) -> Call:
    return get("crl", f"v1/ca/{quote(issuer, safe='')}/getLatestCrl?deltaCrl=false&crlPartitionIndex=0")


def _certificate(issuer: str, serial: int) -> str:
    return f"v1/certificate/{quote(issuer, safe='')}/{serial:X}"


def _of_404(answer: Answer) -> Meaning:
    return Meaning.ANSWER if answers.NOT_FOUND in answers.explain(answer) else Meaning.MISCONFIGURED


def _issuing(operation: str, url: str, body: dict[str, Any], statuses: Meanings) -> Call:
    return Call(operation=operation, effect=Effect.ISSUES, method="POST", url=url, json=body, statuses=statuses)


def _once(operation: str, url: str, body: dict[str, Any]) -> Call:
    return Call(
        operation=operation,
        effect=Effect.ONCE,
        method="POST",
        url=url,
        json=body,
        statuses=answers.ENROLMENT_STATUSES,
    )
