"""Entra's token endpoint, for one application of one tenant."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request
from starlette.responses import Response

from ra.simulate.authority import Clock
from ra.simulate.intune.forms import EntraRefused, GraphRefused, entra_error, to_json

TENANT = "simulated.example"
CLIENT_ID = "5cef0000-0000-4000-8000-000000000001"

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Entra:
    """Issues tokens, and knows them again.

    Attributes:
        client_secret: of the application; it is no longer good after `secret_ends_at`.
        certificate: one that was uploaded to the application.
        federated: tokens of another identity provider that the application trusts.
        lifetime: of a token.
        consented: whether an administrator has; a token that was issued before does not know of it.
        issued: by resource, how many.
    """

    def __init__(self, *, now: Clock, entropy: Callable[[int], bytes]) -> None:
        self.client_secret = entropy(20).hex()
        self.secret_ends_at: datetime | None = None
        self.certificate: x509.Certificate | None = None
        self.federated: set[str] = set()
        self.lifetime = timedelta(seconds=3599)
        self.consented = True
        self.issued = {"graph": 0, "intune": 0}
        self._now = now
        self._entropy = entropy
        self._held: dict[str, tuple[str, datetime, bool]] = {}

    async def issue(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        try:
            self._check(request, form)
        except EntraRefused as refused:
            return entra_error(refused, self._now())
        resource = "intune" if "manage.microsoft" in form["scope"] else "graph"
        self.issued[resource] += 1
        token = f"eyJ0.{self._entropy(24).hex()}"
        self._held[token] = resource, self._now() + self.lifetime, self.consented
        seconds = int(self.lifetime.total_seconds())
        body = {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}
        return to_json(200, body)

    def check(self, request: Request, resource: str) -> bool:
        """Whether the bearer of a token may do what administrators have to consent to.

        Raises:
            GraphRefused: it is no token for this resource, or is over.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        held = self._held.get(token)
        if kind != "Bearer" or held is None or held[0] != resource:
            raise GraphRefused(401, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience.")
        if self._now() >= held[1]:
            raise GraphRefused(401, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")
        return held[2]

    def revoke_all(self) -> None:
        """No token that was issued is good any more."""
        self._held.clear()

    def _check(self, request: Request, form: dict[str, str]) -> None:
        tenant = request.path_params["tenant"]
        if tenant != TENANT:
            raise EntraRefused(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if form.get("grant_type") != "client_credentials" or not form.get("scope", "").endswith("/.default"):
            raise EntraRefused(400, "invalid_scope", 70011, "The provided value for scope is not valid.")
        if form.get("client_id") != CLIENT_ID:
            text = f"Application with identifier '{form.get('client_id')}' was not found in the directory."
            raise EntraRefused(400, "unauthorized_client", 700016, text)
        if "client_assertion" in form:
            self._check_assertion(str(request.url), form)
        else:
            self._check_secret(form.get("client_secret"))

    def _check_secret(self, secret: str | None) -> None:
        if secret != self.client_secret:
            raise EntraRefused(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if self.secret_ends_at is not None and self._now() >= self.secret_ends_at:
            raise EntraRefused(401, "invalid_client", 7000222, "The provided client secret keys are expired.")

    def _check_assertion(self, audience: str, form: dict[str, str]) -> None:
        assertion = form["client_assertion"]
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            raise EntraRefused(400, "invalid_request", 50027, "JWT token is invalid or malformed.")
        if assertion in self.federated:
            return
        if self.certificate is None:
            text = "No matching federated identity record found for presented assertion."
            raise EntraRefused(401, "invalid_client", 700213, text)
        fault = _assertion_fault(assertion, self.certificate, audience, self._now())
        if fault is not None:
            raise EntraRefused(401, "invalid_client", 700027, f"Client assertion failed signature validation. {fault}")


def _assertion_fault(assertion: str, certificate: x509.Certificate, audience: str, now: datetime) -> str | None:
    """What is wrong with a JWT that the key of the certificate should have signed (PS256)."""
    header, claims, signature = assertion.split(".")
    head, said = _decode(header), _decode(claims)
    digest = urlsafe_b64encode(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()).rstrip(b"=").decode()
    if head.get("alg") != "PS256" or head.get("x5t#S256") != digest:
        return "The certificate is not registered."
    if (said["aud"], said["iss"], said["sub"]) != (audience, CLIENT_ID, CLIENT_ID):
        return "The claims do not match."
    if not said["nbf"] <= now.timestamp() < said["exp"] or said["exp"] - said["nbf"] > timedelta(minutes=10).seconds:
        return "The lifetime is not valid."
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return "The key is no RSA key."
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    try:
        key.verify(_bytes(signature), f"{header}.{claims}".encode(), pss, hashes.SHA256())
    except InvalidSignature:
        return "The signature does not verify."
    return None


def _decode(part: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(_bytes(part))
    return decoded


def _bytes(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
