"""What a directory knows of a device, and the token it is asked with. Every directory's module takes both from here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import Field

from connectors.api import Secret
from connectors.transport import AnswerModel, Call, Effect, Meaning, Transport

VALUE = "value"
"""What the options take from the request to be looked up, among the names that `find` is given."""

CREDENTIALS = ("client_id", "client_secret")
"""Settings that say who we are, of every directory that gives tokens."""

EARLY = timedelta(minutes=2)
"""So long before its end a token is replaced."""

_SHORTEST = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device; None where the directory does not say."""

    id: str
    name: str
    is_enabled: bool | None
    is_compliant: bool | None
    sid: str | None = None

    def attributes(self) -> dict[str, str]:
        """What goes into the audit."""
        said = {"device_id": self.id, "device_name": self.name, "sid": self.sid}
        return {name: value[:200] for name, value in said.items() if value}


class _Granted(AnswerModel):
    access_token: str = Field(min_length=1)
    expires_in: int = 60


@dataclass(slots=True, kw_only=True)
class Tokens:
    """OAuth's client credentials (RFC 6749 §4.4). One token is had for all who wait, and replaced before it ends."""

    transport: Transport
    url: str
    form: Callable[[], dict[str, str | Secret]] = field(repr=False)
    now: Callable[[], datetime]
    _held: tuple[Secret, datetime] | None = field(default=None, repr=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def header(self) -> dict[str, str | Secret]:
        """What a call carries.

        Raises:
            ConnectorError: no token is to be had.
        """
        async with self._lock:
            if self._held is None or self.now() >= self._held[1]:
                call = Call(
                    operation="token",
                    effect=Effect.REPEATABLE,
                    method="POST",
                    url=self.url,
                    form=self.form(),
                    statuses={400: Meaning.NOT_ALLOWED},  # RFC 6749 §5.2: so may invalid_client come
                )
                granted = (await self.transport.call(call)).parse(_Granted)
                lasts = max(timedelta(seconds=granted.expires_in) - EARLY, _SHORTEST)
                self._held = Secret(f"Bearer {granted.access_token}"), self.now() + lasts
            return {"Authorization": self._held[0]}

    def drop(self) -> None:
        """A token that was not accepted is not shown again: it may be from before a permission was given."""
        self._held = None
