"""The simulated Vault answers as the original does, down to the order of fields, as far as a client could tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import Response

from ra.simulate.vault import ISSUER, ROLE, SimulatedVault
from ra.simulate.vault.roles import Role
from tests.fakes import pki
from tests.fakes.simulated import Front, listening_front
from tests.fakes.vaults import request

SIGN = f"/v1/pki/issuer/{ISSUER}/sign/{ROLE}"
FIELDS = ["request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"]


@pytest.fixture
def vault() -> SimulatedVault:
    return SimulatedVault(now=lambda: pki.NOW, entropy=os.urandom)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as found:
        yield found


@pytest.fixture
def client(vault: SimulatedVault, front: Front) -> Iterator[httpx.Client]:
    front.app = vault.faults
    with httpx.Client(base_url=front.url, headers={"X-Vault-Token": vault.tokens.create()}) as opened:
        yield opened


def csr() -> str:
    return x509.load_der_x509_csr(request().csr).public_bytes(Encoding.PEM).decode()


def signed(client: httpx.Client, **parameters: Any) -> Any:
    return client.post(SIGN, json={"csr": csr(), "common_name": "device-1", **parameters}).json()


def refusal(client: httpx.Client, **parameters: Any) -> str:
    answer = client.post(SIGN, json={"csr": csr(), "common_name": "device-1", **parameters})
    assert 400 == answer.status_code
    assert ["errors"] == list(answer.json())
    return str(answer.json()["errors"][0])


def names(answer: Any) -> list[str]:
    certificate = x509.load_pem_x509_certificate(answer["data"]["certificate"].encode())
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        return []


def test_a_signed_certificate_comes_in_the_form_of_vault(client: httpx.Client) -> None:
    answer = client.post(SIGN, json={"csr": csr(), "common_name": "device-1"})

    body = answer.json()
    assert "application/json" == answer.headers["content-type"]
    assert answer.text.endswith('"warnings":null,"auth":null}\n')
    assert FIELDS == list(body)
    assert ["ca_chain", "certificate", "expiration", "issuing_ca", "not_before", "serial_number"] == list(body["data"])
    assert body["data"]["certificate"].endswith("-----END CERTIFICATE-----")
    assert body["data"]["ca_chain"][0] == body["data"]["issuing_ca"]


def test_a_login_comes_in_the_form_of_vault(vault: SimulatedVault, client: httpx.Client) -> None:
    known = vault.tokens.credentials

    body = client.post("/v1/auth/approle/login", json={"role_id": known.role_id, "secret_id": known.secret_id}).json()

    assert FIELDS == list(body)
    assert body["data"] is None
    assert (1200, True, "service") == tuple(
        body["auth"][each] for each in ("lease_duration", "renewable", "token_type")
    )


def test_the_common_name_is_an_alternative_name_unless_it_is_excluded(client: httpx.Client) -> None:
    assert ["device-1"] == names(signed(client))
    assert [] == names(signed(client, exclude_cn_from_sans=True))


def test_a_name_that_is_no_host_name_is_dropped_without_a_word(client: httpx.Client) -> None:
    answer = signed(client, exclude_cn_from_sans=True, alt_names="a.example.org,-b.example.org")

    assert ["a.example.org"] == names(answer)
    assert answer["warnings"] is None


def test_a_validity_that_is_too_long_is_cut_with_a_warning(client: httpx.Client) -> None:
    assert ['TTL "21600h0m0s" is longer than permitted maxTTL "19800h0m0s", so maxTTL is being used'] == signed(
        client, ttl="900d"
    )["warnings"]


@pytest.mark.parametrize(
    ("role", "parameters", "said"),
    [
        (Role(), {"csr": ""}, '"csr" is empty'),
        (Role(), {"csr": "none"}, "csr contains no data"),
        (Role(), {"csr": "-----BEGIN none"}, "certificate request could not be parsed"),
        (Role(), {"common_name": ""}, "the common_name field is required"),
        (Role(), {"alt_names": "a_b.example.org"}, "idna: disallowed rune U+005F"),
        (Role(), {"ip_sans": "10.0.0.256"}, 'the value "10.0.0.256" is not a valid IP address'),
        (Role(allow_ip_sans=False), {"ip_sans": "10.0.0.7"}, "not allowed in this role, but was provided [10.0.0.7]"),
        (Role(allowed_uri_sans=()), {"uri_sans": "urn:a"}, "URI Subject Alternative Names were provided"),
        (Role(allowed_other_sans=()), {"other_sans": "1.2.3;UTF8:a"}, "other SAN OID 1.2.3 not allowed by this role"),
        (Role(), {"other_sans": "1.2.3;IA5:a"}, "only utf8 other SANs are supported"),
        (Role(), {"other_sans": "none"}, "could not parse requested other SAN"),
        (Role(allowed_serial_numbers=()), {"serial_number": "1"}, "serial_number 1 not allowed by this role"),
        (Role(key_type="ec"), {}, "role requires keys of type ec"),
        (Role(key_bits=3072), {}, "role requires a minimum of a 3072-bit key, but CSR's key is 2048 bits"),
        (Role(), {"common_name": "a b"}, "idna: disallowed rune U+0020"),
        (
            Role(enforce_hostnames=True),
            {"common_name": "a b", "exclude_cn_from_sans": True},
            "common name a b not allowed by this role",
        ),
        (Role(allow_any_name=False), {}, "common name device-1 not allowed by this role"),
        (
            Role(allow_any_name=False, allowed_domains=("example.org",), allow_subdomains=True),
            {"common_name": "a.example.org", "alt_names": "a.example.com"},
            "subject alternate name a.example.com not allowed by this role",
        ),
        (
            Role(allow_any_name=False, allowed_domains=("device-1",), allow_bare_domains=True),
            {"exclude_cn_from_sans": True, "alt_names": "a@example.com"},
            "email address a@example.com not allowed by this role",
        ),
    ],
)
def test_a_role_refuses_in_the_words_of_vault(
    vault: SimulatedVault, client: httpx.Client, role: Role, parameters: dict[str, Any], said: str
) -> None:
    vault.engine.roles[ROLE] = role

    assert said in refusal(client, **parameters)


def test_a_role_that_takes_names_from_the_csr_takes_them(vault: SimulatedVault, client: httpx.Client) -> None:
    vault.engine.roles[ROLE] = Role(use_csr_common_name=True, use_csr_sans=True)

    answer = signed(client, common_name="other", alt_names="other.example.org", exclude_cn_from_sans=True)

    certificate = x509.load_pem_x509_certificate(answer["data"]["certificate"].encode())
    assert "CN=device-1" == certificate.subject.rfc4514_string()
    assert [] == names(answer)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v1/nope/cert/1", 404, 'no handler for route "nope/cert/1". route entry not found.'),
        ("GET", "/v1/pki/nope", 404, "1 error occurred:\n\t* unsupported path\n\n"),
        ("GET", "/v1/pki/cert/01:02", 404, None),
        ("GET", "/v1/pki/certs/detailed?list=true", 404, None),
        ("POST", f"/v1/pki/issuer/{ISSUER}/sign/nope", 400, "unknown role: nope"),
        (
            "POST",
            f"/v1/pki/issuer/nope/sign/{ROLE}",
            500,
            "could not fetch the CA certificate (was one set?): unable to find PKI issuer for reference: nope",
        ),
        ("POST", "/v1/auth/nope/login", 404, 'no handler for route "auth/nope/login". route entry not found.'),
    ],
)
def test_a_wrong_path_is_answered_as_by_vault(
    client: httpx.Client, method: str, path: str, status: int, said: str | None
) -> None:
    answer = client.request(method, path)

    assert status == answer.status_code
    assert {"errors": [said] if said else []} == answer.json()


@pytest.mark.parametrize("path", ["/ca", "/ca/pem", "/ca_chain", "/crl", "/crl/pem"])
def test_the_raw_endpoints_say_nothing_and_call_it_success(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/v1/pki{path}")

    assert (204, b"") == (answer.status_code, answer.content)


def test_who_has_no_token_may_not(client: httpx.Client) -> None:
    answer = client.post(SIGN, json={}, headers={"X-Vault-Token": "none"})

    assert 403 == answer.status_code
    assert {"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]} == answer.json()


def test_a_body_that_is_no_json_is_refused(client: httpx.Client) -> None:
    answer = client.post(SIGN, content=b"{")

    assert 400 == answer.status_code


def test_sealed_it_says_so_everywhere(vault: SimulatedVault, client: httpx.Client) -> None:
    vault.state.sealed = True

    answer, health = client.post(SIGN, json={}), client.get("/v1/sys/health")

    assert (503, {"errors": ["Vault is sealed"]}) == (answer.status_code, answer.json())
    assert (503, True) == (health.status_code, health.json()["sealed"])


@pytest.mark.parametrize(
    ("state", "query", "expected"),
    [
        ({}, "", 200),
        ({"standby": True}, "", 429),
        ({"standby": True}, "?standbyok=true", 200),
        ({"initialized": False}, "", 501),
    ],
)
def test_health_is_a_status(
    vault: SimulatedVault, client: httpx.Client, state: dict[str, bool], query: str, expected: int
) -> None:
    for name, value in state.items():
        setattr(vault.state, name, value)

    assert expected == client.get(f"/v1/sys/health{query}").status_code


def test_what_is_revoked_again_keeps_its_time(client: httpx.Client) -> None:
    serial = signed(client)["data"]["serial_number"]

    first = client.post("/v1/pki/revoke", json={"serial_number": serial}).json()["data"]
    second = client.post("/v1/pki/revoke", json={"serial_number": serial.replace(":", "-")}).json()["data"]

    assert {"revocation_time", "revocation_time_rfc3339", "state"} == first.keys()
    assert first == second


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "Must provide either the certificate or the serial"),
        ({"serial_number": "01", "certificate": "x"}, "not both"),
        ({"serial_number": "0a:0b"}, "certificate with serial 0a:0b not found."),
        ({"serial_number": "none"}, "certificate with serial none not found."),
        ({"certificate": pki.pem(pki.root().certificate).decode()}, "unable to verify signature"),
        ({"certificate": "none"}, "certificate contains no PEM data"),
    ],
)
def test_a_revocation_is_refused_in_the_words_of_vault(client: httpx.Client, body: dict[str, str], said: str) -> None:
    answer = client.post("/v1/pki/revoke", json=body)

    assert 400 == answer.status_code
    assert said in answer.json()["errors"][0]


def test_certificates_are_listed_by_openbao_alone(vault: SimulatedVault, client: httpx.Client) -> None:
    signed(client)

    listed = client.get("/v1/pki/certs/detailed?list=true").json()["data"]
    vault.engine.is_openbao = False
    status = client.get("/v1/pki/certs/detailed?list=true").status_code

    (details,) = listed["key_info"].values()
    assert ["key_info", "keys"] == list(listed)
    assert ("device-1", "rsa", 2048) == tuple(details[each] for each in ("common_name", "key_type", "key_bits"))
    assert 404 == status


def test_a_wrapping_token_in_header_and_body_is_lost(vault: SimulatedVault, client: httpx.Client) -> None:
    token = vault.tokens.wrap_secret_id()

    both = client.post("/v1/sys/wrapping/unwrap", json={"token": token}, headers={"X-Vault-Token": token})
    again = client.post("/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": token})

    assert [400, 400] == [both.status_code, again.status_code]


def test_a_fault_is_met_once_before_the_work_or_after(vault: SimulatedVault, client: httpx.Client) -> None:
    vault.faults.at_next("/sign/", Response("", 502))
    vault.faults.at_next("/sign/", Response("", 504), after_work=True)

    statuses = [client.post(SIGN, json={"csr": csr(), "common_name": "a"}).status_code for _ in range(3)]

    assert [502, 504, 200] == statuses
    assert 2 == len(vault.engine.issuers[ISSUER].issued)
