"""Jamf Pro, as far as a registration authority meets it: the webhook it sends, and the API that says which devices it has.

The shape of the event is the one that Jamf Pro's documentation and Fleet have in common; that of the API's errors is what
clients have written down of it. What a test wants to break is `faults`.
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

_VERSIONS = ("v1", "v2", "v3", "v4")
"""Of the inventory of computers, which differ in what a look-up does not ask for."""

_FILTER = re.compile(r'(hardware\.serialNumber|udid|general\.name)=="([^"]*)"')
_MOBILE_FILTER = re.compile(r'(serialNumber|udid|displayName)=="([^"]*)"')


@dataclass(kw_only=True)
class Computer:
    """One Mac, or one mobile device."""

    serial: str
    name: str
    udid: str
    is_managed: bool = True


@dataclass(kw_only=True)
class SimulatedJamf:
    """One Jamf Pro with its computers, its mobile devices and one API client.

    Attributes:
        faults: the ASGI application, and what its next requests meet.
        requests: method and path of everything that was asked for, in order.
    """

    now: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    client_id: str = "scep-ra"
    computers: list[Computer] = field(default_factory=list)
    mobile_devices: list[Computer] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client_secret = self.entropy(24).hex()
        self._tokens: dict[str, datetime] = {}
        routes = [
            Route("/api/oauth/token", self._token, methods=["POST"]),
            *(Route(f"/api/{each}/computers-inventory", self._inventory, methods=["GET"]) for each in _VERSIONS),
            Route("/api/v2/mobile-devices/detail", self._mobile_inventory, methods=["GET"]),
        ]
        self.faults = Faults(Starlette(routes=routes))

    def add(self, serial: str, *, is_managed: bool = True) -> Computer:
        """A computer, called by its serial number."""
        computer = Computer(serial=serial, name=f"Mac {serial}", udid=self.entropy(16).hex(), is_managed=is_managed)
        self.computers.append(computer)
        return computer

    def add_mobile(self, serial: str, *, is_managed: bool = True) -> Computer:
        """A mobile device, called by its serial number."""
        device = Computer(serial=serial, name=f"iPad {serial}", udid=self.entropy(20).hex(), is_managed=is_managed)
        self.mobile_devices.append(device)
        return device

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
        return self._find(request, _FILTER, self.computers, _computer)

    async def _mobile_inventory(self, request: Request) -> Response:
        return self._find(request, _MOBILE_FILTER, self.mobile_devices, _mobile)

    def _find(
        self,
        request: Request,
        filters: re.Pattern[str],
        devices: list[Computer],
        show: Callable[[Computer, bool], dict[str, Any]],
    ) -> Response:
        self.requests.append((request.method, request.url.path))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, self.now()) <= self.now():
            return _refused(401, "INVALID_TOKEN", "Unauthorized")
        wanted = filters.fullmatch(request.query_params.get("filter", ""))
        if wanted is None:
            return _refused(400, "INVALID_FILTER", "the filter is not understood by this simulator")
        found = [each for each in devices if _property(each, wanted[1]) == wanted[2]]
        shown = found[: int(request.query_params.get("page-size", "100"))]
        with_hardware = "HARDWARE" in request.query_params.getlist("section")
        return JSONResponse({"totalCount": len(found), "results": [show(each, with_hardware) for each in shown]})


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
    match name.rpartition(".")[2]:
        case "serialNumber":
            return computer.serial
        case "udid":
            return computer.udid
        case _:
            return computer.name


def _computer(computer: Computer, with_hardware: bool) -> dict[str, Any]:
    return {
        "id": str(int(computer.udid[:6], 16)),
        "udid": computer.udid,
        "general": {"name": computer.name, "remoteManagement": {"managed": computer.is_managed}},
        **({"hardware": {"serialNumber": computer.serial}} if with_hardware else {}),
    }


def _mobile(device: Computer, with_hardware: bool) -> dict[str, Any]:
    return {
        "mobileDeviceId": str(int(device.udid[:6], 16)),
        "deviceType": "ios",
        "general": {"udid": device.udid, "displayName": device.name, "managed": device.is_managed},
        "hardware": {"serialNumber": device.serial} if with_hardware else None,
    }


def _refused(status: int, code: str, description: str) -> Response:
    error = {"code": code, "description": description, "id": "0", "field": None}
    return JSONResponse({"httpStatus": status, "errors": [error]}, status)
