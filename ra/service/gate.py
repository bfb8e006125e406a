"""The gate before a CA: how many ask it at once, who waits, and when it is left alone.

A CA that fails again and again is left alone for some seconds; then one request tries whether it is back (a circuit
breaker). One that has sent a wrong certificate is asked for nothing new until a person says so. Nothing that is
authorised is lost by that: it stays in the journal and is sent later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

import structlog

from connectors.api import RateLimited
from ra.errors import RaError
from ra.service.ports import Clock, Metrics

CONSECUTIVE_FAILURES = 5
WINDOW_SECONDS, WINDOW_LEAST, WINDOW_SHARE = 10.0, 20, 0.5
"""The breaker opens after so many failures in a row, or when of at least so many outcomes in the window this share failed."""

PROBE_SECONDS = 5.0
"""How long after the breaker has opened, and between two probes."""

QUIET_SECONDS = 60.0
"""Between two warnings that a CA is away: one that fails now and then does not fill the log."""

_BUSY_SECONDS = 1.0
"""When to come back to a CA that merely has its hands full."""


class Overloaded(RaError):
    """The CA cannot be asked now: too many wait, or it is left alone."""

    def __init__(self, detail: str, retry_after_seconds: float) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Permit:
    """Leave to ask a CA once. Say how it went, and give it back; giving back twice does no harm."""

    def __init__(self, gate: Gate) -> None:
        self._gate: Gate | None = gate

    def succeeded(self) -> None:
        """The CA answered, be it with a no."""
        if self._gate is not None:
            self._gate.note_success(self)

    def failed(self, error: Exception) -> None:
        """The CA gave no usable answer."""
        if self._gate is not None:
            self._gate.note_failure(self, error)

    def release(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Gate:
    """Lets at most `max_concurrent` through, first come first served; at most `max_waiting` wait."""

    def __init__(self, name: str, *, max_concurrent: int, max_waiting: int, clock: Clock, metrics: Metrics) -> None:
        self._name = name
        self._max_concurrent = max_concurrent
        self._max_waiting = max_waiting
        self._clock = clock
        self._metrics = metrics
        self._in_use = 0
        self._waiting: deque[asyncio.Future[Permit]] = deque()
        self._breaker = _Breaker()
        self._probe: Permit | None = None
        self._is_stopped = False
        self._fault: Exception | None = None
        self._held_because: str | None = None
        self._away = _Away(name)

    def try_enter(self) -> Permit | None:
        """A permit to ask for something new, if one can be had at once."""
        return self._admit() if self.room() else None

    async def enter(self, patience_seconds: float, *, anew: bool = True) -> Permit:
        """A permit, in turn. Who does not ask `anew`, but about what there is already, gets one from a held gate too.

        Raises:
            Overloaded: there was none in that time, too many wait already, or the CA is left alone.
        """
        if anew and self._held_because is not None:
            raise self._overloaded()
        if self._room():
            return self._admit()
        if not self._may_wait():
            raise self._overloaded()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Permit] = loop.create_future()
        self._waiting.append(future)
        self._report()
        # The timer ends the waiting by way of the future: whoever gets a permit in the last moment keeps it.
        timer = loop.call_later(patience_seconds, self._send_away, future)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:
                future.result().release()  # it was served before it heard that it was cancelled
            raise
        finally:
            timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)
                self._report()

    def room(self) -> int:
        """How many may ask for something new at once; one, where it is tried whether the CA is back."""
        return 0 if self._held_because is not None else self._room()

    def _room(self) -> int:
        free = 0 if self._is_stopped else self._max_concurrent - self._in_use
        if self._breaker.is_closed:
            return free
        is_probed = self._probe is not None
        return int(free > 0 and not is_probed and self._breaker.seconds_left(self._clock.monotonic_seconds()) == 0)

    @property
    def is_half_free(self) -> bool:
        """Whether it is worth a commit to fetch more that may begin at once: one by one, each would cost its own."""
        return self.room() * 2 >= self._max_concurrent

    @property
    def may_wait(self) -> bool:
        """Whether it makes sense to wait for something new: the CA answers, is trusted, and not too many wait already."""
        return self._held_because is None and self._may_wait()

    def _may_wait(self) -> bool:
        return self._breaker.is_closed and not self._is_stopped and len(self._waiting) < self._max_waiting

    @property
    def is_open(self) -> bool:
        """Whether the CA is left alone."""
        return not self._breaker.is_closed

    @property
    def fault(self) -> Exception | None:
        """What the CA was last asked has come to; None: an answer."""
        return self._fault

    @property
    def held_because(self) -> str | None:
        """Why the CA is asked for nothing new, until a person says so."""
        return self._held_because

    def hold(self, because: str | None) -> None:
        """Lets nobody through who wants something new; None: lets them through again. Who waits already comes again."""
        if because == self._held_because:
            return
        self._held_because = because
        self._metrics.connector_stopped(self._name, is_stopped=because is not None)
        if because is not None:
            self._send_all_away()

    def stop(self) -> None:
        """Lets nobody through any more: who asks the CA already gets its answer, who waits is sent away."""
        self._is_stopped = True
        self._send_all_away()

    # ------------------------------------------------------------ what permits tell
    def note_success(self, permit: Permit) -> None:
        self._fault = None
        if self._breaker.is_closed:
            self._breaker.note(self._clock.monotonic_seconds(), failed=False)
        elif permit is self._probe:
            self._breaker.close()
            self._report()
        if self._breaker.is_closed:
            self._away.end(self._clock.monotonic_seconds())

    def note_failure(self, permit: Permit, error: Exception) -> None:
        """What was sent before the CA was left alone says nothing new, unless it is told how long to leave it alone."""
        self._fault = error
        now, was_closed = self._clock.monotonic_seconds(), self._breaker.is_closed
        self._away.begin(now, error)
        if isinstance(error, RateLimited):
            self._breaker.open(now, error.retry_after_seconds or PROBE_SECONDS)
        elif permit is self._probe or (was_closed and self._breaker.note(now, failed=True)):
            self._breaker.open(now, PROBE_SECONDS)
        if was_closed and not self._breaker.is_closed:
            self._send_all_away()

    def leave(self, permit: Permit) -> None:
        self._in_use -= 1
        if permit is self._probe:
            self._probe = None
        while self._waiting and self._in_use < self._max_concurrent:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(self._admit())
        self._report()

    def _admit(self) -> Permit:
        self._in_use += 1
        permit = Permit(self)
        if not self._breaker.is_closed:
            self._probe = permit
        self._report()
        return permit

    def _send_all_away(self) -> None:
        while self._waiting:
            self._send_away(self._waiting.popleft())
        self._report()

    def _send_away(self, future: asyncio.Future[Permit]) -> None:
        if not future.done():
            future.set_exception(self._overloaded())

    def _overloaded(self) -> Overloaded:
        if self._is_stopped:
            return Overloaded("this process stops", _BUSY_SECONDS)
        if self._held_because is not None and self._breaker.is_closed:
            return Overloaded(f"{self._name} is stopped: {self._held_because}", _BUSY_SECONDS)
        if self._breaker.is_closed:
            return Overloaded(f"too many wait for {self._name}", _BUSY_SECONDS)
        left = self._breaker.seconds_left(self._clock.monotonic_seconds())
        return Overloaded(f"{self._name} does not answer and is left alone", max(left, _BUSY_SECONDS))

    def _report(self) -> None:
        self._metrics.gate_changed(
            self._name, in_use=self._in_use, waiting=len(self._waiting), is_open=not self._breaker.is_closed
        )


class _Away:
    """Tells the log when a CA gives no usable answer any more, and when it does again. Times are monotonic seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: float | None = None
        self._told_at: float | None = None
        self._log = structlog.get_logger("ra.service.gate")

    def begin(self, now: float, error: Exception) -> None:
        """A failure: told once until it is over."""
        if self._since is not None or (self._told_at is not None and now < self._told_at + QUIET_SECONDS):
            return
        self._since = self._told_at = now
        self._log.warning("a CA is away", connector=self._name, detail=f"{type(error).__name__}: {error}")

    def end(self, now: float) -> None:
        """An answer."""
        if self._since is not None:
            self._log.warning("a CA is back", connector=self._name, after_seconds=round(now - self._since, 1))
            self._since = None


class _Breaker:
    """When a CA is left alone. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._in_a_row = 0
        self._open_until: float | None = None

    @property
    def is_closed(self) -> bool:
        return self._open_until is None

    def seconds_left(self, now: float) -> float:
        """Until it may be tried whether the CA is back."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def note(self, now: float, *, failed: bool) -> bool:
        """One more outcome: returns whether that makes too many failures."""
        self._in_a_row = self._in_a_row + 1 if failed else 0
        self._outcomes.append((now, failed))
        self._failures += failed
        while self._outcomes[0][0] < now - WINDOW_SECONDS:
            self._failures -= self._outcomes.popleft()[1]
        seen = len(self._outcomes)
        return self._in_a_row >= CONSECUTIVE_FAILURES or (
            seen >= WINDOW_LEAST and self._failures >= WINDOW_SHARE * seen
        )

    def open(self, now: float, seconds: float) -> None:
        """Until then at the earliest; what the CA asked for before still holds."""
        self._open_until = now + max(seconds, self.seconds_left(now))

    def close(self) -> None:
        """Begins anew: what was before says nothing of how the CA is now."""
        self._outcomes.clear()
        self._failures = self._in_a_row = 0
        self._open_until = None
