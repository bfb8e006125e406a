"""What the services take as arguments instead of reaching for it: the clock, entropy, and the metrics."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

Entropy = Callable[[int], bytes]
"""That many random bytes."""


class Clock(Protocol):
    """The time, and the passing of it."""

    def now(self) -> datetime:
        """UTC, aware."""

    def monotonic_seconds(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Metrics(Protocol):
    """What the services count and time; names and labels are listed in ra/telemetry.py."""

    def answered(self, profile: str, message_type: str, outcome: str, seconds: float) -> None:
        """One PKIOperation: `outcome` is success, pending, the name of a Reason, unreadable or unavailable."""

    def alarmed(self, profile: str, reason: str) -> None:
        """One refusal that looks like an attack; `reason` is the name of a Reason."""

    def connector_failed(self, connector: str, kind: str) -> None:
        """One request to a CA without a usable answer; `kind` is the error's type."""

    def legacy_used(self, profile: str, algorithm: str) -> None:
        """One use of an algorithm that is let in by a profile's `legacy` only."""

    def quirk_seen(self, profile: str, quirk: str) -> None:
        """One oddity of a message, from a small fixed set of words."""

    def notified(self, validator: str, occasion: str, outcome: str) -> None:
        """One attempt to tell a validator: `outcome` is accepted, refused, failed (it is tried again) or dead."""

    def gate_changed(self, connector: str, *, in_use: int, waiting: int, is_open: bool) -> None:
        """How many ask a CA, how many wait for their turn, and whether it is left alone for a while."""

    def connector_stopped(self, connector: str, *, is_stopped: bool) -> None:
        """Whether a CA is asked for nothing new, until a person says so."""

    def enrolments_changed(self, in_flight: int) -> None:
        """How many enrolments this process has let in and not answered yet."""

    def sent_away(self, profile: str, why: str) -> None:
        """One new enrolment that was answered 503 unopened: `why` is in-flight or lag."""

    def lagged(self, seconds: float) -> None:
        """How late the event loop is."""

    def credential_ends(self, validator: str, at: datetime) -> None:
        """When the credential ends by which a validator is let in elsewhere."""

    def identity_ends(self, identity: str, at: datetime) -> None:
        """When the certificate ends that an identity of the RA shows."""
