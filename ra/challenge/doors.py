"""Who may have a secret minted over HTTP: accounts known by Basic, by a header, or by a client certificate at a proxy.

Every known credential is compared, each in constant time. Who tries too often is told to wait, and is not looked at.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, IPvAnyNetwork, model_validator

from connectors.api import secret_reference
from ra.challenge.api import Services
from ra.challenge.pages import PageAnswer, PageRequest, say
from ra.errors import Misconfigured

MIN_PASSWORD = 12
"""Characters: the page can be reached by whoever reaches the listener."""

FAILURES, FAILURES_WITHIN = 20, timedelta(minutes=1)
"""So many wrong credentials from one address, then it waits."""

MAX_ADDRESSES = 1000
"""So many addresses are remembered; the oldest is forgotten first."""

MAX_CERTIFICATE_CHARACTERS = 16 * 1024

_HEADER_NAME = r"^[A-Za-z0-9-]{1,64}$"


class AccountOptions(BaseModel):
    """Somebody who shows a user name and a password (Basic)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    label: str = Field(min_length=1, max_length=64)
    """What log and audit call the account, and its secrets."""
    user: str = Field(min_length=1, max_length=256, pattern=r"^[^:\x00-\x1f]+$")
    """The user name, exactly as it is sent; a domain in front of it is a part of it. No colon."""
    password: Annotated[str, AfterValidator(secret_reference)]
    """`file:PATH` or `env:NAME`; at least 12 characters."""
    not_after: AwareDatetime | None = None
    """When it is last let in, with a UTC offset."""


class HeaderOptions(BaseModel):
    """Somebody who shows a header of his own."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    label: str = Field(min_length=1, max_length=64)
    """What log and audit call the account, and its secrets."""
    name: str = Field(pattern=_HEADER_NAME)
    """The header's name, such as X-API-Key."""
    value: Annotated[str, AfterValidator(secret_reference)]
    """`file:PATH` or `env:NAME`; at least 12 characters."""


class CertificateOptions(BaseModel):
    """Somebody who shows a TLS client certificate to the proxy in front."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    label: str = Field(min_length=1, max_length=64)
    """What log and audit call the account, and its secrets."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the certificate, DER: 64 small hexadecimal digits."""


class DoorOptions(BaseModel):
    """Who is let in."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    accounts: tuple[AccountOptions, ...] = ()
    """Who is known by user name and password."""
    certificates: tuple[CertificateOptions, ...] = ()
    """Who is known by a client certificate. The proxy in front asks for it and hands it on; scep-ra itself asks no client
    for one."""
    certificate_header: str = Field(default="Client-Cert", pattern=_HEADER_NAME)
    """The header in which the proxy hands it on: as RFC 9440 has it, as base64 of the DER, or as PEM that is URL-encoded
    (nginx's `$ssl_client_escaped_cert`). The proxy must remove the header from what clients send."""
    proxies: tuple[IPvAnyNetwork, ...] = ()
    """The addresses from which that header is believed, such as "10.0.0.5/32", and X-Forwarded-For beside: without them,
    everybody behind a proxy has one address, and one who guesses passwords keeps all others out."""
    needs: Literal["any", "both"] = "any"
    """Whether password and certificate are two ways in, or both are needed."""

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.certificates and not self.proxies:
            raise ValueError("certificates need proxies: a header is believed from a known proxy alone")
        if self.needs == "both" and not (self.accounts and self.certificates):
            raise ValueError('needs = "both" wants accounts and certificates')
        if not self.ways:
            raise ValueError("nobody could be let in: write accounts, or certificates")
        return self

    @property
    def ways(self) -> int:
        """How many are known, whichever way."""
        return len(self.accounts) + len(self.certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Who was let in; one who is known and may have nothing is `barred`. `address` is where he asks from."""

    label: str
    barred: bool = False
    address: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One way in: what it is compared with is a digest, so that all are of one length."""

    label: str
    digest: bytes = field(repr=False)
    header: str
    not_after: datetime | None = None


class Throttle:
    """Counts what went wrong, by address."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._failures: OrderedDict[str, list[datetime]] = OrderedDict()

    def is_over(self, peer: str) -> bool:
        since = self._now() - FAILURES_WITHIN
        recent = [each for each in self._failures.get(peer, ()) if each > since]
        return len(recent) >= FAILURES

    def failed(self, peer: str) -> None:
        self._failures[peer] = [*self._failures.pop(peer, ()), self._now()][-FAILURES:]
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


class Door:
    """Lets in who shows what the options name."""

    def __init__(self, options: DoorOptions, headers: Sequence[HeaderOptions], services: Services) -> None:
        """Reads the passwords.

        Raises:
            Misconfigured: one is too short, or two cannot be told apart.
        """
        self._options = options
        self._now = services.now
        self._throttle = Throttle(services.now)
        self._passwords = (*_basic(options.accounts, services), *_headers(headers, services))
        self._header_names = {each.header for each in self._passwords} - {_BASIC}
        self._certificates = {each.sha256: each.label for each in options.certificates}
        _insist_on_difference([*(each.label for each in self._passwords), *self._certificates.values()])

    def open(self, request: PageRequest) -> Admitted | PageAnswer:
        """Who is asking, or what a stranger is told."""
        address = self._address_of(request)
        if self._throttle.is_over(address):
            wait = ("Retry-After", f"{FAILURES_WITHIN.total_seconds():.0f}")
            return say(429, "Too many wrong credentials from this address; try again later.", "throttled", wait)
        admitted = self._admitted(request)
        return replace(admitted, address=address) if admitted else self._stranger(address)

    def _admitted(self, request: PageRequest) -> Admitted | None:
        by_password, by_certificate = self._by_password(request), self._by_certificate(request)
        if self._options.needs == "any":
            return by_certificate or by_password
        return by_password and replace(by_password, barred=by_password.barred or by_certificate is None)

    def _stranger(self, address: str) -> PageAnswer:
        self._throttle.failed(address)
        offered = ("WWW-Authenticate", 'Basic realm="scep-ra", charset="UTF-8"')
        return say(401, "This page needs credentials.", "unauthorised", *[offered] * bool(self._options.accounts))

    def _by_password(self, request: PageRequest) -> Admitted | None:
        shown = {
            name: _digest((request.header(name) or "").encode("latin-1", "replace")) for name in self._header_names
        }
        shown[_BASIC] = _digest(_read_basic(request.header("authorization")))
        matches = [each for each in self._passwords if hmac.compare_digest(each.digest, shown[each.header])]
        if not matches:
            return None
        over = matches[0].not_after is not None and self._now() > matches[0].not_after
        return Admitted(label=matches[0].label, barred=over)

    def _by_certificate(self, request: PageRequest) -> Admitted | None:
        if not self._certificates or not self._is_proxy(request.peer):
            return None
        value = request.header(self._options.certificate_header.lower())
        label = self._certificates.get(_fingerprint(value)) if value else None
        return Admitted(label=label) if label else None

    def _address_of(self, request: PageRequest) -> str:
        """Where a request comes from: behind known proxies, the last address that is none of theirs."""
        if not self._is_proxy(request.peer):
            return request.peer
        named = ",".join(value for name, value in request.headers if name == "x-forwarded-for").split(",")
        before = next((each for each in map(str.strip, reversed(named)) if not self._is_proxy(each)), "")
        try:
            return str(ip_address(before))
        except ValueError:
            return request.peer

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._options.proxies)


_BASIC = "basic credentials"
"""In place of a header's name, which has no space in it."""


def _basic(accounts: Iterable[AccountOptions], services: Services) -> list[Credential]:
    return [
        Credential(
            label=each.label,
            digest=_digest(f"{each.user}:{_password(each.password, each.label, services)}".encode()),
            header=_BASIC,
            not_after=each.not_after,
        )
        for each in accounts
    ]


def _headers(headers: Iterable[HeaderOptions], services: Services) -> list[Credential]:
    return [
        Credential(
            label=each.label,
            digest=_digest(_ascii(_password(each.value, each.label, services), each.label)),
            header=each.name.lower(),
        )
        for each in headers
    ]


def _password(reference: str, label: str, services: Services) -> str:
    password = services.read_secret(reference).reveal().removesuffix("\n").removesuffix("\r")
    if len(password) < MIN_PASSWORD:
        raise Misconfigured(f"account {label!r}: at least {MIN_PASSWORD} characters are needed")
    return password


def _ascii(value: str, label: str) -> bytes:
    """What a header can carry."""
    if not value.isascii():
        raise Misconfigured(f"account {label!r}: a header can carry nothing but ASCII")
    return value.encode()


def _insist_on_difference(labels: Sequence[str]) -> None:
    if len(labels) != len(set(labels)):
        raise Misconfigured("two accounts have the same label")


def _read_basic(header: str | None) -> bytes:
    """`user:password` as it was sent (RFC 7617 §2); empty where there is none."""
    scheme, _, credentials = (header or "").partition(" ")
    try:
        return b64decode(credentials.strip(), validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        return b""


def _fingerprint(value: str) -> str:
    """SHA-256 of the certificate in a proxy's header; empty where there is none to be read."""
    if len(value) > MAX_CERTIFICATE_CHARACTERS:
        return ""
    plain = unquote_to_bytes(value.replace("\t", "\n"))
    try:
        if plain.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(plain).fingerprint(SHA256()).hex()
        return hashlib.sha256(b64decode(value.strip().strip(":"), validate=True)).hexdigest()
    except ValueError:
        return ""


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
