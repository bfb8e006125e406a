"""Connectors and validators, as the configuration has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from pydantic import ValidationError

import connectors.registry
from connectors.api import BackendUnavailable, Connector, ConnectorError
from connectors.api import Services as ConnectorServices
from ra.bootstrap.clock import SystemClock
from ra.challenge import otp, signed
from ra.challenge import registry as challenges
from ra.challenge.api import OneTimeSecrets
from ra.challenge.api import Services as ValidatorServices
from ra.challenge.combine import Checked
from ra.errors import Misconfigured, RaError, Unavailable
from ra.journal.writer import nothing
from ra.service.mint import Offer
from ra.settings.complaints import complaints, mistyped
from ra.settings.load import Configuration
from ra.settings.model import PluginSettings
from ra.settings.sources import read_secret
from ra.telemetry import PrometheusMetrics

ONE_TIME, SIGNED = "otp", "signed"
"""The types of challenges whose secrets a person or the admin API makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What everything is built with.

    Attributes:
        reached: told of every point where a crash would matter: what is about to happen, or has just happened.
    """

    clock: SystemClock = field(default_factory=SystemClock)
    metrics: PrometheusMetrics = field(default_factory=lambda: PrometheusMetrics(None))
    reached: Callable[[str], None] = nothing


async def connect_connector(configuration: Configuration, name: str, surroundings: Surroundings) -> Connector:
    """The connector of that name; the caller closes it.

    Raises:
        Misconfigured: unknown type, wrong options, or its files do not do.
    """
    services = ConnectorServices(
        name=name,
        directory=configuration.directory,
        now=surroundings.clock.now,
        read_secret=partial(read_secret, directory=configuration.directory),
        observe=partial(surroundings.metrics.connector_called, name),
        reached=surroundings.reached,
    )
    with naming(f"connectors.{name}"):
        settings = configuration.settings.connectors[name]
        plugin = connectors.registry.load(settings.type)
        connector: Connector = await plugin.connect(_options(settings, plugin.options), services)
        return connector


async def connect_validator(
    configuration: Configuration,
    name: str,
    surroundings: Surroundings,
    one_time: OneTimeSecrets,
    warn: Callable[[str], None],
) -> Checked:
    """The validator of that name, behind its guard; the caller closes it.

    Raises:
        Misconfigured: unknown type, wrong options, or a secret cannot be read.
    """
    table = f"challenges.{name}"
    services = ValidatorServices(
        name=name,
        directory=configuration.directory,
        now=surroundings.clock.now,
        read_secret=partial(read_secret, directory=configuration.directory),
        warn=lambda sentence: warn(f"{table}: {sentence}"),
        report=partial(_log_report, name),
        one_time=one_time,
        sleep=surroundings.clock.sleep,
        observe=partial(surroundings.metrics.validator_called, name),
        credential_ends=partial(surroundings.metrics.credential_ends, name),
        reached=surroundings.reached,
    )
    with naming(table):
        settings = configuration.settings.challenges[name]
        plugin = challenges.load(settings.type)
        return Checked(name, await plugin.connect(_options(settings, plugin.options), services), _log_fault)


def one_time_offers(configuration: Configuration) -> tuple[Offer, ...]:
    """What may be minted: the challenges of type `otp` that profiles ask.

    Raises:
        Misconfigured: the options of one are wrong.
    """
    return tuple(
        Offer(profile=profile, method=name, ttl=options.ttl, length=options.length)
        for profile in configuration.endpoints
        for name, options in _asked(configuration, profile, ONE_TIME, otp.Options)
    )


def signed_options(configuration: Configuration, profile: str) -> list[tuple[str, signed.Options]]:
    """The challenges of type `signed` that a profile asks, by name.

    Raises:
        Misconfigured: the options of one are wrong.
    """
    return _asked(configuration, profile, SIGNED, signed.Options)


def _asked(configuration: Configuration, profile: str, kind: str, model: type[Any]) -> list[tuple[str, Any]]:
    combination, found = configuration.endpoints[profile].challenge, []
    for name in combination.names if combination else ():
        settings = configuration.settings.challenges[name]
        if settings.type == kind:
            with naming(f"challenges.{name}"):
                found.append((name, _options(settings, model)))
    return found


def _log_report(name: str, sentence: str) -> None:
    structlog.get_logger("ra.challenge").warning("validator reports", validator=name, detail=sentence)


def _log_fault(name: str, error: Exception) -> None:
    structlog.get_logger("ra.challenge").error("validator failed", validator=name, exc_info=error)


def _options(settings: PluginSettings, model: type[Any]) -> Any:
    try:
        options = model.model_validate(settings.options)
    except ValidationError as error:
        raise Misconfigured("\n".join(complaints(error, model))) from None
    if problems := sorted(mistyped(settings.options, options)):
        raise Misconfigured("\n".join(problems))
    return options


@contextmanager
def naming(table: str) -> Iterator[None]:
    """Says which table of the configuration an error is about.

    Raises:
        Unavailable: something cannot be reached now, whatever the configuration says.
        Misconfigured: anything else.
    """
    try:
        yield
    except (RaError, ConnectorError) as error:
        text = "\n".join(f"{table}: {line}" for line in str(error).splitlines())
        if isinstance(error, BackendUnavailable | Unavailable):
            raise Unavailable(text) from error
        raise Misconfigured(text) from error
