"""Builds the application by hand, top to bottom: the only place that knows everything.

`application` is the factory that every worker process calls; `check` builds the same and takes it down again, which is
how `serve`, `init` and `check-config` find out beforehand what is wrong.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

import connectors.registry
from connectors.api import Connector, ConnectorError
from connectors.api import Services as ConnectorServices
from ra import __version__
from ra.challenge import registry as challenges
from ra.challenge.api import Services as ValidatorServices
from ra.challenge.api import Validator
from ra.challenge.combine import AllOf, AnyOf, Checked, FirstMatch
from ra.errors import Misconfigured, RaError
from ra.journal.database import Journal
from ra.journal.refusals import RefusalLog
from ra.journal.statistics import count
from ra.keyring.checks import examine, insist
from ra.keyring.files import load_identity
from ra.scep.keys import Identity
from ra.service.endpoint import Directory, Endpoint
from ra.service.enrol import Enrolments
from ra.service.health import Health
from ra.service.pki_operation import PkiOperation
from ra.service.poll import Polls
from ra.service.submit import Submissions
from ra.settings.complaints import complaints
from ra.settings.load import Configuration, load
from ra.settings.model import Combination, PluginSettings
from ra.settings.sources import CONFIG_VARIABLE, process_environment, read_secret
from ra.telemetry import MULTIPROCESS_VARIABLE, PrometheusMetrics, configure_logs
from ra.web.api_keys import ApiKeys
from ra.web.app import Application, Listeners, build_admin, build_public
from ra.web.services import Services

FACTORY = "ra.bootstrap:application"
"""What uvicorn's workers import and call."""


class SystemClock:
    """The machine's clock. Implements ra.service.ports.Clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the one place where the time comes from

    def monotonic_seconds(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Everything that answers, and what the operator should know of it."""

    endpoints: Directory
    warnings: tuple[str, ...]


def application() -> Application:
    """The ASGI application of one worker process. All of it is built when the worker starts its lifespan."""
    return Application(_opened)


def prepare(configuration: Configuration) -> tuple[str, ...]:
    """Checks everything and makes the database, before anything is served; returns the warnings.

    Raises:
        Misconfigured: with one line for each thing that is wrong.
    """
    warnings = check(configuration)
    Journal.create(configuration.settings.database.url, directory=configuration.directory)
    return warnings


def check(configuration: Configuration) -> tuple[str, ...]:
    """Connects to everything, looks at the keys and certificates, lets go again; returns the warnings.

    Raises:
        Misconfigured: with one line for each thing that is wrong.
    """

    async def build_and_close() -> tuple[str, ...]:
        async with AsyncExitStack() as stack:
            front = await _front(configuration, stack, SystemClock())
            return front.warnings

    _check_tls(configuration)
    _check_database(configuration)
    _api_keys(configuration)
    return asyncio.run(build_and_close())


def _check_tls(configuration: Configuration) -> None:
    """The workers would find it out one after the other, and be started again for ever."""
    tls, here = configuration.settings.server.tls, configuration.directory
    if tls is None:
        return
    passphrase = read_secret(tls.key_passphrase, here).reveal() if tls.key_passphrase else ""
    for key, path in (("certificate", here / tls.certificate), ("key", here / tls.key)):
        if not os.access(path, os.R_OK):
            raise Misconfigured(f"server.tls.{key}: {path} cannot be read")
    if mode := (here / tls.key).stat().st_mode & 0o007:
        raise Misconfigured(f"server.tls.key: {here / tls.key} is open to everybody (mode …{mode}): chmod o= it")
    try:
        # Without a passphrase OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(here / tls.certificate, here / tls.key, passphrase)
    except ssl.SSLError as error:
        raise Misconfigured(
            f"server.tls: certificate, key and key_passphrase do not go together ({error.reason})"
        ) from None


def _check_database(configuration: Configuration) -> None:
    place = configuration.directory / configuration.settings.database.url.removeprefix("sqlite:///")
    if not place.parent.is_dir():
        raise Misconfigured(f"database.url: the directory {place.parent} does not exist")


async def connect_connector(configuration: Configuration, name: str, clock: SystemClock) -> Connector:
    """The connector of that name; the caller closes it.

    Raises:
        Misconfigured: unknown type, wrong options, or its files do not do.
    """
    services = ConnectorServices(
        name=name,
        directory=configuration.directory,
        now=clock.now,
        read_secret=partial(read_secret, directory=configuration.directory),
    )
    with _naming(f"connectors.{name}"):
        settings = configuration.settings.connectors[name]
        plugin = connectors.registry.load(settings.type)
        connector: Connector = await plugin.connect(_options(settings, plugin.options), services)
        return connector


# ---------------------------------------------------------------- one worker
@asynccontextmanager
async def _opened() -> AsyncIterator[Listeners]:
    """Both listeners' applications, open.

    Raises:
        Misconfigured: whatever stops the start; the worker says so in one line and ends.
    """
    configure_logs()
    async with AsyncExitStack() as stack:
        with _stopping_the_start():
            configuration = load(Path(process_environment()[CONFIG_VARIABLE]))
            configure_logs(console=configuration.settings.server.debug)
            listeners = await _listeners(configuration, stack)
        _keep_what_is_built()
        yield listeners


def _keep_what_is_built() -> None:
    """What a worker is built of stays: were it looked through at every full collection, requests would wait for that."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _listeners(configuration: Configuration, stack: AsyncExitStack) -> Listeners:
    """From the clock at the bottom to the applications at the top; `stack` closes in the opposite order."""
    server = configuration.settings.server
    clock, entropy = SystemClock(), os.urandom
    metrics = PrometheusMetrics(_metrics_directory())
    front = await _front(configuration, stack, clock)
    _log_warnings(front.warnings)

    journal = await Journal.open(configuration.settings.database.url, directory=configuration.directory)
    stack.push_async_callback(journal.aclose)
    refusals = RefusalLog(journal)
    _run(stack, refusals.run(clock.sleep))
    _run(stack, _end_with_the_writer(journal, clock))
    submissions = Submissions(journal=journal, clock=clock, entropy=entropy, metrics=metrics)
    stack.push_async_callback(submissions.drain)
    operation = PkiOperation(
        enrolments=Enrolments(journal=journal, submissions=submissions, clock=clock),
        polls=Polls(journal=journal, clock=clock),
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        refusals=refusals,
        failure_floor_seconds=server.failure_floor_seconds,
    )
    health = Health(directory=front.endpoints, journal=journal, clock=clock)
    services = Services(
        version=__version__,
        directory=front.endpoints,
        answer=operation.answer,
        check_health=health.check,
        read_statistics=partial(journal.read, count),
        clock=clock,
        metrics=metrics,
        api_keys=_api_keys(configuration),
        public_url=server.public_url,
        debug=server.debug,
    )
    return Listeners(public=build_public(services), admin=build_admin(services), admin_port=server.admin_listen.port)


def _run(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs something beside the requests, until the worker stops."""
    task = asyncio.create_task(work)

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


def _api_keys(configuration: Configuration) -> ApiKeys:
    server = configuration.settings.server
    reference = server.api_key_secret
    secret = read_secret(reference, configuration.directory).reveal().encode() if reference else b""
    return ApiKeys(secret, {each.label: each.hmac for each in server.api_keys})


def _log_warnings(warnings: tuple[str, ...]) -> None:
    log = structlog.get_logger("ra.bootstrap")
    for each in warnings:
        log.warning("configuration", detail=each)


# ---------------------------------------------------------------- what answers
async def _front(configuration: Configuration, stack: AsyncExitStack, clock: SystemClock) -> Front:
    """Connectors, identities and validators, joined to endpoints."""
    warnings = list(configuration.warnings)
    connected: dict[str, Connector] = {}
    chains: dict[str, tuple[bytes, ...]] = {}
    for name in configuration.settings.connectors:
        connected[name] = await connect_connector(configuration, name, clock)
        stack.push_async_callback(connected[name].aclose)
        with _naming(f"connectors.{name}"):
            chains[name] = await connected[name].ca_chain()
    identities = load_identities(configuration)
    validators = {
        name: await _validator(configuration, name, stack, clock, warnings.append)
        for name in configuration.settings.challenges
    }
    endpoints: dict[str, Endpoint] = {}
    for name, settings in configuration.endpoints.items():
        own = tuple(identities[each] for each in settings.identities)
        findings = [
            each for identity in own for each in examine(identity, chains[settings.connector], clock.now(), os.urandom)
        ]
        with _naming(f"profiles.{name}"):
            insist(findings)
        warnings += [f"profiles.{name}: {each.message}" for each in findings]
        endpoints[name] = Endpoint(
            profile=configuration.policies[name],
            ca_id=settings.ca_id,
            connector_name=settings.connector,
            connector=connected[settings.connector],
            validator=_combined(settings.challenge, validators),
            identities=own,
            ca_chain=chains[settings.connector],
        )
    return Front(endpoints=Directory(endpoints), warnings=tuple(warnings))


def load_identities(configuration: Configuration) -> dict[str, Identity]:
    """The RA's identities by name, not yet looked at.

    Raises:
        Misconfigured: a key or certificate cannot be read.
    """
    here = configuration.directory
    return {
        name: load_identity(
            name,
            certificate=here / settings.certificate,
            key=here / settings.key,
            passphrase=read_secret(settings.key_passphrase, here) if settings.key_passphrase else None,
            decryption_certificate=here / settings.decryption_certificate if settings.decryption_certificate else None,
            decryption_key=here / settings.decryption_key if settings.decryption_key else None,
        )
        for name, settings in configuration.settings.identities.items()
    }


async def _validator(
    configuration: Configuration, name: str, stack: AsyncExitStack, clock: SystemClock, warn: Callable[[str], None]
) -> Checked:
    table = f"challenges.{name}"
    services = ValidatorServices(
        name=name,
        directory=configuration.directory,
        now=clock.now,
        read_secret=partial(read_secret, directory=configuration.directory),
        warn=lambda sentence: warn(f"{table}: {sentence}"),
    )
    with _naming(table):
        settings = configuration.settings.challenges[name]
        plugin = challenges.load(settings.type)
        validator = Checked(name, await plugin.connect(_options(settings, plugin.options), services), _log_fault)
    stack.push_async_callback(validator.aclose)
    return validator


def _combined(combination: Combination | None, validators: Mapping[str, Checked]) -> Validator | None:
    if combination is None:
        return None
    members = tuple(validators[each] for each in combination.names)
    if len(members) == 1:
        return members[0]
    if combination.all_of:
        return AllOf(members)
    return AnyOf(members) if combination.any_of else FirstMatch(members)


def _log_fault(name: str, error: Exception) -> None:
    structlog.get_logger("ra.challenge").error("validator failed", validator=name, exc_info=error)


# ---------------------------------------------------------------- what stops the start
def _options(settings: PluginSettings, model: type[Any]) -> Any:
    try:
        return model.model_validate(settings.options)
    except ValidationError as error:
        raise Misconfigured("\n".join(complaints(error, model))) from None


@contextmanager
def _naming(table: str) -> Iterator[None]:
    """Says which table of the configuration an error is about."""
    try:
        yield
    except (RaError, ConnectorError) as error:
        raise Misconfigured("\n".join(f"{table}: {line}" for line in str(error).splitlines())) from error


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
