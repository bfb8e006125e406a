"""A device that others wrote enrols through the RA with each kind of CA: real CAs where there are any, doubles elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors import keyfiles, registry
from connectors.api import Issued, Pending, San, SanKind, Secret, Services
from ra.simulate.authority import SimulatedCa
from ra.simulate.ejbca import AUTHORITY, BASE, END_ENTITY_PROFILE, PROFILE, SimulatedEjbca
from ra.simulate.ejbca.issuing import CertificateProfile
from ra.simulate.vault import ISSUER, ROLE
from tests import peers
from tests.fakes import pki
from tests.fakes.asking import request
from tests.fakes.cfssl_server import AUTH_KEY, cfssl_server
from tests.fakes.connecting import tls_files
from tests.fakes.est_server import PASSWORD, USER, est_server
from tests.fakes.pebble import Behaviour, Pebble, running_pebble
from tests.fakes.simulated import listening, now, simulated_vault
from tests.fakes.step_ca_server import PASSPHRASE, step_ca_server
from tests.interop.clients import Order, enrol_with_strongswan
from tests.interop.running import running_ra

pytestmark = pytest.mark.peer

NAME, RA_NAME = "device-1.example.org", "ra.example.org"
KEY_SPEC = "rsa:2048"
"""Debian's strongSwan verifies nothing else."""
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"

PROFILE_TABLES = """
[identities.backend]
certificate = "backend-ra.pem"
key = "backend-ra.key"

[profiles.devices]
ca_id = 7
connector = "backend"
challenge = "shared"
identities = ["backend"]
legacy = ["3des", "sha1", "des"]        # strongSwan 5.9 knows nothing better
wait_seconds = 20
default_validity_days = 40              # what the CAs here grant at most
"""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One CA: the connector's block, and its certificate for the RA, which has the key in `ra_key`, DER."""

    block: Mapping[str, Any]
    ra_certificate: bytes


def ra_key() -> keyfiles.PrivateKey:
    return pki.rsa_key(9)


def of(ca: SimulatedCa, **block: Any) -> Backend:
    """A CA that certifies the RA by hand."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "SCEP RA")])
    extensions = [
        (pki.key_usage("digital_signature", "key_encipherment"), True),
        (pki.extended_key_usage(SERVER_AUTH), False),
    ]
    day = timedelta(days=1)
    certificate = ca.sign(name, ra_key().public_key(), extensions, not_before=now() - day, not_after=now() + 100 * day)
    return Backend(block=block, ra_certificate=certificate.public_bytes(Encoding.DER))


@contextmanager
def vault(directory: Path) -> Iterator[Backend]:
    server = simulated_vault()
    ca, credentials = SimulatedCa("Simulated Vault", now, KEY_SPEC), server.tokens.credentials
    server.engine.issuers[ISSUER] = ca
    (directory / "vault.secret-id").write_text(credentials.secret_id)
    secret_id = f"file:{directory / 'vault.secret-id'}"
    login = {"method": "approle", "role_id": credentials.role_id, "secret_id": secret_id}
    with listening(server.faults) as url:
        yield of(ca, type="vault", url=url, issuer=ISSUER, role=ROLE, login=login)


@contextmanager
def ejbca(directory: Path) -> Iterator[Backend]:
    server, tls = SimulatedEjbca(now=now, entropy=os.urandom), tls_files(directory / "tls", now())
    server.issuing.ca = server.authorities[AUTHORITY] = SimulatedCa("Simulated EJBCA", now, KEY_SPEC)
    server.issuing.certificate_profiles[PROFILE] = CertificateProfile(validity=timedelta(days=30))
    files = {"ca_file": str(tls.ca), "client_certificate": str(tls.certificate), "client_key": str(tls.key)}
    names = {
        "certificate_authority": AUTHORITY,
        "certificate_profile": PROFILE,
        "end_entity_profile": END_ENTITY_PROFILE,
    }
    with listening(server.faults, tls) as url:
        yield of(server.issuing.ca, type="ejbca", url=url + BASE, **files, **names)


@contextmanager
def est(directory: Path) -> Iterator[Backend]:
    (directory / "est.password").write_text(PASSWORD)
    tls = tls_files(directory / "tls", now())
    with est_server(tls, asks_for_certificate=False, key_spec=KEY_SPEC) as server:
        password = f"file:{directory / 'est.password'}"
        yield of(server.ca, type="est", url=server.url, ca_file=str(tls.ca), user=USER, password=password)


@contextmanager
def step(directory: Path) -> Iterator[Backend]:
    (directory / "passphrase").write_text(PASSPHRASE)
    with step_ca_server(directory, KEY_SPEC) as server:
        options = json.loads(json.dumps(server.options(), default=str))
        options["provisioner"]["key_passphrase"] = f"file:{directory / 'passphrase'}"
        yield of(server.ca, type="step", **options)


@contextmanager
def cfssl(directory: Path) -> Iterator[Backend]:
    (directory / "auth.key").write_text(AUTH_KEY)
    with cfssl_server(directory, KEY_SPEC) as server:
        options = json.loads(json.dumps(server.options(auth_key=f"file:{directory / 'auth.key'}"), default=str))
        yield of(server.ca, type="cfssl", **options)


@contextmanager
def acme(directory: Path) -> Iterator[Backend]:
    """Pebble, which certifies the RA under a host name; the usages are those that it gives to everybody."""
    with running_pebble(directory, Behaviour(is_always_valid=True)) as server:
        block = pebble_block(server, directory)
        yield Backend(block=block, ra_certificate=asyncio.run(ordered(block, directory)))


def pebble_block(server: Pebble, directory: Path) -> dict[str, Any]:
    block = {"type": "acme", **server.options(directory), "dns01": {"command": server.hook(directory)}}
    for name in ("ca_chain", "account_key", "state"):
        block[name] = str(directory / block.get(name, f"acme.{name}"))
    adds = {"ca_adds": ["keyEncipherment", "serverAuth", "commonName"], "may_drop": ["commonName"]}
    return {**block, **adds, "eab_hmac_key": f"file:{directory / 'acme.eab'}"}


async def ordered(block: Mapping[str, Any], directory: Path) -> bytes:
    plugin = registry.load("acme")
    services = Services(
        name="backend",
        directory=directory,
        now=now,
        read_secret=lambda reference: Secret(Path(reference.removeprefix("file:")).read_text().strip()),
    )
    options = {name: value for name, value in block.items() if name not in {"type", "ca_adds", "may_drop"}}
    connector = await plugin.connect(plugin.options(**options), services)
    try:
        names = (San(SanKind.DNS, RA_NAME),)
        asked = request(key=ra_key(), subject=(), subject_alternative_names=names)
        issued = await connector.issue(replace(asked, requested_at=now()))
        while isinstance(issued, Pending):
            issued = await connector.poll(issued.reference, asked)
    finally:
        await connector.aclose()
    assert isinstance(issued, Issued)
    return issued.certificate


BACKENDS: tuple[Callable[[Path], AbstractContextManager[Backend]], ...] = (vault, ejbca, acme, step, cfssl, est)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)


def configure(directory: Path, ca: Backend, files: Path) -> Mapping[str, str]:
    """Adds the backend, and a profile that it issues for; the profiles before keep their own identity."""
    path = directory / "ra.toml"
    block = "".join(f"{name} = {toml(value)}\n" for name, value in ca.block.items())
    kept = re.sub(r"(?m)^(\[profiles\.[^\n]*)$", r'\1\nidentities = ["ra"]', path.read_text("utf-8"))
    text = f"{kept}\n[connectors.backend]\n{block}{PROFILE_TABLES}"
    path.write_text(text.replace('"backend-ra', f'"{files}/backend-ra'), "utf-8")
    return {}


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda each: each.__name__)
def test_strongswan_enrols_with(backend: Callable[[Path], AbstractContextManager[Backend]], tmp_path: Path) -> None:
    peers.require("pki")
    for name in ("backend", "device"):
        (tmp_path / name).mkdir()
    keyfiles.write_private_key(tmp_path / "backend-ra.key", ra_key(), None)
    with backend(tmp_path / "backend") as ca:
        keyfiles.write_certificates(tmp_path / "backend-ra.pem", [ca.ra_certificate])
        with running_ra(tmp_path / "ra", lambda directory: configure(directory, ca, tmp_path)) as ra:
            order = Order(ra.url_of("devices"), ra.challenge, tmp_path / "device", NAME, (NAME,))

            obtained = enrol_with_strongswan(order)

            outcomes = ra.outcomes

    found = x509.load_pem_x509_certificate(obtained.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    private = ["pki", "--pub", "--in", "key.pem", "--outform", "pem"]
    public = subprocess.run(private, cwd=tmp_path / "device", capture_output=True, check=True).stdout
    assert "success" == outcomes[-1]
    assert [NAME] == names.get_values_for_type(x509.DNSName)
    assert public.strip() == found.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).strip()
