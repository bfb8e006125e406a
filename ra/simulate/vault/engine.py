"""The simulated PKI engine: handlers of parsed requests, over issuers and roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509
from starlette.requests import Request

from ra.simulate.authority import Clock, SimulatedCa, pem
from ra.simulate.vault.forms import NotThere, Refused, colons, details, read_serial, revoked, rfc3339, trimmed
from ra.simulate.vault.roles import Role, sign
from ra.simulate.vault.tokens import Tokens

UNSUPPORTED = "1 error occurred:\n\t* unsupported path\n\n"


@dataclass(slots=True)
class Engine:
    """One mount. Each handler returns the parts of a successful answer: `data`, `warnings`.

    Attributes:
        issuers: by name; `default` is the first of them.
        is_openbao: it lists certificates with their details.
        hides_chain: `ca_chain` is absent from what is signed, as of a root that is left out.
    """

    now: Clock
    tokens: Tokens
    issuers: dict[str, SimulatedCa]
    roles: dict[str, Role]
    is_openbao: bool = True
    hides_chain: bool = False
    longest_page: int = 10_000

    def sign(self, request: Request, body: Any) -> dict[str, Any]:
        self.tokens.allowed(request)
        name = request.path_params["role"]
        if name not in self.roles:
            raise Refused(f"unknown role: {name}")
        ca = self._ca(request.path_params.get("issuer", "default"))
        certificate, warnings = sign(ca, self.roles[name], body, self.now())
        chain = {} if self.hides_chain else {"ca_chain": [trimmed(each) for each in ca.chain]}
        data = {
            **chain,
            "certificate": trimmed(certificate),
            "expiration": int(certificate.not_valid_after_utc.timestamp()),
            "issuing_ca": trimmed(ca.certificate),
            "not_before": int(certificate.not_valid_before_utc.timestamp()),
            "serial_number": colons(certificate.serial_number),
        }
        return {"data": data, "warnings": warnings}

    def issuer(self, request: Request, _body: Any) -> dict[str, Any]:
        ca = self._ca(request.path_params["issuer"])
        chain = [trimmed(each) + "\n" for each in ca.chain]
        data = {"ca_chain": chain, "certificate": chain[0], "revocation_time": 0, "revocation_time_rfc3339": ""}
        return {"data": data}

    def crl(self, request: Request, _body: Any) -> dict[str, Any]:
        return {"data": {"crl": pem(self._ca(request.path_params["issuer"]).crl()).strip()}}

    def certificate(self, request: Request, _body: Any) -> dict[str, Any]:
        serial = read_serial(request.path_params["serial"])
        ca = self._issuer_of(serial)
        if ca is None:
            raise NotThere
        revocation = ca.revoked.get(serial)
        data = {
            "certificate": trimmed(ca.issued[serial]),
            "issuer_id": "",
            "revocation_time": int(revocation.at.timestamp()) if revocation else 0,
            "revocation_time_rfc3339": rfc3339(revocation.at) if revocation else "",
        }
        return {"data": data}

    def list(self, request: Request, _body: Any) -> dict[str, Any]:
        if not self.is_openbao:
            raise NotThere(UNSUPPORTED)
        self.tokens.allowed(request)
        stored = sorted((colons(each), found) for ca in self.issuers.values() for each, found in ca.issued.items())
        after = request.query_params.get("after", "").replace("-", ":")
        limit = int(request.query_params.get("limit", "0")) or self.longest_page
        page = [each for each in stored if each[0] > after][: min(limit, self.longest_page)]
        if not page:
            raise NotThere
        return {"data": {"key_info": {serial: details(each) for serial, each in page}, "keys": [s for s, _ in page]}}

    def revoke(self, request: Request, body: Any) -> dict[str, Any]:
        self.tokens.allowed(request)
        if ("serial_number" in body) == ("certificate" in body):
            raise Refused("Must provide either the certificate or the serial to revoke; not both.")
        if "serial_number" in body:
            serial = read_serial(body["serial_number"])
            ca = self._issuer_of(serial)
            if ca is None:
                raise Refused(f"certificate with serial {colons(serial)} not found.")
        else:
            serial, ca = self._brought(body["certificate"])
        if ca.issued.get(serial) and ca.issued[serial].not_valid_after_utc <= self.now():
            return {"warnings": ["certificate has already expired; refusing to add to CRL"]}
        return {"data": revoked(ca.revoke(serial))}

    def _brought(self, text: str) -> tuple[int, SimulatedCa]:
        """A certificate that is not stored, with the issuer that has signed it."""
        try:
            certificate = x509.load_pem_x509_certificate(text.encode())
        except ValueError:
            raise Refused("certificate contains no PEM data") from None
        for ca in self.issuers.values():
            if certificate.issuer == ca.certificate.subject:
                return certificate.serial_number, ca
        raise Refused("unable to verify signature on presented cert from any present issuer in this mount")

    def _ca(self, reference: str) -> SimulatedCa:
        return next(iter(self.issuers.values())) if reference == "default" else self.issuers[reference]

    def _issuer_of(self, serial: int) -> SimulatedCa | None:
        return next((ca for ca in self.issuers.values() if serial in ca.issued), None)
