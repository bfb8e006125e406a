"""Jamf Pro, as far as a registration authority meets it: the webhook it sends, and the API that says which Macs there are.

The shape of the event is the one that Jamf Pro's documentation and Fleet have in common; that of the API's errors is what
is known of it. What a test wants to break is `faults`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ra.simulate.faults import Faults

EVENT = "SCEPChallenge"
LIFETIME = timedelta(minutes=20)
"""Of a token."""

_FILTER = re.compile(r'(hardware\.serialNumber|udid|general\.name)=="([^"]*)"')


@dataclass(kw_only=True)
class Computer:
    """One Mac."""

    serial: str
    name: str
    udid: str
    is_managed: bool = True


@dataclass(kw_only=True)
class SimulatedJamf:
    """One Jamf Pro with its computers and one API client.

    Attributes:
        faults: the ASGI application, and what its next requests meet.
        requests: method and path of everything that was asked for, in order.
    """

    now: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    client_id: str = "scep-ra"
    computers: list[Computer] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client_secret = self.entropy(24).hex()
        self._tokens: dict[str, datetime] = {}
        routes = [
            Route("/api/oauth/token", self._token, methods=["POST"]),
            Route("/api/v1/computers-inventory", self._inventory, methods=["GET"]),
        ]
        self.faults = Faults(Starlette(routes=routes))

    def add(self, serial: str, *, is_managed: bool = True) -> Computer:
        """A computer, called by its serial number."""
        computer = Computer(serial=serial, name=f"Mac {serial}", udid=self.entropy(16).hex(), is_managed=is_managed)
        self.computers.append(computer)
        return computer

    def forget_tokens(self) -> None:
        """Every token is refused from now on."""
        self._tokens.clear()

    async def _token(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        form = dict(parse_qsl((await request.body()).decode()))
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        token = self.entropy(24).hex()
        self._tokens[token] = self.now() + LIFETIME
        seconds = int(LIFETIME.total_seconds())
        return JSONResponse(
            {"access_token": token, "scope": "api-role:1", "token_type": "Bearer", "expires_in": seconds}
        )

    async def _inventory(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, self.now()) <= self.now():
            return _refused(401, "INVALID_TOKEN", "Unauthorized")
        wanted = _FILTER.fullmatch(request.query_params.get("filter", ""))
        if wanted is None:
            return _refused(400, "INVALID_FILTER", "the filter is not understood by this simulator")
        found = [each for each in self.computers if _property(each, wanted[1]) == wanted[2]]
        shown = found[: int(request.query_params.get("page-size", "100"))]
        return JSONResponse({"totalCount": len(found), "results": [_computer(each) for each in shown]})


def challenge_event(scep_url: str, computer: Computer | None, now: datetime) -> bytes:
    """The body of the webhook, JSON. In Jamf's own event there may be a device, and there may be none."""
    event: dict[str, Any] = {
        "scepServerUrl": scep_url,
        "payloadIdentifier": "6E9A1F0C-57D2-4B0C-9E0E-0F6B5E2B7A11",
        "payloadTypes": ["com.apple.security.scep"],
    }
    if computer is not None:
        event["targetDevice"] = {"serialNumber": computer.serial, "udid": computer.udid, "deviceName": computer.name}
    webhook = {
        "id": 1,
        "name": "SCEP RA",
        "webhookEvent": EVENT,
        "eventTimestamp": int(now.timestamp() * 1000),
    }
    return json.dumps({"webhook": webhook, "event": event}).encode()


def _property(computer: Computer, name: str) -> str:
    return {"hardware.serialNumber": computer.serial, "udid": computer.udid, "general.name": computer.name}[name]


def _computer(computer: Computer) -> dict[str, Any]:
    return {
        "id": str(int(computer.udid[:6], 16)),
        "udid": computer.udid,
        "general": {"name": computer.name, "remoteManagement": {"managed": computer.is_managed}},
        "hardware": {"serialNumber": computer.serial},
    }


def _refused(status: int, code: str, description: str) -> Response:
    error = {"code": code, "description": description, "id": "0", "field": None}
    return JSONResponse({"httpStatus": status, "errors": [error]}, status)
