"""The real step-ca, with a JWK and an X5C provisioner, in a directory of its own."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from connectors.keyfiles import PrivateKey, make_key
from connectors.step import jose
from ra.simulate.authority import SimulatedCa, pem
from tests import peers
from tests.fakes import pki
from tests.fakes.processes import free_port, running
from tests.fakes.simulated import now

PASSPHRASE = "the provisioner's passphrase"

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs/connectors/step-ca.md"


@dataclass(frozen=True, kw_only=True)
class StepCaServer:
    """Where it is, and the files that a connector needs of it."""

    url: str
    root: Path
    jwk_key: Path
    x5c_certificate: Path
    x5c_key: Path
    ca: SimulatedCa

    def options(self, kind: str = "jwk", name: str = "scep-ra", **more: Any) -> dict[str, Any]:
        """The connector's block; the passphrase is in `file:passphrase`."""
        provisioner: dict[str, Any] = {"type": kind, "name": name, "key_passphrase": "file:passphrase"}
        provisioner |= (
            {"key": self.jwk_key} if kind == "jwk" else {"key": self.x5c_key, "certificate": self.x5c_certificate}
        )
        return {"url": self.url, "ca_file": self.root, "provisioner": provisioner, **more}


def documented_template() -> str:
    """The certificate template that the documentation shows."""
    return DOCUMENTATION.read_text(encoding="utf-8").partition("```gotemplate\n")[2].partition("```")[0]


@contextmanager
def step_ca_server(directory: Path, key_spec: str = "ec:p256") -> Iterator[StepCaServer]:
    """Starts it; skips the test where it is not installed."""
    program = peers.require("step-ca-0.29")
    port, ca = free_port(), SimulatedCa("Test step-ca", now, key_spec)
    provisioner_key, client_key = make_key("ec:p256"), pki.rsa_key()
    server = StepCaServer(
        url=f"https://localhost:{port}",
        root=directory / "root.pem",
        jwk_key=directory / "provisioner.key",
        x5c_certificate=directory / "x5c.pem",
        x5c_key=directory / "x5c.key",
        ca=ca,
    )
    server.root.write_text(pem(ca.root))
    (directory / "issuing.pem").write_text(pem(ca.certificate))
    (directory / "template.tpl").write_text(documented_template())
    _write_key(directory / "issuing.key", ca._key)
    _write_key(server.jwk_key, provisioner_key)
    _write_key(server.x5c_key, client_key)
    server.x5c_certificate.write_text(pem(_client_certificate(ca, client_key)) + pem(ca.certificate))
    (directory / "issuing.passphrase").write_text(PASSPHRASE)
    (directory / "ca.json").write_text(json.dumps(_settings(directory, port, provisioner_key, pem(ca.root))))
    trust = ssl.create_default_context(cafile=server.root)
    with running([program, directory / "ca.json"], directory, lambda: httpx.get(f"{server.url}/health", verify=trust)):
        yield server


def _client_certificate(ca: SimulatedCa, key: PrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scep-ra")])
    extensions = [
        (pki.key_usage("digital_signature"), True),
        (pki.extended_key_usage("1.3.6.1.5.5.7.3.2"), False),
    ]
    start = now() - timedelta(hours=1)
    return ca.sign(name, key.public_key(), extensions, not_before=start, not_after=start + timedelta(days=100))


def _write_key(path: Path, key: PrivateKey) -> None:
    encryption = BestAvailableEncryption(PASSPHRASE.encode())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)


def _settings(directory: Path, port: int, provisioner_key: PrivateKey, root: str) -> dict[str, Any]:
    jwk = {
        **jose._jwk(provisioner_key).as_dict(),
        "kid": jose.thumbprint(provisioner_key),
        "use": "sig",
        "alg": "ES256",
    }
    claims = {"maxTLSCertDuration": "1000h", "defaultTLSCertDuration": "24h"}
    templated = {"claims": claims, "options": {"x509": {"templateFile": str(directory / "template.tpl")}}}
    roots = b64encode(root.encode()).decode()
    return {
        "root": str(directory / "root.pem"),
        "crt": str(directory / "issuing.pem"),
        "key": str(directory / "issuing.key"),
        "password": PASSPHRASE,
        "address": f"127.0.0.1:{port}",
        "dnsNames": ["localhost"],
        "crl": {"enabled": True, "generateOnRevoke": True},
        "db": {"type": "badgerv2", "dataSource": str(directory / "db")},
        "authority": {
            "provisioners": [
                {"type": "JWK", "name": "scep-ra", "key": jwk, **templated},
                {"type": "JWK", "name": "plain", "key": jwk, "claims": claims},
                {"type": "X5C", "name": "scep-ra x5c", "roots": roots, **templated},
            ]
        },
    }
