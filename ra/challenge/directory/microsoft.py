"""Entra's devices and Intune's managed devices, both through Microsoft Graph v1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field

from connectors.api import AuthFailed, Secret
from connectors.transport import AnswerModel, BaseUrl, Call, Effect, SecretReference, TransportOptions
from ra.challenge.api import Services
from ra.challenge.directory.records import CREDENTIALS, VALUE, Device, Tokens
from ra.challenge.remote import open_transport
from ra.policy.sid import is_sid


class _Graph(TransportOptions):
    url: BaseUrl = "https://graph.microsoft.com"
    """Microsoft Graph; another one in a national cloud."""
    login_url: BaseUrl = "https://login.microsoftonline.com"
    """Where tokens are had; another one in a national cloud."""
    tenant: str = Field(pattern=r"^[A-Za-z0-9.-]{1,255}$")
    """The tenant's id or domain."""
    client_id: str = Field(min_length=1, max_length=100)
    """The application's id."""
    client_secret: SecretReference
    """`file:PATH` or `env:NAME`."""


class EntraSource(_Graph):
    """Entra's devices: application permission Device.Read.All."""

    kind: Literal["entra"]
    """The directory."""
    by: Literal["deviceId", "displayName"] = "deviceId"
    """Which property of a device is compared."""


class IntuneSource(_Graph):
    """Intune's managed devices: application permission DeviceManagementManagedDevices.Read.All."""

    kind: Literal["intune"]
    """The directory."""
    by: Literal["serialNumber", "azureADDeviceId", "deviceName"] = "serialNumber"
    """Which property of a device is compared."""


class _Found(AnswerModel):
    value: list[dict[str, Any]]


class MicrosoftDirectory:
    """One tenant."""

    def __init__(self, source: EntraSource | IntuneSource, services: Services) -> None:
        reachable = source.model_copy(update={"other_urls": (*source.other_urls, source.login_url)})
        self._source = source
        self._transport = open_transport(reachable, services, credentials=CREDENTIALS)
        self._tokens = Tokens(
            transport=self._transport,
            url=f"{source.login_url.rstrip('/')}/{source.tenant}/oauth2/v2.0/token",
            form=lambda: _form(source, services.read_secret(source.client_secret)),
            now=services.now,
        )

    def __repr__(self) -> str:
        return f"MicrosoftDirectory({self._source.kind}, {self._source.tenant})"

    async def find(self, names: Mapping[str, str]) -> tuple[Device, ...]:
        path, read = _PATHS[self._source.kind]
        # The value is of letters, digits and a few signs; an apostrophe, which would end it, is none of them.
        wanted = quote(f"{self._source.by} eq '{names[VALUE]}'")
        call = Call(
            operation="find",
            effect=Effect.REPEATABLE,
            url=f"/v1.0/{path}&$filter={wanted}&$top=2",
            headers=await self._tokens.header(),
        )
        try:
            answer = await self._transport.call(call)
        except AuthFailed:
            self._tokens.drop()
            raise
        return tuple(map(read, answer.parse(_Found).value))

    async def aclose(self) -> None:
        await self._transport.aclose()


_ENABLED_STATES = frozenset({"managed", "retirecanceled", "wipecanceled"})
"""Of managementState. What is pending, issued or has failed is on its way out; what is `discovered` is not in yet."""


def _form(source: EntraSource | IntuneSource, secret: Secret) -> dict[str, str | Secret]:
    return {
        "grant_type": "client_credentials",
        "client_id": source.client_id,
        "client_secret": Secret(secret.reveal().strip()),
        "scope": f"{source.url.rstrip('/')}/.default",
    }


def _entra(said: dict[str, Any]) -> Device:
    """A device that is synchronised from Active Directory has the SID of its account there; it must be selected by name."""
    sid = said.get("onPremisesSecurityIdentifier")
    return Device(
        id=str(said.get("deviceId", "")),
        name=str(said.get("displayName", "")),
        is_enabled=said.get("accountEnabled") is True,
        is_compliant=said.get("isCompliant") is True,
        sid=sid if isinstance(sid, str) and is_sid(sid) else None,
    )


def _intune(said: dict[str, Any]) -> Device:
    """A managed device is there until it is retired or wiped; while that is under way it is not enabled any more."""
    state = said.get("managementState")
    return Device(
        id=str(said.get("id", "")),
        name=str(said.get("deviceName", "")),
        is_enabled=isinstance(state, str) and state.lower() in _ENABLED_STATES,
        is_compliant=str(said.get("complianceState", "")).lower() == "compliant",
    )


_PATHS = {
    "entra": (
        "devices?$select=deviceId,displayName,accountEnabled,isCompliant,onPremisesSecurityIdentifier",
        _entra,
    ),
    "intune": (
        "deviceManagement/managedDevices?$select=id,deviceName,complianceState,managementState",
        _intune,
    ),
}
