"""A server that answers as the REST API of EJBCA does, with a CA inside.

Bodies have the fields and the order of EJBCA's encoder. What a test wants to break is an attribute, or `faults`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.api import KeyUsage
from ra.simulate.authority import Clock, SimulatedCa, pem
from ra.simulate.ejbca.approvals import Approvals
from ra.simulate.ejbca.forms import (
    REASONS,
    Refused,
    Waiting,
    base64,
    der,
    dn_text,
    enrolled,
    error,
    iso8601,
    listed,
    revocation,
    to_json,
    waiting,
)
from ra.simulate.ejbca.issuing import NEW, CertificateProfile, EndEntity, Issuing
from ra.simulate.ejbca.tokens import Tokens
from ra.simulate.faults import Faults

BASE = "/ejbca/ejbca-rest-api"
AUTHORITY, NEXT_AUTHORITY = "ScepIssuing", "ScepIssuingNext"
PROFILE, SIGNING_PROFILE, RA_PROFILE = "SCEP_DEVICE", "SCEP_DEVICE_SIGNING", "SCEP_RA"
END_ENTITY_PROFILE = "SCEP_EEP"
_SERVER_AUTH, _CERTIFICATE_REQUEST_AGENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.4.1.311.20.2.1"

Handler = Callable[[Request, Any], Response]


class SimulatedEjbca:
    """One CA with its profiles.

    Attributes:
        faults: the ASGI application, and what its next requests meet.
        requests: method and path of everything that was asked for, in order.
        bodies: what came with them, as JSON.
        is_enterprise: it has an API for end entities.
        has_crl: one has been generated.
    """

    def __init__(self, *, now: Clock, entropy: Callable[[int], bytes]) -> None:
        signing = frozenset({KeyUsage.DIGITAL_SIGNATURE})
        self.issuing = Issuing(
            now=now,
            ca=SimulatedCa("Simulated EJBCA issuing CA", now),
            name=AUTHORITY,
            certificate_profiles={
                PROFILE: CertificateProfile(),
                SIGNING_PROFILE: CertificateProfile(key_usage=signing),
                RA_PROFILE: CertificateProfile(extended_key_usage=(_SERVER_AUTH, _CERTIFICATE_REQUEST_AGENT)),
            },
            end_entity_profiles={END_ENTITY_PROFILE},
        )
        self.authorities = {AUTHORITY: self.issuing.ca}
        self.approvals = Approvals(self.issuing)
        self.tokens = Tokens(now=now, entropy=entropy)
        self.is_enterprise = True
        self.has_crl = True
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[Any] = []
        self._now = now
        self.faults = Faults(Starlette(routes=self._routes()))

    def add_next_authority(self) -> None:
        """The CA that will follow."""
        self.authorities[NEXT_AUTHORITY] = SimulatedCa("Simulated EJBCA next issuing CA", self._now)

    def _routes(self) -> list[Route]:
        certificate, endentity, ca = "/v1/certificate", "/v1/endentity", "/v1/ca"
        table: list[tuple[str, str, Handler]] = [
            ("POST", f"{certificate}/pkcs10enroll", self._enroll),
            ("POST", f"{certificate}/certificaterequest", self._certificate_request),
            ("POST", certificate + "/{request_id:int}/finalize", self._finalize),
            ("PUT", certificate + "/{issuer}/{serial}/revoke", self._revoke),
            ("GET", certificate + "/{issuer}/{serial}/revocationstatus", self._revocation_status),
            ("POST", "/v2/certificate/search", self._search),
            ("POST", endentity, self._add),
            ("POST", endentity + "/{username}/setstatus", self._set_status),
            ("GET", ca, self._list),
            ("GET", ca + "/{subject}/certificate/download", self._download),
            ("GET", ca + "/{issuer}/getLatestCrl", self._crl),
        ]
        routes = [Route(BASE + path, self._answering(handle), methods=[method]) for method, path, handle in table]
        status = [Route(f"{BASE}/v1/{each}/status", self._status) for each in ("certificate", "ca")]
        token = Route("/oauth/token", self.tokens.issue, methods=["POST"])
        return [*status, token, *routes, Route("/{path:path}", _not_found)]

    def _answering(self, handle: Handler) -> Callable[[Request], Any]:
        """The endpoint around a handler: who asks, what goes wrong, and the form of every answer."""

        async def answer(request: Request) -> Response:
            self.requests.append((request.method, request.url.path))
            content = await request.body()
            try:
                body = json.loads(content or b"{}")
                self.bodies.append(body)
                self.tokens.check(request)
                return handle(request, body)
            except Refused as refusal:
                return error(refusal.status, str(refusal))
            except Waiting as found:
                return waiting(found, str(request.url))
            except json.JSONDecodeError:
                return error(400, "Malformed request.")

        return answer

    async def _status(self, _request: Request) -> Response:
        revision = "EJBCA 8.2.0 Enterprise (simulated)" if self.is_enterprise else "EJBCA 8.2.0 Community (simulated)"
        return to_json(200, {"status": "OK", "version": "1.0", "revision": revision})

    def _enroll(self, _request: Request, body: Any) -> Response:
        names = (body["certificate_profile_name"], body["end_entity_profile_name"])
        self.issuing.check_names(body["certificate_authority_name"], *names)
        csr = body["certificate_request"]
        entity = EndEntity(username=body["username"], password=body["password"], certificate_profile=names[0])
        if self.approvals.are_needed:
            self.approvals.refuse_one_step(entity, csr)
        certificate = self.issuing.sign(entity, csr, _end_time(body.get("end_time")))
        return enrolled(certificate, self.issuing.ca.chain if body.get("include_chain") else None)

    def _add(self, _request: Request, body: Any) -> Response:
        self._check_enterprise()
        self.issuing.check_names(body["ca_name"], body["certificate_profile_name"], body["end_entity_profile_name"])
        username = body["username"]
        if username in self.issuing.entities:
            raise Refused(409, f"User '{username}' already exists.")
        entity = EndEntity(
            username=username,
            password=body["password"],
            certificate_profile=body["certificate_profile_name"],
            subject=body["subject_dn"],
            alternative_names=body["subject_alt_name"],
        )
        self.approvals.carry_out(entity)
        return Response(status_code=200)

    def _set_status(self, request: Request, body: Any) -> Response:
        self._check_enterprise()
        entity = self._entity(request.path_params["username"], 404)
        renewed = EndEntity(
            username=entity.username,
            password=body["password"],
            certificate_profile=entity.certificate_profile,
            subject=entity.subject,
            alternative_names=entity.alternative_names,
        )
        self.approvals.carry_out(renewed)
        return Response(status_code=200)

    def _certificate_request(self, _request: Request, body: Any) -> Response:
        if body["certificate_authority_name"] != AUTHORITY:
            raise Refused(400, f"CA with name {body['certificate_authority_name']} doesn't exist.")
        if "certificate_request_type" not in body:
            raise Refused(500, "General failure.")
        entity = self._entity(body["username"], 400)
        if entity.status != NEW:
            raise Refused(
                400,
                f"Got request with status GENERATED ({entity.status}), NEW, FAILED or INPROCESS required: "
                f"{entity.username}.",
            )
        if entity.password != body["password"]:
            raise Refused(400, f"Got request for user '{entity.username}' with invalid password.")
        certificate = self.issuing.sign(entity, body["certificate_request"])
        return enrolled(certificate, self.issuing.ca.chain if body.get("include_chain") else None)

    def _finalize(self, request: Request, _body: Any) -> Response:
        return enrolled(self.approvals.finalize(request.path_params["request_id"]), None)

    def _revoke(self, request: Request, _body: Any) -> Response:
        ca, serial = self._stored(request)
        reason = request.query_params.get("reason", "")
        if reason not in REASONS:
            raise Refused(400, "Invalid revocation reason.")
        if serial in ca.revoked:
            raise Refused(409, f"Certificate with serial number {serial:x} is already revoked.")
        found = ca.revoke(serial, REASONS[reason])
        names = request.path_params
        return revocation(names["issuer"], names["serial"], found, "Successfully revoked")

    def _revocation_status(self, request: Request, _body: Any) -> Response:
        ca, serial = self._stored(request)
        names = request.path_params
        return revocation(names["issuer"], names["serial"], ca.revoked.get(serial), None)

    def _search(self, _request: Request, body: Any) -> Response:
        wanted = {each["property"]: each["value"] for each in body["criteria"]}
        ca = self.issuing.ca
        found = [
            listed(ca.issued[serial], username, csr, ca.revoked.get(serial))
            for serial, (username, csr) in self.issuing.owners.items()
            if wanted["QUERY"] == username and (wanted.get("STATUS") != "CERT_ACTIVE" or serial not in ca.revoked)
        ]
        size, page = body["pagination"]["page_size"], body["pagination"]["current_page"]
        summary = {"page_size": size, "current_page": page}
        return to_json(200, {"certificates": found[(page - 1) * size : page * size], "pagination_summary": summary})

    def _list(self, _request: Request, _body: Any) -> Response:
        found = [
            {
                "id": number,
                "name": name,
                "subject_dn": dn_text(ca.certificate.subject),
                "issuer_dn": dn_text(ca.certificate.issuer),
                "expiration_date": iso8601(ca.certificate.not_valid_after_utc),
            }
            for number, (name, ca) in enumerate(self.authorities.items(), start=12345678)
        ]
        return to_json(200, {"certificate_authorities": found})

    def _download(self, request: Request, _body: Any) -> Response:
        subject = request.path_params["subject"]
        content = "".join(
            f"Subject: {dn_text(each.subject)}\nIssuer: {dn_text(each.issuer)}\n{pem(each)}"
            for each in self._authority(subject).chain
        )
        headers = {"Content-disposition": f'attachment; filename="{subject}.cacert.pem"'}
        return Response(content, 200, headers, "application/octet-stream")

    def _crl(self, request: Request, _body: Any) -> Response:
        ca = self._authority(request.path_params["issuer"])
        crl = base64(der(ca.crl())) if self.has_crl else None
        return to_json(200, {"crl": crl, "response_format": "DER"})

    def _check_enterprise(self) -> None:
        if not self.is_enterprise:
            raise Refused(404, "HTTP 404 Not Found")

    def _entity(self, username: str, status: int) -> EndEntity:
        entity = self.issuing.entities.get(username)
        if entity is None:
            raise Refused(status, f"Could not find End Entity for the username='{username}'; it does not exist")
        return entity

    def _authority(self, subject: str) -> SimulatedCa:
        """By its name in EJBCA's own order, and no other."""
        for ca in self.authorities.values():
            if dn_text(ca.certificate.subject) == subject:
                return ca
        raise Refused(404, f"CA '{subject}' does not exist.")

    def _stored(self, request: Request) -> tuple[SimulatedCa, int]:
        issuer, text = request.path_params["issuer"], request.path_params["serial"]
        ca = self._authority(issuer)
        try:
            serial = int(text, 16)
        except ValueError:
            raise Refused(
                400,
                "Invalid serial number format. Should be HEX encoded (optionally with '0x' prefix) "
                "e.g. '0x10782a83eef170d4'",
            ) from None
        if serial not in ca.issued:
            raise Refused(404, f"Certificate with serial number '{text}' and issuer DN '{issuer}' was not found")
        return ca, serial


def _end_time(text: str | None) -> datetime | None:
    """Any other form than this one is left out of account, and nobody is told."""
    try:
        return datetime.strptime(text or "", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


async def _not_found(_request: Request) -> Response:
    """As the application server says it, not EJBCA."""
    return Response("<html><head><title>Error</title></head><body>Not Found</body></html>", 404, media_type="text/html")
