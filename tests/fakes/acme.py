"""An ACME server in memory that checks what it is sent, signs, and fails where it is told to."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from connectors.acme import AcmeCa, Options
from connectors.acme.finalised import FinalisedOrders
from connectors.acme.session import Session
from connectors.transport import Transport
from tests.fakes import pki
from tests.fakes.carriers import HttpxCarrier
from tests.fakes.connecting import Watched

URL = "https://acme.example.org"
Reply = httpx.Response
Script = Callable[[httpx.Request, Callable[[], Reply]], Reply]


def problem(status: int, kind: str, detail: str = "so it is", **headers: str) -> Reply:
    body = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status}
    return Reply(status, json=body, headers={"Content-Type": "application/problem+json", **headers})


def instead(reply: Reply) -> Script:
    """The server says that, and does nothing."""
    return lambda _request, _do: reply


def lost_before(request: httpx.Request, _do: Callable[[], Reply]) -> Reply:
    """The request is sent, and never arrives."""
    raise httpx.ReadTimeout("no answer", request=request)


def lost_after(request: httpx.Request, do: Callable[[], Reply]) -> Reply:
    """The request arrives, and the answer is lost."""
    do()
    raise httpx.ReadTimeout("no answer", request=request)


@dataclass
class FakeAcme:
    """Where nothing else is said, names are authorised and orders are valid at once.

    Attributes:
        scripts: by operation (the first segment of the path), what happens to the next requests instead.
        new_order, finalised, authorization: the status that an order has when it is placed and when it is finalised,
            and that of every authorization.
        base: where it is; every URL that it writes begins so.
        same_order: whoever places an order gets the last one.
        seen: the operations, in their order.
        payloads: the last payload of each operation.
    """

    scripts: dict[str, list[Script]] = field(default_factory=dict)
    base: str = URL
    new_order: str = "ready"
    finalised: str = "valid"
    authorization: str = "pending"
    challenge_type: str = "dns-01"
    meta: dict[str, Any] = field(default_factory=dict)
    same_order: bool = False
    gives_nonces: bool = True
    seen: list[str] = field(default_factory=list)
    payloads: dict[str, Any] = field(default_factory=dict)
    accounts: dict[str, Any] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    certificates: dict[str, x509.Certificate] = field(default_factory=dict)
    ca: pki.FakeCa = field(default_factory=pki.root)
    nonces: set[str] = field(default_factory=set)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    async def __call__(self, request: httpx.Request) -> Reply:
        """Answers as httpx.MockTransport's handler."""
        operation = request.url.path.split("/")[1]
        self.seen.append(operation)
        waiting = self.scripts.get(operation, [])
        script = waiting.pop(0) if waiting else None
        reply = script(request, lambda: self._do(operation, request)) if script else self._do(operation, request)
        if self.gives_nonces:
            reply.headers["Replay-Nonce"] = f"nonce-{next(self._numbers)}"
            self.nonces.add(reply.headers["Replay-Nonce"])
        return reply

    @property
    def issued(self) -> int:
        return len(self.certificates)

    def counted(self, operation: str) -> int:
        return Counter(self.seen)[operation]

    # ------------------------------------------------------------ what it does
    def _do(self, operation: str, request: httpx.Request) -> Reply:
        if request.method == "GET":
            names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "new-order", "revokeCert": "revoke"}
            return Reply(200, json={name: f"{self.base}/{path}" for name, path in names.items()} | {"meta": self.meta})
        if request.method == "HEAD":
            return Reply(200)
        opened = self._opened(request)
        if isinstance(opened, Reply):
            return opened
        protected, payload = opened
        self.payloads[operation] = payload
        if operation == "account":
            return self._account(protected["jwk"], payload)
        return self._as_account(operation, str(request.url), payload)

    def _as_account(self, operation: str, url: str, payload: Any) -> Reply:
        number = url.rpartition("/")[2]
        match operation:
            case "new-order":
                return self._new_order(payload)
            case "order":
                return Reply(200, json=self.orders[number])
            case "finalize":
                return self._finalize(number, _decoded(payload["csr"]))
            case "authorization":
                return Reply(200, json=self._authorization(number))
            case "challenge":
                self.authorization = "valid"
                self.orders[number]["status"] = "ready"
                return Reply(200, json={})
            case "certificate":
                return Reply(200, content=pki.pem(self.certificates[number]) + pki.pem(self.ca.certificate))
            case _:
                return Reply(200)

    def _opened(self, request: httpx.Request) -> tuple[dict[str, Any], Any] | Reply:
        """Header and payload of a JWS that is signed as it has to be (RFC 8555 §6.2), with a nonce that is good."""
        sent = json.loads(request.content)
        protected = json.loads(_decoded(sent["protected"]))
        assert str(request.url) == protected["url"]
        assert "application/jose+json" == request.headers["Content-Type"]
        if "kid" in protected and protected["kid"] not in self.accounts:
            return problem(400, "accountDoesNotExist")
        _verify(sent, protected.get("jwk") or self.accounts[protected["kid"]])
        if protected["nonce"] not in self.nonces:
            return problem(400, "badNonce")
        self.nonces.remove(protected["nonce"])
        return protected, json.loads(_decoded(sent["payload"])) if sent["payload"] else None

    def _account(self, jwk: dict[str, str], payload: dict[str, Any]) -> Reply:
        known = next((url for url, each in self.accounts.items() if each == jwk), None)
        if known is None and payload.get("onlyReturnExisting"):
            return problem(400, "accountDoesNotExist")
        url = known or f"{self.base}/accounts/{next(self._numbers)}"
        self.accounts[url] = jwk
        return Reply(200 if known else 201, json={"status": "valid"}, headers={"Location": url})

    def _new_order(self, payload: dict[str, Any]) -> Reply:
        number = next(reversed(self.orders)) if self.orders and self.same_order else str(next(self._numbers))
        placed = {
            "status": self.new_order,
            "identifiers": payload["identifiers"],
            "authorizations": [f"{self.base}/authorization/{number}"],
            "finalize": f"{self.base}/finalize/{number}",
        }
        self.orders.setdefault(number, placed)
        return Reply(201, json=self.orders[number], headers={"Location": f"{self.base}/order/{number}"})

    def _finalize(self, number: str, csr: bytes) -> Reply:
        order = self.orders[number]
        if order["status"] != "ready":
            return problem(403, "orderNotReady")
        self.certificates[number] = self.certify(x509.load_der_x509_csr(csr))
        order |= {"status": self.finalised, "certificate": f"{self.base}/certificate/{number}"}
        return Reply(200, json=order)

    def certify(self, csr: x509.CertificateSigningRequest) -> x509.Certificate:
        """The certificate that an order yields."""
        key = csr.public_key()
        return self.ca.issue(SimpleNamespace(public_key=lambda: key))  # type: ignore[arg-type]  # no private key

    def _authorization(self, number: str) -> dict[str, Any]:
        challenge = {
            "type": self.challenge_type,
            "url": f"{self.base}/challenge/{number}",
            "status": "pending",
            "token": "t",
        }
        name = self.orders[number]["identifiers"][0]
        return {"identifier": name, "status": self.authorization, "challenges": [challenge]}


def connected(server: FakeAcme, directory: Path, watched: Watched | None = None, **options: Any) -> AcmeCa:
    """The connector on the server, its files in `directory`."""
    services = (watched or Watched()).services(directory)
    parsed = Options(url=f"{URL}/directory", ca_chain=Path("chain.pem"), **{"wait_seconds": 0, **options})
    transport = Transport(parsed, services, carrier=HttpxCarrier(httpx.MockTransport(server)))
    finalised = FinalisedOrders(directory / parsed.state)
    finalised.prepare()
    return AcmeCa(parsed, services, Session(parsed, transport, services), finalised, (server.ca.certificate,))


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _verify(sent: dict[str, str], jwk: dict[str, str]) -> None:
    x, y = (int.from_bytes(_decoded(jwk[each])) for each in ("x", "y"))
    signature = _decoded(sent["signature"])
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    signed = f"{sent['protected']}.{sent['payload']}".encode()
    ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key().verify(der, signed, ec.ECDSA(hashes.SHA256()))
