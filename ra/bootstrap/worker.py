"""One worker process: from the clock at the bottom to the two applications at the top."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from ra import __version__
from ra.bootstrap.checks import read_api_keys
from ra.bootstrap.clock import SystemClock
from ra.bootstrap.errands import errands_of
from ra.bootstrap.front import Front, build_front
from ra.bootstrap.journal import disk_of, opened
from ra.bootstrap.plugins import Surroundings, one_time_offers
from ra.bootstrap.start import build_patiently
from ra.bootstrap.work import Work, build_work
from ra.errors import Misconfigured, RaError
from ra.journal import purge
from ra.journal.database import Journal
from ra.journal.sealing import JournalKey
from ra.journal.statistics import count
from ra.journal.writer import nothing
from ra.service import seal
from ra.service.backend import Backend
from ra.service.deliver import CALL_SECONDS
from ra.service.health import Health
from ra.service.housekeeping import Chore, Housekeeping
from ra.service.keeper import Keeper
from ra.service.mint import Mint
from ra.service.ring import report_ends
from ra.service.rollover import Rollover
from ra.settings.load import Configuration, load
from ra.settings.sources import CONFIG_VARIABLE, process_environment
from ra.telemetry import MULTIPROCESS_VARIABLE, PrometheusMetrics, configure_logs
from ra.web.app import Application, Listeners, build_admin, build_public
from ra.web.health import NOT_READY_SIGNAL
from ra.web.services import Services

BEGIN_ANEW_SECONDS = 1.0
"""After work in the background has failed."""

_PURGE_EVERY = timedelta(hours=1)
_PURGE_AT_ONCE = 500


FACTORY = "ra.bootstrap.worker:application"
"""What uvicorn's workers import and call."""


def application(reached: Callable[[str], None] = nothing, notice_seconds: float = CALL_SECONDS) -> Application:
    """The ASGI application of one worker process. All of it is built when the worker starts its lifespan.

    A test sees by `reached` how far it is, and gives validators less than a quarter of a minute to take a notice.
    """
    return Application(partial(_opened, reached, notice_seconds))


@asynccontextmanager
async def _opened(reached: Callable[[str], None], notice_seconds: float) -> AsyncIterator[Listeners]:
    """Both listeners' applications, open.

    Raises:
        Misconfigured: whatever stops the start; the worker says so in one line and ends.
    """
    configure_logs()
    async with AsyncExitStack() as stack:
        with _stopping_the_start():
            configuration = load(Path(process_environment()[CONFIG_VARIABLE]))
            configure_logs(console=configuration.settings.server.debug)
            metrics = PrometheusMetrics(_metrics_directory())
            surroundings = Surroundings(metrics=metrics, reached=reached)
            build = partial(_listeners, configuration, surroundings, notice_seconds)
            listeners = await build_patiently(build, stack, surroundings.clock.sleep)
        _keep_what_is_built()
        yield listeners


def _keep_what_is_built() -> None:
    """What a worker is built of stays: were it looked through at every full collection, requests would wait for that."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _listeners(
    configuration: Configuration, surroundings: Surroundings, notice_seconds: float, stack: AsyncExitStack
) -> Listeners:
    """`stack` closes in the opposite order: requests first, the journal after what still writes to it."""
    server = configuration.settings.server
    clock, metrics = surroundings.clock, surroundings.metrics
    front = await build_front(configuration, stack, surroundings)
    _log_warnings(front.warnings)

    journal, key = await stack.enter_async_context(opened(configuration, surroundings.reached))
    front.secrets.bind(journal, key)
    work = build_work(
        journal,
        key,
        endpoints=front.endpoints,
        backends=front.backends,
        validators=front.validators,
        clock=clock,
        entropy=os.urandom,
        metrics=metrics,
        failure_floor_seconds=server.failure_floor_seconds,
        max_enrolments_in_flight=server.max_enrolments_in_flight,
        notice_seconds=notice_seconds,
    )
    _run(stack, metrics, partial(work.refusals.run, clock.sleep))
    _run(stack, metrics, partial(_end_with_the_writer, journal, clock))
    _run(stack, metrics, _housekeeping(configuration, journal, key, clock).run)
    await _keep_identities(stack, metrics, front, journal=journal, key=key, clock=clock)
    _run(stack, metrics, errands_of(front.validators, journal, clock).run)
    await _work_until_the_end(stack, metrics, work, front.backends)

    services = Services(
        version=__version__,
        directory=front.endpoints,
        answer=work.operation.answer,
        count_read=work.refusals.count,
        next_ca=Rollover(clock=clock, metrics=metrics).message,
        check_health=Health(directory=front.endpoints, journal=journal, clock=clock, disk=disk_of(configuration)).check,
        read_statistics=partial(journal.read, count),
        clock=clock,
        metrics=metrics,
        api_keys=read_api_keys(configuration),
        public_url=server.public_url,
        pages=front.pages,
        mint=Mint(journal=journal, key=key, clock=clock, entropy=os.urandom),
        offers=one_time_offers(configuration),
        debug=server.debug,
        is_stopping=_notice_of_the_end().is_set,
    )
    return Listeners(public=build_public(services), admin=build_admin(services), admin_port=server.admin_listen.port)


async def _keep_identities(
    stack: AsyncExitStack,
    metrics: PrometheusMetrics,
    front: Front,
    *,
    journal: Journal,
    key: JournalKey,
    clock: SystemClock,
) -> None:
    """What there is is taken up before the first request; what there is not is obtained beside the requests."""
    keeper = Keeper(
        journal=journal,
        key=key,
        managed=front.managed,
        holdings=front.holdings,
        holder=uuid4(),
        clock=clock,
        entropy=os.urandom,
        metrics=metrics,
    )
    _run(stack, metrics, partial(report_ends, front.holdings.values(), metrics, clock))
    if front.managed:
        await keeper.look()
        _run(stack, metrics, keeper.watch)
        _run(stack, metrics, keeper.run)


def _notice_of_the_end() -> asyncio.Event:
    """Set once the supervisor has said that this worker will be stopped soon."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(NOT_READY_SIGNAL, stopping.set)
    return stopping


async def _work_until_the_end(
    stack: AsyncExitStack, metrics: PrometheusMetrics, work: Work, backends: Mapping[str, Backend]
) -> None:
    """Takes up what is due. In the end nothing new is begun, and what was begun is waited for."""
    await work.strays.look()  # before the first request: what is stopped stays so
    for drain in (work.deliveries.drain, work.background.drain, work.strays.drain, work.sweeper.drain):
        stack.push_async_callback(drain)
    for backend in backends.values():  # whoever waits for a CA is in the journal, and is taken up after the start
        stack.callback(backend.gate.stop)
    _run(stack, metrics, work.admission.watch)
    _run(stack, metrics, work.strays.run)
    _run(stack, metrics, work.sweeper.run)
    _run(stack, metrics, work.deliveries.run)


def _housekeeping(configuration: Configuration, journal: Journal, key: JournalKey, clock: SystemClock) -> Housekeeping:
    kept = configuration.settings.retention
    retention = purge.Retention(**kept.model_dump(exclude={"audit_days"}))
    sealing = seal.Sealing(journal=journal, signer=key.checkpoint_signer, clock=clock, keep_days=kept.audit_days)

    async def forget() -> None:
        forgotten = await journal.write(lambda c: purge.purge(c, retention, clock.now(), _PURGE_AT_ONCE))
        while any(each == _PURGE_AT_ONCE for each in forgotten.values()):
            forgotten = await journal.write(lambda c: purge.purge(c, retention, clock.now(), _PURGE_AT_ONCE))

    chores = (
        Chore(name="seal the audit", every=seal.EVERY, do=sealing.seal),
        Chore(name="forget what is old", every=_PURGE_EVERY, do=forget),
    )
    return Housekeeping(journal=journal, chores=chores, holder=uuid4(), clock=clock)


def _run(stack: AsyncExitStack, metrics: PrometheusMetrics, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs something beside the requests, until the worker stops; where it fails, it begins anew."""

    async def run() -> None:
        while True:
            try:
                return await work()
            except Exception as error:  # an edge: a worker without its sweeper would look well and do nothing
                log = structlog.get_logger("ra.bootstrap")
                log.exception("work in the background failed, and begins anew", what=str(work), exc_info=error)
                metrics.fault()
                await asyncio.sleep(BEGIN_ANEW_SECONDS)

    task = asyncio.create_task(run())

    async def stop() -> None:
        task.cancel()
        await asyncio.wait({task})

    stack.push_async_callback(stop)


async def _end_with_the_writer(journal: Journal, clock: SystemClock) -> None:
    """Without the journal's writer a worker can promise nothing: it ends, and is started anew."""
    while journal.is_alive:
        await clock.sleep(1)
    structlog.get_logger("ra.bootstrap").error("the journal's writer has died; this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)


def _metrics_directory() -> Path | None:
    directory = process_environment().get(MULTIPROCESS_VARIABLE)
    return Path(directory) if directory else None


def _log_warnings(warnings: tuple[str, ...]) -> None:
    log = structlog.get_logger("ra.bootstrap")
    for each in warnings:
        log.warning("configuration", detail=each)


@contextmanager
def _stopping_the_start() -> Iterator[None]:
    """Turns whatever a start may run into into the one error that ends a worker for good: uvicorn restarts any other."""
    try:
        yield
    except RaError as error:
        raise Misconfigured(str(error)) from error
    except Exception as error:  # an edge: a worker that cannot start must say so and must not be started again
        structlog.get_logger("ra.bootstrap").error("start failed", exc_info=error)
        raise Misconfigured(f"the start failed with {type(error).__name__}: {error}") from error
