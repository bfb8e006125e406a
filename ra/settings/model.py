"""The tables of the configuration and their keys; the sentence below a key is its documentation.

Connectors and challenges are known here by `type` alone: their other keys are checked by the plugin.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, get_type_hints
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    model_validator,
)

from ra.errors import Misconfigured
from ra.policy.presets import PRESETS, PresetName
from ra.policy.profile import Profile, attribute_oid, extended_key_usage_oid
from ra.settings.identities import IdentitySettings
from ra.settings.section import SecretReference, Section
from ra.settings.traits import Traits


class Address(NamedTuple):
    """Where a listener binds: `127.0.0.1:8080`, `[::1]:8080`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(value: object) -> Address:
    host, colon, port = str(value).rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError('write host and port, for example "127.0.0.1:8080"')
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?", value):
        raise ValueError("a name is of small letters, digits, - and _")
    return value


def _database_url(value: str) -> str:
    if value.startswith("sqlite:///"):
        return value
    parts = urlsplit(value)
    if parts.scheme != "postgresql" or not parts.path.strip("/"):
        raise ValueError('write "sqlite:///ra.db" or "postgresql://USER@HOST/NAME"')
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ValueError('take the password out of it, and write password = "file:PATH" or "env:NAME" below it')
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s]+/?", value):
        raise ValueError('write the URL that devices use without a path, for example "https://ra.example.org"')
    return value.rstrip("/")


def _digest(value: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("write 64 hexadecimal digits")
    return value


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _on_unknown(value: object) -> object:
    if value == "hold":
        return None
    match = re.fullmatch(r"resubmit_after ([1-9][0-9]{0,5})([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write "hold", or "resubmit_after 15m" with a number and one of s, m, h, d')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


_COMBINATION = 'write a name, or one of { all_of = ["…"] }, { any_of = ["…"] }, { first_match = ["…"] }'


def _combination(value: object) -> object:
    if not isinstance(value, str | dict | Combination):
        raise ValueError(_COMBINATION)  # noqa: TRY004  # pydantic makes a sentence of it
    return {"first_match": [value]} if isinstance(value, str) else value


ListenAddress = Annotated[Address, BeforeValidator(read_address, json_schema_input_type=str)]
Name = Annotated[str, AfterValidator(_name)]


class Tls(Section):
    """HTTPS on both listeners."""

    certificate: Path
    """PEM: the server's certificate, then what is above it."""
    key: Path
    """PEM, not readable by everybody."""
    key_passphrase: SecretReference | None = None
    """Of an encrypted key: `file:PATH` or `env:NAME`."""


class ApiKey(Section):
    """A caller that may read `/api/v1/scep/configuration`."""

    label: Name
    """What the log calls the caller."""
    hmac: Annotated[str, AfterValidator(_digest)]
    """HMAC-SHA-256 of the key under `api_key_secret`, hex."""
    mints: bool = False
    """Whether it may mint one-time secrets, list and withdraw them, by `/api/v1/otp` on the admin listener."""


class Server(Section):
    """The listeners and what holds for every request."""

    listen: ListenAddress = Address("127.0.0.1", 8080)
    """SCEP and /api/v1/scep."""
    admin_listen: ListenAddress = Address("127.0.0.1", 8081)
    """Probes, metrics and operation; never to be reached by devices."""
    public_url: Annotated[str, AfterValidator(_url)] = "http://127.0.0.1:8080"
    """Scheme, host and port as devices reach them, perhaps through a proxy."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that answer; about one for each core."""
    debug: bool = False
    """Shows /api/v1/scep/configuration and the API's documentation to everybody, and logs for a human reader."""
    failure_floor_seconds: Annotated[float, Field(ge=0, le=10)] = 0.05
    """A uniform failure is answered no sooner, so that its time says nothing."""
    receive_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 20.0
    """Until when a request must have arrived whole."""
    shutdown_notice_seconds: Annotated[int, Field(ge=0, le=300)] = 0
    """For so long after SIGTERM `/readyz` says 503 and everything is still answered, so that a load balancer sends devices
    elsewhere first: a little more than the time between two of its probes."""
    shutdown_grace_seconds: Annotated[int, Field(ge=1, le=300)] = 20
    """How long running requests may take to end after that. What the CA is still asked about is waited for, too."""
    max_enrolments_in_flight: Annotated[int, Field(ge=1, le=1_000_000)] = 3000
    """How many enrolments one process answers at once. Beyond that, new ones are told to come back (HTTP 503); polls, and
    what is known already, are always answered."""
    tls: Tls | None = None
    """HTTPS on both listeners; without it a proxy may speak HTTPS in front."""
    api_key_secret: SecretReference | None = None
    """Keys the HMACs of `api_keys`."""
    api_keys: tuple[ApiKey, ...] = ()
    """Callers that may read what is not for everybody."""


class Database(Section):
    """Where the journal is kept."""

    url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///ra.db"
    """`sqlite:///PATH`, beside the configuration file where the path is relative; or `postgresql://USER@HOST/NAME`, with
    what libpq understands behind it, such as `?sslmode=verify-full`."""
    password: SecretReference | None = None
    """Of PostgreSQL's user: `file:PATH` or `env:NAME`."""
    key: SecretReference = "file:journal.key"
    """The journal's own key, 32 bytes in base64: it seals stored requests and one-time secrets. A file is made with a new
    journal. Keep a copy of it, apart from the database; all replicas share it."""


class PluginSettings(Section):
    """A connector or a challenge validator: its type, and the keys that its type knows."""

    model_config = ConfigDict(extra="allow")

    type: str
    """A built-in name, or one that an installed package brings."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ConnectorSettings(PluginSettings):
    """A certificate authority: what its type knows, and what holds for every type."""

    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many requests one process sends it at once."""
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """How many requests wait in one process for their turn; more wait in the journal."""
    issue_timeout_seconds: Annotated[float, Field(gt=0, le=55)] = 50.0
    """How long the CA is given for one answer; after that the answer counts as lost."""
    on_unknown: Annotated[
        timedelta | None,
        BeforeValidator(_on_unknown, json_schema_input_type=str),
        Field(json_schema_extra={"default": "hold"}),
    ] = None
    """What becomes of a lost answer of a CA that cannot say what it has issued: `hold` leaves it to a person,
    `resubmit_after 15m` asks again after that time. Then there may be two certificates: it is counted and listed."""
    next_ca: Path | None = None
    """PEM: the CA that will follow this one first, then its chain, for GetNextCACert. A connector may know it by itself."""
    ca_adds: Traits = frozenset()
    """What the CA is known to put into a certificate although it was not approved: key usages, extended key usages and
    attributes of the subject by name, such as `keyEncipherment`, `serverAuth`, `organizationName=Example`; a dotted OID
    does as well. An attribute without its value may have any; a commonName then one of the approved alternative names.
    A certificate with anything else that was not approved is quarantined."""
    may_drop: Traits = frozenset()
    """What the CA is known to leave out although it was approved, in the same words. Subject alternative names are never
    among it."""


class RetentionSettings(Section):
    """How long what has ended is kept, in days. What is open, or still to be told to somebody, is always kept."""

    rejected_days: Annotated[int, Field(ge=1)] = 90
    """Requests that the CA or an approver refused."""
    expired_days: Annotated[int, Field(ge=1)] = 90
    """Requests that were not decided in time."""
    revoked_days: Annotated[int, Field(ge=1)] = 365
    """Certificates that were revoked."""
    released_days_after_expiry: Annotated[int, Field(ge=1)] = 90
    """Certificates that were handed out, counted from the end of their validity."""
    secrets_days_after_expiry: Annotated[int, Field(ge=1)] = 30
    """One-time secrets, and that they were spent, counted from when they expired."""
    dead_letters_days: Annotated[int, Field(ge=1)] = 90
    """Notifications that were given up."""
    audit_days: Annotated[int, Field(ge=0)] = 0
    """Audit events that are sealed by a checkpoint; 0: for ever."""


class Combination(Section):
    """Which validators must agree: one of the three."""

    all_of: tuple[str, ...] = ()
    """Each must grant."""
    any_of: tuple[str, ...] = ()
    """One must grant; one that cannot be asked now is passed over."""
    first_match: tuple[str, ...] = ()
    """The first that does not deny decides, even where it cannot be asked now."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(1 for each in (self.all_of, self.any_of, self.first_match) if each) != 1:
            raise ValueError(_COMBINATION)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return self.all_of + self.any_of + self.first_match


class RenewalAuthority(Section):
    """A CA that no connector speaks to, whose certificates are renewed."""

    certificate: Path
    """PEM: the CA's certificate, which has signed them."""
    crl: Path
    """Its CRL, DER or PEM, read anew for each renewal: see that the file is kept up to date. While it is missing, or past
    its nextUpdate, the challenge is needed."""


class EndpointSettings(Section):
    """What joins a profile to the rest."""

    ca_id: Annotated[int, Field(ge=0)] | None = None
    """`?ca_id=` selects the profile by it."""
    connector: str
    """Which of [connectors] issues."""
    identities: tuple[str, ...] = ()
    """Which of [identities] open the requests and sign the answers, the newest, which is shown, first. Left out: the
    only one there is."""
    challenge: Annotated[
        Combination | None, BeforeValidator(_combination, json_schema_input_type=str | Combination | None)
    ] = None
    """Which of [challenges] lets a request in: a name, or { all_of = [..] }, { any_of = [..] }, { first_match = [..] }."""
    renews_from: tuple[str, ...] = ()
    """Others of [connectors] whose certificates, issued under this profile, are renewed here: the one that it had before."""
    renewal_authorities: tuple[RenewalAuthority, ...] = ()
    """CAs whose certificates are renewed here although no connector issued them, or the journal does not know them. Each
    of their certificates is as good as a challenge, for the names that it has."""

    preset: PresetName | None = None
    """A client that the profile is for: its options begin with what that needs (docs/operations.md has the table), and
    what is set beside it goes before."""

    def policy(self, name: str) -> Profile:
        """The profile itself.

        Raises:
            Misconfigured: options that cannot be meant.
        """
        values = {each: getattr(self, each) for each in _PROFILE_FIELDS}
        known = PRESETS[self.preset] if self.preset else {}
        values |= {each: value for each, value in known.items() if each not in self.model_fields_set}
        for field, to_oid in _OID_FIELDS.items():
            try:
                values[field] = type(values[field])(map(to_oid, values[field]))
            except Misconfigured as error:
                raise Misconfigured(f"profiles.{name}.{field}: {error}") from None
        return Profile(name=name, **values)


_OID_FIELDS: dict[str, Callable[[str], str]] = {
    "subject_attributes": attribute_oid,
    "required_subject_attributes": attribute_oid,
    "allowed_extended_key_usage": extended_key_usage_oid,
    "default_extended_key_usage": extended_key_usage_oid,
}


def _profile_fields() -> dict[str, Any]:
    """The fields of a Profile as pydantic takes them: the policy knows no pydantic, and nothing is written twice."""
    hints = get_type_hints(Profile)
    defaults = {
        each.name: each.default if each.default_factory is MISSING else Field(default_factory=each.default_factory)
        for each in fields(Profile)
        if each.name != "name"
    }
    return {name: (hints[name], default) for name, default in defaults.items()}


_PROFILE_FIELDS = _profile_fields()

ProfileSettings = create_model(
    "ProfileSettings",
    __base__=EndpointSettings,
    __doc__="One endpoint: whom it lets in and what it certifies.",
    **_PROFILE_FIELDS,
)
"""One [profiles.NAME]: an endpoint's keys and every option of ra.policy.profile.Profile."""


class Settings(Section):
    """The whole configuration."""

    server: Server = Server()
    """The listeners and what holds for every request."""
    database: Database = Database()
    """Where the journal is kept."""
    retention: RetentionSettings = RetentionSettings()
    """How long what has ended is kept."""
    connectors: dict[Name, ConnectorSettings]
    """The CAs that issue, by name."""
    challenges: Annotated[dict[Name, PluginSettings], Field(default_factory=dict)]
    """What lets a request in, by name."""
    identities: dict[Name, IdentitySettings]
    """The RA's own certificates, by name."""
    profiles: dict[Name, ProfileSettings]
    """The endpoints and their rules, by name."""
