"""Jamf Pro's computers and mobile devices, through its API, as an API client that may read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

from pydantic import Field

from connectors.api import AuthFailed, ProtocolViolation, Secret
from connectors.transport import AnswerModel, Call, Effect, SecretReference, TransportOptions
from ra.challenge.api import Services
from ra.challenge.directory.records import CREDENTIALS, VALUE, Device, Tokens
from ra.challenge.remote import open_transport


class JamfSource(TransportOptions):
    """Jamf Pro's computers or mobile devices: an API client with the privilege Read Computers or Read Mobile Devices."""

    kind: Literal["jamf"]
    """The directory."""
    client_id: str = Field(min_length=1, max_length=100)
    """The API client's id."""
    client_secret: SecretReference
    """`file:PATH` or `env:NAME`."""
    devices: Literal["computers", "mobile"] = "computers"
    """Which of its inventories is asked: Macs, or iPhones, iPads and Apple TVs."""
    by: Literal["hardware.serialNumber", "udid", "general.name"] = "hardware.serialNumber"
    """Which property of a device is compared; of a mobile device `general.name` is its display name."""
    computers_api: Literal["v1", "v2", "v3", "v4"] = "v3"
    """Which version of `/api/…/computers-inventory` is asked. Jamf withdraws an old one a year or more after it has brought
    the next: v1 was deprecated in 2025, v3 with Jamf Pro 11.30, which brought v4."""


class _Management(AnswerModel):
    managed: bool = False


class _Hardware(AnswerModel):
    serial_number: str | None = Field(default=None, alias="serialNumber")


class _General(AnswerModel):
    name: str = ""
    remote_management: _Management = Field(default=_Management(), alias="remoteManagement")


class _Computer(AnswerModel):
    id: str
    udid: str | None = None
    general: _General = _General()
    hardware: _Hardware = _Hardware()

    def device(self) -> Device:
        managed = self.general.remote_management.managed
        return Device(id=self.id, name=self.general.name, is_enabled=managed, is_compliant=None)

    def properties(self) -> Mapping[str, str | None]:
        return {
            "hardware.serialNumber": self.hardware.serial_number,
            "udid": self.udid,
            "general.name": self.general.name,
        }


class _Computers(AnswerModel):
    results: list[_Computer]


class _MobileGeneral(AnswerModel):
    udid: str | None = None
    name: str = Field(default="", alias="displayName")
    managed: bool = False


class _Mobile(AnswerModel):
    id: str = Field(alias="mobileDeviceId")
    general: _MobileGeneral = _MobileGeneral()
    hardware: _Hardware | None = None

    def device(self) -> Device:
        return Device(id=self.id, name=self.general.name, is_enabled=self.general.managed, is_compliant=None)

    def properties(self) -> Mapping[str, str | None]:
        serial = self.hardware.serial_number if self.hardware else None
        return {"hardware.serialNumber": serial, "udid": self.general.udid, "general.name": self.general.name}


class _Mobiles(AnswerModel):
    results: list[_Mobile]


_MOBILE_NAMES = {"hardware.serialNumber": "serialNumber", "udid": "udid", "general.name": "displayName"}
"""How a filter calls what the answer calls otherwise."""


class JamfDirectory:
    """One Jamf Pro."""

    def __init__(self, source: JamfSource, services: Services) -> None:
        self._source = source
        self._transport = open_transport(source, services, credentials=CREDENTIALS)
        self._tokens = Tokens(
            transport=self._transport,
            url="/api/oauth/token",
            form=lambda: {
                "grant_type": "client_credentials",
                "client_id": source.client_id,
                "client_secret": Secret(services.read_secret(source.client_secret).reveal().strip()),
            },
            now=services.now,
        )

    def __repr__(self) -> str:
        return f"JamfDirectory({self._source.url})"

    async def find(self, names: Mapping[str, str]) -> tuple[Device, ...]:
        source, value = self._source, names[VALUE]
        # The value is of letters, digits and a few signs; a quotation mark, which would end it, is none of them.
        if source.devices == "computers":
            path, wanted = f"{source.computers_api}/computers-inventory", f'{source.by}=="{value}"'
        else:
            path, wanted = "v2/mobile-devices/detail", f'{_MOBILE_NAMES[source.by]}=="{value}"'
        call = Call(
            operation="find",
            effect=Effect.REPEATABLE,
            # Without its section, the hardware is null.
            url=f"/api/{path}?section=GENERAL&section=HARDWARE&page-size=2&filter={quote(wanted)}",
            headers={**await self._tokens.header(), "Accept": "application/json"},
        )
        try:
            answer = await self._transport.call(call)
        except AuthFailed:
            self._tokens.drop()
            raise
        found: list[_Computer] | list[_Mobile]
        found = answer.parse(_Computers).results if source.devices == "computers" else answer.parse(_Mobiles).results
        # Some of Jamf Pro's lists do not look at a filter: the first device there is would pass for the one asked for.
        if any((each.properties()[source.by] or "").casefold() != value.casefold() for each in found):
            raise ProtocolViolation(f"{source.url} answers with a device whose {source.by} is not the one asked for")
        return tuple(each.device() for each in found)

    async def aclose(self) -> None:
        await self._transport.aclose()
