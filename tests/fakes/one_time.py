"""One-time secrets that are kept in memory, by the secret itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from connectors.api import Secret
from ra.challenge.one_time import NewSecret, read_secret
from ra.journal.records import OneTimeSecret
from tests.fakes.challenges import NOW

SECRET = "7K3F-QQ2M-XN4T-0WVZ-8HJP-5RDB-1AEC"


def a_one_time_secret(**changes: Any) -> OneTimeSecret:
    """Good for anything that the profile `default` allows, for an hour."""
    secret = OneTimeSecret(
        key=b"key".ljust(32),
        method="lab",
        label="printer",
        profile="default",
        names=None,
        created_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )
    return replace(secret, **changes)


@dataclass
class FakeSecrets:
    """Implements ra.challenge.api.OneTimeSecrets; raises what stands in place of a secret."""

    kept: dict[str, OneTimeSecret | Exception] = field(default_factory=dict)
    minted: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def keep(self, secret: str, found: OneTimeSecret | Exception) -> None:
        self.kept[read_secret(secret)] = found

    async def find(self, presented: str) -> OneTimeSecret | None:
        found = self.kept.get(read_secret(presented))
        if isinstance(found, Exception):
            raise found
        return found

    async def mint(self, wanted: NewSecret, secret: Secret, who: str, max_outstanding: int) -> bool:
        if self.failure is not None:
            raise self.failure
        if len(self.kept) >= max_outstanding:
            return False
        self.minted.append(who)
        named = {name: getattr(wanted, name) for name in ("method", "label", "created_at", "expires_at")}
        self.keep(secret.reveal(), a_one_time_secret(**named, profile=None))
        return True
