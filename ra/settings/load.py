"""Reads the configuration, and checks what needs more than one table to be checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ra.errors import Misconfigured
from ra.policy.profile import Profile
from ra.settings.complaints import complaints, mistyped
from ra.settings.model import EndpointSettings, Server, Settings
from ra.settings.sources import process_environment, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A configuration that agrees with itself.

    Attributes:
        path: of the configuration file, absolute.
        endpoints, policies: by profile name; every name in them exists.
        warnings: what the operator should know, in sentences.
    """

    path: Path
    settings: Settings
    endpoints: Mapping[str, EndpointSettings]
    policies: Mapping[str, Profile]
    warnings: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Relative paths of the configuration resolve against it."""
        return self.path.parent


def load(path: Path, environment: Mapping[str, str] | None = None) -> Configuration:
    """Reads and checks the configuration; `environment` is that of the process where it is not given.

    Raises:
        Misconfigured: with one line for each thing that is wrong.
    """
    path = path.absolute()
    data, origins = read(path, process_environment() if environment is None else environment)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise Misconfigured("\n".join(complaints(error, Settings, origins=origins))) from None
    if problems := sorted(mistyped(data, settings)):
        raise Misconfigured("\n".join(problems))
    endpoints = {name: _with_identities(each, settings) for name, each in settings.profiles.items()}
    policies = {name: each.policy(name) for name, each in endpoints.items()}
    if problems := [*_server_problems(settings.server), *_profile_problems(settings, endpoints, policies)]:
        raise Misconfigured("\n".join(problems))
    return Configuration(
        path=path,
        settings=settings,
        endpoints=endpoints,
        policies=policies,
        warnings=(*_warnings(policies), *_open_secrets(data, path.parent)),
    )


def _with_identities(endpoint: EndpointSettings, settings: Settings) -> EndpointSettings:
    if endpoint.identities or len(settings.identities) != 1:
        return endpoint
    return endpoint.model_copy(update={"identities": tuple(settings.identities)})


def _server_problems(server: Server) -> Iterator[str]:
    if server.listen.port == server.admin_listen.port:
        yield "server.admin_listen has the port of server.listen: what is for devices and what is not must be apart"
    if server.tls and server.public_url.startswith("http://"):
        yield "server.public_url begins with http:// but [server.tls] is there: write https://"
    if server.api_keys and server.api_key_secret is None:
        yield 'server.api_key_secret is missing: [[server.api_keys]] cannot be checked without it; write "file:PATH"'


def _profile_problems(
    settings: Settings, endpoints: Mapping[str, EndpointSettings], policies: Mapping[str, Profile]
) -> Iterator[str]:
    if not endpoints:
        yield "there is no profile: write a table [profiles.default]"
    for name, endpoint in endpoints.items():
        table = f"profiles.{name}"
        yield from _unknown(f"{table}.connector", "connectors", (endpoint.connector,), settings.connectors)
        yield from _unknown(f"{table}.renews_from", "connectors", endpoint.renews_from, settings.connectors)
        yield from _unknown(f"{table}.identities", "identities", endpoint.identities, settings.identities)
        if not endpoint.identities:
            yield f"{table}.identities is missing: name at least one of [identities]"
        yield from _challenge_problems(table, endpoint, policies[name], settings)
    yield from _shared_ca_ids(endpoints)
    yield from _managed_problems(settings, endpoints)


def _challenge_problems(table: str, endpoint: EndpointSettings, policy: Profile, settings: Settings) -> Iterator[str]:
    if endpoint.challenge is not None:
        yield from _unknown(f"{table}.challenge", "challenges", endpoint.challenge.names, settings.challenges)
        if not policy.challenge_password_required:
            yield f"{table} names a challenge and says challenge_password_required = false: drop one of the two"
    elif policy.challenge_password_required:
        yield (
            f"{table} has no challenge: name one of [challenges], "
            "or write challenge_password_required = false to let in everybody who reaches it"
        )


def _unknown(path: str, table: str, names: tuple[str, ...], known: Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        if name not in known:
            choice = ", ".join(known) or "nothing yet"
            yield f'{path} names "{name}", which is not there: [{table}] has {choice}'


def _managed_problems(settings: Settings, endpoints: Mapping[str, EndpointSettings]) -> Iterator[str]:
    for name, identity in settings.identities.items():
        connectors = sorted({each.connector for each in endpoints.values() if name in each.identities})
        if identity.managed is not None and len(connectors) > 1:
            yield (
                f"identities.{name} is managed and named by profiles of several connectors ({', '.join(connectors)}): "
                "a certificate comes from one CA; write one managed identity for each"
            )


def _shared_ca_ids(endpoints: Mapping[str, EndpointSettings]) -> Iterator[str]:
    owner: dict[int, str] = {}
    for name, endpoint in endpoints.items():
        if endpoint.ca_id is None:
            continue
        other = owner.setdefault(endpoint.ca_id, name)
        if other != name:
            yield f"profiles.{name}.ca_id is {endpoint.ca_id}, which is that of profiles.{other}: give it its own"


def _warnings(policies: Mapping[str, Profile]) -> Iterator[str]:
    for name, policy in policies.items():
        if not policy.challenge_password_required:
            yield f"profiles.{name} requires no challenge: whoever reaches it gets a certificate"


def _open_secrets(value: object, directory: Path, path: str = "") -> Iterator[str]:
    """Files of secrets that everybody may read; what a container is given is seen in it alone."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _open_secrets(each, directory, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _open_secrets(each, directory, f"{path}.{number}")
    elif isinstance(value, str) and value.startswith("file:"):
        file = directory / value.removeprefix("file:")
        with suppress(OSError):  # what is not there is told by who needs it
            mode = file.stat().st_mode & 0o777
            if mode & 0o007 and file.parent.stat().st_mode & 0o001 and not _is_mounted(file):
                yield f"{path}: everybody may read {file} (mode {mode:04o}): chmod o= it"


def _is_mounted(file: Path) -> bool:
    return any(file.is_relative_to(each) for each in ("/run/secrets", "/var/run/secrets"))
