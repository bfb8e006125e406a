from __future__ import annotations

from base64 import b64decode, b64encode, encodebytes
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydantic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    Connector,
    ConnectorError,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    Misconfigured,
    Pending,
    ProtocolViolation,
    RateLimited,
    Rejected,
    Rejection,
)
from connectors.est import Options
from ra.simulate.authority import SimulatedCa
from tests.fakes import pki
from tests.fakes.asking import CERTIFICATE_REQUEST_AGENT, SERVER_AUTH, request, use
from tests.fakes.backends import Answer, RawServer, http, raw_server, reset
from tests.fakes.connecting import Watched

CA, OTHER_CA = pki.root(), pki.root(number=5, name="Other CA")
LEAF = CA.issue(pki.rsa_key())
UNREACHABLE = "http://127.0.0.1:9"
PASSWORD = "the RA's password"


def bag(*certificates: x509.Certificate, encoded: Callable[[bytes], bytes] = b64encode) -> bytes:
    content = encoded(pkcs7.serialize_certificates(list(certificates), Encoding.DER))
    return http(200, content, kind="application/pkcs7-mime; smime-type=certs-only")


CACERTS = bag(CA.certificate)
ISSUED = bag(LEAF)


def ask(
    use_it: Callable[[Connector], Awaitable[Any]], *answers: Answer, directory: Path = Path(), **options: Any
) -> tuple[Any, RawServer]:
    with raw_server(answers) as server:
        block = {"url": server.url, "timeout_seconds": 5, "user": "scep-ra", "password": "file:password", **options}
        return use("est", block, Watched({"file:password": PASSWORD}).services(directory), use_it), server


def issue(*answers: Answer, asked: IssueRequest | None = None, **options: Any) -> tuple[IssueResult, RawServer]:
    return ask(lambda connector: connector.issue(asked or request()), *answers, **options)


def failed(*answers: Answer) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        issue(*answers)
    return caught.value


def paths(server: RawServer) -> list[str]:
    return [each.split()[1].decode() for each in server.received]


# ---------------------------------------------------------------- issuing


def test_the_csr_goes_out_as_the_device_signed_it() -> None:
    asked = request()

    result, server = issue(CACERTS, ISSUED, asked=asked)

    head, _, body = server.received[1].partition(b"\r\n\r\n")
    assert Issued(certificate=pki.der(LEAF), chain=CA.chain, reference=f"{LEAF.serial_number:x}") == result
    assert ["/.well-known/est/cacerts", "/.well-known/est/simpleenroll"] == paths(server)
    assert asked.csr == b64decode(body, validate=True)
    assert b"content-type: application/pkcs10" in head.lower()
    assert b"Basic " + b64encode(f"scep-ra:{PASSWORD}".encode()) in head


def test_a_label_is_a_part_of_every_path() -> None:
    _, server = issue(CACERTS, ISSUED, label="devices")

    assert ["/.well-known/est/devices/cacerts", "/.well-known/est/devices/simpleenroll"] == paths(server)


def test_the_ras_own_certificate_has_a_label_of_its_own() -> None:
    asked = request(extended_key_usage=(SERVER_AUTH, CERTIFICATE_REQUEST_AGENT))

    _, server = issue(CACERTS, ISSUED, asked=asked, label="devices", ra_label="ra")

    assert paths(server)[1] == "/.well-known/est/ra/simpleenroll"


@pytest.mark.parametrize("encoded", [b64encode, encodebytes, bytes], ids=["one line", "many lines", "DER"])
def test_a_bag_is_read_as_servers_send_it(encoded: Callable[[bytes], bytes]) -> None:
    result, _ = issue(bag(CA.certificate, encoded=encoded), bag(LEAF, encoded=encoded))

    assert isinstance(result, Issued)
    assert pki.der(LEAF) == result.certificate


def test_of_several_certificates_it_is_the_one_with_the_devices_key() -> None:
    result, _ = issue(CACERTS, bag(CA.certificate, LEAF))

    assert isinstance(result, Issued)
    assert pki.der(LEAF) == result.certificate


def test_a_certificate_of_another_key_is_handed_on_to_be_judged() -> None:
    other = CA.issue(pki.rsa_key(1))

    result, _ = issue(CACERTS, bag(other))

    assert isinstance(result, Issued)
    assert pki.der(other) == result.certificate


def test_after_a_change_of_the_ca_its_certificates_are_asked_for_anew() -> None:
    async def thrice(connector: Connector) -> list[IssueResult]:
        return [await connector.issue(request()) for _ in range(3)]

    leaf = OTHER_CA.issue(pki.rsa_key())
    script = [CACERTS, bag(leaf, OTHER_CA.certificate), bag(OTHER_CA.certificate), bag(leaf), bag(leaf)]
    results, _ = ask(thrice, *script)

    assert [OTHER_CA.chain] * 3 == [each.chain for each in results]


def test_a_request_that_is_none_is_refused_unasked() -> None:
    result, server = issue(asked=replace(request(), csr=b"0\x00"))

    assert isinstance(result, Rejected)
    assert result.rejection is Rejection.CSR
    assert not server.received


# ---------------------------------------------------------------- pending


def test_an_accepted_request_is_repeated_until_it_is_answered() -> None:
    asked = request()

    async def until_issued(connector: Connector) -> list[IssueResult]:
        first = await connector.issue(asked)
        assert isinstance(first, Pending)
        second = await connector.poll(first.reference, asked)
        assert isinstance(second, Pending)
        return [first, second, await connector.poll(second.reference, asked)]

    script = [CACERTS, http(202, headers={"Retry-After": "120"}), http(202), ISSUED]
    (first, second, third), server = ask(until_issued, *script, label="devices")

    assert (120, 300) == (first.retry_after_seconds, second.retry_after_seconds)
    assert isinstance(third, Issued)
    assert len({each.partition(b"\r\n\r\n")[2] for each in server.received[1:]}) == 1


def test_a_date_to_come_back_at_is_understood() -> None:
    result, _ = issue(CACERTS, http(202, headers={"Retry-After": "Mon, 23 Nov 2026 12:10:00 GMT"}))

    assert isinstance(result, Pending)
    assert result.retry_after_seconds == 600


def test_after_a_restart_the_reference_still_leads_to_the_same_label() -> None:
    asked = request()
    pending, _ = issue(CACERTS, http(202), asked=asked, label="devices")
    assert isinstance(pending, Pending)

    result, server = ask(lambda each: each.poll(pending.reference, asked), CACERTS, ISSUED, label="moved")

    assert isinstance(result, Issued)
    assert paths(server)[1] == "/.well-known/est/devices/simpleenroll"


def test_another_request_is_not_what_is_waited_for() -> None:
    pending, _ = issue(CACERTS, http(202))
    assert isinstance(pending, Pending)

    with pytest.raises(Misconfigured, match="another request"):
        ask(lambda each: each.poll(pending.reference, request(pki.rsa_key(1))))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", ["text/plain", "", "application/problem+json"])
def test_a_400_is_about_the_csr_and_final(kind: str) -> None:
    result, _ = issue(CACERTS, http(400, "the subject is not allowed\nmore of it", kind=kind))

    assert Rejected(rejection=Rejection.OTHER, detail="the subject is not allowed") == result


@pytest.mark.parametrize(
    ("answer", "expected", "maybe_issued"),
    [
        (http(400, "<html>No required SSL certificate was sent", kind="text/html"), Misconfigured, None),
        (http(401, headers={"WWW-Authenticate": "Basic"}), AuthFailed, None),
        (http(403), AuthFailed, None),
        (http(404), Misconfigured, None),
        (http(415), Misconfigured, None),
        (http(501), Misconfigured, None),
        (http(302, headers={"Location": "https://elsewhere.example"}), Misconfigured, None),
        (http(429, headers={"Retry-After": "7"}), RateLimited, False),
        (http(500), BackendUnavailable, True),
        (http(503, headers={"Retry-After": "7"}), BackendUnavailable, True),
        (reset, BackendUnavailable, True),
        (http(200, "<html>", kind="text/html"), ProtocolViolation, None),
        (http(200, b64encode(b"0\x00")), ProtocolViolation, None),
        (http(200), ProtocolViolation, None),
    ],
)
def test_what_is_not_the_devices_fault_is_an_error(
    answer: Answer, expected: type[ConnectorError], maybe_issued: bool | None
) -> None:
    error = failed(CACERTS, answer)

    assert type(error) is expected
    assert maybe_issued == getattr(error, "maybe_issued", None)


def test_a_fault_before_the_csr_is_sent_has_issued_nothing() -> None:
    error = failed(*[reset] * 3)

    assert isinstance(error, BackendUnavailable)
    assert not error.maybe_issued


# ---------------------------------------------------------------- chain, options, health


def chain(*certificates: x509.Certificate, **options: Any) -> Sequence[bytes]:
    found: Sequence[bytes] = ask(lambda each: each.ca_chain(), bag(*certificates), **options)[0]
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 0, 1)])
def test_the_chain_is_put_in_order(order: tuple[int, ...]) -> None:
    ca = SimulatedCa("Two", lambda: pki.NOW)
    everything = [ca.certificate, ca.root, ca.root]

    found = chain(*(everything[each] for each in order))

    assert [pki.der(ca.certificate), pki.der(ca.root)] == list(found)


def test_several_issuing_cas_have_to_be_told_apart_by_the_operator(tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_bytes(pki.pem(OTHER_CA.certificate))

    with pytest.raises(Misconfigured, match="set ca_chain: CN=Test CA, CN=Other CA"):
        chain(CA.certificate, OTHER_CA.certificate)
    found = chain(CA.certificate, OTHER_CA.certificate, directory=tmp_path, ca_chain="chain.pem")

    assert OTHER_CA.chain == found


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "EST wants to know who asks"),
        ({"user": "scep-ra"}, "belong together"),
        ({"password": "file:password"}, "belong together"),
        ({"user": "scep:ra", "password": "file:password"}, "colon"),
        ({"user": "a", "password": "file:password", "label": "../other"}, "label"),
        ({"user": "a", "password": "file:password", "label": ".."}, "label"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=says):
        Options(url=UNREACHABLE, **options)


def test_it_issues_the_ras_certificate_only_where_a_label_is_named() -> None:
    async def capabilities(connector: Connector) -> frozenset[Capability]:
        return connector.capabilities

    assert {Capability.POLL} == ask(capabilities)[0]
    assert {Capability.POLL, Capability.RA_CERTIFICATE} == ask(capabilities, ra_label="ra")[0]


def health(*answers: Answer) -> Health:
    found: Health = ask(lambda each: each.health(), *answers)[0]
    return found


def test_it_is_ready_when_the_server_hands_out_its_ca() -> None:
    found = health(CACERTS)

    assert found.ready
    assert CA.certificate.not_valid_after_utc == found.ca_not_after


@pytest.mark.parametrize(
    ("answer", "says"),
    [(bag(CA.issue(pki.rsa_key(), not_after=pki.NOW - timedelta(hours=1))), "ran out"), (http(404), "Misconfigured")],
    ids=["expired", "no such path"],
)
def test_it_is_not_ready_without_a_good_ca(answer: Answer, says: str) -> None:
    found = health(answer)

    assert not found.ready
    assert says in found.detail
