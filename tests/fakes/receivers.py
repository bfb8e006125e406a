"""Somebody who wants to be told what became of an enrolment: a service on loopback, and the validator that calls it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import httpx

from ra.challenge.api import Accepted, Attempt, Deny, Receipt, Unavailable, Verdict
from ra.journal.records import Notice
from ra.policy.grant import Grant, Notify


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a receiver answers; `code` is the word in its body that says whether it has accepted."""

    status: int = 200
    code: str = "Success"
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """An HTTP server that gives `replies` in their order, then accepts; no reply leaves before `may_answer` is set."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.received: list[dict[str, Any]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.arrived = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/notify"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.may_answer.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        self.received.append(json.loads(await reader.readexactly(length)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.arrived.set()
        await self.may_answer.wait()
        self.at_once -= 1
        reply = self.replies.popleft() if self.replies else Reply()
        body = json.dumps({"code": reply.code})
        headers = {**reply.headers, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {reply.status} -", *(f"{key}: {value}" for key, value in headers.items())]
        writer.write("\r\n".join([*lines, "", body]).encode())
        writer.close()
        await writer.wait_closed()


@dataclass(kw_only=True)
class Telling:
    """A validator that grants everything, and tells its receiver what became of it."""

    url: str
    is_strict: bool = True
    patience: timedelta = timedelta(hours=1)
    notices_at_once: int | None = None
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=30))

    async def check(self, attempt: Attempt) -> Verdict:
        notify = Notify(validator="", is_strict=self.is_strict, patience=self.patience)
        return Grant(method="", label="device", attributes={"for": attempt.transaction_id}, notify=(notify,))

    async def notify(self, notice: Notice) -> Receipt:
        response = await self.http.post(self.url, json=said(notice))
        code = response.json()["code"]
        match response.status_code:
            case httpx.codes.OK if code == "Success":
                return Accepted()
            case httpx.codes.OK:
                return Deny(detail=code)
            case httpx.codes.TOO_MANY_REQUESTS | httpx.codes.SERVICE_UNAVAILABLE as status:
                seconds = int(response.headers.get("Retry-After", "0"))
                return Unavailable(detail=f"HTTP {status}", retry_after_seconds=seconds)
            case _:
                response.raise_for_status()
                raise TypeError(response.status_code)

    async def aclose(self) -> None:
        await self.http.aclose()


def said(notice: Notice) -> dict[str, Any]:
    """A notice as its receiver gets it."""
    return {
        "id": str(notice.id),
        "occasion": notice.occasion.value,
        "transactionId": notice.transaction_id,
        "attributes": dict(notice.attributes),
        "certificateRequest": b64encode(notice.csr).decode(),
        "certificate": b64encode(notice.certificate).decode() if notice.certificate else None,
        "reason": notice.reason,
    }
