"""What answers devices: connectors, identities and validators, joined to endpoints."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from ra.bootstrap.identities import load_identities, managed_identities
from ra.bootstrap.plugins import Surroundings, connect_connector, connect_validator, naming
from ra.challenge.api import Validator
from ra.challenge.combine import AllOf, AnyOf, Checked, FirstMatch, insist_on_secrets
from ra.challenge.one_time import KeptSecrets
from ra.challenge.pages import MountedPage
from ra.errors import Misconfigured
from ra.keyring.checks import examine, insist
from ra.service.backend import Backend
from ra.service.certification import Managed
from ra.service.endpoint import Directory, Endpoint
from ra.service.gate import Gate
from ra.service.retrieve import insist_on_source
from ra.service.returned import Deviations
from ra.service.ring import Holding, Ring
from ra.settings.load import Configuration
from ra.settings.model import Combination


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
    managed = managed_identities(configuration, backends)
    loaded = load_identities(configuration)
    holdings = {
        name: Holding(name=name, identities=(loaded[name],) if name in loaded else ())
        for name in configuration.settings.identities
    }
    secrets = KeptSecrets()
    validators: dict[str, Checked] = {}
    for name in configuration.settings.challenges:
        validators[name] = await connect_validator(configuration, name, clock, secrets, warnings.append)
        stack.push_async_callback(validators[name].aclose)
    endpoints: dict[str, Endpoint] = {}
    for name, settings in configuration.endpoints.items():
        own, backend = tuple(holdings[each] for each in settings.identities), backends[settings.connector]
        there = [each for one in own for each in one.identities]
        findings = [each for one in there for each in examine(one, backend.ca_chain, clock.now(), os.urandom)]
        with naming(f"profiles.{name}"):
            insist(findings)
            insist_on_source(configuration.policies[name], backend)
        warnings += [f"profiles.{name}: {each.message}" for each in findings]
        endpoints[name] = Endpoint(
            profile=configuration.policies[name],
            ca_id=settings.ca_id,
            backend=backend,
            validator=_combined(name, settings.challenge, validators),
            ring=Ring(own),
        )
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
        known=Deviations(ca_adds=connector.ca_adds | settings.ca_adds, may_drop=connector.may_drop | settings.may_drop),
    )


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


def _combined(profile: str, combination: Combination | None, validators: Mapping[str, Checked]) -> Validator | None:
    if combination is None:
        return None
    members = tuple(validators[each] for each in combination.names)
    with naming(f"profiles.{profile}.challenge"):
        insist_on_secrets(members, all_needed=bool(combination.all_of))
    if len(members) == 1:
        return members[0]
    if combination.all_of:
        return AllOf(members)
    return AnyOf(members) if combination.any_of else FirstMatch(members)
