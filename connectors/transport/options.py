"""How a backend is reached, as the configuration says it, and what carries requests there."""

from __future__ import annotations

import ipaddress
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.api import ConnectorError, Misconfigured, Secret, Services, secret_reference
from connectors.keyfiles import read_private_key
from connectors.transport.carrier import AiohttpCarrier, Carrier

_KEEP_SECONDS = 4.0
"""Below the shortest idle time-out that servers are known for (Apache: 5 s): a request that meets a closing connection
would have to be taken for sent."""

SecretReference = Annotated[str, AfterValidator(secret_reference)]


def _without_user(value: str) -> str:
    """An address of http or https that names a host and no user: a password in a URL ends up in logs."""
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("is no URL") from None
    if url.scheme not in {"http", "https"} or not url.host or url.fragment or url.query:
        raise ValueError("is no URL like https://ca.example.org:8443/path")
    if url.userinfo:
        raise ValueError("holds a user or a password; credentials have settings of their own")
    return value


BaseUrl = Annotated[str, AfterValidator(_without_user)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


class _Addresses(_Section):
    url: BaseUrl
    """Where the backend is, like `https://ca.example.org:8443`."""
    other_urls: tuple[BaseUrl, ...] = ()
    """Other addresses of the same backend, to which a redirect or a URL inside an answer may lead. None else is asked."""


class HttpOptions(_Section):
    """How any server is reached, wherever it is: TLS, a proxy, deadlines."""

    allow_http: bool = False
    """Plain HTTP to another machine: whoever is on the way reads our credentials."""
    ca_file: Path | None = None
    """PEM: the CAs that the backend's TLS certificate may come from; the system's own where nothing is said."""
    client_certificate: Path | None = None
    """PEM: our TLS client certificate first, then its chain."""
    client_key: Path | None = None
    """PEM: its private key, readable by its owner alone."""
    client_key_passphrase: SecretReference | None = None
    """`file:PATH` or `env:NAME`; exactly when the key is encrypted."""
    proxy: BaseUrl | None = None
    """HTTP proxy, like `http://proxy.example.org:3128`; the environment's proxy variables are not read."""
    proxy_credentials: SecretReference | None = None
    """`file:PATH` or `env:NAME` of `user:password`."""
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """For the connection and the TLS handshake."""
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 20.0
    """For a whole call, what is tried again included."""
    max_response_bytes: Annotated[int, Field(ge=4096, le=1 << 30)] = 16 * 1024 * 1024
    """A longer answer is cut off and refused; a CRL may be long."""
    max_connections: Annotated[int, Field(ge=1, le=1024)] = 32
    """At the same time; what is more waits."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together: set both or neither")
        if self.client_key_passphrase and not self.client_key:
            raise ValueError("client_key_passphrase is set without client_key")
        if self.proxy and not self.proxy.startswith("http://"):
            # By https it would be shown client_certificate, and have to come from ca_file.
            raise ValueError(
                "proxy begins with http://; a server of https:// is spoken to by TLS through it all the same"
            )
        if self.proxy_credentials and not self.proxy:
            raise ValueError("proxy_credentials is set without proxy")
        return self

    def to_server(self, url: str, *other_urls: str) -> TransportOptions:
        """The same, of one server.

        Raises:
            ValueError: the address is none, or is open to whoever is on the way.
        """
        own = {name: getattr(self, name) for name in HttpOptions.model_fields}
        return TransportOptions(url=url, other_urls=other_urls, **own)


class TransportOptions(HttpOptions, _Addresses):
    """What every connector that speaks HTTP takes; its Options inherit it."""

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if not self.allow_http and any(_is_open(httpx.URL(each)) for each in (self.url, *self.other_urls)):
            raise ValueError("http:// to another machine: use https://, or set allow_http = true")
        return self


def open_carrier(options: TransportOptions, services: Services) -> Carrier:
    """What carries requests, with its files and secrets read; nothing is sent yet.

    Raises:
        Misconfigured: a file is missing, or they do not go together.
    """
    return AiohttpCarrier(
        _tls(options, services),
        proxy=_proxy(options, services),
        connect_seconds=options.connect_timeout_seconds,
        keep_seconds=_KEEP_SECONDS,
        max_connections=options.max_connections,
    )


def read_secret(reference: str, services: Services) -> Secret:
    """What a reference points to now: tokens in files are replaced while we run.

    Raises:
        Misconfigured: it cannot be read, whichever way the caller's own function says so.
    """
    try:
        return services.read_secret(reference)
    except ConnectorError:
        raise
    except Exception as error:  # an edge: the function comes from outside, and its errors are not ours
        raise Misconfigured(str(error)) from error


@lru_cache(maxsize=1024)
def parsed(url: str) -> httpx.URL:
    """A URL; most calls have one that was asked before.

    Raises:
        httpx.InvalidURL, ValueError: it is none.
    """
    return httpx.URL(url)


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """What two URLs of one server have in common (RFC 6454 §4)."""
    return url.scheme, url.host.lower().rstrip("."), url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _tls(options: TransportOptions, services: Services) -> ssl.SSLContext:
    ca_file = services.directory / options.ca_file if options.ca_file else None
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise Misconfigured(f"ca_file: {ca_file} cannot be read as PEM certificates: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.client_certificate and options.client_key:
        certificate, key = services.directory / options.client_certificate, services.directory / options.client_key
        passphrase = _secret(options.client_key_passphrase, services)
        read_private_key(key, passphrase)
        try:
            # OpenSSL asks at the terminal where it is given no password.
            context.load_cert_chain(certificate, key, passphrase.reveal() if passphrase else "")
        except OSError as error:
            raise Misconfigured(f"client_certificate: {certificate} is no PEM file, or {key} not its key") from error
    return context


def _proxy(options: TransportOptions, services: Services) -> httpx.Proxy | None:
    if options.proxy is None:
        return None
    credentials = _secret(options.proxy_credentials, services)
    if credentials is None:
        return httpx.Proxy(options.proxy)
    user, _, password = credentials.reveal().partition(":")
    return httpx.Proxy(options.proxy, auth=(user, password))


def _secret(reference: str | None, services: Services) -> Secret | None:
    return read_secret(reference, services) if reference else None


def _is_open(url: httpx.URL) -> bool:
    if url.scheme != "http" or url.host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return True
