from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pydantic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    Connector,
    ConnectorError,
    Health,
    Issued,
    IssueResult,
    KeyUsage,
    Misconfigured,
    ProtocolViolation,
    Rejected,
    Rejection,
    RevocationReason,
    San,
    SanKind,
)
from connectors.cfssl import Options
from connectors.cfssl.answers import duration
from tests.fakes import pki
from tests.fakes.asking import COMMON_NAME, ORGANIZATION, USER_ID, issue, request, subject, use
from tests.fakes.backends import Answer, RawServer, http, raw_server, reset
from tests.fakes.connecting import Watched

KEY = "00112233445566778899aabbccddeeff"
CA, OTHER_CA = pki.root(), pki.root(number=5, name="Other CA")
UNREACHABLE = "http://127.0.0.1:9"


def reply(result: Any) -> bytes:
    return http(200, json.dumps({"success": True, "result": result, "errors": [], "messages": []}))


def info(expiry: str = "720h", *usages: str, ca: pki.FakeCa = CA) -> bytes:
    return reply({"certificate": pki.pem(ca.certificate).decode(), "usages": usages, "expiry": expiry})


def fault(code: int, message: str) -> bytes:
    faults = [{"code": code, "message": message}]
    return http(400, json.dumps({"success": False, "result": None, "errors": faults, "messages": []}))


DEFAULT = info("24h", "server auth")
LEAF = CA.issue(pki.rsa_key())
SIGNED = reply({"certificate": pki.pem(LEAF).decode()})


def watched() -> Watched:
    return Watched({"file:key": KEY, "file:short": "00" * 15, "file:text": "not hexadecimal"})


def asked(*answers: Answer, **options: Any) -> tuple[IssueResult, RawServer]:
    with raw_server(answers) as server:
        block = {"url": server.url, "timeout_seconds": 5, "profile": "devices", "auth_key": "file:key", **options}
        return issue("cfssl", block, watched().services(), request()), server


def failed(*answers: Answer, **options: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        asked(*answers, **options)
    return caught.value


def body(received: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(received.partition(b"\r\n\r\n")[2])
    return found


# ---------------------------------------------------------------- issuing


def test_the_request_is_authenticated_byte_for_byte() -> None:
    result, server = asked(DEFAULT, info(), SIGNED, label="second")

    sent = body(server.received[2])
    content = b64decode(sent["request"])
    assert Issued(certificate=pki.der(LEAF), chain=CA.chain, reference=f"{LEAF.serial_number:x}") == result
    assert server.received[2].startswith(b"POST /api/v1/cfssl/authsign ")
    assert hmac.digest(bytes.fromhex(KEY), content, "sha256") == b64decode(sent["token"])
    inner = json.loads(content)
    assert ("devices", "second") == (inner["profile"], inner["label"])
    assert {"names": [], "CN": "device-1"} == inner["subject"]
    assert ["device-1.example.org"] == inner["hosts"]


def test_without_a_key_the_request_goes_out_as_it_is() -> None:
    _, server = asked(DEFAULT, info(), SIGNED, auth_key=None)

    assert server.received[2].startswith(b"POST /api/v1/cfssl/sign ")
    assert body(server.received[2])["profile"] == "devices"


def test_a_profile_is_asked_about_once() -> None:
    async def twice(connector: Connector) -> None:
        await connector.issue(request())
        await connector.issue(request())

    with raw_server([DEFAULT, info(), SIGNED, SIGNED]) as server:
        use("cfssl", {"url": server.url, "profile": "devices"}, watched().services(), twice)

    paths = [each.split()[1].decode().rpartition("/")[2] for each in server.received]
    assert ["info", "info", "sign", "sign"] == paths


def test_after_a_change_of_the_ca_the_profile_is_asked_about_anew() -> None:
    async def thrice(connector: Connector) -> list[IssueResult]:
        return [await connector.issue(request()) for _ in range(3)]

    leaf = reply({"certificate": pki.pem(OTHER_CA.issue(pki.rsa_key())).decode()})
    script = [DEFAULT, info(), leaf, DEFAULT, info(ca=OTHER_CA), leaf, leaf]
    with raw_server(script) as server:
        results = use("cfssl", {"url": server.url, "profile": "devices"}, watched().services(), thrice)

    chains = [each.chain for each in results if isinstance(each, Issued)]
    assert [(), OTHER_CA.chain, OTHER_CA.chain] == chains


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({KeyUsage.DIGITAL_SIGNATURE}, "signing"),
        ({KeyUsage.KEY_ENCIPHERMENT}, "encryption"),
        ({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}, "devices"),
    ],
)
def test_a_set_of_usages_takes_a_profile_of_its_own(usage: set[KeyUsage], expected: str) -> None:
    with raw_server([DEFAULT, info(), SIGNED]) as server:
        block = {"url": server.url, "profile": "devices"}
        block |= {"signing_profile": "signing", "encryption_profile": "encryption"}
        issue("cfssl", block, watched().services(), request(key_usage=frozenset(usage)))

    assert expected == body(server.received[2])["profile"]


def test_cfssls_default_is_taken_only_where_no_profile_is_named() -> None:
    result, server = asked(info(), SIGNED, profile="")
    error = failed(info(), info())

    assert isinstance(result, Issued)
    assert body(server.received[0])["profile"] == ""
    assert isinstance(error, Misconfigured)
    assert 'no profile "devices"' in str(error)


def test_a_profile_that_grants_too_long_a_validity_is_not_used() -> None:
    error = failed(info("8760h"), info("", "client auth"))

    assert isinstance(error, Misconfigured)
    assert "365 days" in str(error)


@pytest.mark.parametrize(
    "contents",
    [
        {"subject": subject((COMMON_NAME, "a"), (COMMON_NAME, "b"))},
        {"subject": subject((USER_ID, "0017"))},
        {"subject_alternative_names": (San(SanKind.URI, "urn:x:1"),)},
        {"subject_alternative_names": (San(SanKind.UPN, "a@example.org"),)},
        {"subject_alternative_names": (San(SanKind.DNS, "10.0.0.1"),)},
        {"subject_alternative_names": (San(SanKind.DNS, "a@example.org"),)},
        {"sid": "S-1-5-21-1-2-3-4"},
    ],
    ids=["two common names", "UID", "URI", "UPN", "address as host", "e-mail as host", "SID"],
)
def test_a_name_that_would_be_left_out_or_changed_is_refused_unasked(contents: dict[str, Any]) -> None:
    result = issue("cfssl", {"url": UNREACHABLE}, watched().services(), request(**contents))

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.NAME


def test_a_request_that_is_none_is_refused_unasked() -> None:
    result = issue("cfssl", {"url": UNREACHABLE}, watched().services(), replace(request(), csr=b"0\x00"))

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.CSR


def test_subject_attributes_are_listed_one_by_one() -> None:
    attributes = subject((ORGANIZATION, "One"), (ORGANIZATION, "Two"), (COMMON_NAME, "device-1"))
    with raw_server([info(), SIGNED]) as server:
        issue("cfssl", {"url": server.url}, watched().services(), request(subject=attributes))

    assert {"CN": "device-1", "names": [{"O": "One"}, {"O": "Two"}]} == body(server.received[1])["subject"]


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (5300, "Policy violation request", Rejection.POLICY),
        (5500, "Request does not match policy whitelist", Rejection.NAME),
        (9002, "CSR Decode failed", Rejection.CSR),
        (9300, "crypto/rsa: verification error", Rejection.CSR),
    ],
)
def test_a_refusal_of_the_device_is_final(code: int, message: str, expected: Rejection) -> None:
    result, _ = asked(DEFAULT, info(), fault(code, message))

    assert Rejected(rejection=expected, detail=f"{message} ({code})") == result


@pytest.mark.parametrize(
    ("answer", "expected", "maybe_issued"),
    [
        (fault(400, "invalid token"), AuthFailed, None),
        (fault(400, "authentication required"), AuthFailed, None),
        (fault(400, "bad label"), Misconfigured, None),
        (fault(5100, "no key usages"), Misconfigured, None),
        (fault(11100, "database is locked"), BackendUnavailable, False),
        (http(404, "404 page not found\n", kind="text/plain"), Misconfigured, None),
        (http(500, "{}"), BackendUnavailable, True),
        (reset, BackendUnavailable, True),
        (http(200, "<html>", kind="text/html"), ProtocolViolation, None),
        (reply(None), ProtocolViolation, None),
        (reply({"certificate": "-----"}), ProtocolViolation, None),
    ],
)
def test_what_is_not_the_devices_fault_is_an_error(
    answer: Answer, expected: type[ConnectorError], maybe_issued: bool | None
) -> None:
    error = failed(DEFAULT, info(), answer)

    assert type(error) is expected
    assert maybe_issued == getattr(error, "maybe_issued", None)


def test_a_fault_before_the_request_to_sign_has_issued_nothing() -> None:
    error = failed(reset, reset, reset)

    assert isinstance(error, BackendUnavailable)
    assert not error.maybe_issued


@pytest.mark.parametrize(("reference", "says"), [("file:short", "less than 16"), ("file:text", "not hexadecimal")])
def test_a_key_that_is_none_stops_the_start(reference: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        issue("cfssl", {"url": UNREACHABLE, "auth_key": reference}, watched().services(), request())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2160h0m0s", timedelta(days=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("", None),
        ("90 days", None),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text: str, expected: timedelta | None) -> None:
    assert expected == duration(text)


# ---------------------------------------------------------------- afterwards


def ask(use_it: Callable[[Connector], Awaitable[Any]], *answers: Answer, **options: Any) -> tuple[Any, RawServer]:
    with raw_server(answers) as server:
        return use("cfssl", {"url": server.url, "timeout_seconds": 5, **options}, watched().services(), use_it), server


def test_a_certificate_that_is_stored_without_a_key_identifier_is_revoked_too() -> None:
    not_found = fault(11200, "certificate not found")

    _, server = ask(
        lambda each: each.revoke(pki.der(LEAF), RevocationReason.KEY_COMPROMISE),
        not_found,
        reply({}),
        has_database=True,
    )

    first, second = map(body, server.received)
    assert {**first, "authority_key_id": ""} == second
    assert (str(LEAF.serial_number), "keycompromise") == (first["serial"], first["reason"])


def test_a_store_that_does_not_answer_is_no_answer_about_the_certificate() -> None:
    with pytest.raises(BackendUnavailable):
        ask(
            lambda each: each.revoke(pki.der(LEAF), RevocationReason.UNSPECIFIED),
            *[fault(11000, "database is locked")] * 3,
            has_database=True,
        )


def test_a_crl_is_unpacked() -> None:
    builder = x509.CertificateRevocationListBuilder(
        CA.certificate.subject, pki.NOW, pki.NOW + timedelta(days=1), [], []
    )
    crl = builder.sign(CA.key, hashes.SHA256()).public_bytes(Encoding.DER)

    found, server = ask(lambda each: each.crl(), reply(b64encode(crl).decode()), has_database=True, publishes_crl=True)

    assert crl == found
    assert server.received[0].startswith(b"GET /api/v1/cfssl/crl ")


@pytest.mark.parametrize("text", ["!", b64encode(b"no CRL").decode()])
def test_a_crl_that_is_none_is_a_violation(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        ask(lambda each: each.crl(), reply(text), has_database=True, publishes_crl=True)


def test_it_can_do_what_its_database_allows() -> None:
    async def capabilities(connector: Connector) -> frozenset[Capability]:
        return connector.capabilities

    assert frozenset() == ask(capabilities)[0]
    assert {Capability.REVOKE} == ask(capabilities, has_database=True)[0]
    assert {Capability.RA_CERTIFICATE} == ask(capabilities, ra_profile="scep-ra")[0]
    assert {Capability.REVOKE, Capability.CRL} == ask(capabilities, has_database=True, publishes_crl=True)[0]
    with pytest.raises(pydantic.ValidationError, match="publishes_crl needs has_database"):
        Options(url=UNREACHABLE, publishes_crl=True)


def health(*answers: Answer, **options: Any) -> Health:
    found: Health = ask(lambda each: each.health(), *answers, **options)[0]
    return found


def test_it_is_ready_when_cfssl_knows_every_profile() -> None:
    found = health(DEFAULT, info(), DEFAULT, info("100h"), profile="devices", signing_profile="signing")

    assert found.ready, found.detail
    assert CA.certificate.not_valid_after_utc == found.ca_not_after


def test_it_is_not_ready_with_an_expired_ca() -> None:
    expired = pki.pem(CA.issue(pki.rsa_key(), not_after=pki.NOW)).decode()

    found = health(reply({"certificate": expired, "usages": [], "expiry": "1h"}))

    assert not found.ready
    assert "ran out" in found.detail


def test_it_is_not_ready_when_a_profile_is_unknown() -> None:
    found = health(DEFAULT, DEFAULT, profile="devices")

    assert not found.ready
    assert "Misconfigured" in found.detail
