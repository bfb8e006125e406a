"""The protocol through a real uvicorn, byte by byte as old clients speak it."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from ra.web.app import build_public
from ra.web.receive import ReceiveLimits
from tests.fakes.served import Served, read_reply, served
from tests.fakes.services import FakeRa

MESSAGE = b"\x30\x82\x01\x00" + bytes(range(256))


@pytest.fixture(scope="module")
def ra() -> FakeRa:
    return FakeRa()


@pytest.fixture(scope="module")
def server(ra: FakeRa) -> Iterator[Served]:
    with served(build_public(ra.services()), ReceiveLimits()) as running:
        yield running


def head_of(reply: bytes) -> bytes:
    return reply.partition(b"\r\n\r\n")[0].lower()


def test_q21_cisco_speaks_http_1_0_without_host(server: Served, ra: FakeRa) -> None:
    message = base64.b64encode(MESSAGE).replace(b"+", b"%2B").replace(b"=", b"%0A")

    reply = server.exchange(b"GET /scep/pkiclient.exe?operation=PKIOperation&message=%s HTTP/1.0\r\n\r\n" % message)

    assert reply.endswith(b"\r\n\r\na CertRep")
    assert b"content-length: 9" in head_of(reply)
    assert ra.asked[-1] == ("default", MESSAGE)


def test_q21_sscep_closes_every_connection(server: Served, ra: FakeRa) -> None:
    request = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"

    reply = server.exchange(request % (len(MESSAGE), MESSAGE))

    assert reply.endswith(b"\r\n\r\na CertRep")
    assert ra.asked[-1] == ("default", MESSAGE)


@pytest.mark.parametrize("query", [b"operation=GetCACaps", b"operation=GetCACert", b"", b"operation=GetNextCACert"])
def test_no_answer_is_chunked_or_names_the_server(server: Served, query: bytes) -> None:
    head = head_of(server.exchange(b"GET /scep?%s HTTP/1.1\r\nConnection: close\r\n\r\n" % query))

    assert head.count(b"content-length: ") == 1
    assert b"transfer-encoding" not in head
    assert b"server:" not in head


def test_a_message_of_a_64_kib_url_is_read(server: Served, ra: FakeRa) -> None:
    start = b"/scep?operation=PKIOperation&message="
    message = b"\x30" * ((65_535 - len(start)) // 4 * 3)

    reply = server.exchange(b"GET %s%s HTTP/1.0\r\n\r\n" % (start, base64.b64encode(message)))

    assert reply.endswith(b"a CertRep")
    assert ra.asked[-1] == ("default", message)


def test_a_chunked_message_is_read(server: Served, ra: FakeRa) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (MESSAGE[:7], MESSAGE[7:])) + b"0\r\n\r\n"

    reply = server.exchange(
        b"POST /scep?operation=PKIOperation HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunks
    )

    assert reply.endswith(b"a CertRep")
    assert ra.asked[-1] == ("default", MESSAGE)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_1_mib_is_answered_413_and_the_connection_goes_on(server: Served, announced: bool) -> None:
    body = b"\x30" * (1 << 20)
    length = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    with server.connect() as connection:
        connection.sendall(b"POST /scep HTTP/1.1\r\n" + (length if announced else chunked))
        first, _, sentence = read_reply(connection)
        connection.sendall(b"GET /scep?operation=GetCACaps HTTP/1.1\r\n\r\n")
        second, _, _ = read_reply(connection)

    assert (first, second) == (413, 200)
    assert b"larger" in sentence


def test_a_head_request_is_answered_without_a_body(server: Served) -> None:
    reply = server.exchange(b"HEAD /scep?operation=GetCACaps HTTP/1.1\r\nConnection: close\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 405 ")
    assert reply.endswith(b"\r\n\r\n")


def test_an_expected_continue_is_given(server: Served, ra: FakeRa) -> None:
    head = b"POST /scep HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"

    reply = server.exchange(head % len(MESSAGE) + MESSAGE)

    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert ra.asked[-1] == ("default", MESSAGE)
