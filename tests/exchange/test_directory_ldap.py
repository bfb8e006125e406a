"""A device enrols whose account is in OpenLDAP: scep-ra as it is served, and the SID in the certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography import x509

from ra.cli.app import run
from ra.policy.sid import SID_EXTENSION, read_sid
from tests.fakes.slapd import BASE, BIND_DN, PASSWORD, Slapd, running_slapd
from tests.interop.running import RunningRa, running_ra

pytestmark = pytest.mark.peer

SID = "S-1-5-21-3734714977-4168152908-3764207930-1104"
ACCOUNT = {"sAMAccountName": "PC-1$", "userAccountControl": "4096", "objectSid": SID}
ENTRIES: dict[str, dict[str, str | bytes]] = {
    "PC-1": {**ACCOUNT},
    "PC-2": {**ACCOUNT, "sAMAccountName": "PC-2$", "userAccountControl": "4098"},
}

CONFIGURATION = """
[challenges.accounts]
type = "directory"
pattern = "([A-Za-z0-9-]{{1,15}})"
[challenges.accounts.source]
kind = "ldap"
urls = ["{url}"]
ca_file = "{ca}"
bind_dn = "{bind_dn}"
password = "file:ldap.password"
base_dn = "{base}"
filter = "(&(objectClass=computer)(sAMAccountName={{value}}$))"

[profiles.domain]
ca_id = 20
connector = "lab"
challenge = {{ all_of = ["shared", "accounts"] }}
sid_from_challenge = true

[profiles.audited]
ca_id = 21
connector = "lab"
challenge = {{ all_of = ["shared", "accounts"] }}
allow_sid_uri = true
"""


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    with running_slapd(ENTRIES) as running:
        yield running


@pytest.fixture(scope="module")
def ra(slapd: Slapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRa]:
    def prepare(directory: Path) -> Mapping[str, str]:
        (directory / "ldap.password").write_text(PASSWORD + "\n")
        with (directory / "ra.toml").open("a", encoding="utf-8") as configuration:
            given = {"url": slapd.ldaps, "ca": slapd.tls.ca, "bind_dn": BIND_DN, "base": BASE}
            configuration.write(CONFIGURATION.format(**given))
        return {}

    with running_ra(tmp_path_factory.mktemp("ra") / "var", prepare) as running:
        yield running


def enrol(ra: RunningRa, profile: str, out: Path, *names: str) -> int:
    return run(["client", "enrol", "--url", ra.url_of(profile), "--challenge", ra.challenge, "--out", str(out), *names])


def sids(out: Path) -> list[str | None]:
    certificate = x509.load_pem_x509_certificate((out / "certificate.pem").read_bytes())
    return [
        read_sid(each.value.public_bytes())
        for each in certificate.extensions
        if each.oid.dotted_string == SID_EXTENSION
    ]


def test_the_sid_of_the_account_is_in_the_certificate_where_the_profile_says_so(ra: RunningRa, tmp_path: Path) -> None:
    codes = [enrol(ra, each, tmp_path / each, "--subject", "CN=PC-1") for each in ("domain", "audited")]

    assert [0, 0] == codes
    assert [[SID], []] == [sids(tmp_path / each) for each in ("domain", "audited")]


@pytest.mark.parametrize("name", ["PC-2", "PC-3", "*"])
def test_who_has_no_account_or_a_disabled_one_gets_nothing(ra: RunningRa, tmp_path: Path, name: str) -> None:
    code = enrol(ra, "domain", tmp_path / "device", "--subject", f"CN={name}")

    assert 1 == code
    assert not (tmp_path / "device" / "certificate.pem").exists()


@pytest.mark.parametrize(("sid", "code"), [(SID, 0), (SID[:-4] + "500", 1)])
def test_another_sid_than_the_account_has_is_refused(ra: RunningRa, tmp_path: Path, sid: str, code: int) -> None:
    uri = f"uri:tag:microsoft.com,2022-09-14:sid:{sid}"

    assert code == enrol(ra, "audited", tmp_path / "device", "--subject", "CN=PC-1", "--san", uri)
