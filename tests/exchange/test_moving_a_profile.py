"""A profile that moves from one CA to another: devices renew what the CA before has issued, without a challenge."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ra.bootstrap.plugins import Surroundings, connect_connector
from ra.cli.app import run
from ra.service.identity import Wish, obtain
from ra.settings.load import load
from ra.settings.sources import read_secret
from ra.simulate.authority import SimulatedCa
from ra.simulate.vault import ISSUER, RA_ROLE, ROLE, SimulatedVault
from tests.fakes.configured import as_toml
from tests.fakes.serving import Serving, serving
from tests.fakes.simulated import listening, now, simulated_vault
from tests.fakes.step_ca_server import PASSPHRASE, step_ca_server

DAYS = 30


@dataclass
class Site:
    """An RA with several CAs, whose profile is moved between them."""

    directory: Path
    ports: tuple[int, int]

    @property
    def config(self) -> Path:
        return self.directory / "ra.toml"

    def add(self, name: str, kind: str, options: dict[str, Any]) -> None:
        """One more CA, and an identity from it."""
        self._append(f"\n[connectors.{name}]\n{as_toml({'type': kind, **options})}\n")
        (self.directory / name).mkdir()
        asyncio.run(self._obtain(name))
        files = {"certificate": f"{name}/ra.pem", "key": f"{name}/ra.key", "key_passphrase": "file:ra.passphrase"}
        self._append(f"\n[identities.{name}]\n{as_toml(files)}\n")

    async def _obtain(self, name: str) -> None:
        connector = await connect_connector(load(self.config), name, Surroundings())
        try:
            await obtain(
                connector,
                Wish(name=name, profile="default", validity=timedelta(days=DAYS)),
                self.directory / name,
                passphrase=read_secret("file:ra.passphrase", self.directory),
                now=now(),
                entropy=os.urandom,
            )
        finally:
            await connector.aclose()

    def move(self, connector: str, identity: str, *before: str) -> None:
        """The profile is certified by this CA from now on."""
        text = self.config.read_text("utf-8")
        head, _, rest = text.partition("[profiles.default]")
        profile = {"ca_id": 1, "connector": connector, "identities": [identity], "renews_from": list(before)}
        profile |= {"challenge": "shared", "default_validity_days": DAYS, "renewal_threshold_days": DAYS}
        _, bracket, others = rest.partition("\n[")
        self.config.write_text(f"{head}[profiles.default]\n{as_toml(profile)}\n{bracket}{others}", "utf-8")

    def serve(self) -> Any:
        return serving(self.directory, self.ports)

    def enrol(self, served: Serving, out: str) -> x509.Certificate:
        challenge = (self.directory / "challenge.txt").read_text("utf-8").strip()
        code = run(
            ["client", "enrol", "--url", served.url, "--challenge", challenge, "--out", str(self.directory / out)]
        )
        assert 0 == code
        return self.certificate(out)

    def renew(self, served: Serving, earlier: str, out: str) -> int:
        paths = ("--from", str(self.directory / earlier), "--out", str(self.directory / out))
        return run(["client", "renew", "--url", served.url, *paths])

    def certificate(self, out: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.directory / out / "certificate.pem").read_bytes())

    def _append(self, text: str) -> None:
        self.config.write_text(self.config.read_text("utf-8") + text, "utf-8")


@pytest.fixture
def vault() -> SimulatedVault:
    return simulated_vault()


@pytest.fixture
def site(directory: Path, ports: tuple[int, int], vault: SimulatedVault) -> Iterator[Site]:
    """With `lab`, the internal CA, and `vault`."""
    made, credentials = Site(directory, ports), vault.tokens.credentials
    (directory / "secret-id").write_text(credentials.secret_id)
    login = {"method": "approle", "role_id": credentials.role_id, "secret_id": "file:secret-id"}
    with listening(vault.faults) as url:
        made.add("vault", "vault", {"url": url, "issuer": ISSUER, "role": ROLE, "ra_role": RA_ROLE, "login": login})
        yield made


def issuer_of(vault: SimulatedVault) -> SimulatedCa:
    return vault.engine.issuers[ISSUER]


def test_from_vault_to_the_internal_ca(site: Site, vault: SimulatedVault) -> None:
    site.move("vault", "vault")
    with site.serve() as served:
        before = site.enrol(served, "first")

    site.move("lab", "ra", "vault")
    with site.serve() as served:
        code = site.renew(served, "first", "second")

    after = site.certificate("second")
    assert issuer_of(vault).certificate.subject == before.issuer
    assert 0 == code
    assert before.issuer != after.issuer
    assert before.subject == after.subject


def test_and_back_again(site: Site, vault: SimulatedVault) -> None:
    site.move("lab", "ra")
    with site.serve() as served:
        site.enrol(served, "first")

    site.move("vault", "vault", "lab")
    with site.serve() as served:
        code = site.renew(served, "first", "second")

    assert 0 == code
    assert issuer_of(vault).certificate.subject == site.certificate("second").issuer


@pytest.mark.peer
def test_from_vault_to_step_ca(site: Site, tmp_path: Path) -> None:
    (site.directory / "passphrase").write_text(PASSPHRASE)
    with step_ca_server(tmp_path) as step:
        site.move("vault", "vault")
        site.add("step", "step", step.options(template="scep-ra"))
        with site.serve() as served:
            site.enrol(served, "first")

        site.move("step", "step", "vault")
        with site.serve() as served:
            code = site.renew(served, "first", "second")

    assert 0 == code
    assert site.certificate("first").issuer != site.certificate("second").issuer


def test_what_the_ca_before_has_revoked_is_not_renewed(site: Site, vault: SimulatedVault) -> None:
    site.move("vault", "vault")
    with site.serve() as served:
        before = site.enrol(served, "first")
    issuer_of(vault).revoke(before.serial_number)

    site.move("lab", "ra", "vault")
    with site.serve() as served:
        code = site.renew(served, "first", "second")

    assert 1 == code


def test_without_renews_from_the_challenge_is_needed(site: Site) -> None:
    site.move("vault", "vault")
    with site.serve() as served:
        site.enrol(served, "first")

    site.move("lab", "ra")
    with site.serve() as served:
        code = site.renew(served, "first", "second")

    assert 1 == code
