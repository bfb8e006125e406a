"""Jamf Pro's computers, through its API, as an API client with the privilege Read Computers."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import Field

from connectors.api import AuthFailed, Secret
from connectors.transport import AnswerModel, Call, Effect, SecretReference, TransportOptions
from ra.challenge.api import Services
from ra.challenge.directory.records import Device, Tokens
from ra.challenge.remote import open_transport


class JamfSource(TransportOptions):
    """Jamf Pro's computers: an API client with the privilege Read Computers."""

    kind: Literal["jamf"]
    """The directory."""
    client_id: str = Field(min_length=1, max_length=100)
    """The API client's id."""
    client_secret: SecretReference
    """`file:PATH` or `env:NAME`."""
    by: Literal["hardware.serialNumber", "udid", "general.name"] = "hardware.serialNumber"
    """Which property of a computer is compared."""


class _Management(AnswerModel):
    managed: bool = False


class _General(AnswerModel):
    name: str = ""
    remote_management: _Management = Field(default=_Management(), alias="remoteManagement")


class _Computer(AnswerModel):
    id: str
    general: _General = _General()


class _Page(AnswerModel):
    results: list[_Computer]


class JamfDirectory:
    """One Jamf Pro."""

    def __init__(self, source: JamfSource, services: Services) -> None:
        self._source = source
        self._transport = open_transport(source, services)
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

    async def find(self, value: str) -> tuple[Device, ...]:
        # The value is of letters, digits and a few signs; a quotation mark, which would end it, is none of them.
        wanted = quote(f'{self._source.by}=="{value}"')
        call = Call(
            operation="find",
            effect=Effect.REPEATABLE,
            url=f"/api/v1/computers-inventory?section=GENERAL&section=HARDWARE&page-size=2&filter={wanted}",
            headers={**await self._tokens.header(), "Accept": "application/json"},
        )
        try:
            answer = await self._transport.call(call)
        except AuthFailed:
            self._tokens.drop()
            raise
        return tuple(
            Device(
                id=each.id,
                name=each.general.name,
                is_enabled=each.general.remote_management.managed,
                is_compliant=None,
            )
            for each in answer.parse(_Page).results
        )

    async def aclose(self) -> None:
        await self._transport.aclose()
