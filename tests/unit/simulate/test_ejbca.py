"""The simulated EJBCA answers as the original does, down to the order of fields, as far as a client could tell."""

from __future__ import annotations

import os
import ssl
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ra.simulate.ejbca import AUTHORITY, BASE, END_ENTITY_PROFILE, PROFILE, SimulatedEjbca
from ra.simulate.ejbca.forms import dn_text, read_dn
from ra.simulate.ejbca.tls import write_tls
from tests.fakes import pki
from tests.fakes.simulated import Front, listening_front
from tests.fakes.vaults import request

ISSUER = "CN=Simulated EJBCA issuing CA"
ENROLL = "/v1/certificate/pkcs10enroll"
END_ENTITY = {
    "username": "device-1",
    "password": "foo123",
    "subject_dn": "CN=device-1",
    "subject_alt_name": "dNSName=device-1.example.org,uniformResourceId=urn:a",
    "ca_name": AUTHORITY,
    "certificate_profile_name": PROFILE,
    "end_entity_profile_name": END_ENTITY_PROFILE,
    "token": "USERGENERATED",
}


@pytest.fixture
def ejbca() -> SimulatedEjbca:
    return SimulatedEjbca(now=lambda: pki.NOW, entropy=os.urandom)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as found:
        yield found


@pytest.fixture
def client(ejbca: SimulatedEjbca, front: Front) -> Iterator[httpx.Client]:
    front.app = ejbca.faults
    with httpx.Client(base_url=front.url + BASE) as opened:
        yield opened


def csr(key: Any = None) -> str:
    if key is None:
        return x509.load_der_x509_csr(request().csr).public_bytes(Encoding.PEM).decode()
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    return str(
        builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def enroll(client: httpx.Client, **fields: Any) -> httpx.Response:
    body = {
        "certificate_request": csr(),
        "certificate_profile_name": PROFILE,
        "end_entity_profile_name": END_ENTITY_PROFILE,
        "certificate_authority_name": AUTHORITY,
        "username": "device-1",
        "password": "foo123",
        "include_chain": True,
    }
    return client.post(ENROLL, json=body | fields)


def certificate_path(serial: str, issuer: str = ISSUER) -> str:
    return f"/v1/certificate/{quote(issuer, safe='')}/{serial}"


def test_enrolment_answers_201_with_base64_of_der(client: httpx.Client) -> None:
    answer = enroll(client)

    body = answer.json()
    certificate = x509.load_der_x509_certificate(b64decode(body["certificate"]))
    assert 201 == answer.status_code
    assert ["certificate", "serial_number", "response_format", "certificate_chain"] == list(body)
    assert (f"{certificate.serial_number:X}", "DER") == (body["serial_number"], body["response_format"])
    assert 2 == len(body["certificate_chain"])


def test_without_include_chain_there_is_none(client: httpx.Client) -> None:
    assert "certificate_chain" not in enroll(client, include_chain=False).json()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"certificate_authority_name": "X"}, "CA with name X doesn't exist."),
        ({"certificate_profile_name": "X"}, "Certificate profile X does not exist."),
        ({"end_entity_profile_name": "X"}, "End entity profile X does not exist."),
        ({"certificate_request": "none"}, "An incorrect certificate request has been passed."),
        ({"certificate_request": csr(ed25519.Ed25519PrivateKey.generate())}, "Illegal key algorithm."),
        ({"certificate_request": csr(rsa.generate_private_key(65537, 1024))}, "Illegal key length 1024."),  # noqa: S505 - refused
    ],
)
def test_a_refusal_is_a_400_with_code_and_message(client: httpx.Client, fields: dict[str, Any], message: str) -> None:
    answer = enroll(client, **fields)

    assert 400 == answer.status_code
    assert {"error_code": 400, "error_message": message} == answer.json()
    assert "application/json" == answer.headers["content-type"]


def test_a_csr_whose_signature_is_wrong_is_refused(client: httpx.Client) -> None:
    octets = bytearray(request().csr)
    octets[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(octets)).public_bytes(Encoding.PEM).decode()

    assert "POPO verification failed." == enroll(client, certificate_request=pem).json()["error_message"]


def test_a_ca_that_is_offline_says_so_with_a_400(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.issuing.is_offline = "CA is offline."

    assert 400 == enroll(client).status_code


def test_a_second_user_with_the_same_key_or_name_is_refused(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    enroll(client)

    key = enroll(client, username="device-2").json()["error_message"]
    ejbca.issuing.enforces_unique_keys = False
    name = enroll(client, username="device-2").json()["error_message"]
    ejbca.issuing.enforces_unique_subjects = False

    assert "User 'device-2' is not allowed to use same key as another user is using." == key
    assert name.startswith("User 'device-2' is not allowed to use same subject DN as")
    assert 201 == enroll(client, username="device-2").status_code


def test_an_end_time_in_another_form_is_left_out_of_account(client: httpx.Client) -> None:
    assert 201 == enroll(client, end_time="2027-01-31T00:00:00Z").status_code


def test_an_end_entity_gets_one_certificate_until_it_is_new_again(client: httpx.Client) -> None:
    asked = {"username": "device-1", "password": "foo123", "certificate_request": csr()}
    asked |= {"certificate_authority_name": AUTHORITY, "certificate_request_type": "PKCS10"}
    path = "/v1/certificate/certificaterequest"

    before = client.post(path, json=asked)
    added = client.post("/v1/endentity", json=END_ENTITY)
    again = client.post("/v1/endentity", json=END_ENTITY)
    wrong = client.post(path, json=asked | {"password": "x"})
    first = client.post(path, json=asked)
    second = client.post(path, json=asked)
    renewed = client.post(
        "/v1/endentity/device-1/setstatus", json={"password": "foo123", "token": "USERGENERATED", "status": "NEW"}
    )
    third = client.post(path, json=asked)

    statuses = [each.status_code for each in (before, added, again, wrong, first, second, renewed, third)]
    assert [400, 200, 409, 400, 201, 400, 200, 201] == statuses
    assert "NEW, FAILED or INPROCESS required" in second.json()["error_message"]
    names = x509.load_der_x509_certificate(b64decode(first.json()["certificate"])).extensions
    found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ["device-1.example.org"] == found.get_values_for_type(x509.DNSName)


def test_the_community_edition_knows_no_end_entities(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.is_enterprise = False

    assert 404 == client.post("/v1/endentity", json=END_ENTITY).status_code


def test_a_202_has_a_number_and_a_link_that_leads_nowhere(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.approvals.are_needed = True

    answer = client.post("/v1/endentity", json=END_ENTITY)

    body = answer.json()
    assert 202 == answer.status_code
    assert ["status_code", "info_message", "request_id", "link"] == list(body)
    assert body["link"].endswith(f"{BASE}/{body['request_id']}/finalize")


def test_one_step_enrolment_cannot_wait(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.approvals.are_needed = True

    message = enroll(client).json()["error_message"]

    assert message.startswith(
        "Single transaction enrollment request rejected since approvals are enabled for this CA ("
    )


def test_finalizing_twice_is_refused(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.approvals.are_needed = ejbca.approvals.one_step_waits = True
    enroll(client)
    asked = {"password": "foo123", "response_format": "DER"}

    waiting = client.post("/v1/certificate/123/finalize", json=asked)
    ejbca.approvals.approve(123)
    done = client.post("/v1/certificate/123/finalize", json=asked)
    again = client.post("/v1/certificate/123/finalize", json=asked)

    assert [202, 201, 400] == [each.status_code for each in (waiting, done, again)]
    assert "Enrollment with Id '123' has already been finalized" == again.json()["error_message"]


def test_an_end_entity_without_a_csr_cannot_be_finalized(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.approvals.are_needed = True
    client.post("/v1/endentity", json=END_ENTITY)
    ejbca.approvals.approve(123)

    answer = client.post("/v1/certificate/123/finalize", json={})

    assert {"error_code": 500, "error_message": "General failure."} == answer.json()


def test_a_certificate_is_revoked_once(client: httpx.Client) -> None:
    path = certificate_path(enroll(client).json()["serial_number"])

    before = client.get(f"{path}/revocationstatus").json()
    none = client.put(f"{path}/revoke")
    first = client.put(f"{path}/revoke?reason=KEY_COMPROMISE")
    second = client.put(f"{path}/revoke?reason=KEY_COMPROMISE")
    after = client.get(f"{path}/revocationstatus").json()

    fields = ["issuer_dn", "serial_number", "revocation_reason", "revocation_date", "message", "revoked"]
    assert [400, 200, 409] == [each.status_code for each in (none, first, second)]
    assert fields == list(first.json())
    assert (False, "NOT_REVOKED") == (before["revoked"], before["revocation_reason"])
    assert (True, "KEY_COMPROMISE") == (after["revoked"], after["revocation_reason"])


@pytest.mark.parametrize(
    ("serial", "issuer", "status"),
    [("1", ISSUER, 404), ("1", "CN=Other", 404), ("xyz", ISSUER, 400), ("1", "CN=simulated ejbca issuing ca", 404)],
)
def test_what_is_not_there_has_no_status(client: httpx.Client, serial: str, issuer: str, status: int) -> None:
    assert status == client.get(f"{certificate_path(serial, issuer)}/revocationstatus").status_code


def test_a_search_gives_base64_of_base64_and_the_csr(client: httpx.Client) -> None:
    issued = enroll(client).json()["certificate"]
    criteria = [{"property": "QUERY", "value": "device-1", "operation": "EQUAL"}]

    answer = client.post(
        "/v2/certificate/search", json={"criteria": criteria, "pagination": {"page_size": 10, "current_page": 1}}
    )

    [found] = answer.json()["certificates"]
    assert issued == b64decode(found["base64Cert"]).decode()
    assert (20, "device-1") == (found["status"], found["username"])
    assert csr() == found["certificateRequest"]


def test_the_list_of_cas_names_them_in_ejbcas_own_order(client: httpx.Client) -> None:
    [found] = client.get("/v1/ca").json()["certificate_authorities"]

    assert ["id", "name", "subject_dn", "issuer_dn", "expiration_date"] == list(found)
    assert (AUTHORITY, ISSUER) == (found["name"], found["subject_dn"])


def test_a_chain_is_downloaded_as_pem_and_a_crl_as_base64(client: httpx.Client) -> None:
    chain = client.get(f"/v1/ca/{quote(ISSUER, safe='')}/certificate/download").content
    crl = client.get(f"/v1/ca/{quote(ISSUER, safe='')}/getLatestCrl").json()

    assert 2 == len(x509.load_pem_x509_certificates(chain))
    assert "DER" == crl["response_format"]
    assert ISSUER == dn_text(x509.load_der_x509_crl(b64decode(crl["crl"])).issuer)


def test_a_path_that_is_none_is_answered_by_the_application_server(client: httpx.Client) -> None:
    answer = client.get("/v1/nothing")

    assert (404, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])


def test_the_status_is_open_to_everybody(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.tokens.are_needed = True

    assert ["status", "version", "revision"] == list(client.get("/v1/certificate/status").json())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "Error no client certificate or OAuth token received for authentication."),
        ({"Authorization": "Bearer x"}, "Authentication failed using OAuth Bearer Token."),
    ],
)
def test_who_is_not_known_is_refused(
    client: httpx.Client, ejbca: SimulatedEjbca, header: dict[str, str], message: str
) -> None:
    ejbca.tokens.are_needed = True

    answer = client.get("/v1/ca", headers=header)

    assert 403 == answer.status_code
    assert message == answer.json()["error_message"]


def test_a_token_runs_out(client: httpx.Client, ejbca: SimulatedEjbca) -> None:
    ejbca.tokens.are_needed = True
    token = ejbca.tokens.create()
    ejbca.tokens.held[token] = pki.NOW

    answer = client.get("/v1/ca", headers={"Authorization": f"Bearer {token}"})

    assert "JWT token has expired." == answer.json()["error_message"]


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "client_id": "scep-ra", "client_secret": "x"}, 401, "invalid_client"),
    ],
)
def test_the_oauth_server_refuses_as_rfc_6749_says(
    client: httpx.Client, front: Front, form: dict[str, str], status: int, error: str
) -> None:
    answer = client.post(f"{front.url}/oauth/token", data=form)

    assert (status, error) == (answer.status_code, answer.json()["error"])


@pytest.mark.parametrize("text", ["CN=a,O=b", "CN=a\\,b\\=c,SN=1"])
def test_a_name_is_read_as_it_is_written(text: str) -> None:
    name = read_dn(text)

    assert text == dn_text(x509.Name(reversed(list(name))))


def test_the_tls_files_go_together_and_take_the_place_of_older_ones(tmp_path: Path) -> None:
    write_tls(tmp_path, "127.0.0.1", pki.NOW)
    files = write_tls(tmp_path, "ejbca.example.org", pki.NOW)

    ssl.create_default_context().load_cert_chain(files.client_certificate, files.client_key)
    server = x509.load_pem_x509_certificates(files.server_certificate.read_bytes())
    root = x509.load_pem_x509_certificate(files.ca.read_bytes())
    names = server[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = load_pem_private_key(files.server_key.read_bytes(), None)
    server[0].verify_directly_issued_by(server[1])
    server[1].verify_directly_issued_by(root)
    assert ["ejbca.example.org"] == names.get_values_for_type(x509.DNSName)
    assert server[0].public_key() == key.public_key()
