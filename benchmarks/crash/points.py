"""The named places where a process is killed, and the fuse that does it from inside."""

from __future__ import annotations

import os
import signal
from collections.abc import MutableSequence
from dataclasses import dataclass

from benchmarks.ledger.attended import AFTER_NOTICE, BEFORE_NOTICE
from benchmarks.ledger.ca import ISSUED, RECEIVED

RANDOM = "at random"
BEFORE_COMMIT, AFTER_COMMIT = "journal:before-commit", "journal:after-commit"
BEFORE_SEND, AFTER_ANSWER = "connector:before-send", "connector:after-answer"

INSIDE = (BEFORE_COMMIT, AFTER_COMMIT, BEFORE_SEND, AFTER_ANSWER, BEFORE_NOTICE, AFTER_NOTICE)
"""Where the RA says of itself that it has arrived."""

AT_THE_CA = (RECEIVED, ISSUED)
"""Where the ledger CA kills the process that asks it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one life of a replica ends.

    Attributes:
        point: RANDOM, or a named place.
        passings: it ends when it comes to the named place for that time, counted from 1.
        after_seconds: it ends then at the latest, from outside; None: it is to live.
    """

    point: str = RANDOM
    passings: int = 1
    after_seconds: float | None = None


LIVE = Plan()


class Fuse:
    """Passed as `reached` to what is on trial: ends its own process as the plan says."""

    def __init__(self, plan: Plan, hits: MutableSequence[int]) -> None:
        """`hits` outlives the process: one number for each place of INSIDE."""
        self._plan = plan
        self._hits = hits
        self._left = plan.passings if plan.point in INSIDE else 0

    def __call__(self, point: str) -> None:
        if point == self._plan.point and self._left:
            self._left -= 1
            if not self._left:
                self._hits[INSIDE.index(point)] += 1
                os.kill(os.getpid(), signal.SIGKILL)
