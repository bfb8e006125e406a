"""What every request goes through: headers, one log line, and the end of a fault."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator

import httpx
import pytest
import structlog
from starlette.types import Receive, Scope, Send

from ra.errors import Unavailable
from ra.scep.errors import Unreadable
from ra.scep.header import Header, TransactionId
from ra.scep.names import Digest, MessageType
from ra.service.pki_operation import PutOff
from ra.telemetry import MAX_LOGGED_CHARACTERS, configure_logs
from ra.web.app import build_admin, build_public
from ra.web.edge import Edge, log_line
from tests.fakes.clock import FakeClock
from tests.fakes.services import CountedMetrics, FakeRa, ask

DEVICE_BYTES = "30820100-from-the-device"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logs(stream=stream)
    yield stream
    structlog.reset_defaults()


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError(DEVICE_BYTES)


def test_a_fault_is_answered_500_counted_and_told_in_one_line(log: io.StringIO) -> None:
    ra = FakeRa()
    app = Edge(failing, clock=ra.clock, metrics=ra.metrics)

    reply = asyncio.run(ask(app, "GET", "/"))

    fault, request = lines(log)
    assert (reply.status_code, reply.text) == (500, "The server failed; its log says where.\n")
    assert ra.metrics.faults == 1
    assert (fault["event"], fault["error"]) == ("fault", "ValueError")
    assert str(fault["where"]).startswith("test_edge.py:")
    assert request["status"] == 500
    assert DEVICE_BYTES not in log.getvalue() + reply.text


def test_a_fault_below_fastapi_is_treated_alike(log: io.StringIO) -> None:
    ra = FakeRa(failure=ValueError(DEVICE_BYTES))

    reply = asyncio.run(ask(build_public(ra.services()), "POST", "/scep", content=b"\x30\x00"))

    assert reply.status_code == 500
    assert reply.headers["cache-control"] == "no-store"
    assert ra.metrics.faults == 1
    assert DEVICE_BYTES not in log.getvalue() + reply.text
    assert "Traceback" not in log.getvalue()


def test_a_fault_after_the_answer_began_is_not_answered_twice(log: io.StringIO) -> None:
    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(DEVICE_BYTES)

    metrics = CountedMetrics()
    sent: list[str] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(str(message["type"]))

    scope = {"type": "http", "method": "GET"}
    asyncio.run(Edge(half, clock=FakeRa().clock, metrics=metrics)(scope, None, send))  # type: ignore[arg-type]  # unread

    assert sent == ["http.response.start"]
    assert metrics.faults == 1
    assert lines(log)[-1]["status"] == 200


def test_an_answered_message_leaves_one_wide_line(log: io.StringIO) -> None:
    ra = FakeRa()

    asyncio.run(ask(build_public(ra.services()), "POST", "/scep/other", content=b"\x30\x00"))

    (line,) = lines(log)
    assert line["event"] == "request"
    assert (line["method"], line["status"], line["operation"]) == ("POST", 200, "PKIOperation")
    assert (line["profile"], line["message_type"], line["outcome"]) == ("other", "PKCS_REQ", "success")
    assert line["transaction_id"] == "7XXEY-ERLPU"
    assert (line["client"], line["milliseconds"]) == ("127.0.0.1", 0.0)


@pytest.mark.parametrize(
    ("failure", "outcome"), [(Unreadable("two signers"), "unreadable"), (Unavailable("vault is sealed"), "unavailable")]
)
def test_the_operator_is_told_what_the_device_is_not(log: io.StringIO, failure: Exception, outcome: str) -> None:
    ra = FakeRa(failure=failure)

    reply = asyncio.run(ask(build_public(ra.services()), "POST", "/scep", content=b"\x30\x00"))

    (line,) = lines(log)
    assert (line["outcome"], line["detail"]) == (outcome, str(failure))
    assert str(failure) not in reply.text


def test_what_could_be_opened_and_is_put_off_is_found_by_its_transaction_id(log: io.StringIO) -> None:
    header = Header(
        message_type=MessageType.PKCS_REQ,
        transaction_id=TransactionId(b"4711", 0x13),
        sender_nonce=bytes(16),
        digest=Digest.SHA256,
    )
    ra = FakeRa(failure=PutOff(Unavailable("intune is away"), header))

    asyncio.run(ask(build_public(ra.services()), "POST", "/scep", content=b"\x30\x00"))

    (line,) = lines(log)
    assert ("unavailable", "PKCS_REQ", "4711") == (line["outcome"], line["message_type"], line["transaction_id"])


def test_a_request_that_the_server_gives_up_when_it_stops_is_told_to_come_back(log: io.StringIO) -> None:
    asked = asyncio.Event()

    async def waiting(_scope: Scope, _receive: Receive, _send: Send) -> None:
        asked.set()
        await asyncio.Event().wait()

    async def give_up() -> httpx.Response:
        edge = Edge(waiting, clock=FakeClock(), metrics=CountedMetrics())
        request = asyncio.create_task(ask(edge, "POST", "/scep"))
        await asked.wait()
        request.cancel()
        return await request

    reply = asyncio.run(give_up())

    assert (503, "30") == (reply.status_code, reply.headers["retry-after"])
    assert [(503, "unavailable")] == [(line["status"], line["outcome"]) for line in lines(log)]


def test_neither_path_nor_query_is_logged(log: io.StringIO) -> None:
    ra = FakeRa()

    asyncio.run(ask(build_public(ra.services()), "GET", "/scep/default/secret-in-the-path?operation=needle&message=q"))

    assert "secret-in-the-path" not in log.getvalue()
    assert "needle" not in log.getvalue()


def test_a_path_where_nothing_is_is_logged_escaped_and_capped_without_its_query(log: io.StringIO) -> None:
    asyncio.run(ask(build_public(FakeRa().services()), "GET", f"/certsrv%0a{'x' * 1000}?message=needle"))

    line = json.loads(log.getvalue())
    assert line["path"].startswith(r"/certsrv\u000axxx")
    assert len(line["path"]) <= MAX_LOGGED_CHARACTERS + len(r"\u000a")
    assert "needle" not in log.getvalue()


def test_requests_are_counted_by_operation_and_status() -> None:
    ra = FakeRa()
    app = build_public(ra.services())

    for url in ("/scep?operation=GetCACaps", "/scep?operation=GetCACaps", "/scep?operation=x", "/nowhere"):
        asyncio.run(ask(app, "GET", url))

    assert ra.metrics.http == {("GetCACaps", 200): 2, ("other", 400): 1, ("other", 404): 1}


def test_probes_leave_no_line(log: io.StringIO) -> None:
    asyncio.run(ask(build_admin(FakeRa().services()), "GET", "/livez"))

    assert log.getvalue() == ""


def test_the_line_is_the_scopes_own() -> None:
    first: Scope = {}
    second: Scope = {}
    log_line(first)["profile"] = "default"

    assert log_line(first) == {"profile": "default"}
    assert log_line(second) == {}
