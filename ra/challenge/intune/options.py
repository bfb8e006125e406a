"""The configuration block of an Intune challenge, and the addresses of each of Microsoft's clouds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from uuid import UUID

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from connectors.transport import BaseUrl, HttpOptions, SecretReference
from ra import __version__

MOST_REQUESTS = 500
"""Revocations that Intune names at once, at most."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_ASYNC_PATIENCE = timedelta(days=7)
_STRICT_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Where one of Microsoft's clouds is."""

    authority: str
    graph: str
    intune: str
    hosts: tuple[str, ...]


CLOUDS = {
    "public": Cloud(
        authority="https://login.microsoftonline.com",
        graph="https://graph.microsoft.com",
        intune="https://api.manage.microsoft.com",
        hosts=("manage.microsoft.com",),
    ),
    "gcc-high": Cloud(
        authority="https://login.microsoftonline.us",
        graph="https://graph.microsoft.us",
        intune="https://api.manage.microsoft.us",
        hosts=("manage.microsoft.us",),
    ),
    "dod": Cloud(
        authority="https://login.microsoftonline.us",
        graph="https://dod-graph.microsoft.us",
        intune="https://api.manage.microsoft.us",
        hosts=("manage.microsoft.us",),
    ),
    "china": Cloud(
        authority="https://login.partner.microsoftonline.cn",
        graph="https://microsoftgraph.chinacloudapi.cn",
        intune="https://api.manage.microsoft.cn",
        hosts=("manage.microsoft.cn",),
    ),
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class SecretCredential(_Section):
    """A client secret of the app registration; it is read anew for every token."""

    method: Literal["secret"]
    """`secret`."""
    client_secret: SecretReference
    """`file:PATH` or `env:NAME`: the value of the secret, not its id."""
    expires_at: AwareDatetime | None = None
    """When it expires, as the portal says, with a UTC offset: scep-ra warns in time."""


class CertificateCredential(_Section):
    """A certificate of the app registration: nothing secret leaves this machine."""

    method: Literal["certificate"]
    """`certificate`."""
    certificate: Path
    """PEM: the certificate that was uploaded to the app registration."""
    key: Path
    """PEM: its private key, RSA, readable by its owner alone."""
    key_passphrase: SecretReference | None = None
    """`file:PATH` or `env:NAME`; exactly when the key is encrypted."""


class FederatedCredential(_Section):
    """A token that another identity provider issues to us, such as Kubernetes or a managed identity."""

    method: Literal["federated"]
    """`federated`."""
    token: SecretReference
    """`file:PATH` or `env:NAME`, read anew for every token: it is replaced under us."""


CredentialOptions = Annotated[
    SecretCredential | CertificateCredential | FederatedCredential, Field(discriminator="method")
]


class RevocationOptions(_Section):
    """Certificates that Intune wants revoked."""

    enabled: bool = True
    """Whether Intune is asked for them."""
    interval_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    """How often it is asked, by whichever process holds the lease."""
    max_requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = 100
    """How many it may name at once; where none of them is ours, it is asked for 500."""
    unknown: Literal["ignore", "report"] = "ignore"
    """What is said of a certificate that this challenge has not let in: nothing, because another connector may have issued
    it; or that it does not exist."""


class _Own(_Section):
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")]
    """The directory: its id, or one of its domains."""
    client_id: UUID
    """The app registration: its application (client) id."""
    credential: CredentialOptions
    """How the app registration proves itself: `secret`, `certificate` or `federated`."""
    cloud: Literal["public", "gcc-high", "dod", "china"] = "public"
    """Which of Microsoft's clouds the tenant is in."""
    authority: BaseUrl | None = None
    """Where tokens come from, in place of the cloud's own."""
    graph_url: BaseUrl | None = None
    """Microsoft Graph, in place of the cloud's own."""
    intune_resource: BaseUrl | None = None
    """The resource that a token for Intune is for, in place of the cloud's own."""
    intune_app_id: UUID = UUID("0000000a-0000-0000-c000-000000000000")
    """Intune's own application id."""
    allowed_hosts: tuple[str, ...] = ()
    """Domains that Intune's services may be in, in place of the cloud's own: our token is sent nowhere else."""
    provider_name: Annotated[str, Field(min_length=1, max_length=64)] = f"scep-ra/{__version__}"
    """What Intune is told that we are."""
    notify_policy: Literal["strict", "async"] = "strict"
    """`strict`: the device gets its certificate once Intune has accepted the notification, as Microsoft wants it.
    `async`: at once, and Intune is told in the background."""
    notify_patience_minutes: Annotated[int, Field(ge=1, le=20_160)] | None = None
    """For so long a notification is tried; then a certificate that waits for it is revoked. Left out: 60 where it is
    strict, a week where it is not."""
    notices_at_once: Annotated[int, Field(ge=2, le=512)] = 64
    """So many notifications are under way at the same time in each process; beyond that a device is told PENDING.
    `max_connections` has to hold them and the validations."""
    ca_configuration: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """What Intune is told as the CA's configuration; left out: the issuing CA's common name."""
    revocation: RevocationOptions = RevocationOptions()
    """Certificates that Intune wants revoked: `enabled`, `interval_minutes`, `max_requests`, `unknown`."""


class Options(HttpOptions, _Own):
    """The block of an Intune challenge."""

    timeout_seconds: Annotated[float, Field(gt=0, le=14)] = 10.0
    """For one call, what is tried again included; a device waits for several."""
    max_connections: Annotated[int, Field(ge=1, le=1024)] = 128
    """To one server at the same time; what is more waits."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        self.to_server(self.authority_url, self.graph)
        return self

    @property
    def authority_url(self) -> str:
        return (self.authority or CLOUDS[self.cloud].authority).rstrip("/")

    @property
    def token_url(self) -> str:
        return f"{self.authority_url}/{self.tenant}/oauth2/v2.0/token"

    @property
    def graph(self) -> str:
        return (self.graph_url or CLOUDS[self.cloud].graph).rstrip("/")

    @property
    def graph_scope(self) -> str:
        return f"{self.graph}/.default"

    @property
    def intune_scope(self) -> str:
        """With two slashes: the name of the resource ends with one."""
        return f"{(self.intune_resource or CLOUDS[self.cloud].intune).rstrip('/')}//.default"

    @property
    def hosts(self) -> tuple[str, ...]:
        return self.allowed_hosts or CLOUDS[self.cloud].hosts

    @property
    def patience(self) -> timedelta:
        if self.notify_patience_minutes is not None:
            return timedelta(minutes=self.notify_patience_minutes)
        return _STRICT_PATIENCE if self.notify_policy == "strict" else _ASYNC_PATIENCE

    def allows(self, url: str) -> bool:
        """Whether a URL out of an answer leads to where our token may be sent."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            return False
        host = parsed.host.lower().rstrip(".")
        is_closed = parsed.scheme == "https" or (parsed.scheme == "http" and (self.allow_http or host in LOOPBACK))
        is_plain = not (parsed.userinfo or parsed.query or parsed.fragment)
        is_ours = any(host == each or host.endswith(f".{each}") for each in map(str.lower, self.hosts))
        return is_closed and is_plain and is_ours
