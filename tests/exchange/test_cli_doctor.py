"""`scep-ra doctor` and `check-config`: what is wrong, which setting, what the server said, what to do; before a device does."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import HTMLResponse

from ra.cli.app import run
from ra.simulate.ejbca import AUTHORITY, BASE, END_ENTITY_PROFILE, PROFILE, SimulatedEjbca
from ra.simulate.vault import ISSUER, RA_ROLE, ROLE, SimulatedVault
from tests.fakes.cfssl_server import AUTH_KEY, cfssl_server
from tests.fakes.configured import with_connector
from tests.fakes.connecting import tls_files
from tests.fakes.est_server import PASSWORD, USER, est_server
from tests.fakes.pebble import Behaviour, running_pebble
from tests.fakes.processes import free_port
from tests.fakes.serving import serving
from tests.fakes.simulated import listening, now
from tests.fakes.step_ca_server import PASSPHRASE, step_ca_server

Told = tuple[int, dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "var"
    listen = (f"--listen=127.0.0.1:{free_port()}", f"--admin-listen=127.0.0.1:{free_port()}")
    assert run(["init", str(directory), "--yes", "--json", "--ca-key=ec:p256", *listen]) == 0
    return directory


@dataclass
class Bench:
    """A directory that a doctor looks at."""

    directory: Path
    capsys: pytest.CaptureFixture[str]
    kind: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def doctor(self, **changed: Any) -> tuple[int, dict[str, dict[str, Any]]]:
        """Exit code, and findings by subject; `changed` options take the place of what is right."""
        if self.kind:
            with_connector(self.directory, self.kind, {**self.options, **changed})
        self.capsys.readouterr()
        code = run(["doctor", "--json", "--config", str(self.directory / "ra.toml")])
        told = json.loads(self.capsys.readouterr().out)
        return code, {each["subject"]: each for each in told["findings"]}

    def finding(self, **changed: Any) -> dict[str, Any]:
        """What it says of the CA."""
        return self.doctor(**changed)[1]["connectors.lab"]

    def check_config(self) -> tuple[int, str]:
        self.capsys.readouterr()
        code = run(["check-config", "--config", str(self.directory / "ra.toml")])
        return code, self.capsys.readouterr().err


@pytest.fixture
def bench(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(Path(shutil.copytree(made, tmp_path / "var")), capsys)


def assert_points(finding: dict[str, Any], *settings: str, said: str, verdict: str = "misconfigured") -> None:
    """The finding says which setting, what the server answered, and what to do."""
    assert (verdict, [f"connectors.lab.{each}" for each in settings]) == (finding["verdict"], finding["settings"])
    assert said in finding["detail"]
    assert finding["advice"]


# ---------------------------------------------------------------- Vault
@dataclass
class VaultBench:
    bench: Bench
    server: SimulatedVault


@contextmanager
def vault_bench(bench: Bench, server: SimulatedVault) -> Iterator[VaultBench]:
    credentials = server.tokens.credentials
    (bench.directory / "secret-id").write_text(credentials.secret_id)
    (bench.directory / "wrong").write_text("wrong")
    login = {"method": "approle", "role_id": credentials.role_id, "secret_id": "file:secret-id"}
    with listening(server.faults) as url:
        bench.kind = "vault"
        bench.options = {"url": url, "issuer": ISSUER, "role": ROLE, "ra_role": RA_ROLE, "login": login}
        yield VaultBench(bench, server)


@pytest.fixture
def vault(bench: Bench) -> Iterator[VaultBench]:
    with vault_bench(bench, SimulatedVault(now=now, entropy=os.urandom)) as prepared:
        yield prepared


def test_a_vault_that_would_issue_is_ok_and_issues_nothing(vault: VaultBench) -> None:
    finding = vault.bench.finding()

    assert "ok" == finding["verdict"], finding
    assert {} == vault.server.engine.issuers[ISSUER].issued


def test_a_wrong_secret_id_is_told(vault: VaultBench) -> None:
    login = {**vault.bench.options["login"], "secret_id": "file:wrong"}

    finding = vault.bench.finding(login=login)

    assert_points(finding, "login.role_id", "login.secret_id", said="answered 400: invalid role or secret ID")


def test_a_wrong_token_is_told_by_check_config_as_well(vault: VaultBench) -> None:
    finding = vault.bench.finding(login={"method": "token", "token": "file:wrong"})
    code, said = vault.bench.check_config()

    assert_points(finding, "login.token", said="answered 403: 2 errors occurred: * permission denied")
    assert 2 == code
    assert "connectors.lab.login.token" in said


@pytest.mark.parametrize("setting", ["role", "signing_role", "ra_role"])
def test_an_unknown_role_is_told(vault: VaultBench, setting: str) -> None:
    finding = vault.bench.finding(**{setting: "nobody"})

    assert_points(finding, setting, said="answered 400: unknown role: nobody")


def test_an_unknown_issuer_is_told(vault: VaultBench) -> None:
    finding = vault.bench.finding(issuer="elsewhere")

    assert_points(finding, "issuer", "mount", said="unable to find PKI issuer for reference: elsewhere")


def test_an_unknown_mount_is_told(vault: VaultBench) -> None:
    finding = vault.bench.finding(mount="pki_prod")

    assert_points(finding, "issuer", "mount", said="answered 404: no handler for route")


def test_a_policy_that_does_not_let_us_sign_is_told(vault: VaultBench) -> None:
    vault.server.tokens.denied.add(f"pki/issuer/{ISSUER}/sign/{ROLE}")

    finding = vault.bench.finding()

    assert_points(finding, "login.role_id", "login.secret_id", said=f"sign/{ROLE} answered 403")


def test_a_sealed_vault_is_not_to_be_reached(vault: VaultBench) -> None:
    vault.server.state.sealed = True

    code, findings = vault.bench.doctor()

    assert 3 == code
    assert "unreachable" == findings["connectors.lab"]["verdict"]
    assert "Vault is sealed" in findings["connectors.lab"]["detail"]


def test_a_page_of_a_proxy_is_no_vault(vault: VaultBench) -> None:
    vault.server.faults.at_next(f"issuer/{ISSUER}/json", HTMLResponse("<h1>Please log in</h1>"))

    finding = vault.bench.finding()

    assert "failed" == finding["verdict"]
    assert "(text/html) with what it should not" in finding["detail"]


def test_an_expired_ca_is_told(bench: Bench) -> None:
    long_ago = SimulatedVault(now=lambda: now() - timedelta(days=365 * 40), entropy=os.urandom)
    with vault_bench(bench, long_ago) as vault:
        finding = vault.bench.finding()
        code, said = vault.bench.check_config()

    assert "failed" == finding["verdict"]
    assert "the issuer ran out at" in finding["detail"]
    assert "renew the CA certificate" in finding["advice"]
    assert 1 == code
    assert "the issuer ran out at" in said


def test_a_ca_that_ends_soon_is_a_warning(bench: Bench) -> None:
    ends = SimulatedVault(now=now, entropy=os.urandom).engine.issuers[ISSUER].certificate.not_valid_after_utc
    early = SimulatedVault(now=lambda: now() - (ends - now()) + timedelta(days=30), entropy=os.urandom)
    early.tokens.credentials.lease = timedelta()
    with vault_bench(bench, early) as vault:
        finding = vault.bench.finding()

    assert "warning" == finding["verdict"]
    assert "its CA certificate ends on" in finding["detail"]


def test_an_unreachable_host_is_exit_code_3(vault: VaultBench) -> None:
    code, findings = vault.bench.doctor(url=f"http://127.0.0.1:{free_port()}")
    checked, said = vault.bench.check_config()

    assert (3, 3) == (code, checked)
    assert_points(findings["connectors.lab"], "url", said="Connection refused", verdict="unreachable")
    assert "connectors.lab.url" in said


# ---------------------------------------------------------------- EJBCA
@pytest.fixture
def ejbca(bench: Bench) -> Iterator[Bench]:
    server = SimulatedEjbca(now=now, entropy=os.urandom)
    server.tokens.are_needed = True
    (bench.directory / "token").write_text(server.tokens.create())
    (bench.directory / "wrong").write_text("wrong")
    with listening(server.faults) as url:
        bench.kind = "ejbca"
        bench.options = {
            "url": url + BASE,
            "certificate_authority": AUTHORITY,
            "certificate_profile": PROFILE,
            "end_entity_profile": END_ENTITY_PROFILE,
            "login": {"method": "token", "token": "file:token"},
        }
        yield bench


def test_an_ejbca_that_would_issue_is_ok(ejbca: Bench) -> None:
    assert "ok" == ejbca.finding()["verdict"]


def test_a_wrong_ca_name_is_told_with_the_right_ones(ejbca: Bench) -> None:
    finding = ejbca.finding(certificate_authority="Issuing CA G9")

    assert_points(finding, "certificate_authority", said=f'no CA named "Issuing CA G9", but "{AUTHORITY}"')


def test_a_wrong_bearer_token_is_told(ejbca: Bench) -> None:
    finding = ejbca.finding(login={"method": "token", "token": "file:wrong"})

    assert_points(finding, "login.token", said="answered 403")


def test_a_path_that_is_not_ejbcas_is_told(ejbca: Bench) -> None:
    finding = ejbca.finding(url=ejbca.options["url"].removesuffix(BASE) + "/ejbca")

    assert_points(finding, "url", said="answered 404")


# ---------------------------------------------------------------- real servers, and EST
def test_cfssl_a_wrong_key_and_an_unknown_profile_are_told(bench: Bench, tmp_path: Path) -> None:
    (bench.directory / "auth.key").write_text(AUTH_KEY)
    (bench.directory / "other.key").write_text("ff" * 16)
    with cfssl_server(tmp_path) as server:
        bench.kind, bench.options = "cfssl", server.options()

        right = bench.finding()
        key = bench.finding(auth_key="file:other.key")
        profile = bench.finding(profile="nobody")

    assert "ok" == right["verdict"], right
    assert_points(key, "auth_key", said="invalid token")
    assert_points(profile, "profile", said='CFSSL has no profile "nobody"')


def test_step_ca_a_wrong_provisioner_and_a_missing_template_are_told(bench: Bench, tmp_path: Path) -> None:
    (bench.directory / "passphrase").write_text(PASSPHRASE)
    with step_ca_server(tmp_path) as server:
        bench.kind, bench.options = "step", server.options(template="scep-ra")

        right = bench.finding()
        name = bench.finding(provisioner={**bench.options["provisioner"], "name": "nobody"})
        template = bench.finding(provisioner={**bench.options["provisioner"], "name": "plain"})

    assert "ok" == right["verdict"], right
    assert_points(name, "provisioner.name", "provisioner.key", said='no jwk provisioner named "nobody"')
    assert_points(template, "template", said="has no template")


def test_pebble_an_account_without_a_binding_is_told(bench: Bench, tmp_path: Path) -> None:
    with running_pebble(tmp_path, Behaviour()) as pebble:
        bench.kind, bench.options = "acme", pebble.options(bench.directory)

        right = bench.finding()
        (bench.directory / "acme-account.key").unlink(missing_ok=True)
        del bench.options["eab_key_id"], bench.options["eab_hmac_key"]
        unbound = bench.finding(account_key="new.key")

    assert right["verdict"] in {"ok", "warning"}, right
    assert_points(unbound, "eab_key_id", "eab_hmac_key", said="externalAccountRequired")


def test_est_a_wrong_password_and_an_unknown_label_are_told(bench: Bench, tmp_path: Path) -> None:
    files = tls_files(tmp_path / "tls", now())
    (bench.directory / "right").write_text(PASSWORD)
    (bench.directory / "wrong").write_text("wrong")
    with est_server(files, asks_for_certificate=False) as server:
        bench.kind = "est"
        bench.options = {"url": server.url, "ca_file": files.ca, "user": USER, "password": "file:right"}

        right = bench.finding()
        password = bench.finding(password="file:wrong")
        label = bench.finding(label="nobody")
        tls = bench.finding(ca_file=bench.directory / "ca.pem")

    assert "ok" == right["verdict"], right
    assert_points(password, "user", "password", said="answered 401: who are you?")
    assert_points(label, "label", "url", said="answered 404: no such label")
    assert_points(tls, "ca_file", "url", said="certificate does not verify")


# ---------------------------------------------------------------- what is no CA
def test_all_is_well(bench: Bench) -> None:
    code, findings = bench.doctor()

    assert 0 == code
    assert {"ok"} == {each["verdict"] for each in findings.values()}
    assert {"database", "connectors.lab", "challenges.shared", "identities.ra", "server.public_url"} < findings.keys()


def test_a_person_gets_lines(bench: Bench) -> None:
    bench.capsys.readouterr()

    code = run(["doctor", "--config", str(bench.directory / "ra.toml")])

    assert 0 == code
    assert "ok            connectors.lab: the CA's key is loaded" in bench.capsys.readouterr().out.splitlines()


def test_each_missing_key_has_a_line_of_its_own(bench: Bench) -> None:
    with (bench.directory / "ra.toml").open("a", encoding="utf-8") as file:
        file.write('[connectors.bare]\ntype = "vault"\n')

    code, said = bench.check_config()

    assert 2 == code
    lines = [each.partition("misconfigured ")[2] for each in said.splitlines() if "connectors.bare" in each]
    assert ["url is missing", "role is missing", "login is missing"] == [each.split(": ")[1] for each in lines]


def test_without_a_database_the_rest_is_looked_at_all_the_same(bench: Bench) -> None:
    (bench.directory / "ra.db").unlink()

    code, findings = bench.doctor()

    assert 2 == code
    assert "misconfigured" == findings["database"]["verdict"]
    assert "ok" == findings["connectors.lab"]["verdict"]


def test_a_challenge_that_cannot_be_read_is_told(bench: Bench) -> None:
    (bench.directory / "challenge.txt").unlink()

    code, findings = bench.doctor()

    assert 2 == code
    assert "challenge.txt" in findings["challenges.shared"]["detail"]


def test_an_identity_of_another_ca_is_told(bench: Bench, tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "other"), "--yes", "--json", "--ca-key=ec:p256"]) == 0
    for name in ("ca.pem", "ca.key", "ca.passphrase"):
        shutil.copy(tmp_path / "other" / name, bench.directory / name)

    code, findings = bench.doctor()

    assert 2 == code
    assert "misconfigured" == findings["identities.ra"]["verdict"]
    assert ["identities.ra"] == findings["identities.ra"]["settings"]


def test_an_address_of_another_machine_is_told(bench: Bench) -> None:
    edit(bench.directory / "ra.toml", "admin_listen", '"192.0.2.1:8081"')

    code, findings = bench.doctor()

    assert 2 == code
    assert ["server.admin_listen"] == findings["server.admin_listen"]["settings"]


def test_while_it_is_served_the_public_url_is_asked(directory: Path, ports: tuple[int, int], capsys: Any) -> None:
    bench = Bench(directory, capsys)
    with serving(directory, ports):
        code, findings = bench.doctor()
        edit(directory / "ra.toml", "public_url", f'"http://127.0.0.1:{free_port()}"')
        astray, elsewhere = bench.doctor()

    assert 0 == code
    assert "answers as this server does" in findings["server.public_url"]["detail"]
    assert 3 == astray
    assert ["server.public_url"] == elsewhere["server.public_url"]["settings"]


def test_another_ra_at_the_public_url_is_told(
    made: Path, directory: Path, ports: tuple[int, int], tmp_path: Path, capsys: Any
) -> None:
    bench = Bench(Path(shutil.copytree(made, tmp_path / "other")), capsys)
    url = f"http://127.0.0.1:{ports[0]}"
    edit(bench.directory / "ra.toml", "public_url", json.dumps(url))
    edit(bench.directory / "ra.toml", "listen", json.dumps(url.removeprefix("http://")))
    with serving(directory, ports):
        code, findings = bench.doctor()
        rename(bench.directory / "ra.toml", "[profiles.default", "[profiles.another")
        _, unknown = bench.doctor()

    assert 1 == code
    assert f"{url} does not show the identity's certificate, for another" == unknown["server.public_url"]["detail"]
    assert f"{url} does not show the identity's certificate, for default" == findings["server.public_url"]["detail"]
    assert "another scep-ra answers there" in findings["server.public_url"]["advice"]


def test_another_server_at_the_public_url_is_told(bench: Bench) -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await HTMLResponse("<h1>It works!</h1>")(scope, receive, send)

    with listening(page) as url, socket.create_server(("127.0.0.1", 0)) as taken:
        edit(bench.directory / "ra.toml", "public_url", json.dumps(url))
        edit(bench.directory / "ra.toml", "listen", f'"127.0.0.1:{taken.getsockname()[1]}"')
        code, findings = bench.doctor()

    assert 1 == code
    assert "not as this server does" in findings["server.public_url"]["detail"]


def rename(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text("utf-8").replace(before, after), "utf-8")


def edit(path: Path, key: str, value: str) -> None:
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(f"{key} = {value}" if each.startswith(f"{key} =") else each for each in lines), "utf-8")
