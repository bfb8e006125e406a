from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from ra.client.client import ScepClient
from ra.client.errors import BadArgument, BadReply, HttpRefused, Unreachable
from ra.client.http import MAX_REPLY_BYTES, Exchange


def exchange(handle: Callable[[httpx.Request], httpx.Response], url: str = "http://ra.example/scep") -> Exchange:
    return Exchange(url, httpx.Client(transport=httpx.MockTransport(handle)))


def refuse(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def endless(_request: httpx.Request) -> httpx.Response:
    def pieces() -> Iterator[bytes]:
        while True:
            yield bytes(MAX_REPLY_BYTES // 3)

    return httpx.Response(200, content=pieces())


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"ra\.example.*connection refused"):
        exchange(refuse).get("GetCACert")


def test_a_closed_port_is_unreachable() -> None:
    with ScepClient("http://127.0.0.1:9/scep") as scep, pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        scep.ca_certificates()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(404, b"No such profile.\nmore", "404: No such profile."), (500, b"", "500: no text"), (302, b"\x1b[2Jx", "302:")],
)
def test_what_is_not_200_is_refused_with_one_printable_line(status: int, body: bytes, said: str) -> None:
    with pytest.raises(HttpRefused) as caught:
        exchange(lambda _: httpx.Response(status, content=body)).get("GetCACert")

    assert status == caught.value.status
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("value", "expected"), [("30", 30), ("soon", None), (None, None)])
def test_a_busy_server_says_when_to_come_back(value: str | None, expected: int | None) -> None:
    headers = {"Retry-After": value} if value else {}

    with pytest.raises(HttpRefused) as caught:
        exchange(lambda _: httpx.Response(503, headers=headers)).pki_operation(b"message", post=True)

    assert expected == caught.value.retry_after_seconds


def test_an_endless_answer_is_not_read() -> None:
    with pytest.raises(BadReply, match="longer than"):
        exchange(endless).get("GetCACert")


def test_a_message_in_a_url_is_base64_with_every_special_character_escaped() -> None:
    asked: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(200)

    exchange(handle, "http://ra.example/scep?ca_id=1").pki_operation(b"\xfb\xff\xbe\xff", post=False)

    assert [b"/scep?ca_id=1&operation=PKIOperation&message=%2B%2F%2B%2B%2Fw%3D%3D"] == asked


def test_capabilities_are_none_where_the_server_answers_with_an_error() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(404))

    with ScepClient("http://ra.example/scep", httpx.Client(transport=transport)) as scep:
        assert () == scep.caps().words


@pytest.mark.parametrize("url", ["ra.example.org/scep", "ftp://ra.example.org/scep", "http:///scep", ""])
def test_what_is_no_url_of_http_is_said_to_be_none(url: str) -> None:
    with pytest.raises(BadArgument, match="no SCEP URL"):
        Exchange(url, httpx.Client())
