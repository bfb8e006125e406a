"""The Vault connector beside a simulated Vault, on one clock that a test moves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from connectors import vault
from connectors.api import ApprovedContents, IssueRequest, KeyUsage, NameAttribute
from connectors.keyfiles import PrivateKey
from ra.simulate.vault import ISSUER, RA_ROLE, ROLE, SIGNING_ROLE, SimulatedVault
from tests.fakes import pki
from tests.fakes.connecting import Watched
from tests.fakes.simulated import Front

T = TypeVar("T")
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"


@dataclass
class Beside:
    """A simulated Vault, and what a connector for it is given."""

    server: SimulatedVault
    url: str
    watched: Watched
    directory: Path
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, use: Callable[[vault.VaultCa], Awaitable[T]], **options: Any) -> T:
        """What comes of using a new connector; an option that is given takes the place of the usual one."""

        async def opened() -> T:
            given = vault.Options(**{**self.options, **options})
            connector = await vault.connect(given, self.watched.services(self.directory))
            try:
                return await use(connector)
            finally:
                await connector.aclose()

        return asyncio.run(opened())

    def pass_time(self, **duration: float) -> None:
        self.watched.moment += timedelta(**duration)

    def asked(self, part: str) -> int:
        """How many requests have had that in their path."""
        return sum(part in path for _, path in self.server.requests)


def vault_beside(directory: Path, front: Front) -> Beside:
    """A new simulated Vault behind a front that listens."""
    watched = Watched()
    server = SimulatedVault(now=lambda: watched.moment, entropy=os.urandom)
    credentials = server.tokens.credentials
    watched.secrets = {"file:secret-id": credentials.secret_id}
    front.app = server.faults
    login = {"method": "approle", "role_id": credentials.role_id, "secret_id": "file:secret-id"}
    roles = {"role": ROLE, "signing_role": SIGNING_ROLE, "ra_role": RA_ROLE}
    options = {"url": front.url, "issuer": ISSUER, **roles, "login": login, "timeout_seconds": 5}
    return Beside(server, front.url, watched, directory, options)


def request(key: PrivateKey | None = None, *, common_name: str = "device-1", **contents: Any) -> IssueRequest:
    """A device's request, approved as it stands; `contents` takes the place of what is usual."""
    key = key or pki.rsa_key()
    csr = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
    approved = ApprovedContents(
        subject=((NameAttribute("2.5.4.3", common_name),),),
        subject_alternative_names=(),
        spki=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}),
        extended_key_usage=(CLIENT_AUTH,),
        validity=timedelta(days=30),
    )
    return IssueRequest(
        csr=csr.sign(key, hashes.SHA256()).public_bytes(Encoding.DER),
        contents=replace(approved, **contents),
        profile="default",
        idempotency_key=uuid4(),
        requested_at=pki.NOW,
    )
