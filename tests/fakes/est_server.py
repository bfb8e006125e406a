"""A small EST server (RFC 7030) with a CA that signs. No package holds a real one; strongSwan's client checks this one."""

from __future__ import annotations

from base64 import b64decode, b64encode, encodebytes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ra.simulate.authority import SimulatedCa, read_csr
from tests.fakes import pki
from tests.fakes.connecting import TlsFiles
from tests.fakes.simulated import listening, now

USER, PASSWORD = "scep-ra", "the RA's password"
RA_LABEL = "ra"

_CLIENT_AUTH, _SERVER_AUTH = "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"
_CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
_USAGES = {None: (_CLIENT_AUTH,), RA_LABEL: (_SERVER_AUTH, _CERTIFICATE_REQUEST_AGENT)}
"""By label; any other is unknown."""


@dataclass
class EstServer:
    """Answers cacerts and simpleenroll.

    Attributes:
        pending: so many requests are told to come back before one is answered.
        waiting: the header Retry-After that goes with it.
        wraps_lines: of base64, as RFC 7030 is often read; strongSwan reads one line alone, as RFC 8951 wants it.
        needs_password: else the TLS client certificate is enough.
        received: the CSRs (DER) of simpleenroll, in order.
    """

    ca: SimulatedCa
    pending: int = 0
    waiting: str = "0"
    wraps_lines: bool = False
    needs_password: bool = True
    received: list[bytes] = field(default_factory=list)
    url: str = ""

    def app(self) -> Starlette:
        prefixes = ("/.well-known/est", "/.well-known/est/{label}")
        return Starlette(
            routes=[
                *(Route(f"{prefix}/cacerts", self._cacerts, methods=["GET"]) for prefix in prefixes),
                *(Route(f"{prefix}/simpleenroll", self._simpleenroll, methods=["POST"]) for prefix in prefixes),
            ]
        )

    async def _cacerts(self, request: Request) -> Response:
        if request.path_params.get("label") not in _USAGES:
            return PlainTextResponse("no such label", 404)
        return self._bag([self.ca.root, self.ca.certificate])

    async def _simpleenroll(self, request: Request) -> Response:
        label = request.path_params.get("label")
        if self.needs_password and request.headers.get("authorization") != _basic():
            return PlainTextResponse("who are you?", 401, {"WWW-Authenticate": 'Basic realm="est"'})
        if label not in _USAGES:
            return PlainTextResponse("no such label", 404)
        if request.headers.get("content-type") != "application/pkcs10":
            return PlainTextResponse("application/pkcs10 is wanted", 415)
        content = b64decode(await request.body())
        self.received.append(content)
        csr = _read(content)
        if csr is None:
            return PlainTextResponse("the request is not signed by its key", 400)
        if self.pending > 0:
            self.pending -= 1
            return PlainTextResponse("come back", 202, {"Retry-After": self.waiting} if self.waiting else {})
        return self._bag([self._sign(csr, _USAGES[label])])

    def _sign(self, csr: x509.CertificateSigningRequest, usages: tuple[str, ...]) -> x509.Certificate:
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (pki.key_usage("digital_signature", "key_encipherment"), True),
            (pki.extended_key_usage(*usages), False),
        ]
        names = [each for each in csr.extensions if isinstance(each.value, x509.SubjectAlternativeName)]
        extensions += [(each.value, each.critical) for each in names]
        start = now() - timedelta(minutes=5)
        return self.ca.sign(
            csr.subject, csr.public_key(), extensions, not_before=start, not_after=start + timedelta(days=30)
        )

    def _bag(self, certificates: Sequence[x509.Certificate]) -> Response:
        """Certs-only PKCS #7 (RFC 7030 §4.1.3)."""
        content = pkcs7.serialize_certificates(list(certificates), Encoding.DER)
        encoded = encodebytes(content) if self.wraps_lines else b64encode(content)
        return Response(encoded, 200, {"Content-Transfer-Encoding": "base64"}, "application/pkcs7-mime")


def _read(content: bytes) -> x509.CertificateSigningRequest | None:
    """The CSR, if it is one that is signed by its key."""
    try:
        csr, is_good = read_csr(content)
    except ValueError:
        return None
    return csr if is_good else None


def _basic() -> str:
    return "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@contextmanager
def est_server(tls: TlsFiles, *, asks_for_certificate: bool = True, key_spec: str = "ec:p256") -> Iterator[EstServer]:
    """Serves it by HTTPS, as EST wants."""
    server = EstServer(SimulatedCa("Test EST", now, key_spec))
    with listening(server.app(), tls, asks_for_certificate=asks_for_certificate) as url:
        server.url = url
        yield server
