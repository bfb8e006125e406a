"""Microsoft Graph and its tokens, as far as a directory of devices asks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

SECRET = "the application's secret"


@dataclass
class FakeGraph:
    """Answers with `devices` for the filter that is asked for; refuses what shows no token of its own."""

    devices: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    failure: Response | None = None
    token: str = "t0ken"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer = self._token(await request.body()) if request.method == "POST" else self._find(request)
        await answer(scope, receive, send)

    def _token(self, body: bytes) -> Response:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.forms.append(form)
        if form["client_secret"] != SECRET:
            said = "AADSTS7000215: Invalid client secret provided."
            return JSONResponse({"error": "invalid_client", "error_description": said, "error_codes": [7000215]}, 401)
        return JSONResponse({"token_type": "Bearer", "expires_in": 3599, "access_token": self.token})

    def _find(self, request: Request) -> Response:
        wanted = request.query_params["$filter"]
        self.asked.append((request.url.path, wanted))
        if self.failure is not None:
            return self.failure
        if request.headers["authorization"] != f"Bearer {self.token}":
            return JSONResponse({"error": {"code": "InvalidAuthenticationToken"}}, 401)
        return JSONResponse({"value": self.devices.get(wanted, [])})
