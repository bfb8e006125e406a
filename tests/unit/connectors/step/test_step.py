from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    ConnectorError,
    Health,
    Issued,
    IssueResult,
    Misconfigured,
    ProtocolViolation,
    Rejected,
    Rejection,
    RevocationReason,
    San,
    SanKind,
)
from connectors.step import jose
from tests.fakes import pki
from tests.fakes.asking import COMMON_NAME, ORGANIZATION, issue, request, subject, use
from tests.fakes.backends import Answer, RawServer, http, raw_server, reset
from tests.fakes.connecting import Watched

CA = pki.root()
LEAF = pki.pem(CA.issue(pki.rsa_key())).decode()
SIGNED = http(201, json.dumps({"crt": LEAF, "certChain": [LEAF, pki.pem(CA.certificate).decode()]}))
CERTIFICATES = http(201, json.dumps({"crts": [pki.pem(CA.certificate).decode()]}))
HEALTHY = http(200, '{"status":"ok"}')


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    key = pki.key("ec:p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "key").chmod(0o600)
    return {"provisioner": {"type": "jwk", "name": "scep-ra", "key": tmp_path / "key"}, "timeout_seconds": 5}


def refusal(status: int, message: str) -> bytes:
    return http(status, json.dumps({"status": status, "message": message}))


def asked(options: dict[str, Any], *answers: Answer, **more: Any) -> tuple[IssueResult, RawServer]:
    with raw_server(answers) as server:
        return issue("step", {**options, "url": server.url, **more}, Watched().services(), request()), server


def failed(options: dict[str, Any], *answers: Answer) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        asked(options, *answers)
    return caught.value


def body(received: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(received.partition(b"\r\n\r\n")[2])
    return found


def claims(received: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(body(received)["ott"].split(".")[1] + "=="))
    return found


# ---------------------------------------------------------------- issuing


def test_the_chain_that_is_answered_is_handed_on(options: dict[str, Any]) -> None:
    result, server = asked(options, SIGNED)

    assert isinstance(result, Issued)
    assert CA.chain == result.chain
    assert server.received[0].startswith(b"POST /1.0/sign ")
    assert body(server.received[0])["notAfter"] == "2026-12-23T12:00:00Z"


def test_what_was_approved_is_in_the_token(options: dict[str, Any]) -> None:
    _, server = asked(options, SIGNED)

    said = claims(server.received[0])
    assert ("device-1", ["device-1.example.org"]) == (said["sub"], said["sans"])
    assert [{"type": "dns", "value": "device-1.example.org"}] == said["scep_ra"]["sans"]
    assert ["digitalSignature", "keyEncipherment"] == said["scep_ra"]["keyUsage"]
    assert (["clientAuth"], []) == (said["scep_ra"]["extKeyUsage"], said["scep_ra"]["unknownExtKeyUsage"])


def test_the_default_template_is_told_the_approved_names_and_nothing_else(options: dict[str, Any]) -> None:
    _, server = asked(options, SIGNED, template="default")

    assert "scep_ra" not in claims(server.received[0])


@pytest.mark.parametrize(
    "contents",
    [
        {"subject": subject((COMMON_NAME, "device-1"), (ORGANIZATION, "Example"))},
        {"subject": ()},
        {"subject_alternative_names": ()},
        {"subject_alternative_names": (San(SanKind.UPN, "a@example.org"),)},
        {"sid": "S-1-5-21-1-2-3-4"},
    ],
    ids=["organisation", "no common name", "no alternative name", "UPN", "SID"],
)
def test_what_the_default_template_cannot_say_is_refused_unasked(
    options: dict[str, Any], contents: dict[str, Any]
) -> None:
    unreachable = {**options, "url": "http://127.0.0.1:9", "template": "default"}

    result = issue("step", unreachable, Watched().services(), request(**contents))

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.NAME


@pytest.mark.parametrize("template", ["scep-ra", "default"])
def test_a_request_that_is_none_is_refused_unasked(options: dict[str, Any], template: str) -> None:
    unreachable = {**options, "url": "http://127.0.0.1:9", "template": template}

    result = issue("step", unreachable, Watched().services(), replace(request(), csr=b"0\x00"))

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.CSR


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "The request could not be completed: invalid csr.", Rejection.CSR),
        (400, "certificate request key of type '*dsa.PublicKey' is not supported", Rejection.KEY),
        (403, "certificate request RSA key must be at least 2048 bits (256 bytes)", Rejection.KEY),
        (403, "certificate request does not contain the valid DNS names - got [b], want [a]", Rejection.NAME),
        (403, "certificate request does not contain the valid common name - got b, want a", Rejection.NAME),
        (403, 'The request was forbidden by the certificate authority: dns name "a" not allowed', Rejection.NAME),
        (403, "webhook server did not allow request", Rejection.POLICY),
    ],
)
def test_a_refusal_of_the_device_is_final(
    options: dict[str, Any], status: int, message: str, expected: Rejection
) -> None:
    result, _ = asked(options, refusal(status, message))

    assert Rejected(rejection=expected, detail=message) == result


@pytest.mark.parametrize(
    ("answer", "expected", "maybe_issued"),
    [
        (refusal(401, "The request lacked necessary authorization to be completed."), AuthFailed, None),
        (refusal(403, "requested duration of 720h is more than the authorized maximum"), Misconfigured, None),
        (refusal(403, "The request was forbidden by the certificate authority."), Misconfigured, None),
        (refusal(400, "missing ott"), Misconfigured, None),
        (http(404, "404 page not found\n", kind="text/plain"), Misconfigured, None),
        (refusal(500, "error applying certificate template"), Misconfigured, None),
        (refusal(500, "The certificate authority encountered an Internal Server Error."), BackendUnavailable, True),
        (http(502, "<html>", kind="text/html"), BackendUnavailable, True),
        (reset, BackendUnavailable, True),
        (http(201, "<html>", kind="text/html"), ProtocolViolation, None),
        (http(201, '{"crt": "x"}'), ProtocolViolation, None),
        (http(201, '{"certChain": ["x", "y"]}'), ProtocolViolation, None),
    ],
)
def test_what_is_not_the_devices_fault_is_an_error(
    options: dict[str, Any], answer: Answer, expected: type[ConnectorError], maybe_issued: bool | None
) -> None:
    error = failed(options, answer)

    assert type(error) is expected
    assert maybe_issued == getattr(error, "maybe_issued", None)


def test_the_token_is_never_repeated_to_anybody(options: dict[str, Any]) -> None:
    def echo(connection: Any) -> None:
        connection.sendall(refusal(403, "your token was " + body(server.received[0])["ott"]))

    with raw_server([echo]) as server, pytest.raises(Misconfigured) as caught:
        issue("step", {**options, "url": server.url}, Watched().services(), request())

    assert "eyJ" not in str(caught.value)


def test_only_the_documented_template_makes_the_certificate_from_what_was_approved(options: dict[str, Any]) -> None:
    def capabilities(template: str) -> frozenset[Capability]:
        async def read(connector: Any) -> frozenset[Capability]:
            found: frozenset[Capability] = connector.capabilities
            return found

        return use("step", {**options, "url": "https://ca.example", "template": template}, Watched().services(), read)

    special = {Capability.EXPLICIT_CONTENTS, Capability.SID, Capability.RA_CERTIFICATE}
    assert special <= capabilities("scep-ra")
    assert not special & capabilities("default")
    assert not special & capabilities("other")


# ---------------------------------------------------------------- afterwards


def revoke(options: dict[str, Any], *answers: Answer) -> RawServer:
    with raw_server(answers) as server:
        certificate = pki.der(CA.issue(pki.rsa_key()))
        use(
            "step",
            {**options, "url": server.url},
            Watched().services(),
            lambda connector: connector.revoke(certificate, RevocationReason.KEY_COMPROMISE),
        )
    return server


def test_a_revocation_says_why_and_its_token_names_the_serial_number(options: dict[str, Any]) -> None:
    server = revoke(options, HEALTHY)

    sent, said = body(server.received[0]), claims(server.received[0])
    assert (1, True) == (sent["reasonCode"], sent["passive"])
    assert sent["serial"] == said["sub"]
    assert said["aud"].endswith("/1.0/revoke")


def test_what_is_revoked_already_is_revoked(options: dict[str, Any]) -> None:
    revoke(options, refusal(400, "certificate with serial number '7' is already revoked."))


def test_a_revocation_that_step_ca_does_not_take_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="reasonCode out of bounds"):
        revoke(options, refusal(400, "reasonCode out of bounds"))


# ---------------------------------------------------------------- health


def provisioners(*found: dict[str, Any], cursor: str = "") -> bytes:
    return http(200, json.dumps({"provisioners": list(found), "nextCursor": cursor}))


def ours(**more: Any) -> dict[str, Any]:
    key = {"kid": jose.thumbprint(pki.key("ec:p256"))}
    return {"type": "JWK", "name": "scep-ra", "key": key, "options": {"x509": {"template": "{}"}}, **more}


def health(options: dict[str, Any], *answers: Answer) -> Health:
    with raw_server(answers) as server:
        return use("step", {**options, "url": server.url}, Watched().services(), lambda connector: connector.health())


def test_it_is_ready_when_step_ca_has_our_provisioner_on_whatever_page(options: dict[str, Any]) -> None:
    other = {"type": "ACME", "name": "acme"}

    found = health(
        options, HEALTHY, CERTIFICATES, CERTIFICATES, provisioners(other, cursor="a+b"), provisioners(ours())
    )

    assert found.ready, found.detail
    assert CA.certificate.not_valid_after_utc == found.ca_not_after


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ([], "has no jwk provisioner"),
        ([ours(key={"kid": "another"})], "with our key"),
        ([ours(type="X5C")], "has no jwk provisioner"),
        ([ours(options=None)], "has no template"),
        ([ours(options={"x509": {}})], "has no template"),
    ],
    ids=["none", "another key", "another type", "no options", "no template"],
)
def test_it_is_not_ready_without_our_provisioner(
    options: dict[str, Any], listed: list[dict[str, Any]], says: str
) -> None:
    found = health(options, HEALTHY, CERTIFICATES, CERTIFICATES, provisioners(*listed))

    assert not found.ready
    assert says in found.detail


def _expired() -> bytes:
    return http(201, json.dumps({"crts": [pki.pem(CA.issue(pki.rsa_key(), not_after=pki.NOW)).decode()]}))


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((http(200, '{"status":"down"}'),), "step-ca says"),
        ((HEALTHY, _expired(), CERTIFICATES), "ran out"),
        ((HEALTHY, http(501, "{}")), "Misconfigured"),
    ],
    ids=["not ok", "expired", "no intermediates"],
)
def test_it_is_not_ready_without_a_good_ca(options: dict[str, Any], answers: tuple[Answer, ...], says: str) -> None:
    found = health(options, *answers)

    assert not found.ready
    assert says in found.detail


def test_a_crl_is_read_only_where_there_is_one(options: dict[str, Any]) -> None:
    no_crl: Callable[[Any], Any] = lambda connector: connector.crl()  # noqa: E731 - typed for the calls below

    with pytest.raises(Misconfigured, match="look at its capabilities"):
        use("step", {**options, "url": "http://127.0.0.1:9"}, Watched().services(), no_crl)
    with raw_server([http(200, b"no CRL")]) as server, pytest.raises(ProtocolViolation):
        use("step", {**options, "url": server.url, "publishes_crl": True}, Watched().services(), no_crl)
