"""One small CA behind the six kinds of backend that a connector may speak to, each with a connector on it.

What the CA certifies may be told to be wrong, in one way at a time.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ra.simulate.authority import Clock, Extensions, SimulatedCa, pem
from ra.simulate.ejbca import AUTHORITY, BASE, END_ENTITY_PROFILE, PROFILE, SimulatedEjbca
from ra.simulate.ejbca.issuing import CertificateProfile
from ra.simulate.vault import ISSUER, ROLE, SimulatedVault
from tests.fakes import pki
from tests.fakes.acme import FakeAcme
from tests.fakes.est_server import PASSWORD, USER, EstServer

Answering = Callable[[httpx.Request], Awaitable[httpx.Response]]
DAY = timedelta(days=1)
OTHER_NAME = "other.example.org"


class FlawedCa(SimulatedCa):
    """Signs what it is told to, but for its `flaw`: a word of `FLAWS`."""

    def __init__(self, now: Clock) -> None:
        super().__init__("Test issuing CA", now)
        self.flaw = ""
        self._other = SimulatedCa("Another issuing CA", now)

    def sign(
        self,
        subject: x509.Name,
        key: CertificatePublicKeyTypes,
        extensions: Extensions,
        *,
        not_before: datetime,
        not_after: datetime,
    ) -> x509.Certificate:
        if self.flaw == "another's certificate":
            return next(iter(self.issued.values()))
        signing = super().sign if self.flaw != "another issuer" else self._other.sign
        if self.flaw == "another key":
            key = pki.key("ec:p256", 99).public_key()
        if self.flaw == "expired":
            not_before, not_after = not_before - 10 * DAY, not_before - 5 * DAY
        if self.flaw == "valid for too long":
            not_after += 3650 * DAY
        if self.flaw == "another subject":
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, OTHER_NAME)])
        spoilt = [self._spoilt(each) for each in extensions]
        if self.flaw == "CA:TRUE":
            spoilt = [each for each in spoilt if not isinstance(each[0], x509.BasicConstraints)]
            spoilt.append((x509.BasicConstraints(ca=True, path_length=None), True))
        return signing(subject, key, spoilt, not_before=not_before, not_after=not_after)

    @property
    def as_fake(self) -> pki.FakeCa:
        """The same CA, for what takes one of those."""
        return pki.FakeCa(key=self._key, certificate=self.certificate)

    def _spoilt(self, extension: tuple[x509.ExtensionType, bool]) -> tuple[x509.ExtensionType, bool]:
        value, critical = extension
        match self.flaw, value:
            case "a missing name", x509.SubjectAlternativeName():
                return x509.SubjectAlternativeName(list(value)[:-1]), critical
            case "a name too many", x509.SubjectAlternativeName():
                return x509.SubjectAlternativeName([*value, x509.DNSName(OTHER_NAME)]), critical
            case "a usage too many", x509.ExtendedKeyUsage():
                return x509.ExtendedKeyUsage([*value, ExtendedKeyUsageOID.SERVER_AUTH]), critical
            case "a missing usage", x509.KeyUsage():
                return pki.key_usage("digital_signature"), critical
            case _:
                return extension

    def certify(self, csr: x509.CertificateSigningRequest) -> x509.Certificate:
        """As a backend does that takes everything but usages and validity from the request."""
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (pki.key_usage("digital_signature", "key_encipherment"), True),
            (pki.extended_key_usage("1.3.6.1.5.5.7.3.2"), False),
        ]
        extensions += [(each.value, False) for each in csr.extensions if each.oid == x509.SubjectAlternativeName.oid]
        start = self._now() - timedelta(minutes=5)
        return self.sign(csr.subject, csr.public_key(), extensions, not_before=start, not_after=start + 30 * DAY)


@dataclass(frozen=True, kw_only=True)
class Six:
    """One kind of backend.

    Attributes:
        answer: what is asked over HTTP is answered by.
        options: of the connector; `url` is left out.
        base: what follows host and port in its `url`.
        issues_at: a part of the path at which certificates are asked for.
    """

    answer: Answering
    options: dict[str, Any]
    base: str
    issues_at: str


def vault(ca: FlawedCa, now: Clock, url: str, directory: Path) -> Six:  # noqa: ARG001 - as all six are called
    server = SimulatedVault(now=now, entropy=os.urandom)
    server.engine.issuers[ISSUER] = ca
    (directory / "secret-id").write_text(server.tokens.credentials.secret_id)
    login = {"method": "approle", "role_id": server.tokens.credentials.role_id, "secret_id": "file:secret-id"}
    return Six(
        answer=_asgi(server.faults),
        options={"issuer": ISSUER, "role": ROLE, "login": login},
        base="",
        issues_at="/sign/",
    )


def ejbca(ca: FlawedCa, now: Clock, url: str, directory: Path) -> Six:  # noqa: ARG001 - as all six are called
    server = SimulatedEjbca(now=now, entropy=os.urandom)
    server.tokens.are_needed, server.tokens.lease = True, timedelta(days=30)
    server.issuing.ca = server.authorities[AUTHORITY] = ca
    server.issuing.certificate_profiles[PROFILE] = CertificateProfile(validity=30 * DAY)
    (directory / "token").write_text(server.tokens.create())
    options = {
        "certificate_authority": AUTHORITY,
        "certificate_profile": PROFILE,
        "end_entity_profile": END_ENTITY_PROFILE,
        "login": {"method": "token", "token": "file:token"},
    }
    return Six(answer=_asgi(server.faults), options=options, base=BASE, issues_at="/pkcs10enroll")


def acme(ca: FlawedCa, now: Clock, url: str, directory: Path) -> Six:  # noqa: ARG001 - as all six are called
    class Server(FakeAcme):
        def certify(self, csr: x509.CertificateSigningRequest) -> x509.Certificate:
            return ca.certify(csr)

    server = Server(base=url, ca=ca.as_fake)
    (directory / "acme-chain.pem").write_text("".join(map(pem, ca.chain)))

    return Six(answer=server, options={"ca_chain": "acme-chain.pem"}, base="/directory", issues_at="/finalize/")


def step(ca: FlawedCa, now: Clock, url: str, directory: Path) -> Six:  # noqa: ARG001 - as all six are called
    async def sign(request: Request) -> Response:
        certificate = ca.certify(x509.load_pem_x509_csr((await request.json())["csr"].encode()))
        return JSONResponse({"certChain": [pem(certificate), pem(ca.certificate)]}, 201)

    async def revoke(request: Request) -> Response:
        ca.revoke(int((await request.json())["serial"]))
        return JSONResponse({"status": "ok"})

    routes = [
        Route("/1.0/intermediates", _said(201, {"crts": [pem(ca.certificate)]})),
        Route("/1.0/roots", _said(201, {"crts": [pem(ca.root)]})),
        Route("/1.0/sign", sign, methods=["POST"]),
        Route("/1.0/revoke", revoke, methods=["POST"]),
    ]
    key = pki.key("ec:p256", 5).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "step.key").write_bytes(key)
    (directory / "step.key").chmod(0o600)
    provisioner = {"type": "jwk", "name": "scep-ra", "key": "step.key"}
    return Six(
        answer=_asgi(Starlette(routes=routes)), options={"provisioner": provisioner}, base="", issues_at="/1.0/sign"
    )


def cfssl(ca: FlawedCa, now: Clock, url: str, directory: Path) -> Six:  # noqa: ARG001 - as all six are called
    async def sign(request: Request) -> Response:
        asked = json.loads(b64decode((await request.json())["request"]))
        certificate = ca.certify(x509.load_pem_x509_csr(asked["certificate_request"].encode()))
        return JSONResponse({"success": True, "result": {"certificate": pem(certificate)}})

    async def info(request: Request) -> Response:
        expiry = "720h" if (await request.json())["profile"] else "24h"
        return JSONResponse({"success": True, "result": {"certificate": pem(ca.certificate), "expiry": expiry}})

    async def revoke(request: Request) -> Response:
        ca.revoke(int((await request.json())["serial"]))
        return JSONResponse({"success": True, "result": {}})

    base = "/api/v1/cfssl"
    routes = [
        Route(f"{base}/info", info, methods=["POST"]),
        Route(f"{base}/authsign", sign, methods=["POST"]),
        Route(f"{base}/revoke", revoke, methods=["POST"]),
    ]
    (directory / "cfssl.key").write_text("00112233445566778899aabbccddeeff")
    (directory / "cfssl-root.pem").write_text(pem(ca.root))
    options = {
        "auth_key": "file:cfssl.key",
        "profile": "scep-devices",
        "ca_chain": "cfssl-root.pem",
        "has_database": True,
    }
    return Six(answer=_asgi(Starlette(routes=routes)), options=options, base="", issues_at="/authsign")


def est(ca: FlawedCa, now: Clock, url: str, directory: Path) -> Six:  # noqa: ARG001 - as all six are called
    class Server(EstServer):
        def _sign(self, csr: x509.CertificateSigningRequest, usages: tuple[str, ...]) -> x509.Certificate:  # noqa: ARG002
            return ca.certify(csr)

    (directory / "est.password").write_text(PASSWORD)
    options = {"user": USER, "password": "file:est.password"}
    return Six(answer=_asgi(Server(ca).app()), options=options, base="", issues_at="/simpleenroll")


SIX = {"vault": vault, "ejbca": ejbca, "acme": acme, "step": step, "cfssl": cfssl, "est": est}


def _said(status: int, body: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
    async def say(_request: Request) -> Response:
        return JSONResponse(body, status)

    return say


def _asgi(app: Any) -> Answering:
    return httpx.ASGITransport(app).handle_async_request
