"""A receiver of step-ca's webhooks, as Smallstep's own examples are written: it checks the signature, then answers."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@dataclass
class StepReceiver:
    """Gives `replies` in their order, then allows; what is not signed with SECRET is answered 401."""

    replies: deque[Response] = field(default_factory=deque)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.headers.append(dict(request.headers))
        signed = hmac.new(b64decode(SECRET), body, hashlib.sha256).digest()
        if not hmac.compare_digest(signed, bytes.fromhex(request.headers["X-Smallstep-Signature"])):
            await Response("bad signature", 401)(scope, receive, send)
            return
        self.bodies.append(json.loads(body))
        await (self.replies.popleft() if self.replies else allowed())(scope, receive, send)


def allowed(**data: Any) -> Response:
    return JSONResponse({"allow": True, "data": data})


def denied(**error: str) -> Response:
    return JSONResponse({"allow": False, "error": error or None})
