"""The contract against the simulated EJBCA over TLS with client certificates, and against the one at TEST_EJBCA_URL.

The real one needs the profiles of docs/connectors/ejbca.md, and a CA that generates a CRL with every revocation. pytest
lets tests reach this machine alone: for a server elsewhere add `--allow-hosts=127.0.0.1,localhost,ADDRESS`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.testing import ConnectorContract
from ra.simulate.ejbca import (
    AUTHORITY,
    BASE,
    END_ENTITY_PROFILE,
    NEXT_AUTHORITY,
    PROFILE,
    RA_PROFILE,
    SimulatedEjbca,
)
from ra.simulate.ejbca.issuing import CertificateProfile
from ra.simulate.ejbca.tokens import CLIENT_ID
from tests.fakes.connecting import TlsFiles, tls_files
from tests.fakes.simulated import listening, now

LIVE = {name: value for name, value in os.environ.items() if name.startswith("TEST_EJBCA_")}  # noqa: TID251 - of the test run

PROFILES = {
    "certificate_authority": AUTHORITY,
    "certificate_profile": PROFILE,
    "end_entity_profile": END_ENTITY_PROFILE,
    "next_certificate_authority": NEXT_AUTHORITY,
}


class Simulated(ConnectorContract):
    """Whatever is set up, what is asked of the connector is the same."""

    kind = "ejbca"
    server: ClassVar[SimulatedEjbca]
    files: ClassVar[TlsFiles]
    block: ClassVar[dict[str, Any]]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        cls.server = SimulatedEjbca(now=now, entropy=os.urandom)
        cls.server.add_next_authority()
        cls.files = tls_files(tmp_path_factory.mktemp("tls"), now())
        cls.secrets = (cls.server.tokens.client_secret,)
        with listening(cls.server.faults, cls.files) as url:
            cls.block = {"url": url + BASE, "ca_file": "ca.pem", **PROFILES, **cls.set_up(url)}
            cls.block |= {"client_certificate": "client.pem", "client_key": "client.key"}
            yield

    @classmethod
    def set_up(cls, url: str) -> dict[str, Any]:
        """What the server is like, and the options that go with it."""
        raise NotImplementedError

    def options(self, directory: Path) -> dict[str, Any]:
        for source, name in (
            (self.files.ca, "ca.pem"),
            (self.files.certificate, "client.pem"),
            (self.files.key, "client.key"),
        ):
            shutil.copy(source, directory / name)
        (directory / "oauth.secret").write_text(self.server.tokens.client_secret)
        return dict(self.block)


class TestSimulatedOneStep(Simulated):
    @classmethod
    def set_up(cls, url: str) -> dict[str, Any]:  # noqa: ARG003 - the same everywhere
        cls.server.issuing.certificate_profiles[PROFILE] = CertificateProfile(allows_validity_override=True)
        return {"sends_end_time": True}


class TestSimulatedApprovals(Simulated):
    @classmethod
    def set_up(cls, url: str) -> dict[str, Any]:  # noqa: ARG003 - the same everywhere
        cls.server.approvals.are_needed = True
        cls.server.approvals.approved_after = 2
        return {"enrolment": "end-entity", "ra_certificate_profile": RA_PROFILE}


class TestSimulatedOAuth(Simulated):
    @classmethod
    def set_up(cls, url: str) -> dict[str, Any]:
        cls.server.tokens.are_needed = True
        login = {"method": "client-credentials", "token_url": f"{url}/oauth/token", "client_id": CLIENT_ID}
        return {"enrolment": "end-entity", "login": {**login, "client_secret": "file:oauth.secret"}}


@pytest.mark.skipif("TEST_EJBCA_URL" not in LIVE, reason="TEST_EJBCA_URL names no EJBCA")
class TestLiveEjbca(ConnectorContract):
    kind = "ejbca"

    def options(self, directory: Path) -> dict[str, Any]:
        for name in ("CACERT", "CLIENT_CERT", "CLIENT_KEY"):
            target = directory / name.lower()
            target.touch(mode=0o600)
            target.write_bytes(Path(LIVE[f"TEST_EJBCA_{name}"]).read_bytes())
        return {
            "url": LIVE["TEST_EJBCA_URL"],
            "ca_file": "cacert",
            "client_certificate": "client_cert",
            "client_key": "client_key",
            "certificate_authority": LIVE.get("TEST_EJBCA_CA", AUTHORITY),
            "certificate_profile": LIVE.get("TEST_EJBCA_PROFILE", PROFILE),
            "end_entity_profile": LIVE.get("TEST_EJBCA_EEP", END_ENTITY_PROFILE),
            "enrolment": LIVE.get("TEST_EJBCA_ENROLMENT", "pkcs10enroll"),
        }
