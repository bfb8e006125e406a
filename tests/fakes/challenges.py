"""What challenge validators are given, and validators that answer as told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from connectors.api import Secret
from ra.challenge.api import Attempt, Services, Verdict
from ra.errors import Misconfigured
from ra.scep.csr import Csr
from tests.fakes.csrs import csr, rsa_key, signer

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class FakeValidator:
    """Answers with the verdict, or raises it where it is an exception; counts what it was asked."""

    answer: Verdict | Exception
    asked: int = 0
    closed: bool = False

    async def check(self, attempt: Attempt) -> Verdict:
        self.asked += 1
        assert attempt.profile
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def aclose(self) -> None:
        self.closed = True
        if isinstance(self.answer, Exception):
            raise self.answer


@dataclass
class FakeServices:
    """Secrets by reference, and the warnings that were given."""

    secrets: Mapping[str, str]
    name: str = "shared"
    warnings: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def services(self) -> Services:
        return Services(
            name=self.name,
            directory=Path("nowhere"),
            now=lambda: NOW,
            read_secret=self._read_secret,
            warn=self.warnings.append,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def _read_secret(self, reference: str) -> Secret:
        if reference not in self.secrets:
            raise Misconfigured(f"there is no secret {reference}")
        return Secret(self.secrets[reference])


def attempt(challenge: str | None, *, request: Csr | None = None, arrived_at: datetime = NOW) -> Attempt:
    return Attempt(
        profile="default",
        transaction_id="transaction",
        csr=request or csr(challenge_password=challenge),
        signer=signer(rsa_key()),
        arrived_at=arrived_at,
    )
