"""Whether a device management knows the device, and thinks well of it: Entra, Intune or Jamf Pro.

```toml
[challenges.managed]
type = "directory"
name = "CN"
require = ["enabled", "compliant"]
source = { kind = "entra", tenant = "example.onmicrosoft.com", client_id = "6f1c…", client_secret = "file:entra.secret" }
```

The name of the request that `name` says, asked for exactly once, is looked up; `pattern` takes a part of it. A device
that is not found, or found twice, or does not say what `require` wants, is refused. What the directory says of the device
goes into the audit, its SID included where there is one.

Whoever knows a device's name could ask for it: a directory knows no secret, and has to stand in an `all_of` beside a
challenge that does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.api import ConnectorError
from ra.challenge.api import Attempt, Deny, Services, Verdict
from ra.challenge.directory.jamf import JamfDirectory, JamfSource
from ra.challenge.directory.microsoft import EntraSource, IntuneSource, MicrosoftDirectory
from ra.challenge.directory.records import Device
from ra.challenge.one_time import names_asked
from ra.challenge.remote import unavailable
from ra.errors import Misconfigured
from ra.policy.grant import Grant

_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
"""What is looked up goes into a filter of the directory's own language: nothing in it may mean anything there."""


def _pattern(value: str) -> str:
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError("has one pair of parentheses, around what is looked up")
    return value


class Options(BaseModel):
    """The block of a directory challenge."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: Annotated[EntraSource | IntuneSource | JamfSource, Field(discriminator="kind")]
    """Which directory, and how it is reached."""
    name: str = "CN"
    """Which name of the request is looked up, as `otp` writes them: `CN`, `serialNumber`, `dns` …"""
    pattern: Annotated[str, AfterValidator(_pattern)] = "(.*)"
    """A regular expression that the whole name must match; what is in its parentheses is looked up."""
    require: tuple[Literal["enabled", "compliant"], ...] = ("enabled",)
    """What must be true of the device beside that it is there."""
    on_renewal: bool = True
    """Whether a certificate of ours must not stand in for it: then a renewal is asked about too, and needs every challenge
    of the profile. Switch it off beside one-time secrets, which no renewal can present again."""


class Directory(Protocol):
    """One management. `find` raises ConnectorError."""

    async def find(self, value: str) -> tuple[Device, ...]: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """Grants what asks for the name of a device that the directory thinks well of."""

    knows_secrets: ClassVar[bool] = False

    options: Options
    services: Services = field(repr=False)
    directory: Directory

    @property
    def demands_challenge_on_renewal(self) -> bool:
        return self.options.on_renewal

    async def check(self, attempt: Attempt) -> Verdict:
        name = self.options.name
        values = [
            each[len(name) + 1 :] for each in names_asked(attempt.csr) if each.startswith((f"{name}=", f"{name}:"))
        ]
        if len(values) != 1:
            return Deny(detail=f"{name} is asked for {len(values)} times; the directory wants it once")
        matched = re.fullmatch(self.options.pattern, values[0])
        if matched is None or not _VALUE.fullmatch(matched[1] or ""):
            return Deny(detail=f"{name} is nothing that could be looked up: {values[0][:100]!a}")
        try:
            found = await self.directory.find(matched[1])
        except ConnectorError as error:
            return unavailable(error)
        if len(found) != 1:
            return Deny(detail=f"the directory has {len(found) or 'no'} devices that are called {matched[1]!a}")
        return self._judged(found[0])

    def _judged(self, device: Device) -> Verdict:
        for wanted in self.options.require:
            if (device.is_enabled if wanted == "enabled" else device.is_compliant) is not True:
                return Deny(detail=f"the device {device.id} is not {wanted}, by the directory")
        return Grant(method=self.services.name, label=self.options.source.kind, attributes=device.attributes())

    async def aclose(self) -> None:
        await self.directory.aclose()


async def connect(options: Options, services: Services) -> Managed:
    """Asks nobody.

    Raises:
        Misconfigured: the directory cannot say what is required.
    """
    match options.source:
        case JamfSource() as source:
            if "compliant" in options.require:
                raise Misconfigured(
                    "require: Jamf Pro is asked whether a device is managed, not whether it is compliant"
                )
            return Managed(options=options, services=services, directory=JamfDirectory(source, services))
        case EntraSource() | IntuneSource() as source:
            return Managed(options=options, services=services, directory=MicrosoftDirectory(source, services))
