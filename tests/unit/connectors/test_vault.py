from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydantic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import Response

from connectors import vault
from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    ConnectorError,
    Issued,
    KeyUsage,
    Misconfigured,
    NameAttribute,
    ProtocolViolation,
    RateLimited,
    Rejected,
    Rejection,
    RevocationReason,
    San,
    SanKind,
)
from connectors.vault.contents import NotSayable, parameters
from ra.simulate.vault import ISSUER, NEXT_ISSUER, RA_ROLE, ROLE, SIGNING_ROLE
from ra.simulate.vault.roles import Role
from tests.fakes import pki
from tests.fakes.simulated import Front, listening_front
from tests.fakes.vaults import Beside, request, vault_beside

UPN = "1.3.6.1.4.1.311.20.2.3"
COMMON_NAME, SERIAL_NUMBER, ORGANIZATION, USER_ID = "2.5.4.3", "2.5.4.5", "2.5.4.10", "0.9.2342.19200300.100.1.1"
UNSPECIFIED = RevocationReason.UNSPECIFIED


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as found:
        yield found


@pytest.fixture
def beside(tmp_path: Path, front: Front) -> Beside:
    return vault_beside(tmp_path, front)


def issued(beside: Beside, **contents: Any) -> x509.Certificate:
    result = beside.run(lambda each: each.issue(request(**contents)))
    assert isinstance(result, Issued), result
    return x509.load_der_x509_certificate(result.certificate)


def failed(beside: Beside, **options: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        beside.run(lambda each: each.issue(request()), **options)
    return caught.value


def json(status: int, body: str = '{"errors":["told to"]}', **headers: str) -> Response:
    return Response(
        body, status, {name.replace("_", "-"): value for name, value in headers.items()}, "application/json"
    )


def subject(*attributes: tuple[str, str]) -> dict[str, Any]:
    return {"subject": tuple((NameAttribute(oid, value),) for oid, value in attributes)}


def names(*given: tuple[SanKind, str]) -> dict[str, Any]:
    return {"subject_alternative_names": tuple(San(kind, value) for kind, value in given)}


# ---------------------------------------------------------------- what is asked for


def test_the_request_names_what_was_approved_and_nothing_else() -> None:
    contents = {
        **subject((COMMON_NAME, "device 1"), (SERIAL_NUMBER, "SN42"), (USER_ID, "u1"), (USER_ID, "u2")),
        **names(
            (SanKind.DNS, "dev42.example.org"),
            (SanKind.EMAIL, "ops@example.org"),
            (SanKind.IP, "10.0.0.7"),
            (SanKind.IP, "::1"),
            (SanKind.URI, "urn:uuid:1"),
            (SanKind.UPN, "dev42@corp"),
        ),
        "validity": timedelta(days=90),
    }

    body = parameters(request(**contents), frozenset())

    assert str(body.pop("csr")).startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert {
        "common_name": "device 1",
        "serial_number": "SN42",
        "user_ids": "u1,u2",
        "exclude_cn_from_sans": True,
        "alt_names": "dev42.example.org,ops@example.org",
        "ip_sans": "10.0.0.7,::1",
        "uri_sans": "urn:uuid:1",
        "other_sans": f"{UPN};UTF8:dev42@corp",
        "ttl": "7776000s",
        "format": "pem",
        "remove_roots_from_chain": False,
    } == body


@pytest.mark.parametrize(
    "contents",
    [
        subject((COMMON_NAME, "a"), (COMMON_NAME, "b")),
        subject((ORGANIZATION, "Example")),
        subject(("1.2.3", "x")),
        subject((USER_ID, "a,b")),
        names((SanKind.DNS, "a_b.example.org")),
        names((SanKind.DNS, "a.example.org,admin.example.org")),
        names((SanKind.DNS, "x@example.org")),
        names((SanKind.EMAIL, "admin.example.org")),
        names((SanKind.EMAIL, "a@b.example,admin.example.org")),
        names((SanKind.URI, "urn:a,urn:b")),
        names((SanKind.UPN, "a@b,1.2.3;UTF8:x")),
        names((SanKind.UPN, "a@b ")),
        {"sid": "S-1-5-21-1"},
    ],
)
def test_what_cannot_be_said_is_refused_before_anything_is_sent(beside: Beside, contents: dict[str, Any]) -> None:
    result = beside.run(lambda each: each.issue(request(**contents)))

    assert isinstance(result, Rejected)
    assert Rejection.NAME is result.rejection
    assert [] == beside.server.requests


def test_what_the_role_puts_into_the_subject_is_left_out_of_the_request(beside: Beside) -> None:
    beside.server.engine.roles[ROLE] = Role(organization=("Example",))
    approved = subject((ORGANIZATION, "Example"), (COMMON_NAME, "device-1"))

    result = beside.run(lambda each: each.issue(request(**approved)), from_role={"O"})

    assert isinstance(result, Issued)
    assert "CN=device-1,O=Example" == x509.load_der_x509_certificate(result.certificate).subject.rfc4514_string()


def test_a_csr_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(NotSayable) as caught:
        parameters(replace(request(), csr=b"none"), frozenset())

    assert Rejection.CSR is caught.value.rejection


@pytest.mark.parametrize(
    ("usage", "extended", "expected"),
    [
        ({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}, ("1.3.6.1.5.5.7.3.2",), ROLE),
        ({KeyUsage.DIGITAL_SIGNATURE}, ("1.3.6.1.5.5.7.3.2",), SIGNING_ROLE),
        ({KeyUsage.KEY_ENCIPHERMENT}, ("1.3.6.1.5.5.7.3.2",), "encrypt"),
        ({KeyUsage.DIGITAL_SIGNATURE}, ("1.3.6.1.5.5.7.3.1",), SIGNING_ROLE),
        ({KeyUsage.DIGITAL_SIGNATURE}, ("1.3.6.1.5.5.7.3.1", "1.3.6.1.4.1.311.20.2.1"), RA_ROLE),
    ],
)
def test_the_usages_decide_on_the_role(
    beside: Beside, usage: set[KeyUsage], extended: tuple[str, ...], expected: str
) -> None:
    beside.server.engine.roles["encrypt"] = Role()
    asked = request(key_usage=frozenset(usage), extended_key_usage=extended)

    beside.run(lambda each: each.issue(asked), encryption_role="encrypt")

    assert f"/v1/pki/issuer/{ISSUER}/sign/{expected}" == beside.server.requests[-1][1]


def test_names_and_validity_are_as_approved(beside: Beside) -> None:
    wanted = names((SanKind.DNS, "a.example.org"), (SanKind.EMAIL, "a@example.org"), (SanKind.UPN, "a@corp"))

    certificate = issued(beside, **wanted)

    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert 3 == len(list(found))
    assert ["a.example.org"] == found.get_values_for_type(x509.DNSName)
    assert pki.NOW + timedelta(days=30) == certificate.not_valid_after_utc


def test_a_chain_that_is_left_out_is_the_issuer_alone(beside: Beside) -> None:
    beside.server.engine.hides_chain = True

    result = beside.run(lambda each: each.issue(request()))

    assert isinstance(result, Issued)
    assert (pki.der(beside.server.engine.issuers[ISSUER].certificate),) == result.chain


# ---------------------------------------------------------------- refusals and faults


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role(allow_any_name=False, allowed_domains=("example.org",)), Rejection.NAME),
        (Role(key_type="ec"), Rejection.KEY),
        (Role(key_bits=4096), Rejection.KEY),
    ],
)
def test_what_the_role_refuses_is_final(beside: Beside, role: Role, expected: Rejection) -> None:
    beside.server.engine.roles[ROLE] = role

    result = beside.run(lambda each: each.issue(request()))

    assert isinstance(result, Rejected)
    assert expected is result.rejection
    assert "role" in result.detail


def test_a_csr_whose_signature_does_not_verify_is_final(beside: Beside) -> None:
    asked = request()

    result = beside.run(lambda each: each.issue(replace(asked, csr=asked.csr[:-1] + bytes([asked.csr[-1] ^ 1]))))

    assert isinstance(result, Rejected)
    assert Rejection.CSR is result.rejection


def test_an_issuer_that_runs_out_is_not_the_devices_fault(beside: Beside) -> None:
    beside.server.engine.roles[ROLE] = Role(max_ttl=timedelta(days=9999))

    with pytest.raises(Misconfigured, match="beyond the expiration of the CA"):
        beside.run(lambda each: each.issue(request(validity=timedelta(days=5000))))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"role": "nope"}, "unknown role: nope"),
        ({"issuer": "nope"}, "unable to find PKI issuer for reference: nope"),
        ({"mount": "nope"}, "no handler for route"),
    ],
)
def test_a_wrong_name_is_said_to_be_one(beside: Beside, options: dict[str, str], said: str) -> None:
    fault = failed(beside, **options)

    assert isinstance(fault, Misconfigured)
    assert said in str(fault)


@pytest.mark.parametrize(
    ("answer", "expected", "maybe_issued"),
    [
        (json(400), Misconfigured, None),
        (json(429, retry_after="7"), RateLimited, False),
        (json(429), RateLimited, False),
        (json(500), BackendUnavailable, True),
        (json(502), BackendUnavailable, True),
        (json(503, '{"errors":["Vault is sealed"]}'), BackendUnavailable, False),
        (json(503, "<html>upstream connect error</html>"), BackendUnavailable, True),
        (json(473, "{}"), BackendUnavailable, False),
        (json(200, "<html>Sign in</html>"), ProtocolViolation, None),
        (json(200, '{"data":{}}'), ProtocolViolation, None),
        (json(204, ""), ProtocolViolation, None),
        (
            json(200, '{"data":{"certificate":"none","issuing_ca":"none","serial_number":"1"}}'),
            ProtocolViolation,
            None,
        ),
        (json(307, "", location="https://evil.example/"), Misconfigured, None),
    ],
)
def test_a_fault_means_one_error(
    beside: Beside, answer: Response, expected: type[ConnectorError], maybe_issued: bool | None
) -> None:
    beside.server.faults.at_next("/sign/", answer)

    fault = failed(beside)

    assert expected is type(fault)
    assert maybe_issued is getattr(fault, "maybe_issued", None)


def test_a_node_that_lags_behind_is_asked_again(beside: Beside) -> None:
    beside.server.faults.at_next("/sign/", json(412))

    assert isinstance(beside.run(lambda each: each.issue(request())), Issued)


def test_a_standby_sends_to_the_active_node(beside: Beside) -> None:
    beside.server.faults.at_next("/sign/", json(307, "", location=f"{beside.url}/v1/pki/issuer/{ISSUER}/sign/{ROLE}"))

    assert isinstance(beside.run(lambda each: each.issue(request())), Issued)


def test_a_lost_answer_may_have_been_issued_and_is_found_where_certificates_are_listed(beside: Beside) -> None:
    asked, other = request(), request(pki.rsa_key(1))
    beside.server.faults.at_next("/sign/", after_work=True)

    with pytest.raises(BackendUnavailable) as caught:
        beside.run(lambda each: each.issue(asked), timeout_seconds=0.5)
    found = beside.run(lambda each: each.find_issued(asked, pki.NOW), lists_certificates=True)
    nothing = beside.run(lambda each: each.find_issued(other, pki.NOW), lists_certificates=True)

    assert caught.value.maybe_issued
    assert found is not None
    assert [found.certificate] == [pki.der(each) for each in beside.server.engine.issuers[ISSUER].issued.values()]
    assert nothing is None


def test_nothing_is_found_where_nothing_was_issued(beside: Beside) -> None:
    assert beside.run(lambda each: each.find_issued(request(), pki.NOW), lists_certificates=True) is None


def test_the_certificates_of_other_requests_do_not_hide_the_one_that_is_looked_for(beside: Beside) -> None:
    asked = request()
    made = [beside.run(lambda each: each.issue(asked)) for _ in range(2)]
    ours, other = (each.reference for each in made if isinstance(each, Issued))

    def find(*others: str) -> str | None:
        put_aside = frozenset(int(each.replace(":", ""), 16) for each in others)
        found = beside.run(lambda each: each.find_issued(asked, pki.NOW, put_aside), lists_certificates=True)
        return None if found is None else found.reference

    assert ours == find(other)
    assert other == find(ours)
    assert find(ours, other) is None


def test_a_list_is_read_page_by_page(beside: Beside) -> None:
    beside.server.engine.longest_page = 2
    asked = [request(pki.key("ec:p256", number)) for number in range(5)]

    async def use(connector: vault.VaultCa) -> list[tuple[object, object]]:
        made = [await connector.issue(each) for each in asked]
        found = [await connector.find_issued(each, pki.NOW) for each in asked]
        return [
            (one.certificate, other.certificate)
            for one, other in zip(made, found, strict=True)
            if isinstance(one, Issued) and other
        ]

    pairs = beside.run(use, lists_certificates=True)

    assert 5 == len(pairs)
    assert all(one == other for one, other in pairs)


# ---------------------------------------------------------------- afterwards


def test_what_is_not_stored_is_revoked_by_its_certificate(beside: Beside) -> None:
    beside.server.engine.roles[ROLE] = Role(no_store=True)
    certificate = issued(beside)

    beside.run(lambda each: each.revoke(pki.der(certificate), UNSPECIFIED))

    assert {certificate.serial_number} == beside.server.engine.issuers[ISSUER].revoked.keys()
    assert 2 == beside.asked("/revoke")


def test_what_has_run_out_needs_no_revocation(beside: Beside) -> None:
    certificate = issued(beside)
    beside.pass_time(days=31)

    beside.run(lambda each: each.revoke(pki.der(certificate), UNSPECIFIED))

    assert {} == beside.server.engine.issuers[ISSUER].revoked


@pytest.mark.parametrize("certificate", [b"none", pki.der(pki.root(number=7).issue(pki.rsa_key()))])
def test_what_is_not_the_mounts_is_not_revoked(beside: Beside, certificate: bytes) -> None:
    with pytest.raises(Misconfigured):
        beside.run(lambda each: each.revoke(certificate, UNSPECIFIED))


def test_a_revoked_certificate_says_when(beside: Beside) -> None:
    certificate = issued(beside)
    beside.run(lambda each: each.revoke(pki.der(certificate), UNSPECIFIED))

    state = beside.run(lambda each: each.get_certificate(certificate.serial_number))

    assert state is not None
    assert pki.NOW == state.revoked_at
    assert pki.der(certificate) == state.certificate


def test_a_mount_that_is_not_there_is_no_certificate_that_is_not_there(beside: Beside) -> None:
    with pytest.raises(Misconfigured):
        beside.run(lambda each: each.get_certificate(1), mount="nope")


def test_the_next_issuer_is_there_once_it_is_made(beside: Beside) -> None:
    before = beside.run(lambda each: each.next_ca(), next_issuer=NEXT_ISSUER)
    beside.server.add_next_issuer()
    after = beside.run(lambda each: each.next_ca(), next_issuer=NEXT_ISSUER)

    assert () == before
    assert tuple(pki.der(each) for each in beside.server.engine.issuers[NEXT_ISSUER].chain) == after


def test_an_answer_that_is_no_crl_is_a_violation(beside: Beside) -> None:
    beside.server.faults.at_next("/crl", json(200, '{"data":{"crl":"none"}}'))

    with pytest.raises(ProtocolViolation):
        beside.run(lambda each: each.crl())


def test_the_namespace_is_named_in_every_request(beside: Beside) -> None:
    beside.server.state.namespace = "ns1/ns2/"

    assert isinstance(failed(beside), Misconfigured)
    assert isinstance(beside.run(lambda each: each.issue(request()), namespace="ns1/ns2/"), Issued)


def test_capabilities_follow_the_configuration(beside: Beside) -> None:
    async def all_of(connector: vault.VaultCa) -> frozenset[Capability]:
        return connector.capabilities

    few = beside.run(all_of, ra_role=None)
    many = beside.run(all_of, next_issuer="next", lists_certificates=True)

    assert {Capability.RA_CERTIFICATE, Capability.NEXT_CA, Capability.FIND_ISSUED} == many - few


# ---------------------------------------------------------------- health


def test_it_is_ready_and_says_how_long_the_issuer_lasts(beside: Beside) -> None:
    health = beside.run(lambda each: each.health())

    assert health.ready
    assert beside.server.engine.issuers[ISSUER].certificate.not_valid_after_utc == health.ca_not_after
    assert "2.2.0" in health.detail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sealed": True}, "sealed"),
        ({"initialized": False}, "not initialised"),
    ],
)
def test_it_is_not_ready_while_vault_is_not(beside: Beside, change: dict[str, bool], said: str) -> None:
    for name, value in change.items():
        setattr(beside.server.state, name, value)

    health = beside.run(lambda each: each.health())

    assert not health.ready
    assert said in health.detail


def test_a_standby_is_ready(beside: Beside) -> None:
    beside.server.state.standby = True

    assert beside.run(lambda each: each.health()).ready


def test_it_is_not_ready_once_the_issuer_has_run_out(beside: Beside) -> None:
    beside.pass_time(days=3651)

    health = beside.run(lambda each: each.health())

    assert not health.ready
    assert "ran out" in health.detail


@pytest.mark.parametrize(
    ("options", "said"), [({"issuer": "nope"}, "nope"), ({"url": "http://127.0.0.1:9"}, "Connection refused")]
)
def test_health_says_what_is_wrong_and_raises_nothing(beside: Beside, options: dict[str, str], said: str) -> None:
    health = beside.run(lambda each: each.health(), **options)

    assert not health.ready
    assert said in health.detail


def test_it_is_not_ready_while_it_is_not_let_in(beside: Beside) -> None:
    beside.watched.secrets = {"file:secret-id": "another"}

    health = beside.run(lambda each: each.health())

    assert not health.ready
    assert AuthFailed.__name__ in health.detail
    assert "invalid role or secret ID" in health.detail


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    "wrong",
    [
        {"mount": "../sys"},
        {"mount": "pki/"},
        {"issuer": "a/b"},
        {"role": "x/../sign-verbatim"},
        {"role": ".."},
        {"namespace": "a\r\nX-Vault-Token: b"},
        {"from_role": ["CN"]},
        {"login": {"method": "token", "token": "hvs.hunter2"}},
        {"login": {"method": "ldap"}},
        {"login": {"method": "cert", "role": "scep-ra"}},
        {"login": {"method": "userpass", "user": "../x", "password": "file:p"}},
        {"login": {"method": "approle", "role_id": "r", "secret_id": "file:s", "token": "file:t"}},
    ],
)
def test_a_wrong_option_is_refused_without_repeating_it(wrong: dict[str, Any]) -> None:
    good = {"url": "https://vault.example", "role": "r", "login": {"method": "token", "token": "file:t"}}
    assert "r" == vault.Options(**good).role

    with pytest.raises(pydantic.ValidationError) as caught:
        vault.Options(**{**good, **wrong})

    assert "hunter2" not in str(caught.value)


def test_a_secret_that_cannot_be_read_stops_the_start(beside: Beside) -> None:
    beside.watched.secrets = {}

    with pytest.raises(Misconfigured):
        beside.run(lambda each: each.health())


def test_the_csr_goes_out_as_the_device_signed_it() -> None:
    asked = request()

    sent = x509.load_pem_x509_csr(str(parameters(asked, frozenset())["csr"]).encode())

    assert asked.csr == sent.public_bytes(Encoding.DER)
    assert isinstance(sent.signature_hash_algorithm, hashes.SHA256)
