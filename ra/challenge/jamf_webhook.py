"""Challenges for Jamf Pro's webhook SCEPChallenge, and for Fleet, which sends the same: each profile gets its own.

```toml
[challenges.jamf]
type = "jamf_webhook"
path = "/mdm/jamf/challenge"
ttl_minutes = 60
accounts = [{ label = "jamf", user = "jamf", password = "file:jamf-webhook.txt" }]
headers = [{ label = "fleet", name = "X-Api-Key", value = "file:fleet-webhook.txt" }]
allowed_scep_urls = ["https://ra.example.org/scep"]
```

The management asks before it sends a profile to a device, and puts the answer, the whole body, into it. What it asks
with need not say which device it is for: a challenge is good for one request, of any name that the profile allows. Say
there which names are meant, or combine it with a challenge that knows devices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.api import Secret
from ra.challenge.api import Attempt, Services, Verdict
from ra.challenge.doors import Admitted, Door, DoorOptions, HeaderOptions
from ra.challenge.one_time import NewSecret, write_secret
from ra.challenge.otp import OneTime
from ra.challenge.pages import Listener, Page, PageAnswer, PagePath, PageRequest, say

LENGTH = 28
"""Characters of a challenge, hyphens not counted: 140 bits."""

EVENT = "SCEPChallenge"

_SHOWN_CHARACTERS = 64
_RETRY_AFTER = ("Retry-After", "60")


class Options(DoorOptions):
    """The block of a Jamf webhook."""

    path: PagePath = "/mdm/jamf/challenge"
    """Where the webhook is; several challenges of this type need a path each."""
    listener: Listener = Listener.PUBLIC
    """Which listener serves it: `public`, where a management in the cloud can reach it, or `admin`."""
    headers: tuple[HeaderOptions, ...] = ()
    """Who is known by a header of his own, which Jamf calls header authentication."""
    ttl_minutes: int = Field(default=60, ge=5, le=10_080)
    """For so long a challenge is accepted. Fleet takes 4 minutes for granted."""
    max_outstanding: int = Field(default=10_000, ge=1, le=1_000_000)
    """So many challenges of one account may be unused at a time; then it is told to come back."""
    allowed_scep_urls: tuple[str, ...] = ()
    """Which scepServerUrl may be asked for; where nothing is said, any, or none at all."""

    @property
    def ways(self) -> int:
        return len(self.accounts) + len(self.certificates) + len(self.headers)


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class _Webhook(_Lenient):
    webhook_event: str = Field(alias="webhookEvent", max_length=200)


class _Event(_Lenient):
    scep_server_url: str | None = Field(default=None, alias="scepServerUrl", max_length=2000)
    payload_identifier: Any = Field(default=None, alias="payloadIdentifier")
    device: Any = None
    target_device: Any = Field(default=None, alias="targetDevice")

    @property
    def what_for(self) -> str:
        """A device's serial number, where the management says it; else the profile's identifier."""
        devices = [each for each in (self.device, self.target_device) if isinstance(each, dict)]
        named = [*(each.get("serialNumber") for each in devices), self.payload_identifier]
        return next((each for each in named if isinstance(each, str)), "")


class _Letter(_Lenient):
    """The body. Jamf's own events may hold more; nothing of it is demanded."""

    webhook: _Webhook
    event: _Event = _Event()


@dataclass(frozen=True, slots=True, kw_only=True)
class JamfWebhook:
    """Grants what presents a challenge that was handed out, and hands them out."""

    options: Options
    services: Services = field(repr=False)
    door: Door = field(repr=False)
    one_time: OneTime = field(repr=False)

    async def check(self, attempt: Attempt) -> Verdict:
        return await self.one_time.check(attempt)

    @property
    def page(self) -> Page:
        return Page(path=self.options.path, listener=self.options.listener, methods=("POST",), answer=self._answer)

    async def _answer(self, request: PageRequest) -> PageAnswer:
        asking = self.door.open(request)
        if isinstance(asking, PageAnswer):
            return asking
        if asking.barred:
            return say(403, "This account may have no challenge.", "barred")
        media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            return say(415, "Set the webhook to send JSON.", "unreadable")
        try:
            letter = _Letter.model_validate_json(request.body)
        except ValidationError:
            return say(400, "This is no webhook event.", "unreadable")
        if letter.webhook.webhook_event != EVENT:
            return say(400, f"Only the event {EVENT} is answered here.", "unreadable")
        allowed = self.options.allowed_scep_urls
        if allowed and (letter.event.scep_server_url or "").rstrip("/") not in {each.rstrip("/") for each in allowed}:
            return say(403, "allowed_scep_urls does not name this scepServerUrl.", "barred")
        return await self._mint(asking, letter.event)

    async def _mint(self, asking: Admitted, event: _Event) -> PageAnswer:
        now = self.services.now()
        secret = write_secret(self.services.entropy, LENGTH)
        wanted = NewSecret(
            method=self.services.name,
            label=asking.label,
            created_at=now,
            expires_at=now + timedelta(minutes=self.options.ttl_minutes),
        )
        what_for = ascii(event.what_for[:_SHOWN_CHARACTERS])
        who = f"{asking.label} at {asking.address} for {what_for}"
        if not await self.services.one_time.mint(wanted, Secret(secret), who, self.options.max_outstanding):
            return say(503, "Too many challenges are unused; try again later.", "full", _RETRY_AFTER)
        return PageAnswer(body=secret.encode("ascii"), outcome="minted", caller=asking.label)

    async def aclose(self) -> None:
        """Nothing is held open."""


async def connect(options: Options, services: Services) -> JamfWebhook:
    """Reads the passwords.

    Raises:
        Misconfigured: one is too short, or two cannot be told apart.
    """
    return JamfWebhook(
        options=options,
        services=services,
        door=Door(options, options.headers, services),
        one_time=OneTime(services.name, services.one_time),
    )
