"""What answers devices: connectors, identities and validators, joined to endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from connectors.keyfiles import read_certificates
from ra.bootstrap.endpoints import build_endpoint
from ra.bootstrap.identities import load_identities, managed_identities
from ra.bootstrap.plugins import Surroundings, connect_connector, connect_validator, naming
from ra.challenge.combine import Checked
from ra.challenge.one_time import KeptSecrets
from ra.challenge.pages import MountedPage
from ra.errors import Misconfigured
from ra.service.backend import Backend
from ra.service.certification import Managed
from ra.service.endpoint import Directory, Endpoint
from ra.service.gate import Gate
from ra.service.returned import Deviations
from ra.service.ring import Holding
from ra.service.rollover import insist_on_next_ca
from ra.settings.load import Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Everything that answers, and what the operator should know of it.

    Attributes:
        secrets: to be bound to the journal once that is open.
        pages: of the validators that have one.
        holdings: the RA's identities; of those that it manages itself, what has still to be filled.
    """

    endpoints: Directory
    backends: Mapping[str, Backend]
    validators: Mapping[str, Checked]
    secrets: KeptSecrets
    pages: tuple[MountedPage, ...]
    holdings: Mapping[str, Holding]
    managed: tuple[Managed, ...]
    warnings: tuple[str, ...]


async def build_front(configuration: Configuration, stack: AsyncExitStack, surroundings: Surroundings) -> Front:
    """Connects to everything; `stack` closes it.

    Raises:
        Misconfigured: with one line for each thing that is wrong.
        Unavailable: a CA cannot be reached.
    """
    clock, warnings = surroundings.clock, list(configuration.warnings)
    backends: dict[str, Backend] = {}
    for name in configuration.settings.connectors:
        backends[name] = await _backend(configuration, name, stack, surroundings)
        with naming(f"connectors.{name}"):
            insist_on_next_ca(backends[name])
    managed = managed_identities(configuration, backends)
    loaded = load_identities(configuration)
    holdings = {
        name: Holding(name=name, identities=(loaded[name],) if name in loaded else ())
        for name in configuration.settings.identities
    }
    secrets = KeptSecrets()
    validators: dict[str, Checked] = {}
    for name in configuration.settings.challenges:
        validators[name] = await connect_validator(configuration, name, surroundings, secrets, warnings.append)
        stack.push_async_callback(validators[name].aclose)
    endpoints: dict[str, Endpoint] = {}
    for name in configuration.endpoints:
        endpoints[name], said = build_endpoint(
            configuration, name, backends=backends, holdings=holdings, validators=validators, now=clock.now()
        )
        warnings += said
    warnings += _unused_challenges(configuration)
    return Front(
        endpoints=Directory(endpoints),
        backends=backends,
        validators=validators,
        secrets=secrets,
        pages=_pages(configuration, validators, endpoints),
        holdings=holdings,
        managed=managed,
        warnings=tuple(warnings),
    )


async def _backend(
    configuration: Configuration, name: str, stack: AsyncExitStack, surroundings: Surroundings
) -> Backend:
    settings = configuration.settings.connectors[name]
    connector = await connect_connector(configuration, name, surroundings)
    stack.push_async_callback(connector.aclose)
    with naming(f"connectors.{name}"):
        chain = await connector.ca_chain()
        following = _following(configuration, name)
    return Backend(
        name=name,
        connector=connector,
        ca_chain=chain,
        gate=Gate(
            name,
            max_concurrent=settings.max_concurrent,
            max_waiting=settings.max_waiting,
            clock=surroundings.clock,
            metrics=surroundings.metrics,
        ),
        issue_timeout_seconds=settings.issue_timeout_seconds,
        resubmit_after=settings.on_unknown,
        next_ca=following,
        known=Deviations(ca_adds=connector.ca_adds | settings.ca_adds, may_drop=connector.may_drop | settings.may_drop),
    )


def _following(configuration: Configuration, name: str) -> tuple[bytes, ...]:
    path = configuration.settings.connectors[name].next_ca
    if path is None:
        return ()
    return tuple(each.public_bytes(Encoding.DER) for each in read_certificates(configuration.directory / path))


def _unused_challenges(configuration: Configuration) -> list[str]:
    asked = {
        each for one in configuration.endpoints.values() if one.challenge is not None for each in one.challenge.names
    }
    unused = [each for each in configuration.settings.challenges if each not in asked]
    return [
        f'challenges.{each}: no profile asks it, so it lets nobody in: write `challenge = "{each}"` in [profiles.…]'
        for each in unused
    ]


def _pages(
    configuration: Configuration, validators: Mapping[str, Checked], endpoints: Mapping[str, Endpoint]
) -> tuple[MountedPage, ...]:
    """The pages of validators that a profile asks: of what nobody asks for nothing is handed out."""
    mounted: dict[str, MountedPage] = {}
    for name, settings in configuration.endpoints.items():
        for validator in settings.challenge.names if settings.challenge else ():
            if (page := validators[validator].page) is not None:
                mounted.setdefault(
                    validator, MountedPage(page=page, ca_certificate=endpoints[name].backend.ca_chain[0])
                )
    paths = Counter((each.page.listener, each.page.path.lower()) for each in mounted.values())
    for (_, path), count in paths.items():
        if count > 1:
            raise Misconfigured(f"challenges: {count} of them have their page at {path}; give each a path of its own")
    return tuple(mounted.values())
