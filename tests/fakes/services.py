"""What the web is given, with a PKIOperation that answers as it is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import ASGIApp

from connectors.api import Issued
from ra.challenge.pages import MountedPage
from ra.errors import Unavailable
from ra.journal.records import Statistics
from ra.keyring.files import FileDecryptor, FileSigner
from ra.policy.profile import Profile
from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.scep.names import MessageType
from ra.service.backend import Backend
from ra.service.endpoint import Directory, Endpoint
from ra.service.gate import Gate
from ra.service.health import Component, HealthReport, Status
from ra.service.mint import Mint, Offer
from ra.service.pki_operation import Answer
from ra.service.ring import Ring
from ra.web.api_keys import ApiKeys, digest
from ra.web.services import Services
from tests.fakes import pki
from tests.fakes.assembled import Counts
from tests.fakes.clock import FakeClock
from tests.fakes.connectors import ToldConnector

API_KEY = "an API key"
SERVER_KEY = b"s" * 32
PUBLIC_URL = "https://ra.example.org"

_CA = pki.root(name="Test CA")
_RA_CERTIFICATE = pki.der(_CA.issue(pki.rsa_key()))


def identity() -> Identity:
    """An identity whose certificate is shown; nothing is signed or decrypted with it here."""
    named = CertificateId(issuer=b"", serial=1, key_id=None)
    return Identity(
        name="ra",
        decryptor=FileDecryptor(certificate=_RA_CERTIFICATE, certificate_id=named, key=pki.rsa_key()),
        signer=FileSigner(certificate=_RA_CERTIFICATE, certificate_id=named, key=pki.rsa_key()),
    )


def endpoint(name: str = "default", ca_id: int | None = 1, **rules: Any) -> Endpoint:
    issued = Issued(certificate=b"", chain=_CA.chain, reference="")
    return Endpoint(
        profile=Profile(name=name, **rules),
        ca_id=ca_id,
        backend=Backend(
            name="lab",
            connector=ToldConnector(issued, _CA.chain),
            ca_chain=_CA.chain,
            gate=Gate("lab", max_concurrent=1, max_waiting=0, clock=FakeClock(), metrics=Counts()),
            issue_timeout_seconds=50,
        ),
        validator=None,
        ring=Ring.of(identity()),
    )


class CountedMetrics:
    """Implements ra.web.services.WebMetrics."""

    def __init__(self) -> None:
        self.http: Counter[tuple[str, int]] = Counter()
        self.faults = 0

    def http_answered(self, operation: str, status: int) -> None:
        self.http[operation, status] += 1

    def fault(self) -> None:
        self.faults += 1

    def scrape(self) -> bytes:
        return b"scep_ra_faults_total %d\n" % self.faults


def report(database: Status = Status.OK, connector: Status = Status.OK) -> HealthReport:
    components = {
        "database": Component(status=database, detail="of the database"),
        "connector lab": Component(status=connector, detail="of the connector"),
    }
    overall = max(database, connector, key=[Status.OK, Status.DEGRADED, Status.FAILED].index)
    return HealthReport(status=overall, components=components)


@dataclass(kw_only=True)
class FakeRa:
    """What lies behind the web; `asked` is what came through: profile and message."""

    endpoints: tuple[Endpoint, ...] = field(default_factory=lambda: (endpoint(), endpoint("other", 2)))
    failure: Exception | None = None
    health: HealthReport = field(default_factory=report)
    pages: tuple[MountedPage, ...] = ()
    next_ca: bytes | None = None
    debug: bool = False
    is_stopping: bool = False
    clock: FakeClock = field(default_factory=FakeClock)
    metrics: CountedMetrics = field(default_factory=CountedMetrics)
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    reads: list[tuple[str, str]] = field(default_factory=list)
    health_checks: int = 0

    def services(
        self, *, mint: Mint | None = None, offers: tuple[Offer, ...] = (), minters: tuple[str, ...] = ()
    ) -> Services:
        return Services(
            version="1.2.3",
            directory=Directory({each.profile.name: each for each in self.endpoints}),
            answer=self._answer,
            count_read=lambda profile, operation: self.reads.append((profile, operation)),
            next_ca=self._next_ca,
            check_health=self._check_health,
            read_statistics=self._read_statistics,
            clock=self.clock,
            metrics=self.metrics,
            api_keys=ApiKeys(SERVER_KEY, {"helpdesk": digest(SERVER_KEY, API_KEY)}, minters),
            mint=mint,
            offers=offers,
            public_url=PUBLIC_URL,
            pages=self.pages,
            debug=self.debug,
            is_stopping=lambda: self.is_stopping,
        )

    async def _answer(self, asked: Endpoint, message: bytes) -> Answer:
        self.asked.append((asked.profile.name, message))
        if self.failure:
            raise self.failure
        return Answer(
            body=b"a CertRep", message_type=MessageType.PKCS_REQ, transaction_id="7XXEY-ERLPU", outcome="success"
        )

    async def _next_ca(self, asked: Endpoint) -> bytes | None:  # noqa: ARG002
        return self.next_ca

    async def _check_health(self) -> HealthReport:
        self.health_checks += 1
        return self.health

    async def _read_statistics(self) -> Statistics:
        if isinstance(self.failure, Unavailable):
            raise self.failure
        return Statistics(issued=17, renewals=3)


async def ask(app: ASGIApp, method: str, url: str, **options: Any) -> httpx.Response:
    """One request, without a socket."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ra.test") as client:
        return await client.request(method, url, **options)
