"""Keeps the replicas alive, and kills them as planned: from inside, at the CA, or at random from outside."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx

from benchmarks.crash.points import AFTER_ANSWER, AT_THE_CA, BEFORE_SEND, INSIDE, LIVE, RANDOM, Plan
from benchmarks.crash.replica import LOG, Sockets, live
from benchmarks.ledger.attended import AFTER_NOTICE, BEFORE_NOTICE

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "benchmarks.crash.__main__",  # every life imports it again, as multiprocessing has it
        "benchmarks.ledger.attended",
        "benchmarks.ledger.connector",
        "benchmarks.ledger.recorded",
        "ra.challenge.otp",
        "ra.journal.postgresql",
    ]
)

_LONGEST_NAMED_SECONDS = 3.0
_LONGEST_FIRST_SECONDS = 60.0
"""What a life has time for that is the first to end at its place: every place is reached, however slow the machine is."""

_RANDOM_SECONDS = (0.05, 1.5)
_MOST_PASSINGS = 12
_FEWER_PASSINGS = {BEFORE_SEND: 5, AFTER_ANSWER: 5, BEFORE_NOTICE: 2, AFTER_NOTICE: 2}
"""Of places that a life comes to less often."""

_MOST_UNPLANNED = 20
_STOP_SECONDS = 30.0
_ORDERLY = frozenset({0, -signal.SIGTERM})
"""uvicorn ends by the signal that it was asked to end with."""


@dataclass(slots=True, kw_only=True)
class Replica:
    """One place where the RA runs, life after life."""

    sockets: Sockets
    process: ForkServerProcess
    plan: Plan
    born_at: float

    @property
    def is_overdue(self) -> bool:
        limit = self.plan.after_seconds
        return limit is not None and time.monotonic() - self.born_at > limit


class Keeper:
    """The replicas of one trial."""

    def __init__(self, config: Path, replicas: int, ca_url: str | None) -> None:
        """`ca_url` is that of the ledger CA, where there is one to arm."""
        self.kills = 0
        self.unplanned: list[str] = []
        """How lives ended that nobody had ended, or that did not end when they were told to."""
        self._config = config
        self._ca_url = ca_url
        self._at_the_ca: Counter[str] = Counter()
        self._hits = _CONTEXT.RawArray("q", len(INSIDE))
        self._plans = self._planned()
        self._replicas = [self._born(Sockets.bind(), LIVE) for _ in range(replicas)]

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(each.sockets.url for each in self._replicas)

    @property
    def hits(self) -> Counter[str]:
        """How often a life was ended at each place; complete once all are stopped."""
        named = Counter(dict(zip(INSIDE, self._hits, strict=True))) + self._at_the_ca
        return named + Counter({RANDOM: self.kills - named.total()})

    def kill(self, count: int, progress: Callable[[int], None]) -> None:
        """Ends so many lives; the last ones that begin are to live on."""
        if count:
            for replica in self._replicas:
                replica.plan = Plan(after_seconds=0)
        while self.kills < count:
            for replica in self._replicas:
                if replica.is_overdue:
                    self._end(replica)
            wait([each.process.sentinel for each in self._replicas], timeout=0.01)
            for number, replica in enumerate(self._replicas):
                if not replica.process.is_alive():
                    self._note_death(replica)
                    plan = next(self._plans) if self.kills < count else LIVE
                    self._replicas[number] = self._born(replica.sockets, plan)
            progress(self.kills)
        self._let_live()

    def watch(self) -> None:
        """Starts again what has ended by itself."""
        for number, replica in enumerate(self._replicas):
            if not replica.process.is_alive():
                self._note_death(replica)
                self._replicas[number] = self._born(replica.sockets, LIVE)

    def stop(self) -> None:
        """Ends every life in an orderly way."""
        for each in self._replicas:
            each.process.terminate()
        for each in self._replicas:
            each.process.join(_STOP_SECONDS)
            code = each.process.exitcode
            if code is None:
                self.unplanned.append(f"a process did not end within {_STOP_SECONDS:.0f} s of SIGTERM")
                each.process.kill()
            elif code not in _ORDERLY:
                self.unplanned.append(f"a process ended with {code} on SIGTERM")
            each.sockets.close()
        if self._ca_url:
            self._at_the_ca.update(httpx.get(f"{self._ca_url}/fired").raise_for_status().json())

    def _let_live(self) -> None:
        """Lives that were to end are ended, for the last time; they count."""
        for number, replica in enumerate(self._replicas):
            if replica.plan is not LIVE:
                self._end(replica)
                self._note_death(replica)
                self._replicas[number] = self._born(replica.sockets, LIVE)

    def _end(self, replica: Replica) -> None:
        """From outside, unless it has died by itself meanwhile."""
        if replica.process.is_alive():
            replica.process.kill()
        replica.process.join()

    def _note_death(self, replica: Replica) -> None:
        if replica.process.exitcode != -signal.SIGKILL:
            self.unplanned.append(f"a process ended by itself with {replica.process.exitcode}")
            if len(self.unplanned) > _MOST_UNPLANNED:
                raise RuntimeError(f"the RA does not stay alive; its log is {self._config.parent / LOG}")
        else:
            self.kills += 1

    def _born(self, sockets: Sockets, plan: Plan) -> Replica:
        process = _CONTEXT.Process(target=live, args=(self._config, sockets, plan, self._hits))
        process.start()
        if plan.point in AT_THE_CA:
            httpx.post(f"{self._ca_url}/arm", json={"process": process.pid, "point": plan.point}).raise_for_status()
        return Replica(sockets=sockets, process=process, plan=plan, born_at=time.monotonic())

    def _planned(self) -> Iterator[Plan]:
        """Every place in turn, as often as the others; from outside twice as often.

        First every place once, where a life comes to it first, so that no place is left to chance.
        """
        chance = random.Random()  # noqa: S311 - moments
        points = (*INSIDE, RANDOM, *(AT_THE_CA if self._ca_url else ()), RANDOM)
        for point in points:
            if point != RANDOM:
                yield Plan(point=point, after_seconds=_LONGEST_FIRST_SECONDS)
        for point in itertools.cycle(points):
            if point == RANDOM:
                yield Plan(after_seconds=chance.uniform(*_RANDOM_SECONDS))
                continue
            passings = chance.randint(1, _FEWER_PASSINGS.get(point, _MOST_PASSINGS))
            yield Plan(point=point, passings=passings, after_seconds=_LONGEST_NAMED_SECONDS)
