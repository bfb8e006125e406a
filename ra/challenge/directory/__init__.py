"""Whether somebody's directory knows the device, and thinks well of it: Entra, Intune, Jamf Pro, or any over LDAP.

```toml
[challenges.managed]
type = "directory"
name = "CN"
require = ["enabled", "compliant"]
source = { kind = "entra", tenant = "example.onmicrosoft.com", client_id = "6f1c…", client_secret = "file:entra.secret" }
```

The name of the request that `name` says, asked for exactly once, is looked up; `pattern` takes a part of it. A device
that is not found, or found twice, or does not say what `require` wants, is refused. What the directory says of the device
goes into the audit; its SID goes to the policy too, which puts it into the certificate where the profile says so.

Whoever knows a device's name could ask for it: a directory knows no secret, and has to stand in an `all_of` beside a
challenge that does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.api import ConnectorError
from ra.challenge.api import Attempt, Deny, Services, Verdict
from ra.challenge.directory.jamf import JamfDirectory, JamfSource
from ra.challenge.directory.ldap import LdapDirectory, LdapSource
from ra.challenge.directory.microsoft import EntraSource, IntuneSource, MicrosoftDirectory
from ra.challenge.directory.records import VALUE, Device
from ra.challenge.one_time import names_asked
from ra.challenge.remote import below, unavailable
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from ra.scep.csr import Csr

_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")
"""What is looked up goes into a filter of the directory's own language: nothing in it may mean anything there."""

NO_DEVICE = "00000000-0000-0000-0000-000000000000"
"""What is looked up to see whether the directory answers."""

_LDAP_VALUE = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
"""What is put into a filter of LDAP cannot mean anything there."""


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

    source: Annotated[EntraSource | IntuneSource | JamfSource | LdapSource, Field(discriminator="kind")]
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

    async def find(self, names: Mapping[str, str]) -> tuple[Device, ...]: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """Grants what asks for the name of a device that the directory thinks well of."""

    knows_secrets: ClassVar[bool] = False

    options: Options
    services: Services = field(repr=False)
    directory: Directory
    form: re.Pattern[str] = _VALUE
    needs: frozenset[str] = frozenset({VALUE})

    @property
    def demands_challenge_on_renewal(self) -> bool:
        return self.options.on_renewal

    async def check(self, attempt: Attempt) -> Verdict:
        names: dict[str, str] = {}
        for need in sorted(self.needs):
            match self._name(attempt.csr, need):
                case Deny() as denied:
                    return denied
                case str() as value:
                    names[need] = value
        try:
            found = await self.directory.find(names)
        except ConnectorError as error:
            return unavailable(error)
        if len(found) != 1:
            called = ", ".join(names.values())[:200]
            return Deny(detail=f"the directory has {len(found) or 'no'} devices that are called {called!a}")
        return self._judged(found[0])

    def _name(self, csr: Csr, need: str) -> str | Deny:
        """A name of the request, which has to ask for it exactly once; `value` is the part that the options take."""
        name = self.options.name if need == VALUE else need
        values = [each[len(name) + 1 :] for each in names_asked(csr) if each.startswith((f"{name}=", f"{name}:"))]
        if len(values) != 1:
            return Deny(detail=f"{name} is asked for {len(values)} times; the directory wants it once")
        matched = re.fullmatch(self.options.pattern if need == VALUE else "(.*)", values[0])
        if matched is None or not self.form.fullmatch(matched[1] or ""):
            return Deny(detail=f"{name} is nothing that could be looked up: {values[0][:100]!a}")
        return matched[1]

    def _judged(self, device: Device) -> Verdict:
        for wanted in self.options.require:
            if (device.is_enabled if wanted == "enabled" else device.is_compliant) is not True:
                return Deny(detail=f"the device {device.id} is not {wanted}, by the directory")
        return Grant(
            method=self.services.name,
            label=self.options.source.kind,
            attributes=device.attributes(),
            sid=device.sid,
        )

    async def reach(self) -> str:
        """Looks up a device that nobody has."""
        with below("source"):
            await self.directory.find(dict.fromkeys(self.needs, NO_DEVICE))
        return "the directory lets us in, and answers a look-up"

    async def aclose(self) -> None:
        await self.directory.aclose()


async def connect(options: Options, services: Services) -> Managed:
    """Asks nobody.

    Raises:
        Misconfigured: the directory cannot say what is required.
    """
    match options.source:
        case JamfSource() as source:
            _insist_on_no_compliance(options, "Jamf Pro is asked whether a device is managed")
            return Managed(options=options, services=services, directory=JamfDirectory(source, services))
        case LdapSource() as source:
            _insist_on_no_compliance(options, "a directory over LDAP is asked whether an account is enabled")
            if source.enabled_attribute is None and "enabled" in options.require:
                raise Misconfigured("require: nobody says whether an account is enabled without enabled_attribute")
            ldap = LdapDirectory(source, services)
            return Managed(options=options, services=services, directory=ldap, form=_LDAP_VALUE, needs=ldap.names)
        case EntraSource() | IntuneSource() as source:
            return Managed(options=options, services=services, directory=MicrosoftDirectory(source, services))


def _insist_on_no_compliance(options: Options, what: str) -> None:
    if "compliant" in options.require:
        raise Misconfigured(f"require: {what}, not whether it is compliant")
