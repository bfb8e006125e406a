from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors.acme import AcmeCa
from connectors.api import (
    ApprovedContents,
    AuthFailed,
    BackendUnavailable,
    Capability,
    ConnectorError,
    Issued,
    IssueRequest,
    KeyUsage,
    Misconfigured,
    Pending,
    ProtocolViolation,
    RateLimited,
    Rejected,
    Rejection,
    RevocationReason,
    San,
    SanKind,
)
from tests.fakes import pki
from tests.fakes.acme import URL, FakeAcme, connected, instead, lost_after, lost_before, problem
from tests.fakes.connecting import Watched

BRIEFLY, LONG = timedelta(seconds=60), timedelta(seconds=121)
ELSEWHERE = "https://elsewhere.example.org/order/1"


def request(number: int = 0) -> IssueRequest:
    key = pki.key("ec:p256", number)
    csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    contents = ApprovedContents(
        subject=(),
        subject_alternative_names=(San(SanKind.DNS, "device.example.org"),),
        spki=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE}),
        extended_key_usage=("1.3.6.1.5.5.7.3.2",),
        validity=timedelta(days=30),
    )
    return IssueRequest(
        csr=csr.public_bytes(Encoding.DER),
        contents=contents,
        profile="default",
        idempotency_key=uuid4(),
        requested_at=pki.NOW,
    )


REQUEST = request()


def use(
    server: FakeAcme,
    directory: Path,
    calls: Callable[[AcmeCa], Awaitable[Any]],
    watched: Watched | None = None,
    **options: Any,
) -> Any:
    """What `calls` returns, with a connector that was just started; its files stay in `directory`."""

    async def opened() -> Any:
        connector = connected(server, directory, watched, **options)
        try:
            return await calls(connector)
        finally:
            await connector.aclose()

    return asyncio.run(opened())


def issue(server: FakeAcme, directory: Path, watched: Watched | None = None, **options: Any) -> Any:
    return use(server, directory, lambda ca: ca.issue(REQUEST), watched, **options)


def find(server: FakeAcme, directory: Path, watched: Watched | None = None, **options: Any) -> Any:
    return use(server, directory, lambda ca: ca.find_issued(REQUEST, REQUEST.requested_at), watched, **options)


def later(moment: timedelta) -> Watched:
    return Watched(moment=pki.NOW + moment)


# -------------------------------------------------------------------- the straight line
def test_an_authorised_name_takes_one_order_and_one_finalize(tmp_path: Path) -> None:
    server = FakeAcme()

    issued = issue(server, tmp_path)

    ((number, certificate),) = server.certificates.items()
    expected = Issued(certificate=pki.der(certificate), chain=server.ca.chain, reference=f"{URL}/order/{number}")
    assert expected == issued
    assert ["directory", "nonce", "account", "account", "new-order", "finalize", "certificate"] == server.seen


def test_a_second_request_asks_neither_for_the_directory_nor_for_a_nonce(tmp_path: Path) -> None:
    server = FakeAcme()

    async def both(ca: AcmeCa) -> None:
        await ca.issue(REQUEST)
        server.seen.clear()
        await ca.issue(request(1))

    use(server, tmp_path, both)

    assert ["new-order", "finalize", "certificate"] == server.seen


def test_the_order_says_what_is_wanted(tmp_path: Path) -> None:
    server = FakeAcme()

    issue(server, tmp_path, sends_not_after=True, profile="devices")

    expected = {
        "identifiers": [{"type": "dns", "value": "device.example.org"}],
        "notAfter": "2026-12-23T12:00:00Z",
        "profile": "devices",
    }
    assert expected == server.payloads["new-order"]


def test_every_call_is_measured_by_a_word_of_few(tmp_path: Path) -> None:
    watched = Watched()

    issue(FakeAcme(), tmp_path, watched)

    words = [word for word, _ in watched.observed]
    assert ["directory", "nonce", "account", "account", "order", "finalize", "certificate"] == words


def test_a_name_that_acme_does_not_know_is_refused_before_an_order(tmp_path: Path) -> None:
    server = FakeAcme()
    contents = replace(REQUEST.contents, subject_alternative_names=(San(SanKind.EMAIL, "a@example.org"),))

    result = use(server, tmp_path, lambda ca: ca.issue(replace(REQUEST, contents=contents)))

    assert isinstance(result, Rejected)
    assert Rejection.NAME is result.rejection
    assert [] == server.seen


# -------------------------------------------------------------------- pending
def test_an_order_in_processing_is_pending_and_its_url_the_reference(tmp_path: Path) -> None:
    server = FakeAcme(finalised="processing")

    pending = issue(server, tmp_path)

    assert isinstance(pending, Pending)
    assert pending.reference == f"{URL}/order/{next(iter(server.orders))}"


def test_a_poll_hands_out_what_has_become_of_the_order(tmp_path: Path) -> None:
    server = FakeAcme(finalised="processing")
    pending = issue(server, tmp_path)
    for each in server.orders.values():
        each["status"] = "valid"

    issued = use(server, tmp_path, lambda ca: ca.poll(pending.reference, REQUEST))

    assert isinstance(issued, Issued)
    assert 1 == server.counted("finalize")


def test_the_server_says_when_to_come_back(tmp_path: Path) -> None:
    server = FakeAcme(finalised="processing")

    def slow(_request: httpx.Request, do: Callable[[], httpx.Response]) -> httpx.Response:
        reply = do()
        reply.headers["Retry-After"] = "77"
        return reply

    server.scripts["order"] = [slow]

    assert 77 == issue(server, tmp_path).retry_after_seconds


def test_the_longer_it_has_taken_the_rarer_it_is_looked_at(tmp_path: Path) -> None:
    server = FakeAcme(finalised="processing")
    reference = issue(server, tmp_path).reference

    waits = [
        use(server, tmp_path, lambda ca: ca.poll(reference, REQUEST), later(age)).retry_after_seconds
        for age in (timedelta(), timedelta(minutes=2), timedelta(days=2))
    ]

    assert [2, 30, 3600] == waits


def test_an_order_that_failed_for_the_requests_own_fault_is_a_final_no(tmp_path: Path) -> None:
    server = FakeAcme(finalised="processing")
    pending = issue(server, tmp_path)
    for each in server.orders.values():
        each |= {"status": "invalid", "error": {"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden"}}

    result = use(server, tmp_path, lambda ca: ca.poll(pending.reference, REQUEST))

    assert Rejected(rejection=Rejection.NAME, detail="caa: forbidden") == result


@pytest.mark.parametrize("kind", ["serverInternal", "dns", "unauthorized", "malformed"])
def test_an_order_that_failed_for_anything_else_is_placed_again(kind: str, tmp_path: Path) -> None:
    server = FakeAcme(finalised="processing")
    pending = issue(server, tmp_path)
    for each in server.orders.values():
        each |= {"status": "invalid", "error": {"type": f"urn:ietf:params:acme:error:{kind}"}}
    server.finalised = "valid"

    issued = use(server, tmp_path, lambda ca: ca.poll(pending.reference, REQUEST))

    assert isinstance(issued, Issued)
    assert pending.reference != issued.reference


def test_who_gets_an_order_that_another_key_has_used_places_a_new_one(tmp_path: Path) -> None:
    """Boulder hands one order to everybody who wants the same names, until it is finalised."""
    server, other = FakeAcme(same_order=True), request(1)
    issue(server, tmp_path)

    def used(_request: httpx.Request, do: Callable[[], httpx.Response]) -> httpx.Response:
        reply = do()
        server.same_order = False
        return reply

    server.scripts["new-order"] = [used]

    pending = use(server, tmp_path, lambda ca: ca.issue(other))
    issued = use(server, tmp_path, lambda ca: ca.poll(pending.reference, other))

    assert isinstance(pending, Pending)
    key = x509.load_der_x509_certificate(issued.certificate).public_key()
    assert pki.key("ec:p256", 1).public_key() == key


# -------------------------------------------------------------------- what is lost
@pytest.mark.parametrize("script", [lost_before, lost_after])
def test_a_lost_answer_to_finalize_is_no_fault_but_pending(script: Any, tmp_path: Path) -> None:
    server = FakeAcme(scripts={"finalize": [script], "order": [instead(httpx.Response(502))] * 9})

    pending = issue(server, tmp_path)

    assert isinstance(pending, Pending)
    assert 1 == server.counted("finalize")


def test_after_a_lost_answer_the_order_is_looked_at_again(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"finalize": [lost_after]})

    issued = issue(server, tmp_path)

    assert isinstance(issued, Issued)
    assert ["finalize", "nonce", "order", "certificate"] == server.seen[-4:]


def test_a_finalize_that_may_be_under_way_is_not_sent_again(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"finalize": [lost_before]})
    reference = issue(server, tmp_path).reference

    pending = use(server, tmp_path, lambda ca: ca.poll(reference, REQUEST), later(BRIEFLY))

    assert isinstance(pending, Pending)
    assert 1 == server.counted("finalize")


def test_a_finalize_that_surely_never_arrived_is_sent_again_for_the_same_order(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"finalize": [lost_before]})
    reference = issue(server, tmp_path).reference

    issued = use(server, tmp_path, lambda ca: ca.poll(reference, REQUEST), later(LONG))

    assert isinstance(issued, Issued)
    assert reference == issued.reference
    assert 1 == len(server.orders)


def test_a_crash_after_finalize_leaves_what_the_next_attempt_finds(tmp_path: Path) -> None:
    server = FakeAcme()

    def crash(_request: httpx.Request, do: Callable[[], httpx.Response]) -> httpx.Response:
        do()
        raise SystemExit

    server.scripts["finalize"] = [crash]
    with pytest.raises(SystemExit):
        issue(server, tmp_path)

    found, again = find(server, tmp_path), issue(server, tmp_path)

    assert isinstance(found, Issued)
    assert found == again
    assert 1 == server.issued


def test_a_crash_before_finalize_is_a_certain_no(tmp_path: Path) -> None:
    server = FakeAcme()

    def crash(_request: httpx.Request, do: Callable[[], httpx.Response]) -> httpx.Response:
        do()
        raise SystemExit

    server.scripts["new-order"] = [crash]
    with pytest.raises(SystemExit):
        issue(server, tmp_path)

    assert find(server, tmp_path) is None


def test_a_lost_finalize_is_no_certain_no_until_it_has_settled(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"finalize": [lost_before]})
    issue(server, tmp_path)

    with pytest.raises(BackendUnavailable, match="may yet be signed"):
        find(server, tmp_path, later(BRIEFLY))

    assert find(server, tmp_path, later(LONG)) is None


def test_a_finalize_that_was_refused_leaves_a_certain_no(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"finalize": [instead(problem(403, "accountIsTired"))]})
    with pytest.raises(Misconfigured):
        issue(server, tmp_path)

    assert find(server, tmp_path) is None
    assert isinstance(issue(server, tmp_path), Issued)


def test_a_certificate_that_cannot_be_fetched_now_is_fetched_later(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"certificate": [instead(httpx.Response(404))]})

    pending = issue(server, tmp_path)
    issued = use(server, tmp_path, lambda ca: ca.poll(pending.reference, REQUEST))

    assert isinstance(issued, Issued)
    assert 1 == server.issued


def test_an_answer_to_finalize_that_says_nothing_counts_as_lost(tmp_path: Path) -> None:
    def blurted(_request: httpx.Request, do: Callable[[], httpx.Response]) -> httpx.Response:
        do()
        return httpx.Response(200, html="<html>It works!</html>")

    issued = issue(FakeAcme(scripts={"finalize": [blurted]}), tmp_path)

    assert isinstance(issued, Issued)


def test_machines_that_do_not_share_their_state_promise_nothing(tmp_path: Path) -> None:
    server = FakeAcme()

    capabilities = connected(server, tmp_path, state_is_shared=False).capabilities

    assert not capabilities & {Capability.IDEMPOTENT, Capability.FIND_ISSUED}
    with pytest.raises(Misconfigured):
        find(server, tmp_path, state_is_shared=False)


@pytest.mark.parametrize(("is_shared", "expected"), [(True, 2), (False, 120)])
def test_a_machine_that_does_not_know_of_a_finalize_comes_late_enough(
    is_shared: bool, expected: int, tmp_path: Path
) -> None:
    server = FakeAcme(scripts={"finalize": [lost_before]})

    pending = issue(server, tmp_path, state_is_shared=is_shared)

    assert expected == pending.retry_after_seconds


# -------------------------------------------------------------------- refusals and faults
REFUSED_ORDERS = {
    "rejectedIdentifier": Rejection.NAME,
    "unsupportedIdentifier": Rejection.NAME,
    "caa": Rejection.NAME,
}
REFUSED_CSRS = {
    "badCSR": Rejection.CSR,
    "unauthorized": Rejection.CSR,
    "malformed": Rejection.CSR,
    "badPublicKey": Rejection.KEY,
    "badSignatureAlgorithm": Rejection.KEY,
}


@pytest.mark.parametrize(("kind", "rejection"), REFUSED_ORDERS.items())
def test_an_order_is_refused(kind: str, rejection: Rejection, tmp_path: Path) -> None:
    result = issue(FakeAcme(scripts={"new-order": [instead(problem(400, kind))]}), tmp_path)

    assert Rejected(rejection=rejection, detail=f"{kind}: so it is") == result


@pytest.mark.parametrize(("kind", "rejection"), REFUSED_CSRS.items())
def test_a_csr_is_refused(kind: str, rejection: Rejection, tmp_path: Path) -> None:
    result = issue(FakeAcme(scripts={"finalize": [instead(problem(403, kind))]}), tmp_path)

    assert Rejected(rejection=rejection, detail=f"{kind}: so it is") == result


def test_of_several_problems_the_requests_own_counts(tmp_path: Path) -> None:
    body = {
        "type": "urn:ietf:params:acme:error:compound",
        "subproblems": [
            {"type": "urn:ietf:params:acme:error:dns", "detail": "first"},
            {"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "second"},
        ],
    }

    result = issue(FakeAcme(scripts={"new-order": [instead(httpx.Response(400, json=body))]}), tmp_path)

    assert Rejected(rejection=Rejection.NAME, detail="rejectedIdentifier: second") == result


FAULTS: list[tuple[httpx.Response, type[ConnectorError]]] = [
    (problem(400, "malformed"), Misconfigured),
    (problem(400, "invalidProfile"), Misconfigured),
    (problem(400, "somethingNew"), Misconfigured),
    (problem(403, "userActionRequired"), Misconfigured),
    (problem(403, "unauthorized"), AuthFailed),
    (problem(400, "accountDoesNotExist"), AuthFailed),
    (problem(403, "orderNotReady"), BackendUnavailable),
    (problem(429, "rateLimited"), RateLimited),
    (problem(403, "rateLimited"), RateLimited),
    (problem(500, "serverInternal"), BackendUnavailable),
    (problem(503, "serverInternal"), BackendUnavailable),
    (httpx.Response(400, text="no problem document"), Misconfigured),
    (httpx.Response(403, html="<h1>Forbidden</h1>"), AuthFailed),
    (httpx.Response(404, html="<h1>Not found</h1>"), Misconfigured),
    (httpx.Response(302, headers={"Location": ELSEWHERE}), Misconfigured),
    (httpx.Response(200, html="<h1>It works!</h1>"), ProtocolViolation),
    (httpx.Response(201, json={"status": "ready", "finalize": "x"}), ProtocolViolation),
    (httpx.Response(201, json={"status": "unheard of", "finalize": "x"}), ProtocolViolation),
]


@pytest.mark.parametrize(("reply", "expected"), FAULTS, ids=lambda value: getattr(value, "status_code", None))
def test_a_servers_fault_is_never_a_refusal(
    reply: httpx.Response, expected: type[ConnectorError], tmp_path: Path
) -> None:
    server = FakeAcme(scripts={"new-order": [instead(reply)] * 2})

    with pytest.raises(ConnectorError) as raised:
        issue(server, tmp_path)

    assert expected is type(raised.value)
    assert not getattr(raised.value, "maybe_issued", False)


def test_a_rate_limit_says_when_to_come_back(tmp_path: Path) -> None:
    limited = problem(429, "rateLimited", **{"Retry-After": "120"})

    with pytest.raises(RateLimited) as raised:
        issue(FakeAcme(scripts={"new-order": [instead(limited)]}), tmp_path)

    assert 120 == raised.value.retry_after_seconds


@pytest.mark.parametrize("operation", ["new-order", "account"])
def test_a_url_that_leads_elsewhere_is_not_followed(operation: str, tmp_path: Path) -> None:
    body = {"status": "ready", "finalize": f"{URL}/finalize/1"}
    reply = httpx.Response(201, json=body, headers={"Location": ELSEWHERE})
    server = FakeAcme(scripts={operation: [instead(reply)]})

    with pytest.raises(ProtocolViolation, match=r"elsewhere\.example\.org"):
        issue(server, tmp_path)


def test_a_finalize_that_leads_elsewhere_is_not_sent(tmp_path: Path) -> None:
    body = {"status": "ready", "finalize": ELSEWHERE}
    reply = httpx.Response(201, json=body, headers={"Location": f"{URL}/order/1"})

    server = FakeAcme(scripts={"new-order": [instead(reply)]})

    with pytest.raises(ProtocolViolation, match=r"elsewhere\.example\.org"):
        issue(server, tmp_path)

    assert find(server, tmp_path) is None


# -------------------------------------------------------------------- afterwards
def test_revocation_gives_the_reason(tmp_path: Path) -> None:
    server = FakeAcme()

    use(server, tmp_path, lambda ca: ca.revoke(b"\xff\xfe", RevocationReason.CESSATION_OF_OPERATION))

    assert {"certificate": "__4", "reason": 5} == server.payloads["revoke"]


def test_a_reason_that_the_server_does_not_take_is_left_out(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"revoke": [instead(problem(400, "badRevocationReason"))]})

    use(server, tmp_path, lambda ca: ca.revoke(b"\xff\xfe", RevocationReason.PRIVILEGE_WITHDRAWN))

    assert {"certificate": "__4"} == server.payloads["revoke"]


def test_what_is_revoked_already_is_revoked(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"revoke": [instead(problem(400, "alreadyRevoked"))]})

    use(server, tmp_path, lambda ca: ca.revoke(b"\xff\xfe", RevocationReason.SUPERSEDED))

    assert 1 == server.counted("revoke")


def test_health_says_what_is_wrong(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"directory": [instead(httpx.Response(404, text="no such page"))]})

    health = use(server, tmp_path, lambda ca: ca.health())

    assert not health.ready
    assert "no such page" in health.detail


def test_a_ca_that_has_run_out_is_not_ready(tmp_path: Path) -> None:
    health = use(FakeAcme(), tmp_path, lambda ca: ca.health(), later(timedelta(days=36500)))

    assert not health.ready
    assert "ran out" in health.detail
