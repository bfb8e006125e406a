"""What a real uvicorn makes of what clients put on the wire: slow, endless, old-fashioned, pipelined."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from ra.web.receive import ReceiveLimits
from tests.fakes.served import Served, read_reply, read_to_end, served

LIMITS = ReceiveLimits(head_seconds=0.4, request_seconds=0.8, linger_seconds=0.3, unread_bytes=1 << 21)
IMPATIENT_SECONDS = 0.02


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it was asked; at /early before the body is read."""
    body = b""
    more = scope["path"] != "/early"
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event["body"]
        more = event["more_body"]
    text = b"%s?%d %d" % (scope["raw_path"], len(scope["query_string"]), len(body))
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(tell, LIMITS) as running:
        yield running


def trickle(connection: socket.socket, piece: bytes) -> bytes:
    """Sends one piece after another until the server has had enough, and returns what it says."""
    try:
        while not select.select([connection], [], [], IMPATIENT_SECONDS)[0]:
            connection.sendall(piece)
        return read_to_end(connection)
    except (BrokenPipeError, ConnectionResetError):
        return b""


def test_http_1_0_without_host_is_answered_and_closed(server: Served) -> None:
    reply = server.exchange(b"GET /scep?operation=GetCACaps HTTP/1.0\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in reply
    assert reply.endswith(b"/scep?19 0")


def test_http_1_1_without_host_is_answered(server: Served) -> None:
    reply = server.exchange(b"GET /scep HTTP/1.1\r\nConnection: close\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_url_of_all_but_64_kib_is_read(server: Served) -> None:
    path = b"/scep?message="
    url = path + b"A" * (65_535 - len(path))

    reply = server.exchange(b"GET %s HTTP/1.0\r\n\r\n" % url)

    assert reply.endswith(b"/scep?%d 0" % (65_535 - len("/scep?")))


@pytest.mark.parametrize("length", [65_536, 200_000])
def test_a_longer_url_is_answered_414(server: Served, length: int) -> None:
    reply = server.exchange(b"GET /%s HTTP/1.1\r\nHost: ra\r\n\r\n" % (b"A" * (length - 1)))

    assert reply.startswith(b"HTTP/1.1 414 ")


def test_many_headers_are_answered_431(server: Served) -> None:
    reply = server.exchange(b"GET / HTTP/1.1\r\n" + b"X-Header: value\r\n" * 4_000 + b"\r\n")

    assert reply.startswith(b"HTTP/1.1 431 ")


def test_one_endless_header_is_answered_431(server: Served) -> None:
    reply = server.exchange(b"GET / HTTP/1.1\r\nX-Header: " + b"A" * 300_000)

    assert reply.startswith(b"HTTP/1.1 431 ")


def test_what_is_not_http_is_answered_400(server: Served) -> None:
    reply = server.exchange(b"\x30\x82\x01\x00 this is not HTTP\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.endswith(b"\r\n\r\nBad Request.\n")


def test_a_trickled_head_is_ended_by_its_deadline(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /scep HTTP/1.1\r\nX-Slow: ")

        reply = trickle(connection, b"a")

    assert reply.startswith(b"HTTP/1.1 408 ")


def test_a_trickled_body_is_ended_by_its_deadline(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /scep HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")

        reply = trickle(connection, b"a")

    assert reply.startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_sends_nothing_is_closed(server: Served) -> None:
    with server.connect() as connection:
        closed = connection.recv(1)

    assert closed == b""


def test_empty_lines_do_not_hold_a_connection_open(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /scep HTTP/1.1\r\n\r\n")
        status, _, _ = read_reply(connection)

        rest = trickle(connection, b"\r\n")

    assert status == 200
    assert rest == b""


def test_a_body_trickled_after_its_answer_is_ended(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        status, _, _ = read_reply(connection)

        rest = trickle(connection, b"a")

    assert status == 200
    assert rest == b""


def test_a_flood_after_the_answer_is_cut_off(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        read_reply(connection)

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"A" * (1 << 26))


def test_a_connection_goes_on_after_an_answer_that_came_before_the_body(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        first, _, _ = read_reply(connection)
        connection.sendall(b"A" * 100_000 + b"GET /second HTTP/1.1\r\n\r\n")
        _, _, second = read_reply(connection)

    assert first == 200
    assert second == b"/second?0 0"


def test_a_chunked_body_is_read(server: Served) -> None:
    chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    reply = server.exchange(b"POST /scep HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)

    assert reply.endswith(b"/scep?0 5")


def test_two_lengths_of_one_body_are_refused(server: Served) -> None:
    reply = server.exchange(
        b"POST /scep HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    )

    assert reply.startswith(b"HTTP/1.1 400 ")
    assert reply.count(b"HTTP/1.1 ") == 1


def test_pipelined_requests_are_answered_in_order(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        answers = read_to_end(connection)

    assert answers.index(b"/1?0 2") < answers.index(b"/2?0 0")


def test_garbage_after_a_request_does_not_cost_it_its_answer(server: Served) -> None:
    reply = server.exchange(b"POST /scep HTTP/1.1\r\nContent-Length: 2\r\n\r\nab\x30\x82\x01\x00\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.endswith(b"/scep?0 2")


def test_an_upgrade_is_not_taken_up(server: Served) -> None:
    reply = server.exchange(b"GET /scep HTTP/1.1\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
