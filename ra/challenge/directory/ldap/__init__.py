"""Accounts in a directory that speaks LDAP: Active Directory, OpenLDAP and their like. What is asked, and what it means."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.api import AuthFailed, BackendUnavailable, Misconfigured, ProtocolViolation
from connectors.transport import SecretReference
from ra.challenge.api import Services
from ra.challenge.directory.ldap import filters
from ra.challenge.directory.ldap.connection import Address, opened
from ra.challenge.directory.ldap.messages import Entry, Result, SearchRequest
from ra.challenge.directory.records import Device
from ra.policy.sid import binary_sid, is_sid

PORTS = {"ldaps": 636, "ldap": 389}

_URL = re.compile(r"ldaps?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,4}|:[1-5][0-9]{4}|:6[0-5][0-9]{3})?/?")
_NUMBER = re.compile(r"-?[0-9]{1,20}")

_OK, _SIZE_LIMIT = 0, 4
_REFUSED = frozenset({7, 8, 13, 48, 49, 50})
"""How we may not ask: method, strength and secrecy of the bind, credentials, rights (RFC 4511 §A.2)."""
_NOT_SO = frozenset({10, 16, 17, 18, 21, 32, 34})
"""What we ask is not to be had here: a referral, an attribute or a match unknown, no such object, no such name."""


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("is no URL like ldaps://dc1.example.org or ldap://dc1.example.org:389")
    return value


def _template(value: str) -> str:
    if not filters.parse(value).names():
        raise ValueError("names nothing of the request: it has a {value} somewhere, or another name in braces")
    return value


class LdapSource(BaseModel):
    """Accounts of Active Directory, or entries of any other LDAP directory; always over TLS."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    kind: Literal["ldap"]
    """The directory."""
    urls: tuple[Annotated[str, AfterValidator(_url)], ...] = Field(min_length=1, max_length=8)
    """Its servers, like `ldaps://dc1.example.org`; the next is asked where one does not answer. With `ldap://`, StartTLS
    comes before all else."""
    ca_file: Path | None = None
    """PEM: the CAs that the servers' TLS certificates may come from; the system's own where nothing is said."""
    bind_dn: str = Field(min_length=1, max_length=1000)
    """Whom we bind as: a DN; in Active Directory `user@example.org` too."""
    password: SecretReference
    """`file:PATH` or `env:NAME`."""
    base_dn: str = Field(max_length=1000)
    """Below which entry is looked, all the way down, like `DC=example,DC=org`."""
    filter: Annotated[str, AfterValidator(_template), Field(max_length=4000)]
    """Which entry it is (RFC 4515): `{value}` is what `name` and `pattern` take from the request, `{dns}`, `{upn}`,
    `{CN}` are names of the request that it asks for once. What is put in can mean nothing to the filter."""
    enabled_attribute: str | None = "userAccountControl"
    """Which attribute says that an account is enabled."""
    disabled_bits: Annotated[int, Field(ge=0, lt=1 << 32)] = 2
    """An account is disabled where that attribute, a number, has one of these bits. Active Directory: 2."""
    enabled_values: tuple[str, ...] = ()
    """Where set, an account is enabled when the attribute is one of these words, and `disabled_bits` means nothing."""
    enabled_if_absent: bool = False
    """Whether an account without that attribute is enabled."""
    sid_attribute: str | None = "objectSid"
    """Which attribute holds the account's SID, binary or as text; its absence from an entry is no fault."""
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 3.0
    """For the connection and the TLS handshake with one server."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 8.0
    """For a whole look-up, whatever servers are asked."""
    max_connections: Annotated[int, Field(ge=1, le=256)] = 8
    """At the same time; what is more waits."""

    def address(self, url: str) -> Address:
        parts = urlsplit(url)
        return Address(
            host=parts.hostname or "", port=parts.port or PORTS[parts.scheme], starts_plain=parts.scheme == "ldap"
        )

    def attributes(self) -> tuple[str, ...]:
        """What is asked for of an entry; `1.1` is nothing (RFC 4511 §4.5.1.8)."""
        return tuple(each for each in (self.enabled_attribute, self.sid_attribute) if each) or ("1.1",)


class LdapDirectory:
    """One directory. Every look-up has a connection of its own, so that none is stale."""

    def __init__(self, source: LdapSource, services: Services) -> None:
        """Reads the CA file.

        Raises:
            connectors.api.Misconfigured: it cannot be read.
        """
        self._source = source
        self._services = services
        self._filter = filters.parse(source.filter)
        self._places = asyncio.Semaphore(source.max_connections)
        ca_file = services.directory / source.ca_file if source.ca_file else None
        try:
            self._tls = ssl.create_default_context(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise Misconfigured(f"ca_file: {ca_file} cannot be read as PEM certificates: {error}") from error
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2

    def __repr__(self) -> str:
        return f"LdapDirectory({', '.join(self._source.urls)})"

    @property
    def names(self) -> frozenset[str]:
        """The names that a look-up needs."""
        return self._filter.names()

    async def find(self, names: Mapping[str, str]) -> tuple[Device, ...]:
        source = self._source
        request = SearchRequest(
            base_dn=source.base_dn,
            filter=self._filter.encode(names),
            attributes=source.attributes(),
            most=2,
            seconds=int(source.timeout_seconds) + 1,
        )
        try:
            async with asyncio.timeout(source.timeout_seconds), self._places:
                entries = await self._search(request)
        except TimeoutError:
            detail = f"{self._services.name}: no directory answered within {source.timeout_seconds:g} s"
            raise BackendUnavailable(detail, maybe_issued=False, settings=("urls",)) from None
        return tuple(map(self._device, entries))

    async def _search(self, request: SearchRequest) -> tuple[Entry, ...]:
        """Of the first server that answers."""
        away: list[str] = []
        for url in self._source.urls:
            try:
                return await self._search_at(url, request)
            except BackendUnavailable as error:
                away.append(f"{url}: {error}")
        raise BackendUnavailable(
            f"{self._services.name}: {'; '.join(away)}", maybe_issued=False, settings=("urls", "ca_file")
        )

    async def _search_at(self, url: str, request: SearchRequest) -> tuple[Entry, ...]:
        source = self._source
        password = self._services.read_secret(source.password).reveal().rstrip("\r\n")
        if not password:  # RFC 4513 §5.1.2: a server may take it for an anonymous bind, and say yes
            raise Misconfigured("password: it is empty", settings=("password",))
        seconds = source.connect_timeout_seconds
        async with opened(source.address(url), tls=self._tls, seconds=seconds) as connection:
            self._insist(url, "bind", await connection.bind(source.bind_dn, password))
            entries, result = await connection.search(request)
        if result.code == _SIZE_LIMIT and len(entries) >= request.most:
            return entries  # it is not the only one, which is all there is to know
        self._insist(url, "search", result)
        return entries

    def _insist(self, url: str, what: str, result: Result) -> None:
        """Nothing but success is an answer."""
        if result.code == _OK:
            return
        detail = f"{url} answered the {what} with {result.code} {result.text[:200]!a}"
        if result.code in _REFUSED:
            raise AuthFailed(detail, settings=("bind_dn", "password"))
        if result.code in _NOT_SO:
            raise Misconfigured(detail, settings=("base_dn", "filter"))
        raise BackendUnavailable(detail, maybe_issued=False)

    def _device(self, entry: Entry) -> Device:
        return Device(id=entry.dn, name="", is_enabled=self._is_enabled(entry), is_compliant=None, sid=self._sid(entry))

    def _is_enabled(self, entry: Entry) -> bool | None:
        source = self._source
        if source.enabled_attribute is None:
            return None
        values = [each.decode("utf-8", "replace") for each in entry.values(source.enabled_attribute)]
        if not values:
            return source.enabled_if_absent
        if source.enabled_values:
            wanted = {each.casefold() for each in source.enabled_values}
            return all(each.casefold() in wanted for each in values)
        return all(_NUMBER.fullmatch(each) and not int(each) & source.disabled_bits for each in values)

    def _sid(self, entry: Entry) -> str | None:
        """An unreadable SID is none that could be left out: the account has one, and it is not known.

        Raises:
            ProtocolViolation: it does not read, or there are several.
        """
        values = entry.values(self._source.sid_attribute) if self._source.sid_attribute else ()
        if not values:
            return None
        text = values[0].decode("ascii", "replace")
        sid = text if is_sid(text) else binary_sid(values[0])
        if sid is None or len(values) > 1:
            raise ProtocolViolation(f"{self._source.sid_attribute} of {entry.dn[:200]!a} is not one SID")
        return sid

    async def aclose(self) -> None:
        """Nothing is held open."""
