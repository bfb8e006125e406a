"""A list of the devices that there are: what asks for names of a device that is not on it is refused.

```toml
[challenges.inventory]
type = "inventory"
source = { url = "https://inventory.example.org/devices.csv", token = "file:inventory.token" }
columns = { CN = "hostname", serialNumber = "serial" }
only = { state = "active" }
attributes = ["owner"]
refresh_minutes = 15
stale_hours = 24
```

The list is CSV (UTF-8) with the names of its columns in the first line, from a URL or a `file`. Each name in `columns`
must be asked for exactly once, and all of them must stand in one row. Names are those of `otp`: attributes of the subject
(`CN`, `serialNumber`, `O` …) and kinds of subject alternative names (`dns`, `email`, `upn`, `uri`, `ip`).

Whoever knows a name that is on the list could ask for it: the inventory knows no secret, and has to stand in an `all_of`
beside a challenge that does.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.api import ConnectorError, ProtocolViolation, SanKind, Secret, secret_reference
from connectors.api import Misconfigured as Unusable
from connectors.transport import Call, Effect, Transport, TransportOptions
from ra.challenge.api import Attempt, Deny, Services, Verdict
from ra.challenge.fetched import Fetched
from ra.challenge.one_time import SID_KIND, names_asked
from ra.challenge.remote import below, open_transport, unavailable
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from ra.scep.words import RDN_ATTRIBUTES

MAX_ROWS = 1_000_000
MAX_BYTES = 128 * 1024 * 1024
MAX_ATTRIBUTE_CHARACTERS = 200

Row = Mapping[str, str]


class FileSource(BaseModel):
    """A list in a file, which is read again when its time is over."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    file: Path
    """CSV, beside the configuration file where the path is relative."""


class UrlSource(TransportOptions):
    """A list at a URL."""

    token: Annotated[str, AfterValidator(secret_reference)] | None = None
    """`file:PATH` or `env:NAME`: a bearer token."""
    max_response_bytes: int = Field(default=16 * 1024 * 1024, ge=4096, le=MAX_BYTES)
    """A longer list is refused."""


_KINDS = (*SanKind, SID_KIND)


def _name(word: str) -> str:
    if word in {*RDN_ATTRIBUTES.values(), *_KINDS}:
        return word
    if word in RDN_ATTRIBUTES:
        raise ValueError(f"{word} is written {RDN_ATTRIBUTES[word]} here")
    if not re.fullmatch(r"[0-2](\.[0-9]+)+", word):
        known = ", ".join([*RDN_ATTRIBUTES.values(), *_KINDS])
        raise ValueError(f"{word!r} is no name that a request asks for: write a dotted OID or one of {known}")
    return word


class Options(BaseModel):
    """The block of an inventory."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: UrlSource | FileSource
    """Where the list is: `{ file = "devices.csv" }`, or `{ url = "https://…" }` with what a connector's url takes beside."""
    columns: dict[Annotated[str, AfterValidator(_name)], str] = Field(min_length=1)
    """Names of a request, and the columns in which they must stand, all in one row."""
    only: dict[str, str] = {}
    """Columns and what they must say for a row to count."""
    attributes: tuple[str, ...] = ()
    """Columns that go into the audit."""
    ignore_case: bool = True
    """Whether upper and lower case do not count."""
    on_renewal: bool = True
    """Whether a certificate of ours must not stand in for it: then a renewal is asked about too, and needs every challenge
    of the profile. Switch it off beside one-time secrets, which no renewal can present again."""
    refresh_minutes: int = Field(default=15, ge=1, le=1440)
    """After so long the list is read again."""
    stale_hours: int = Field(default=24, ge=1, le=720)
    """For so long, from when it was read, a list is used when no newer one can be had."""


@dataclass(frozen=True, slots=True)
class DeviceList:
    """The rows that count, by what stands in the first column that is looked at."""

    rows: Mapping[str, tuple[Row, ...]] = field(repr=False)

    def find(self, wanted: Mapping[str, str], key: str, spelt: Callable[[str], str]) -> Row | None:
        """The row in which every wanted column says what is wanted."""
        for row in self.rows.get(spelt(wanted[key]), ()):
            if all(spelt(row[column]) == spelt(value) for column, value in wanted.items()):
                return row
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Grants what asks for names of a device on the list."""

    knows_secrets: ClassVar[bool] = False

    options: Options
    services: Services = field(repr=False)
    devices: Fetched[DeviceList] = field(repr=False)
    transport: Transport | None

    @property
    def demands_challenge_on_renewal(self) -> bool:
        return self.options.on_renewal

    async def check(self, attempt: Attempt) -> Verdict:
        wanted: dict[str, str] = {}
        asked = names_asked(attempt.csr)
        for name, column in self.options.columns.items():
            values = [each[len(name) + 1 :] for each in asked if each.startswith((f"{name}=", f"{name}:"))]
            if len(values) != 1:
                return Deny(detail=f"{name} is asked for {len(values)} times; the inventory wants it once")
            if wanted.setdefault(column, values[0]) != values[0]:
                return Deny(detail=f"two names that the inventory has in one column differ: {name}")
        try:
            devices = await self.devices.get()
        except ConnectorError as error:
            return unavailable(error)
        row = devices.find(wanted, _key(self.options), self._spelt)
        if row is None:
            return Deny(detail=f"the inventory has no device with {_shown(wanted)}")
        attributes = {each: row[each][:MAX_ATTRIBUTE_CHARACTERS] for each in self.options.attributes}
        return Grant(method=self.services.name, label="on the list", attributes=attributes)

    async def reach(self) -> str:
        """Reads the list, or has it already."""
        with below("source"):
            devices = await self.devices.get()
        return f"the list of devices can be had: {sum(map(len, devices.rows.values()))} of its rows count"

    def _spelt(self, value: str) -> str:
        return spelling(self.options)(value)

    async def aclose(self) -> None:
        if self.transport is not None:
            await self.transport.aclose()


async def connect(options: Options, services: Services) -> Inventory:
    """Reads a list in a file, so that a wrong one stops the start; one at a URL is read when it is first needed.

    Raises:
        Misconfigured: the file cannot be read, or has not the columns.
    """
    transport = _transport_to(options.source, services) if isinstance(options.source, UrlSource) else None
    devices = Fetched(
        fetch=_fetching(options, services, transport),
        now=services.now,
        fresh=timedelta(minutes=options.refresh_minutes),
        stale=timedelta(hours=options.stale_hours),
        on_stale=lambda error: services.report(f"the list of devices is used on although it is old: {error}"),
    )
    if transport is None:
        try:
            await devices.get()
        except ConnectorError as error:
            raise Misconfigured(str(error)) from error
    return Inventory(options=options, services=services, devices=devices, transport=transport)


def _transport_to(source: UrlSource, services: Services) -> Transport:
    return open_transport(source, services, credentials=("token" if source.token else "url",))


def spelling(options: Options) -> Callable[[str], str]:
    """How two values are made comparable."""
    return (lambda value: value.strip().casefold()) if options.ignore_case else str.strip


def separator_hint(columns: Sequence[str] | None) -> str:
    """What to say of a first line that a spreadsheet has written in the manner of its country."""
    if not any(";" in each for each in columns or ()):
        return ""
    return ": they are separated by semicolons; save it with commas"


def read_list(text: str, options: Options) -> DeviceList:
    """The rows that count.

    Raises:
        ConnectorError: it is no CSV with the columns that are needed.
    """
    lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    needed = {*options.columns.values(), *options.only, *options.attributes}
    try:
        if missing := needed - set(lines.fieldnames or ()):
            hint = separator_hint(lines.fieldnames)
            raise ProtocolViolation(f"the list of devices has no column {', '.join(sorted(missing))}{hint}")
        return DeviceList(_by_key(lines, options))
    except csv.Error as error:
        raise ProtocolViolation(f"the list of devices, line {lines.line_num}: {error}") from None


def _by_key(lines: Iterable[Row], options: Options) -> dict[str, tuple[Row, ...]]:
    spelt, key = spelling(options), _key(options)
    found: dict[str, list[Row]] = {}
    for number, line in enumerate(lines):
        if number >= MAX_ROWS:
            raise ProtocolViolation(f"the list of devices has more than {MAX_ROWS} rows")
        row = {name: value or "" for name, value in line.items() if name}
        # A cell that is empty would match a name that is empty: such a row names no device.
        counts = all(spelt(row[column]) == spelt(value) for column, value in options.only.items())
        if counts and all(row[column].strip() for column in options.columns.values()):
            found.setdefault(spelt(row[key]), []).append(row)
    return {value: tuple(rows) for value, rows in found.items()}


def _fetching(options: Options, services: Services, transport: Transport | None) -> Callable[[], Awaitable[DeviceList]]:
    source = options.source

    async def read_file() -> bytes:
        assert isinstance(source, FileSource)  # noqa: S101 - for the type checker
        path = services.directory / source.file
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror or error}") from error

    async def read_url() -> bytes:
        assert isinstance(source, UrlSource)  # noqa: S101
        assert transport is not None  # noqa: S101
        headers: dict[str, str | Secret] = {"Accept": "text/csv"}
        if source.token is not None:
            headers["Authorization"] = Secret(f"Bearer {services.read_secret(source.token).reveal().strip()}")
        call = Call(operation="list", effect=Effect.REPEATABLE, url=source.url, headers=headers, settings=("url",))
        return (await transport.call(call)).body

    async def fetch() -> DeviceList:
        raw = await (read_url() if transport is not None else read_file())
        if len(raw) > MAX_BYTES:
            raise ProtocolViolation(f"the list of devices is longer than {MAX_BYTES} bytes")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ProtocolViolation("the list of devices is no UTF-8") from None
        return await asyncio.to_thread(read_list, text, options)

    return fetch


def _key(options: Options) -> str:
    """The column that rows are looked up by."""
    return next(iter(options.columns.values()))


def _shown(wanted: Mapping[str, str]) -> str:
    """For a log: escaped, and cut."""
    return ascii(", ".join(f"{column} {value}" for column, value in wanted.items())[:200])
