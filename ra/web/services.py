"""What the web is given by bootstrap. Values only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from ra.challenge.pages import MountedPage
from ra.journal.records import Statistics
from ra.service.endpoint import Directory, Endpoint
from ra.service.health import HealthReport
from ra.service.mint import Mint, Offer
from ra.service.pki_operation import Answer
from ra.service.ports import Clock
from ra.web.api_keys import ApiKeys


class WebMetrics(Protocol):
    """What the web counts; names and labels are listed in ra/telemetry.py."""

    def http_answered(self, operation: str, status: int) -> None:
        """One HTTP request; `operation` is from a small fixed set of words."""

    def fault(self) -> None:
        """One request that was answered 500."""

    def scrape(self) -> bytes:
        """All metrics in Prometheus' text exposition format."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the two applications need.

    Attributes:
        answer: `PkiOperation.answer`.
        next_ca: `Rollover.message`.
        check_health: `Health.check`.
        count_read: takes profile and operation of an answer that anybody gets, for the audit's summaries.
        read_statistics: raises ra.errors.Unavailable.
        is_stopping: devices are to be sent elsewhere, because this process ends soon.
        public_url: scheme, host and port as devices reach them, without a slash at the end.
        pages: of the challenge validators that have one.
        mint: None where nothing is minted.
        offers: what may be minted.
        debug: shows the configuration and the OpenAPI description to everybody.
    """

    version: str
    directory: Directory
    answer: Callable[[Endpoint, bytes], Awaitable[Answer]]
    count_read: Callable[[str, str], None]
    next_ca: Callable[[Endpoint], Awaitable[bytes | None]]
    check_health: Callable[[], Awaitable[HealthReport]]
    read_statistics: Callable[[], Awaitable[Statistics]]
    clock: Clock
    metrics: WebMetrics
    api_keys: ApiKeys
    public_url: str
    pages: tuple[MountedPage, ...] = ()
    mint: Mint | None = None
    offers: tuple[Offer, ...] = ()
    debug: bool = False
    is_stopping: Callable[[], bool] = _never
