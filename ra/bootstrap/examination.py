"""What `doctor` asks: everything that an enrolment will need, each for itself, as far as it can be asked beforehand.

What a start would stop at is a finding here, and the next thing is looked at all the same.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Connector,
    ConnectorError,
    Health,
    ProtocolViolation,
    RateLimited,
)
from connectors.api import Misconfigured as BadConnector
from ra.bootstrap.identities import shown_identities
from ra.bootstrap.journal import opened
from ra.bootstrap.plugins import Surroundings, connect_connector, connect_validator
from ra.challenge.one_time import KeptSecrets
from ra.errors import Misconfigured, RaError, Unavailable
from ra.keyring.checks import Severity, examine
from ra.settings.load import Configuration

DEADLINE_SECONDS = 30.0
"""For everything that one CA, validator or database is asked."""

EXPIRES_SOON = timedelta(days=90)
"""A CA that ends before the certificates it issues is told of in time."""


class Verdict(StrEnum):
    """How a thing stands; the worst is told by the exit code."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    MISCONFIGURED = "misconfigured"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: the table of the configuration.
        detail: what was found, a line for each thing; where a server was asked, what it answered.
        settings: full keys of the configuration to look at.
        advice: what to do.
    """

    subject: str
    verdict: Verdict
    detail: str
    settings: tuple[str, ...] = ()
    advice: str = ""


async def examine_connectors(configuration: Configuration) -> list[Finding]:
    """Asks each CA whether it would issue, and looks at what the RA has obtained for itself."""
    surroundings, chains = Surroundings(), dict[str, tuple[bytes, ...]]()
    findings = [each async for each in _connectors(configuration, surroundings, chains)]
    if not any(each.managed for each in configuration.settings.identities.values()):
        return findings
    own = await _identities(configuration, chains, surroundings.clock.now())
    return findings + [each for each in own if each.verdict is not Verdict.OK]


async def examine_all(configuration: Configuration) -> list[Finding]:
    """Asks database, CAs and validators, and looks at the RA's identities."""
    surroundings, chains = Surroundings(), dict[str, tuple[bytes, ...]]()
    findings = [await _guarded("database", _database(configuration))]
    findings += [each async for each in _connectors(configuration, surroundings, chains)]
    findings += [
        await _guarded(f"challenges.{name}", _validator(configuration, name, surroundings))
        for name in configuration.settings.challenges
    ]
    return findings + await _identities(configuration, chains, surroundings.clock.now())


# ---------------------------------------------------------------- each thing
async def _database(configuration: Configuration) -> Finding:
    async with opened(configuration):
        return Finding(subject="database", verdict=Verdict.OK, detail="the journal answers, and its key fits")


async def _connectors(
    configuration: Configuration, surroundings: Surroundings, chains: dict[str, tuple[bytes, ...]]
) -> AsyncIterator[Finding]:
    """Leaves the chain of each CA that shows one in `chains`."""
    for name in configuration.settings.connectors:
        yield await _guarded(f"connectors.{name}", _connector(configuration, name, surroundings, chains))


async def _connector(
    configuration: Configuration, name: str, surroundings: Surroundings, chains: dict[str, tuple[bytes, ...]]
) -> Finding:
    connector = await connect_connector(configuration, name, surroundings)
    try:
        chains[name] = await connector.ca_chain()
        return await _of_health(f"connectors.{name}", connector, surroundings.clock.now())
    finally:
        await connector.aclose()


async def _of_health(subject: str, connector: Connector, now: datetime) -> Finding:
    health = await connector.health()
    if health.fault is not None:
        raise health.fault
    if not health.ready:
        return Finding(subject=subject, verdict=Verdict.FAILED, detail=health.detail, advice=_advice_of(health, now))
    await connector.rehearse()
    ends = health.ca_not_after
    if ends is not None and ends - now < EXPIRES_SOON:
        detail = f"{health.detail}; its CA certificate ends on {ends:%Y-%m-%d}, and nothing it issues outlives that"
        return Finding(subject=subject, verdict=Verdict.WARNING, detail=detail, advice=_RENEW_THE_CA)
    return Finding(subject=subject, verdict=Verdict.OK, detail=health.detail)


async def _validator(configuration: Configuration, name: str, surroundings: Surroundings) -> Finding:
    warnings: list[str] = []
    validator = await connect_validator(configuration, name, surroundings, KeptSecrets(), warnings.append)
    try:
        reached = await validator.reach()
    finally:
        await validator.aclose()
    subject = f"challenges.{name}"
    if warnings:
        return Finding(subject=subject, verdict=Verdict.WARNING, detail="; ".join(warnings))
    return Finding(subject=subject, verdict=Verdict.OK, detail=reached or _NOT_ASKED)


async def _identities(
    configuration: Configuration, chains: dict[str, tuple[bytes, ...]], now: datetime
) -> list[Finding]:
    """Each identity beside the CA of the profile that it serves, where that has shown itself."""
    try:
        identities = await shown_identities(configuration, now)
    except RaError as error:
        return [_of_error("identities", error)]
    findings: list[Finding] = []
    for profile, endpoint in configuration.endpoints.items():
        for name in endpoint.identities:
            subject = f"identities.{name}"
            chain = chains.get(endpoint.connector)
            if chain is None:
                detail = f"not looked at: connectors.{endpoint.connector}, which has to have issued it, shows no CA"
                findings.append(Finding(subject=subject, verdict=Verdict.WARNING, detail=detail))
                continue
            if name not in identities:
                detail = (
                    "it is managed, and is obtained once scep-ra serves; `scep-ra keys status` says how that stands"
                )
                findings.append(Finding(subject=subject, verdict=Verdict.WARNING, detail=detail))
                continue
            found = examine(identities[name], chain, now, os.urandom)
            findings += [_of_identity(subject, profile, each.severity, each.message) for each in found]
            if not found:
                findings.append(Finding(subject=subject, verdict=Verdict.OK, detail=f"serves profiles.{profile}"))
    return findings


def _of_identity(subject: str, profile: str, severity: Severity, message: str) -> Finding:
    verdict = Verdict.MISCONFIGURED if severity is Severity.ERROR else Verdict.WARNING
    return Finding(subject=subject, verdict=verdict, detail=f"profiles.{profile}: {message}", settings=(subject,))


# ---------------------------------------------------------------- what goes wrong
async def _guarded(subject: str, asking: Awaitable[Finding]) -> Finding:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await asking
    except TimeoutError:
        detail = f"no answer within {DEADLINE_SECONDS:.0f} seconds"
        return Finding(subject=subject, verdict=Verdict.UNREACHABLE, detail=detail, advice=_IS_IT_UP)
    except (RaError, ConnectorError) as error:
        return _of_error(subject, error)
    except Exception as error:  # noqa: BLE001 - the edge of a plugin: what it raises is what is wrong with it
        detail = f"a fault of the plugin: {type(error).__name__}: {error}"
        return Finding(subject=subject, verdict=Verdict.FAILED, detail=detail)


def _of_error(subject: str, error: RaError | ConnectorError) -> Finding:
    settings = error.settings if isinstance(error, ConnectorError) else ()
    verdict, advice = _judged(error)
    return Finding(
        subject=subject,
        verdict=verdict,
        detail="\n".join(each.removeprefix(f"{subject}: ") for each in str(error).splitlines()),
        settings=tuple(f"{subject}.{each}" for each in settings),
        advice=advice,
    )


def _judged(error: RaError | ConnectorError) -> tuple[Verdict, str]:
    match error:
        case RateLimited():
            return Verdict.UNREACHABLE, "it answers, and wants to be asked less often: wait, or have its limit raised"
        case BackendUnavailable(answered=True) | Unavailable(__cause__=BackendUnavailable(answered=True)):
            return Verdict.UNREACHABLE, _IS_IT_WELL
        case BackendUnavailable() | Unavailable():
            return Verdict.UNREACHABLE, _IS_IT_UP
        case AuthFailed():
            return Verdict.MISCONFIGURED, "replace what the settings point to, or have these credentials let in there"
        case ProtocolViolation():
            return Verdict.FAILED, "see whether that address is the server's own, and not a page of a proxy before it"
        case BadConnector():
            return Verdict.MISCONFIGURED, "correct the settings, or make there what they name"
        case Misconfigured():
            return Verdict.MISCONFIGURED, "correct it, and ask again"
        case _:
            return Verdict.FAILED, ""


_NOT_ASKED = "its options and secrets can be read; nobody was asked"
_IS_IT_UP = "see whether the server runs, and whether address, DNS, firewall and proxy let this machine through"
_IS_IT_WELL = "it answers that it is out of order: see its own log, or the proxy's before it; no setting here is wrong"
_RENEW_THE_CA = "renew the CA certificate, and name the new issuer in the connector's settings"


def _advice_of(health: Health, now: datetime) -> str:
    return _RENEW_THE_CA if health.ca_not_after is not None and health.ca_not_after <= now else "mend it at the CA"


def worst(findings: Iterable[Finding]) -> Verdict:
    """What has to be mended first: the configuration, then what cannot be reached, then the rest."""
    order = (Verdict.MISCONFIGURED, Verdict.UNREACHABLE, Verdict.FAILED, Verdict.WARNING)
    found = {each.verdict for each in findings}
    return next((each for each in order if each in found), Verdict.OK)
