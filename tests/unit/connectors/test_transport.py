from __future__ import annotations

import asyncio
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    ConnectorError,
    Misconfigured,
    ProtocolViolation,
    RateLimited,
    Secret,
)
from connectors.transport import Answer, AnswerModel, Call, Effect, Meaning, Transport, TransportOptions
from tests.fakes.backends import Answer as RawAnswer
from tests.fakes.backends import RawServer, http, raw_server, reset, silence, through
from tests.fakes.carriers import HttpxCarrier
from tests.fakes.connecting import TlsFiles, Watched, tls_files
from tests.fakes.simulated import listening_front

CLOSED = "http://127.0.0.1:9"
TOKEN = "hvs.very-secret-token"
ISSUE = Call(operation="sign", effect=Effect.ISSUES, method="POST", url="/v1/sign", json={"csr": "…"})
LED = replace(ISSUE, follows_307=True)
ONCE = Call(operation="unwrap", effect=Effect.ONCE, method="POST", url="/v1/unwrap")
KEPT_ALIVE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
SECONDS = 10.0
READ = Call(operation="chain", effect=Effect.REPEATABLE, url="/v1/chain")


class Signed(AnswerModel):
    serial: int


def ask(call: Call, url: str, watched: Watched | None = None, directory: Path = Path(), **options: Any) -> Answer:
    statuses = options.pop("statuses", None)

    async def asked() -> Answer:
        given = TransportOptions(url=url, **options)
        async with Transport(given, (watched or Watched()).services(directory), statuses=statuses) as transport:
            return await transport.call(call)

    return asyncio.run(asked())


def refused(call: Call, url: str, **options: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        ask(call, url, **options)
    return caught.value


def answered(call: Call, *answers: RawAnswer, **options: Any) -> tuple[ConnectorError, RawServer]:
    """What becomes of a call that a server answers so."""
    with raw_server(answers) as server:
        return refused(call, server.url, **options), server


def mocked(handle: Any, call: Call = READ, **options: Any) -> Answer:
    async def asked() -> Answer:
        given = TransportOptions(url="https://ca.example", **options)
        async with Transport(
            given, Watched().services(), carrier=HttpxCarrier(httpx.MockTransport(handle))
        ) as transport:
            return await transport.call(call)

    return asyncio.run(asked())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    now = datetime.now(UTC)  # noqa: TID251 - OpenSSL checks against its own clock
    return tls_files(tmp_path_factory.mktemp("tls"), now)


# ---------------------------------------------------------------- a call that goes well


def test_an_answer_is_parsed_and_what_else_is_in_it_is_ignored() -> None:
    with raw_server([http(200, '{"serial": 7, "new": true}')]) as server:
        answer = ask(ISSUE, server.url + "/base/")

    assert Signed(serial=7) == answer.parse(Signed)
    assert server.received[0].startswith(b"POST /base/v1/sign HTTP/1.1\r\n")
    assert server.received[0].endswith(b'{"csr": "\\u2026"}')
    assert b"content-type: application/json\r\n" in server.received[0].lower()


def test_secrets_go_out_and_show_nowhere_else() -> None:
    call = Call(
        operation="login",
        effect=Effect.REPEATABLE,
        method="POST",
        url="/login",
        headers={"X-Vault-Token": Secret(TOKEN)},
        json={"nested": [{"secret_id": Secret("very-secret-id")}]},
    )

    fault, server = answered(call, http(401, f"no {TOKEN} with very-secret-id here"))

    assert TOKEN.encode() in server.received[0]
    assert b'{"nested": [{"secret_id": "very-secret-id"}]}' in server.received[0]
    shown = "".join(traceback.format_exception(fault)) + repr(call)
    assert "no *** with *** here" in shown
    assert TOKEN not in shown
    assert "very-secret-id" not in shown


@pytest.mark.parametrize(
    "answer",
    [
        f"HTTP/1.1 200 OK\r\nX-Echo: {TOKEN}\r\nX".encode(),
        f"{TOKEN}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nX-Echo: {TOKEN}\r\nContent-Length: 9\r\n\r\n{{".encode(),
    ],
)
def test_what_is_said_of_an_answer_that_is_none_has_no_secret_in_it(answer: bytes) -> None:
    fault, _ = answered(replace(ISSUE, headers={"X-Vault-Token": Secret(TOKEN)}), answer)

    assert isinstance(fault, BackendUnavailable)
    assert fault.maybe_issued
    assert TOKEN not in str(fault)
    assert str(fault).isprintable()


def test_a_secret_that_is_not_ascii_is_known_again_in_a_header() -> None:
    call = Call(operation="token", effect=Effect.ONCE, method="POST", url="/t", form={"p": Secret("geheimß")})
    answer = "HTTP/1.1 302 Found\r\nLocation: /x?p=geheimß\r\nContent-Length: 0\r\n\r\n".encode()

    fault, _ = answered(call, answer)

    assert "(Location: /x?p=***)" in str(fault)


def test_a_redirect_may_be_written_in_utf_8() -> None:
    led = "HTTP/1.1 307 Temporary Redirect\r\nLocation: /geräte\r\nContent-Length: 0\r\n\r\n".encode()

    with raw_server([led, http(200, "{}")]) as server:
        ask(LED, server.url)

    assert server.received[1].startswith(b"POST /ger%C3%A4te HTTP/1.1\r\n")


def test_what_is_closed_sends_nothing_more() -> None:
    with raw_server([http(200, "{}")]) as server:

        async def asked() -> None:
            transport = Transport(TransportOptions(url=server.url), Watched().services())
            await transport.aclose()
            await transport.call(ISSUE)

        with pytest.raises(BackendUnavailable, match="closed") as caught:
            asyncio.run(asked())

    assert not caught.value.maybe_issued
    assert [] == server.received


def test_no_cookie_is_kept() -> None:
    with raw_server([http(200, "{}", headers={"Set-Cookie": "a=b\x7fc"}), http(200, "{}")]) as server:
        twice_on_one_transport(server.url, lambda: None)

    assert b"cookie" not in server.received[1].lower()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example", ".example"])
def test_a_host_that_cannot_be_looked_up_was_sent_nothing(host: str) -> None:
    fault = refused(ISSUE, f"http://{host}", allow_http=True)

    assert not getattr(fault, "maybe_issued", False)
    assert "url" in fault.settings


def test_a_form_goes_out_as_one() -> None:
    call = Call(
        operation="token", effect=Effect.REPEATABLE, method="POST", url="/t", form={"a": "1 2", "b": Secret("x&y")}
    )

    with raw_server([http(200, "{}")]) as server:
        ask(call, server.url)

    assert server.received[0].endswith(b"a=1+2&b=x%26y")
    assert b"application/x-www-form-urlencoded" in server.received[0]


def test_every_call_is_measured_and_what_must_not_come_twice_is_watched() -> None:
    watched = Watched()

    with raw_server([http(200, "{}"), http(200, "{}"), http(418)]) as server:
        ask(ISSUE, server.url, watched)
        ask(READ, server.url, watched)
        refused(ISSUE, server.url, watched=watched)

    assert [("sign", "200"), ("chain", "200"), ("sign", "Misconfigured")] == watched.observed
    assert ["connector:before-send", "connector:after-answer"] * 2 == watched.reached


def test_a_header_whose_name_cannot_be_one_is_not_sent() -> None:
    fault, server = answered(replace(ISSUE, headers={"X-Tökén": "a"}), http(200, "{}"))

    assert isinstance(fault, Misconfigured)
    assert [] == server.received


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\x00b", "tök€n"])
def test_what_cannot_stand_in_a_header_is_not_sent_and_not_shown(value: str) -> None:
    call = replace(ISSUE, headers={"X-Vault-Token": Secret(value)})

    fault, server = answered(call, http(200, "{}"))

    assert isinstance(fault, Misconfigured)
    assert [] == server.received
    assert value not in "".join(traceback.format_exception(fault))


# ---------------------------------------------------------------- what a status means


@pytest.mark.parametrize(
    ("status", "expected", "maybe_issued"),
    [
        (100 + 99, ProtocolViolation, None),
        (301, Misconfigured, None),
        (307, Misconfigured, None),
        (400, Misconfigured, None),
        (401, AuthFailed, None),
        (403, AuthFailed, None),
        (404, Misconfigured, None),
        (407, AuthFailed, None),
        (408, BackendUnavailable, False),
        (425, BackendUnavailable, False),
        (429, RateLimited, False),
        (500, BackendUnavailable, True),
        (501, Misconfigured, None),
        (502, BackendUnavailable, True),
        (503, BackendUnavailable, True),
        (504, BackendUnavailable, True),
        (599, BackendUnavailable, True),
        (600, ProtocolViolation, None),
    ],
)
def test_a_status_means_one_error(status: int, expected: type[ConnectorError], maybe_issued: bool | None) -> None:
    with pytest.raises(ConnectorError) as caught:
        mocked(lambda _: httpx.Response(status), ISSUE)

    assert expected is type(caught.value)
    assert maybe_issued is getattr(caught.value, "maybe_issued", None)
    assert str(status) in str(caught.value)


def test_nothing_is_maybe_issued_by_a_call_that_issues_nothing() -> None:
    fault, _ = answered(ONCE, http(500))

    assert isinstance(fault, BackendUnavailable)
    assert not fault.maybe_issued


def test_a_connector_says_what_its_statuses_mean() -> None:
    def judged(answer: Answer) -> Meaning:
        return Meaning.DOWN if b"sealed" in answer.body else Meaning.LOST

    sealed, _ = answered(ISSUE, http(503, "sealed"), statuses={503: judged})
    reset_below, _ = answered(ISSUE, http(503, "upstream reset"), statuses={503: judged})
    with raw_server([http(400, "no")]) as server:
        answer = ask(ISSUE, server.url, statuses={400: Meaning.ANSWER})

    assert isinstance(sealed, BackendUnavailable)
    assert isinstance(reset_below, BackendUnavailable)
    assert [False, True] == [sealed.maybe_issued, reset_below.maybe_issued]
    assert (400, "no") == (answer.status, answer.first_line())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7),
        ("Mon, 23 Nov 2026 12:01:00 GMT", 60),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
        ("999999999999", 86400),
        ("soon", 30),
        ("-1", 30),
        (None, 30),
    ],
)
def test_told_to_wait_it_says_how_long(value: str | None, expected: int) -> None:
    fault, server = answered(ISSUE, http(429, headers={"Retry-After": value} if value else {}))

    assert isinstance(fault, RateLimited)
    assert expected == fault.retry_after_seconds
    assert 1 == len(server.received)


# ---------------------------------------------------------------- what is tried again


def test_what_was_not_sent_is_tried_again_and_is_not_maybe_issued() -> None:
    watched = Watched()

    fault = refused(ISSUE, CLOSED, watched=watched)

    assert isinstance(fault, BackendUnavailable)
    assert not fault.maybe_issued
    assert "lab: sign at http://127.0.0.1:9/v1/sign" in str(fault)
    assert "refused" in str(fault)
    assert 3 == watched.reached.count("connector:before-send")
    assert 1 == len(watched.observed)


@pytest.mark.parametrize("answer", [reset, b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"SSH-2.0-x\r\n\r\n"])
def test_what_was_sent_is_sent_once_and_may_have_been_issued(answer: RawAnswer) -> None:
    fault, server = answered(ISSUE, answer, http(200, "{}"))

    assert isinstance(fault, BackendUnavailable)
    assert fault.maybe_issued
    assert 1 == len(server.received)


def test_the_same_may_not_be_sent_again_by_the_library_either() -> None:
    fault, server = answered(replace(ISSUE, method="PUT"), b"", http(200, "{}"))

    assert isinstance(fault, BackendUnavailable)
    assert fault.maybe_issued
    assert 1 == len(server.received)


def twice_on_one_transport(url: str, before_the_second: Callable[[], object]) -> list[Answer]:
    """Nothing else runs on the loop between two calls."""

    async def asked() -> list[Answer]:
        async with Transport(TransportOptions(url=url), Watched().services()) as transport:
            first = await transport.call(ISSUE)
            before_the_second()
            return [first, await transport.call(ISSUE)]

    return asyncio.run(asked())


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_taken_up_again() -> None:
    closed = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(KEPT_ALIVE + b'{"serial": 1}')
        connection.close()
        closed.set()

    with raw_server([answer, http(200, '{"serial": 2}')]) as server:
        answers = twice_on_one_transport(server.url, lambda: closed.wait(SECONDS))

    assert [1, 2] == [each.parse(Signed).serial for each in answers]


def test_an_answer_that_nobody_asked_for_answers_nothing() -> None:
    asked, answered_again = threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(KEPT_ALIVE + b'{"serial": 1}')
        asked.wait(SECONDS)
        connection.sendall(KEPT_ALIVE + b'{"serial": 9}')
        answered_again.set()

    def provoke() -> None:
        asked.set()
        answered_again.wait(SECONDS)

    with raw_server([answer, http(200, '{"serial": 2}')]) as server:
        answers = twice_on_one_transport(server.url, provoke)

    assert [1, 2] == [each.parse(Signed).serial for each in answers]


@pytest.mark.parametrize("answer", [reset, b"", http(500), http(503), http(429, headers={"Retry-After": "0"})])
def test_what_does_no_harm_twice_is_tried_again(answer: RawAnswer) -> None:
    with raw_server([answer, http(200, '{"serial": 1}')]) as server:
        found = ask(READ, server.url)

    assert 200 == found.status
    assert 2 == len(server.received)


def test_it_is_tried_a_few_times_and_no_more() -> None:
    _, server = answered(READ, *[http(500)] * 5)

    assert 3 == len(server.received)


def test_the_same_may_be_sent_again_where_the_server_says_that_nothing_was_done() -> None:
    with raw_server([http(412), http(200, "{}")]) as server:
        answer = ask(ISSUE, server.url, statuses={412: Meaning.AGAIN})

    assert 200 == answer.status
    assert 2 == len(server.received)


def test_a_wait_beyond_the_deadline_is_not_waited_for() -> None:
    fault, server = answered(READ, http(503, headers={"Retry-After": "60"}), http(200), timeout_seconds=5)

    assert isinstance(fault, BackendUnavailable)
    assert 60 == fault.retry_after_seconds
    assert 1 == len(server.received)


def test_a_silent_server_is_given_up_at_the_deadline() -> None:
    fault, _ = answered(ISSUE, silence, timeout_seconds=0.2)

    assert isinstance(fault, BackendUnavailable)
    assert fault.maybe_issued
    assert "no answer in time" in str(fault)


def test_an_answer_that_trickles_is_given_up_at_the_deadline() -> None:
    def trickle(connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        connection.settimeout(0.05)
        for _ in range(100):
            connection.sendall(b"x")
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue

    fault, _ = answered(ISSUE, trickle, timeout_seconds=0.3)

    assert isinstance(fault, BackendUnavailable)
    assert fault.maybe_issued


def test_a_call_that_is_given_up_is_measured_too() -> None:
    watched = Watched()

    async def given_up() -> None:
        with raw_server([silence]) as server:
            async with Transport(TransportOptions(url=server.url), watched.services()) as transport:
                async with asyncio.timeout(0.1):
                    await transport.call(ISSUE)

    with pytest.raises(TimeoutError):
        asyncio.run(given_up())

    assert [("sign", "cancelled")] == watched.observed


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("<html>Log in</html>", "text/html", "(text/html) with what it should not: the body is no JSON"),
        ("", "", "no Content-Type"),
        ('{"serial": "secret-value"}', "application/json", "serial: Input should be a valid integer"),
        ("[" * 100_000, "application/json", "the body is no JSON"),
    ],
)
def test_what_is_not_the_answer_expected_is_a_violation_that_repeats_nothing(body: str, kind: str, said: str) -> None:
    with raw_server([http(200, body, kind=kind)]) as server:
        answer = ask(ISSUE, server.url)

    with pytest.raises(ProtocolViolation) as caught:
        answer.parse(Signed)

    assert said in str(caught.value)
    assert "secret-value" not in "".join(traceback.format_exception(caught.value))


def test_a_server_without_tls_is_told_as_such() -> None:
    with listening_front() as front:
        fault = refused(READ, front.url.replace("http://", "https://"))

    assert isinstance(fault, BackendUnavailable)
    assert "the server speaks plain HTTP there, and no HTTPS" in str(fault)


def test_an_endless_answer_is_cut_off() -> None:
    def endless(connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(1 << 16))

    fault, _ = answered(ISSUE, endless, max_response_bytes=4096)

    assert isinstance(fault, ProtocolViolation)
    assert "max_response_bytes" in str(fault)


def test_an_endless_error_keeps_its_meaning() -> None:
    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x" * 4096

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            for each in pieces():
                yield each

    with pytest.raises(AuthFailed) as caught:
        mocked(lambda _: httpx.Response(403, stream=Endless()), max_response_bytes=4096)

    assert len(str(caught.value)) < 500


def test_a_compressed_answer_is_refused_unread() -> None:
    fault, server = answered(ISSUE, http(200, b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))

    assert isinstance(fault, ProtocolViolation)
    assert b"accept-encoding: identity" in server.received[0].lower()


def test_what_a_server_says_is_shown_as_one_printable_line() -> None:
    fault, _ = answered(ISSUE, http(404, b"\x1b[2Jno such\x00 page\nmore"))

    assert str(fault).endswith("answered 404: [2Jno such page")
    assert str(fault).isprintable()


# ---------------------------------------------------------------- where a call may go


def test_a_redirect_is_not_followed() -> None:
    fault, server = answered(ISSUE, http(307, headers={"Location": "http://evil.example/"}), http(200))

    assert isinstance(fault, Misconfigured)
    assert "http://evil.example/" in str(fault)
    assert 1 == len(server.received)


def test_one_redirect_is_followed_to_a_host_that_is_configured_with_method_and_body() -> None:
    with (
        raw_server([http(200, '{"serial": 3}')]) as active,
        raw_server([http(307, headers={"Location": f"{active.url}/v1/sign"})]) as standby,
    ):
        answer = ask(LED, standby.url, other_urls=(active.url,))

    assert Signed(serial=3) == answer.parse(Signed)
    assert active.received[0].startswith(b"POST /v1/sign")
    assert b'{"csr"' in active.received[0]


@pytest.mark.parametrize(
    "location", ["http://evil.example/v1/sign", "//evil.example/", "https://127.0.0.1/", "http://u:p@127.0.0.1/", ""]
)
def test_no_redirect_leads_to_another_host(location: str) -> None:
    fault, _ = answered(LED, http(307, headers={"Location": location}))

    assert isinstance(fault, Misconfigured)
    assert "other_urls" in str(fault)


def test_a_second_redirect_is_not_followed() -> None:
    fault, server = answered(LED, *[http(307, headers={"Location": "/again"})] * 3)

    assert isinstance(fault, Misconfigured)
    assert 2 == len(server.received)


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://ca.example/order/1", True),
        ("https://CA.example:443/order/1", True),
        ("https://other.example:8443/x", True),
        ("https://other.example/x", False),
        ("http://ca.example/order/1", False),
        ("https://ca.example.evil.example/", False),
        ("https://ca.example@evil.example/", False),
        ("https://user@ca.example/", False),
        ("https://ca.example\x00/", False),
        ("file:///etc/passwd", False),
        ("/order/1", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_a_url_of_an_answer_leads_where_the_configuration_allows(url: str, is_allowed: bool) -> None:
    options = TransportOptions(url="https://ca.example/acme", other_urls=("https://other.example:8443",))
    transport = Transport(options, Watched().services())

    if is_allowed:
        assert url == transport.allowed_url(url)
    else:
        with pytest.raises(ProtocolViolation, match="other_urls"):
            transport.allowed_url(url)


def test_no_call_goes_where_the_configuration_does_not_lead() -> None:
    call = Call(operation="order", effect=Effect.REPEATABLE, url="http://evil.example/")

    assert isinstance(refused(call, CLOSED), ProtocolViolation)


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, CLOSED)
    with raw_server([http(200, "{}")]) as server:
        answer = ask(ISSUE, server.url)

    assert 200 == answer.status


# ---------------------------------------------------------------- TLS and proxies


def test_a_server_of_a_private_ca_is_asked(files: TlsFiles) -> None:
    with raw_server([http(200, "{}")], files.server()) as server:
        answer = ask(ISSUE, server.tls_url, ca_file=files.ca)

    assert 200 == answer.status


def test_a_server_of_an_unknown_ca_is_not_asked(files: TlsFiles) -> None:
    with raw_server([http(200, "{}")] * 3, files.server()) as server:
        fault = refused(ISSUE, server.tls_url)

    assert isinstance(fault, Misconfigured)
    assert "set ca_file" in str(fault)
    assert [] == server.received


def test_a_client_certificate_is_shown(files: TlsFiles) -> None:
    with raw_server([http(200, "{}")], files.server(asks_for_certificate=True)) as server:
        answer = ask(
            ISSUE, server.tls_url, ca_file=files.ca, client_certificate=files.certificate, client_key=files.key
        )

    assert 200 == answer.status


def test_a_server_that_misses_our_certificate_has_issued_nothing(files: TlsFiles) -> None:
    with raw_server([http(200, "{}")], files.server(asks_for_certificate=True)) as server:
        fault = refused(ISSUE, server.tls_url, ca_file=files.ca)

    assert isinstance(fault, AuthFailed)
    assert "client_certificate" in str(fault)


def test_a_server_that_never_ends_the_handshake_was_sent_nothing() -> None:
    with raw_server([silence] * 3) as server:
        fault = refused(ISSUE, server.tls_url, connect_timeout_seconds=0.1)

    assert isinstance(fault, BackendUnavailable)
    assert not fault.maybe_issued


@pytest.mark.parametrize(
    ("answer", "expected"), [(http(502), BackendUnavailable), (http(407), AuthFailed), (reset, BackendUnavailable)]
)
def test_a_proxy_that_refuses_a_tunnel_has_sent_nothing(answer: RawAnswer, expected: type[ConnectorError]) -> None:
    watched = Watched(secrets={"env:PROXY": "user:proxy-password"})
    with raw_server([answer] * 3) as proxy:
        fault = refused(ISSUE, "https://ca.example", watched=watched, proxy=proxy.url, proxy_credentials="env:PROXY")

    assert expected is type(fault)
    assert not getattr(fault, "maybe_issued", False)
    assert proxy.received[0].startswith(b"CONNECT ca.example:443 ")
    assert b"Proxy-Authorization: Basic" in proxy.received[0]
    assert "proxy-password" not in "".join(traceback.format_exception(fault))


def test_a_proxy_that_is_not_there_is_named_as_what_to_look_at() -> None:
    fault = refused(ISSUE, "https://ca.example", proxy=CLOSED)

    assert isinstance(fault, BackendUnavailable)
    assert not fault.maybe_issued
    assert "the proxy cannot be used: Connection refused" in str(fault)
    assert "proxy" in fault.settings


def test_a_proxy_passes_plain_http_on() -> None:
    watched = Watched(secrets={"env:PROXY": "user:proxy-password"})
    with raw_server([http(200, "{}")]) as proxy:
        answer = ask(
            ISSUE,
            "http://ca.example",
            watched=watched,
            allow_http=True,
            proxy=proxy.url,
            proxy_credentials="env:PROXY",
        )

    assert 200 == answer.status
    assert proxy.received[0].startswith(b"POST http://ca.example/v1/sign HTTP/1.1\r\n")
    assert b"\r\nhost: ca.example\r\n" in proxy.received[0].lower()
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwcm94eS1wYXNzd29yZA==\r\n" in proxy.received[0]


def test_a_server_beyond_a_tunnel_gets_no_credentials_of_the_proxy(files: TlsFiles) -> None:
    watched = Watched(secrets={"env:PROXY": "user:proxy-password"})
    with raw_server([http(200, "{}")], files.server()) as server, raw_server([through(server.port)]) as proxy:
        answer = ask(
            ISSUE, server.tls_url, watched=watched, ca_file=files.ca, proxy=proxy.url, proxy_credentials="env:PROXY"
        )

    assert 200 == answer.status
    assert b"Proxy-Authorization: Basic dXNlcjpwcm94eS1wYXNzd29yZA==" in proxy.received[0]
    assert server.received[0].startswith(b"POST /v1/sign HTTP/1.1\r\n")
    assert b"proxy" not in server.received[0].lower()


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ca.example"},
        {"url": "ftp://ca.example"},
        {"url": "https://user:hunter2@ca.example"},
        {"url": "https://ca.example/?token=hunter2"},
        {"url": "http://ca.example"},
        {"url": "http://10.0.0.1"},
        {"other_urls": ["http://ca.example"]},
        {"proxy": "http://user:hunter2@proxy.example"},
        {"proxy": "https://proxy.example"},
        {"proxy_credentials": "env:X"},
        {"client_certificate": "a.pem"},
        {"client_key": "a.key"},
        {"client_key_passphrase": "file:hunter2"},
        {"client_certificate": "a", "client_key": "b", "client_key_passphrase": "hunter2"},
        {"timeout_seconds": 0},
        {"max_response_bytes": 0},
        {"verify": False},
    ],
)
def test_a_wrong_option_is_refused_without_repeating_it(wrong: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        TransportOptions(**{"url": "https://ca.example", **wrong})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8200", "http://[::1]:8200", "http://localhost", "https://ca.example"]
)
def test_plain_http_is_for_this_machine_alone(url: str) -> None:
    assert url == TransportOptions(url=url).url
    assert TransportOptions(url="http://vault:8200", allow_http=True).allow_http


def test_missing_and_wrong_files_stop_the_start(files: TlsFiles, tmp_path: Path) -> None:
    other = tls_files(tmp_path / "other", datetime(2026, 1, 1, tzinfo=UTC))
    (tmp_path / "no.pem").write_text("no certificate")
    wrong: list[dict[str, Any]] = [
        {"ca_file": "absent.pem"},
        {"ca_file": "no.pem"},
        {"client_certificate": files.certificate, "client_key": other.key},
        {"client_certificate": "absent.pem", "client_key": files.key},
        {"client_certificate": files.certificate, "client_key": "absent.key"},
    ]

    for options in wrong:
        with pytest.raises(Misconfigured):
            Transport(TransportOptions(url=CLOSED, **options), Watched().services(tmp_path))
