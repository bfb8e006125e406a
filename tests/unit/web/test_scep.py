"""The protocol over HTTP, at every path and in every shape that clients have."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive

from ra.client.bags import read_bag
from ra.errors import Unavailable
from ra.scep.errors import Unreadable
from ra.scep.transport import MAX_MESSAGE_BYTES
from ra.web.app import build_public
from tests.fakes.services import FakeRa, ask, endpoint

MESSAGE = b"\x30\x82\x01\x00" + bytes(range(256))
API = "/api/v1/scep"


@pytest.fixture
def ra() -> FakeRa:
    return FakeRa()


@pytest.fixture
def app(ra: FakeRa) -> ASGIApp:
    return build_public(ra.services())


def get(app: ASGIApp, url: str, **options: Any) -> httpx.Response:
    return asyncio.run(ask(app, "GET", url, **options))


def post(app: ASGIApp, url: str, **options: Any) -> httpx.Response:
    return asyncio.run(ask(app, "POST", url, **options))


def certificates(reply: httpx.Response) -> list[str]:
    """The subjects of the answer's certificates, in its order."""
    return [each.subject.rfc4514_string() for each in read_bag(reply.content, "GetCACert").certificates]


# ---------------------------------------------------------------- operations
@pytest.mark.rfc8894("mandatory-caps", "caps-text-plain", "standard-implies", "caps-of-nothing")
def test_get_ca_caps_is_plain_text_without_a_charset(app: ASGIApp) -> None:
    reply = get(app, f"{API}?operation=GetCACaps")

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain"
    assert {"AES", "POSTPKIOperation", "SCEPStandard", "SHA-256", "SHA-512"} == set(reply.text.split("\n"))


def test_every_answer_says_its_length_and_is_not_stored(app: ASGIApp) -> None:
    reply = get(app, f"{API}?operation=GetCACaps")

    assert str(len(reply.content)) == reply.headers["content-length"]
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "transfer-encoding" not in reply.headers


@pytest.mark.rfc8894("ca-certificates-in-clear", "mandatory-ca-cert", "chain-of-cas")
def test_get_ca_cert_has_the_ra_certificate_and_then_the_issuer(app: ASGIApp) -> None:
    reply = get(app, f"{API}?operation=GetCACert&message=anything")

    assert reply.headers["content-type"] == "application/x-x509-ca-ra-cert"
    assert certificates(reply) == ["CN=SCEP RA test", "CN=Test CA"]


def test_a_caller_that_accepts_the_older_label_gets_it(app: ASGIApp) -> None:
    reply = get(app, f"{API}?operation=GetCACert", headers={"Accept": "text/html, Application/X-PKCS-Certs;q=0.9"})

    assert reply.headers["content-type"] == "application/x-pkcs-certs"
    assert len(certificates(reply)) == 2


def test_get_ca_cert_chain_of_the_drafts_is_answered(app: ASGIApp) -> None:
    reply = get(app, f"{API}?operation=GetCACertChain")

    assert reply.headers["content-type"] == "application/x-x509-ca-ra-cert-chain"
    assert len(certificates(reply)) == 2


def test_get_next_ca_cert_is_said_not_to_be_offered(app: ASGIApp) -> None:
    reply = get(app, f"{API}?operation=GetNextCACert")

    assert reply.status_code == 404
    assert "not offered" in reply.text


def test_the_next_ca_is_announced_and_shown_while_there_is_one() -> None:
    app = build_public(FakeRa(next_ca=b"a signed message").services())

    reply = get(app, f"{API}?operation=GetNextCACert")

    assert "application/x-x509-next-ca-cert" == reply.headers["content-type"]
    assert b"a signed message" == reply.content
    assert "GetNextCACert" in get(app, f"{API}?operation=GetCACaps").text.split()


def test_what_anybody_may_read_is_counted_and_a_pki_operation_is_not(app: ASGIApp, ra: FakeRa) -> None:
    for url in ("/scep?operation=GetCACaps", "/scep/other?operation=GetCACert"):
        get(app, url)
    post(app, "/scep?operation=PKIOperation", content=MESSAGE)

    assert [("default", "GetCACaps"), ("other", "GetCACert")] == ra.reads


@pytest.mark.rfc8894("mandatory-post", "reply-media-type")
def test_a_posted_message_is_answered(app: ASGIApp, ra: FakeRa) -> None:
    reply = post(app, f"{API}?operation=PKIOperation", content=MESSAGE)

    assert ra.asked == [("default", MESSAGE)]
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/x-pki-message"
    assert reply.content == b"a CertRep"


@pytest.mark.rfc8894("get")
def test_a_message_in_the_query_is_answered(app: ASGIApp, ra: FakeRa) -> None:
    encoded = base64.b64encode(MESSAGE).decode().replace("=", "%3D").replace("/", "%2F")

    reply = get(app, f"{API}?operation=PKIOperation&message={encoded}")

    assert ra.asked == [("default", MESSAGE)]
    assert reply.content == b"a CertRep"


def test_a_post_without_body_may_have_its_message_in_the_query(app: ASGIApp, ra: FakeRa) -> None:
    post(app, f"{API}?operation=PKIOperation&message={base64.urlsafe_b64encode(MESSAGE).decode()}")

    assert ra.asked == [("default", MESSAGE)]


# ---------------------------------------------------------------- quirks
@pytest.mark.rfc8894("base64-in-get")
def test_q17_a_plus_in_the_query_stays_a_plus(app: ASGIApp, ra: FakeRa) -> None:
    message = b"\x30\x04\x00\xfb\xef\xbe"  # in base64 MAQA++++, which a form parser would take for MAQA and spaces

    get(app, f"{API}?operation=PKIOperation&message={base64.b64encode(message).decode()}")

    assert ra.asked == [("default", message)]


@pytest.mark.parametrize(
    "content_type",
    [None, "application/octet-stream", "application/x-www-form-urlencoded", "multipart/form-data", "a bad type"],
)
def test_q18_the_content_type_of_a_post_does_not_matter(app: ASGIApp, ra: FakeRa, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}

    reply = post(app, f"{API}?operation=PKIOperation", content=MESSAGE, headers=headers)

    assert reply.status_code == 200
    assert ra.asked == [("default", MESSAGE)]


@pytest.mark.rfc8894("operation-of-post")
def test_q19_a_post_without_operation_is_a_pki_operation(app: ASGIApp, ra: FakeRa) -> None:
    post(app, API, content=MESSAGE)

    assert ra.asked == [("default", MESSAGE)]


@pytest.mark.parametrize(
    "query", ["message=&operation=GetCACaps", "operation=getcacaps", "operation=GetCACaps&message=0&extra=1"]
)
def test_q19_order_case_and_an_idle_message_do_not_matter(app: ASGIApp, query: str) -> None:
    reply = get(app, f"{API}?{query}")

    assert reply.status_code == 200
    assert "SCEPStandard" in reply.text


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/scep",
        "/api/v1/scep/",
        "/api/v1/scep/pkiclient.exe",
        "/api/v1/scep//pkiclient.exe",
        "/api/v1/scep/pkiclient.exe/",
        "/api/v1/scep//pkiclient.exe/x",
        "/scep",
        "/scep/",
        "/scep/pkiclient.exe",
        "/scep//pkiclient.exe",
        "/scep/pkiclient.exe/",
        "/scep/default",
        "/scep/default/",
        "/scep/default/pkiclient.exe",
        "/scep/default/cgi-bin/pkiclient.exe/x",
        "/cgi-bin/pkiclient.exe",
        "/cgi-bin/pkiclient.exe/",
        "/certsrv/mscep/mscep.dll",
        "/certsrv/mscep/mscep.dll/",
        "/certsrv/mscep/mscep.dll/pkiclient.exe",
        "/CertSrv/mscep/mscep.dll/pkiclient.exe",
    ],
)
@pytest.mark.rfc8894("any-path")
def test_q20_the_default_profile_answers_wherever_devices_look(app: ASGIApp, ra: FakeRa, path: str) -> None:
    reply = post(app, f"{path}?operation=PKIOperation", content=MESSAGE)

    assert reply.status_code == 200
    assert ra.asked == [("default", MESSAGE)]


@pytest.mark.parametrize(
    "url",
    [
        "/scep/other",
        "/scep/other/pkiclient.exe",
        "/scep/other?ca_id=2",
        "/api/v1/scep?ca_id=2",
        "/api/v1/scep?ca_id=2?operation=PKIOperation",
        "/cgi-bin/pkiclient.exe?operation=PKIOperation&ca_id=2",
    ],
)
def test_a_profile_is_selected_by_path_or_ca_id(app: ASGIApp, ra: FakeRa, url: str) -> None:
    post(app, url, content=MESSAGE)

    assert ra.asked == [("other", MESSAGE)]


def test_q22_refusals_are_plain_text_without_a_charset_too(app: ASGIApp) -> None:
    reply = get(app, f"{API}?operation=GetCert")

    assert reply.headers["content-type"] == "text/plain"


def test_q23_nothing_redirects_to_https(app: ASGIApp) -> None:
    statuses = [
        get(app, f"http://ra.test{path}?operation=GetCACaps").status_code for path in (API, f"{API}/", "/scep/")
    ]

    assert statuses == [200, 200, 200]


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        (API, 400, "Add ?operation="),
        (f"{API}?operation=", 400, "Add ?operation="),
        (f"{API}?operation=Enrol", 400, "operation"),
        (f"{API}?operation=GetCACaps&operation=GetCACaps", 400, "twice"),
        (f"{API}?operation=PKIOperation&message=MAA&message=MAA", 400, "twice"),
        (f"{API}?operation=GetCACaps&ca_id=1&ca_id=2", 400, "twice"),
        (f"{API}?operation=PKIOperation", 400, "needs a message"),
        (f"{API}?operation=PKIOperation&message=%21%21", 400, "no message of SCEP"),
        (f"{API}?operation=GetCACaps&ca_id=", 400, "whole number"),
        (f"{API}?operation=GetCACaps&ca_id=one", 400, "whole number"),
        (f"{API}?operation=GetCACaps&ca_id=-1", 400, "whole number"),
        (f"{API}?operation=GetCACaps&ca_id=%D9%A1", 400, "whole number"),
        (f"{API}?operation=GetCACaps&ca_id=9999999999999999999999", 400, "whole number"),
        (f"{API}?operation=GetCACaps&ca_id=3", 404, "ca_id"),
        ("/scep/nobody?operation=GetCACaps", 404, "no profile of this name"),
        ("/scep/other?operation=GetCACaps&ca_id=1", 404, "another profile"),
        ("/nowhere", 404, "SCEP is at /scep"),
        (f"{API}/nowhere", 404, "SCEP is at /scep"),
    ],
)
def test_what_is_not_scep_is_told_what_is_wrong(app: ASGIApp, url: str, status: int, words: str) -> None:
    reply = get(app, url)

    assert status == reply.status_code
    assert words in reply.text
    assert reply.headers["cache-control"] == "no-store"


def test_no_refusal_repeats_what_was_sent(app: ASGIApp) -> None:
    replies = [
        get(app, "/scep/needle?operation=GetCACaps"),
        get(app, f"{API}?operation=needle"),
        get(app, f"{API}?operation=GetCACaps&ca_id=needle"),
        get(app, f"{API}?operation=PKIOperation&message=needle!"),
        get(app, "/needle"),
    ]

    assert not [reply for reply in replies if "needle" in reply.text]


def test_without_a_default_a_profile_must_be_named() -> None:
    ra = FakeRa(endpoints=(endpoint("first", 1), endpoint("second", 2)))

    reply = get(build_public(ra.services()), f"{API}?operation=GetCACaps")

    assert reply.status_code == 404
    assert "/scep/NAME" in reply.text


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_told_which_there_are(app: ASGIApp, ra: FakeRa, method: str) -> None:
    reply = asyncio.run(ask(app, method, f"{API}?operation=PKIOperation", content=MESSAGE))

    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET, POST"
    assert ra.asked == []


def test_a_body_of_the_most_bytes_is_read_and_one_more_is_too_large(app: ASGIApp, ra: FakeRa) -> None:
    largest = b"\x30" * MAX_MESSAGE_BYTES

    fits = post(app, API, content=largest)
    larger = post(app, API, content=largest + b"\x30")

    assert (fits.status_code, larger.status_code) == (200, 413)
    assert ra.asked == [("default", largest)]


def test_a_body_that_does_not_announce_its_size_is_read_no_further_than_the_cap(app: ASGIApp, ra: FakeRa) -> None:
    sent = 0

    async def endless() -> Message:
        nonlocal sent
        sent += 1
        return {"type": "http.request", "body": b"\x30" * 10_000, "more_body": True}

    status = asyncio.run(drive(app, endless, "POST", b""))

    assert status == [413]
    assert sent == MAX_MESSAGE_BYTES // 10_000 + 1
    assert ra.asked == []


def test_a_client_that_hangs_up_gets_no_answer_and_does_no_harm(app: ASGIApp, ra: FakeRa) -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    status = asyncio.run(drive(app, gone, "POST", b""))

    assert status == []
    assert ra.asked == []
    assert ra.metrics.http == {("PKIOperation", 499): 1}


async def drive(app: ASGIApp, receive: Receive, method: str, raw_query: bytes, path: str = API) -> list[int]:
    """One request that httpx would not send as it is; returns the statuses that were answered."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": method, "path": path, "query_string": raw_query, "headers": [], "root_path": ""}
    await app(scope, receive, send)
    return statuses


_ODD_QUERIES = st.lists(
    st.sampled_from(
        [b"operation=", b"message=", b"ca_id=", b"PKIOperation", b"GetCACert", b"&", b"?", b"%", b"1", b"+"]
    )
    | st.binary(max_size=12)
).map(b"".join)


@given(
    method=st.sampled_from(["GET", "POST"]),
    raw_query=_ODD_QUERIES,
    path=st.sampled_from([API, "/scep/"]).flatmap(lambda start: st.text(max_size=20).map(lambda rest: start + rest)),
    body=st.binary(max_size=64),
)
def test_whatever_is_sent_is_answered_without_a_fault(method: str, raw_query: bytes, path: str, body: bytes) -> None:
    ra = FakeRa()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    (status,) = asyncio.run(drive(build_public(ra.services()), receive, method, raw_query, path))

    assert status in {200, 400, 401, 404, 405}
    assert ra.metrics.faults == 0


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_compressed_body_is_not_inflated(app: ASGIApp, ra: FakeRa, coding: str) -> None:
    reply = post(app, API, content=MESSAGE, headers={"Content-Encoding": coding})

    assert reply.status_code == 415
    assert ra.asked == []


def test_an_unreadable_message_is_answered_400_without_the_reason() -> None:
    ra = FakeRa(failure=Unreadable("two signers: the detail is the operator's"))

    reply = post(build_public(ra.services()), API, content=MESSAGE)

    assert reply.status_code == 400
    assert "signers" not in reply.text


def test_what_cannot_be_asked_now_is_answered_503_and_when_to_come_back() -> None:
    ra = FakeRa(failure=Unavailable("vault at 10.0.0.7 is sealed", retry_after_seconds=45))

    reply = post(build_public(ra.services()), API, content=MESSAGE)

    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "45"
    assert "vault" not in reply.text
