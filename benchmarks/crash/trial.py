"""One trial: one database, one CA, so many kills; from the first secret to the verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.crash.clerk import Clerk, unsettled
from benchmarks.crash.databases import POSTGRESQL
from benchmarks.crash.devices import Fleet, Place
from benchmarks.crash.judge import Verdict, judge
from benchmarks.crash.keeper import Keeper
from benchmarks.crash.minting import Secrets
from benchmarks.crash.replica import LOG
from benchmarks.crash.site import Ca, laid_out, wait_for
from ra.client.authority import CaCertificates, read_ca_certificates

LANES = 16
PATIENCE_SECONDS = 180.0
"""For so long at most devices try on after the last kill: on a machine that does much else everything takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried.

    Attributes:
        database: `sqlite` or `postgresql`; the second with two replicas.
        kills: none where every reply is lost once instead.
        devices: how many must be enrolled at least.
    """

    database: str
    ca: Ca
    kills: int
    devices: int

    @property
    def label(self) -> str:
        what = "kills" if self.kills else "every reply lost once"
        return f"{self.database}, {self.ca.label}, {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of it. `hits` says how often a life ended at which place."""

    trial: Trial
    kills: int
    hits: Counter[str]
    verdict: Verdict
    seconds: float


def run(trial: Trial, origin: Path, directory: Path, database: str, progress: Callable[[int], None]) -> Report:
    """Carries a trial out in a new directory; `database` is a URL."""
    begun = time.monotonic()
    with laid_out(origin, directory, trial.ca, database) as (config, ca_url):
        keeper = Keeper(config, 2 if trial.database == POSTGRESQL else 1, ca_url)
        try:
            shown = [wait_for(f"{url}?operation=GetCACert", directory / LOG) for url in keeper.urls]
            fleet, is_over = _fleet(trial, config, keeper.urls, read_ca_certificates(shown[0]))
            clerk = Clerk(config)
            with clerk.at_work(), _enrolling(fleet, is_over):
                _carry_out(trial, keeper, fleet, progress)
                _wait_for_rest(config, keeper)
        finally:
            keeper.stop()
        verdict = judge(config, fleet.devices, [*keeper.unplanned, *fleet.faults, *clerk.faults])
    return Report(trial=trial, kills=keeper.kills, hits=keeper.hits, verdict=verdict, seconds=time.monotonic() - begun)


def _fleet(trial: Trial, config: Path, urls: tuple[str, ...], ca: CaCertificates) -> tuple[Fleet, threading.Event]:
    is_over = threading.Event()
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(LANES)]
    places = [Place(urls=urls, ca=ca, signer_key=key, is_over=is_over.is_set) for key in keys]
    lose = not trial.kills
    return Fleet(places, Secrets(config).take, rivals=not lose, every_reply_lost_once=lose), is_over


@contextmanager
def _enrolling(fleet: Fleet, is_over: threading.Event) -> Iterator[None]:
    """Devices come as long as the block runs; whatever ends it, they go."""
    fleet.start()
    try:
        yield
    finally:
        is_over.set()
        fleet.close()
        fleet.join()


def _carry_out(trial: Trial, keeper: Keeper, fleet: Fleet, progress: Callable[[int], None]) -> None:
    keeper.kill(trial.kills, progress)
    while len(fleet.devices) < trial.devices:
        _look(keeper)
    fleet.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while fleet.is_busy and time.monotonic() < deadline:
        _look(keeper)


def _wait_for_rest(config: Path, keeper: Keeper) -> None:
    """Until nothing is to be done any more: certificates that nobody may have are revoked when no device asks."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while unsettled(config) and time.monotonic() < deadline:
        _look(keeper)


def _look(keeper: Keeper) -> None:
    keeper.watch()
    time.sleep(0.05)
