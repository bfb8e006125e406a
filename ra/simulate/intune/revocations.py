"""Certificates that somebody in Intune's console wants revoked, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Revocations:
    """Requests that no result was recorded for, by their context, and the results that were.

    Attributes:
        records: whether what is uploaded is recorded; where it is not, the request is handed out again.
    """

    entropy: Callable[[int], bytes] = field(repr=False)
    waiting: dict[str, dict[str, str]] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    records: bool = True

    def ask_for(self, serial: str, issuer: str = "Simulated issuing CA", ca_configuration: str = "") -> str:
        """Somebody wants it revoked; the context of the request."""
        context = self.entropy(12).hex()
        self.waiting[context] = {
            "requestContext": context,
            "serialNumber": serial,
            "issuerName": issuer,
            "caConfiguration": ca_configuration or issuer,
        }
        return context

    def download(self, body: dict[str, Any]) -> list[dict[str, str]]:
        """Cut first, and filtered afterwards, by another member than its name says: as the original does it."""
        wanted = body["downloadParameters"]
        cut = list(self.waiting.values())[: wanted["maxRequests"]]
        issuer = wanted.get("issuerName")
        return [each for each in cut if issuer is None or each["caConfiguration"] == issuer]

    def upload(self, body: dict[str, Any]) -> bool:
        self.results.extend(body["results"])
        if self.records:
            for each in body["results"]:
                self.waiting.pop(each["requestContext"], None)
        return self.records
