"""One-time secrets that are kept in memory, by the secret itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from ra.challenge.one_time import read_secret
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

    def keep(self, secret: str, found: OneTimeSecret | Exception) -> None:
        self.kept[read_secret(secret)] = found

    async def find(self, presented: str) -> OneTimeSecret | None:
        found = self.kept.get(read_secret(presented))
        if isinstance(found, Exception):
            raise found
        return found
