"""The gate lets a bounded number through, in turn, and leaves a CA alone that fails."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connectors.api import AuthFailed, BackendUnavailable, RateLimited
from ra.service.gate import (
    CONSECUTIVE_FAILURES,
    PROBE_SECONDS,
    QUIET_SECONDS,
    WINDOW_LEAST,
    WINDOW_SECONDS,
    Gate,
    Overloaded,
    Permit,
)
from tests.fakes.assembled import Counts
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

LONG_SECONDS = 60.0
DOWN = BackendUnavailable("refused", maybe_issued=False)
PROBE = timedelta(seconds=PROBE_SECONDS)


def gate(*, max_concurrent: int = 2, max_waiting: int = 3) -> tuple[Gate, FakeClock, Counts]:
    clock, counts = FakeClock(), Counts()
    made = Gate("lab", max_concurrent=max_concurrent, max_waiting=max_waiting, clock=clock, metrics=counts)
    return made, clock, counts


def entered(one: Gate) -> Permit:
    permit = one.try_enter()
    assert permit is not None
    return permit


def fail(one: Gate, times: int = 1, error: Exception = DOWN) -> None:
    for _ in range(times):
        with entered(one) as permit:
            permit.failed(error)


def ask(one: Gate, outcomes: str) -> None:
    for outcome in outcomes.split():
        with entered(one) as permit:
            if outcome == "fail":
                permit.failed(DOWN)
            else:
                permit.succeeded()


async def turn() -> None:
    """Lets everything that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


# ---------------------------------------------------------------- how many, and in which order
async def test_no_more_than_so_many_are_let_through() -> None:
    one, _, _ = gate(max_concurrent=2)

    permits = [one.try_enter(), one.try_enter(), one.try_enter()]

    assert [False, False, True] == [each is None for each in permits]
    assert one.room() == 0


async def test_a_permit_is_given_back_once() -> None:
    one, _, counts = gate(max_concurrent=2)
    first, _second = entered(one), entered(one)

    first.release()
    first.release()

    assert one.room() == 1
    assert (1, 0, False) == counts.gates[-1]


async def test_who_waits_is_served_in_turn() -> None:
    one, _, _ = gate(max_concurrent=1, max_waiting=3)
    held, served = deque([entered(one)]), []

    async def wait(number: int) -> None:
        held.append(await one.enter(LONG_SECONDS))
        served.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(wait(number))
        for _ in range(4):
            await turn()
            held.popleft().release()

    assert [0, 1, 2] == served
    assert one.room() == 1


async def test_nobody_overtakes_who_waits() -> None:
    one, _, _ = gate(max_concurrent=1)
    permit = entered(one)
    waiting = asyncio.create_task(one.enter(LONG_SECONDS))
    await turn()

    permit.release()
    overtaking = one.try_enter()

    assert overtaking is None
    (await waiting).release()
    assert one.room() == 1


async def test_no_more_than_so_many_wait() -> None:
    one, _, _ = gate(max_concurrent=1, max_waiting=1)
    permit = entered(one)
    waiting = asyncio.create_task(one.enter(LONG_SECONDS))
    await turn()

    with pytest.raises(Overloaded) as caught:
        await one.enter(LONG_SECONDS)

    assert not one.may_wait
    assert caught.value.retry_after_seconds >= 1
    permit.release()
    (await waiting).release()


async def test_who_has_waited_long_enough_goes_away() -> None:
    one, _, counts = gate(max_concurrent=1)
    permit = entered(one)

    with pytest.raises(Overloaded):
        await one.enter(0.001)
    permit.release()

    assert one.room() == 1
    assert (0, 0, False) == counts.gates[-1]


async def test_a_waiter_that_is_cancelled_takes_nothing_with_it() -> None:
    one, _, _ = gate(max_concurrent=1)
    permit = entered(one)
    waiting, after = asyncio.create_task(one.enter(LONG_SECONDS)), asyncio.create_task(one.enter(LONG_SECONDS))
    await turn()

    waiting.cancel()
    permit.release()
    await asyncio.wait({waiting, after})

    after.result().release()
    assert waiting.cancelled()
    assert one.room() == 1


async def test_a_waiter_that_is_cancelled_while_it_is_served_gives_its_permit_to_the_next() -> None:
    one, _, _ = gate(max_concurrent=1)
    permit = entered(one)
    waiting, after = asyncio.create_task(one.enter(LONG_SECONDS)), asyncio.create_task(one.enter(LONG_SECONDS))
    await turn()

    permit.release()
    waiting.cancel()
    await asyncio.wait({waiting, after})

    after.result().release()
    assert waiting.cancelled()
    assert one.room() == 1


async def test_a_waiter_that_is_served_when_its_patience_ends_has_its_permit() -> None:
    one, _, _ = gate(max_concurrent=1)
    permit = entered(one)
    waiting = asyncio.create_task(one.enter(0.0))
    await asyncio.sleep(0)

    permit.release()
    late = await waiting

    late.release()
    assert one.room() == 1


async def test_after_it_was_stopped_nobody_is_let_through_and_nobody_waits() -> None:
    one, _, _ = gate(max_concurrent=1)
    permit = entered(one)
    waiting = asyncio.create_task(one.enter(LONG_SECONDS))
    await turn()

    one.stop()
    permit.succeeded()
    permit.release()

    with pytest.raises(Overloaded, match="stops"):
        await waiting
    with pytest.raises(Overloaded, match="stops"):
        await one.enter(LONG_SECONDS)
    assert (0, False, False) == (one.room(), one.may_wait, one.is_open)


# ---------------------------------------------------------------- when the CA is left alone
@pytest.mark.parametrize("error", [DOWN, TimeoutError(), AuthFailed("expired"), ZeroDivisionError()], ids=repr)
async def test_failures_in_a_row_open_it(error: Exception) -> None:
    one, _, counts = gate()

    fail(one, CONSECUTIVE_FAILURES - 1, error)
    before = one.is_open
    fail(one, 1, error)

    assert (False, True) == (before, one.is_open)
    assert (0, False) == (one.room(), one.may_wait)
    assert counts.gates[-1][2]
    with pytest.raises(Overloaded) as caught:
        await one.enter(LONG_SECONDS)
    assert caught.value.retry_after_seconds == PROBE_SECONDS


async def test_an_answer_between_failures_keeps_it_closed() -> None:
    one, _, _ = gate()

    for _ in range(2):
        ask(one, "fail " * (CONSECUTIVE_FAILURES - 1) + "succeed")

    assert not one.is_open


@pytest.mark.parametrize(("pause_seconds", "is_open"), [(0.0, True), (WINDOW_SECONDS + 1, False)])
async def test_half_of_the_outcomes_of_some_seconds_open_it(pause_seconds: float, is_open: bool) -> None:
    one, clock, _ = gate()

    for number in range(WINDOW_LEAST // 2):
        if number == 1:
            clock.advance(timedelta(seconds=pause_seconds))
        ask(one, "succeed fail")

    assert is_open == one.is_open


async def test_what_failed_long_ago_counts_no_more() -> None:
    one, clock, _ = gate()
    ask(one, "succeed fail " * (WINDOW_LEAST // 2 - 1))

    clock.advance(timedelta(seconds=WINDOW_SECONDS + 1))
    ask(one, "succeed succeed fail " * WINDOW_LEAST)

    assert not one.is_open


async def test_who_waits_when_it_opens_is_sent_away() -> None:
    one, _, _ = gate(max_concurrent=1)
    fail(one, CONSECUTIVE_FAILURES - 1)
    permit = entered(one)
    waiting = asyncio.create_task(one.enter(LONG_SECONDS))
    await turn()

    permit.failed(DOWN)
    permit.release()

    with pytest.raises(Overloaded):
        await waiting
    assert one.room() == 0


async def test_one_tries_whether_the_ca_is_back_and_if_so_all_may() -> None:
    one, clock, _ = gate(max_concurrent=4)
    fail(one, CONSECUTIVE_FAILURES)

    clock.advance(PROBE)
    room = one.room()
    with entered(one) as probe:
        beside = one.try_enter()
        probe.succeeded()

    assert (1, None) == (room, beside)
    assert (4, False) == (one.room(), one.is_open)


async def test_another_tries_later_when_the_first_failed() -> None:
    one, clock, _ = gate()
    fail(one, CONSECUTIVE_FAILURES)

    clock.advance(PROBE)
    fail(one)
    rooms = [one.room()]
    clock.advance(PROBE)
    rooms.append(one.room())

    assert [0, 1] == rooms


async def test_a_try_that_says_nothing_is_made_again() -> None:
    one, clock, _ = gate()
    fail(one, CONSECUTIVE_FAILURES)
    clock.advance(PROBE)

    entered(one).release()

    assert (1, True) == (one.room(), one.is_open)


async def test_what_still_hangs_does_not_keep_others_from_trying() -> None:
    one, clock, _ = gate(max_concurrent=2)
    hanging = entered(one)
    fail(one, CONSECUTIVE_FAILURES)
    clock.advance(PROBE)

    room = one.room()
    with entered(one) as probe:
        hanging.failed(DOWN)
        probe.succeeded()
    hanging.release()

    assert (1, False) == (room, one.is_open)


async def test_failures_from_before_do_not_put_the_next_try_off() -> None:
    one, clock, _ = gate(max_concurrent=2)
    hanging = entered(one)
    fail(one, CONSECUTIVE_FAILURES)
    clock.advance(PROBE - timedelta(seconds=1))

    hanging.failed(DOWN)
    hanging.release()
    clock.advance(timedelta(seconds=1))

    assert one.room() == 1


async def test_a_ca_that_asks_for_time_gets_it_whatever_else_it_answers() -> None:
    one, clock, _ = gate()
    earlier = entered(one)

    fail(one, 1, RateLimited("slow down", retry_after_seconds=30))
    earlier.succeeded()
    earlier.release()
    rooms = []
    for _ in range(2):
        clock.advance(timedelta(seconds=15))
        rooms.append(one.room())

    assert [0, 1] == rooms


async def test_after_it_closed_it_counts_anew() -> None:
    one, clock, _ = gate()
    fail(one, CONSECUTIVE_FAILURES)
    clock.advance(PROBE)
    with entered(one) as probe:
        probe.succeeded()

    fail(one, CONSECUTIVE_FAILURES - 1)

    assert not one.is_open


# ---------------------------------------------------------------- whatever happens
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["wait", "try", "succeed", "fail", "drop", "cancel", "pass time"]), st.integers(0, 7)),
    max_size=60,
)


class Crowd:
    """Many who come, wait, ask, go wrong and go away."""

    def __init__(self) -> None:
        self.gate, self.clock, self.counts = gate(max_concurrent=2, max_waiting=3)
        self.waiting: list[asyncio.Task[Permit]] = []
        self.out: list[Permit] = []

    @property
    def seen(self) -> tuple[int, int, bool]:
        return self.counts.gates[-1] if self.counts.gates else (0, 0, False)

    def act(self, action: str, number: int) -> None:
        match action:
            case "wait":
                self.waiting.append(asyncio.create_task(self.gate.enter(LONG_SECONDS)))
            case "try" if permit := self.gate.try_enter():
                self.out.append(permit)
            case "pass time":
                self.clock.advance(timedelta(seconds=number))
            case "cancel" if self.waiting:
                self.waiting[number % len(self.waiting)].cancel()
            case "succeed" | "fail" | "drop" if self.out:
                self.come_back(self.out.pop(number % len(self.out)), action)

    def come_back(self, permit: Permit, action: str) -> None:
        with permit:
            if action == "succeed":
                permit.succeeded()
            elif action == "fail":
                permit.failed(DOWN)

    def look(self) -> None:
        """Who has been served is out; who was sent away, or went, is gone."""
        finished = [each for each in self.waiting if each.done()]
        self.waiting = [each for each in self.waiting if not each.done()]
        self.out += [each.result() for each in finished if not each.cancelled() and each.exception() is None]

    async def go_home(self) -> None:
        for task in self.waiting:
            task.cancel()
        for permit in self.out:
            permit.release()
        await turn()
        self.out = []
        self.look()
        self.clock.advance(PROBE)


@given(actions=ACTIONS)
def test_every_permit_comes_back_and_never_are_too_many_out(actions: list[tuple[str, int]]) -> None:
    async def live() -> None:
        crowd = Crowd()

        for action, number in actions:
            crowd.act(action, number)
            if number % 2:  # else nobody hears of it yet, and a cancellation may overtake a permit
                await turn()
            crowd.look()
            in_use, waiting, _ = crowd.seen
            assert len(crowd.out) <= in_use <= 2
            assert waiting <= 3
        await crowd.go_home()

        assert (0, 0) == crowd.seen[:2]
        assert crowd.out == []
        assert crowd.gate.room() == (1 if crowd.gate.is_open else 2)

    asyncio.run(live())


# ---------------------------------------------------------------- what the log is told
AWAY = {"event": "a CA is away", "log_level": "warning", "connector": "lab", "detail": "BackendUnavailable: refused"}


async def test_that_a_ca_is_away_and_is_back_is_told_once() -> None:
    with capture_logs() as logs:
        one, clock, _ = gate()
        fail(one, CONSECUTIVE_FAILURES)
        clock.advance(PROBE)
        fail(one)
        clock.advance(PROBE)
        ask(one, "ok ok")

    back = {"event": "a CA is back", "log_level": "warning", "connector": "lab", "after_seconds": 2 * PROBE_SECONDS}
    assert [AWAY, back] == logs


async def test_an_answer_that_was_on_its_way_does_not_say_that_the_ca_is_back() -> None:
    with capture_logs() as logs:
        one, _, _ = gate(max_concurrent=CONSECUTIVE_FAILURES + 1)
        late = entered(one)
        fail(one, CONSECUTIVE_FAILURES)
        with late:
            late.succeeded()

    assert [AWAY] == logs


async def test_a_ca_that_fails_now_and_then_does_not_fill_the_log() -> None:
    with capture_logs() as logs:
        one, clock, _ = gate()
        ask(one, "fail ok fail ok fail ok")
        clock.advance(timedelta(seconds=QUIET_SECONDS))
        ask(one, "fail ok")

    assert ["a CA is away", "a CA is back"] * 2 == [each["event"] for each in logs]
