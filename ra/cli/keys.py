"""`scep-ra keys`: how the RA's own keys and certificates stand; has one that is managed followed, or forgotten."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.identities import load_identities
from ra.bootstrap.journal import opened
from ra.cli.opened import local_user
from ra.cli.output import DEFAULT_CONFIG, FAILED, AsJson, ConfigPath, complain, printable, show, table
from ra.errors import Misconfigured
from ra.service.rotation import Phase, Rotation, Standing
from ra.settings.load import Configuration, load

command = typer.Typer(no_args_is_help=True)

LOOK_SECONDS = 0.5

Name = Annotated[
    str | None,
    typer.Argument(metavar="IDENTITY", help="Its name in the configuration; left out: the one that is managed."),
]
_COLUMNS = ("identity", "kind", "phase", "serial", "not_after", "until", "detail")
_BY_HAND = (
    "it is not managed: make a key, in a file or a token, and have its certificate issued; name both in a new table of "
    "[identities], and that first in the profile's identities, the old one after it; run `scep-ra check-config`, send "
    "SIGHUP. Or write managed = {} in the new table, and it is kept for you"
)


@command.command()
def status(config: ConfigPath = DEFAULT_CONFIG, *, as_json: AsJson = False) -> None:
    """Say which certificates are shown, which still open requests, and which are to come.

    Exit code 1 where an identity shows nothing that is valid now.
    """
    configuration, now = load(config), SystemClock().now()
    rows = [*_of_files(configuration), *asyncio.run(_of_managed(configuration))]
    value = {"identities": rows, "ok": all(_is_well(name, rows, now) for name in configuration.settings.identities)}
    show(value, table(_COLUMNS, rows), as_json=as_json)
    if not value["ok"]:
        raise typer.Exit(FAILED)


@command.command()
def rotate(
    identity: Name = None,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    wait: Annotated[
        int, typer.Option("--wait", min=0, max=86400, help="Seconds to wait until the new certificate is shown.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Have a managed identity followed by a new key and certificate, which a running scep-ra obtains and then shows.

    Requests that are sealed to the old one are opened until it ends, or as long as overlap_days says.
    """
    configuration = load(config)
    name = _managed_name(configuration, identity)
    standing = asyncio.run(_rotate(configuration, name, wait))
    row = _row(name, standing)
    show(row, _told(name, standing), as_json=as_json)
    if wait and standing.phase is not Phase.SHOWN:
        raise typer.Exit(complain(f"it is not shown after {wait} seconds", FAILED, as_json=as_json))


@command.command()
def forget(
    serial: Annotated[str, typer.Argument(metavar="SERIAL", help="Of its certificate, hex, as `keys status` has it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    identity: Annotated[str | None, typer.Option("--identity", help="Which of [identities].")] = None,
    as_json: AsJson = False,
) -> None:
    """Remove a key that is not shown any more before its time, because somebody else may have it."""
    configuration = load(config)
    name = _managed_name(configuration, identity)
    try:
        number = int(serial.replace(":", ""), 16)
    except ValueError:
        raise typer.BadParameter("write hexadecimal digits", param_hint="SERIAL") from None

    async def work() -> None:
        async with opened(configuration) as (journal, key):
            rotation = Rotation(journal=journal, key=key, clock=SystemClock(), entropy=os.urandom)
            await rotation.forget(name, number, local_user())

    asyncio.run(work())
    show({"identity": name, "forgotten": f"{number:x}"}, f"{name}: {number:x} opens nothing any more", as_json=as_json)


async def _rotate(configuration: Configuration, name: str, wait: int) -> Standing:
    managed = configuration.settings.identities[name].managed
    if managed is None:
        raise Misconfigured(f"identities.{name}: {_BY_HAND}")
    clock = SystemClock()
    async with opened(configuration) as (journal, key):
        rotation = Rotation(journal=journal, key=key, clock=clock, entropy=os.urandom)
        made = await rotation.rotate(name, managed.key, local_user())
        looks = 0
        while True:
            standing = next(each for each in await rotation.standings(name) if each.key.id == made.id)
            if standing.phase is Phase.SHOWN or looks * LOOK_SECONDS >= wait:
                return standing
            await clock.sleep(LOOK_SECONDS)
            looks += 1


def _managed_name(configuration: Configuration, name: str | None) -> str:
    """The one that is meant.

    Raises:
        Misconfigured: it is none that is managed; the message says what to do by hand.
    """
    settings = configuration.settings.identities
    managed = [each for each, options in settings.items() if options.managed is not None]
    if name is None:
        if len(managed) == 1:
            return managed[0]
        if not managed:
            raise Misconfigured(f"no identity is managed. Of {', '.join(settings)}: {_BY_HAND}")
        raise Misconfigured(f"several identities are managed: name one of {', '.join(managed)}")
    if name not in settings:
        raise Misconfigured(f"there is no identity {name!r}: [identities] has {', '.join(settings)}")
    if name not in managed:
        raise Misconfigured(f"identities.{name}: {_BY_HAND}")
    return name


def _of_files(configuration: Configuration) -> Iterator[dict[str, Any]]:
    """A profile shows the first of its identities, and opens with the others what is still sealed to them."""
    shown = {each.identities[0] for each in configuration.endpoints.values() if each.identities}
    for name, identity in load_identities(configuration).items():
        kind = "pkcs11" if configuration.settings.identities[name].pkcs11 else "files"
        for der in identity.certificates:
            certificate = x509.load_der_x509_certificate(der)
            yield _described(name, kind, Phase.SHOWN if name in shown else Phase.PREVIOUS, certificate)


async def _of_managed(configuration: Configuration) -> list[dict[str, Any]]:
    names = [name for name, each in configuration.settings.identities.items() if each.managed is not None]
    if not names:
        return []
    async with opened(configuration) as (journal, key):
        rotation = Rotation(journal=journal, key=key, clock=SystemClock(), entropy=os.urandom)
        return [_row(name, each) for name in names for each in await rotation.standings(name)]


def _row(name: str, standing: Standing) -> dict[str, Any]:
    row = _described(name, "managed", standing.phase, standing.certificate)
    key = standing.key
    return row | {
        "shown_at": _time(key.shown_at),
        "until": _time(key.forget_at),
        "due_at": _time(key.due_at),
        "detail": printable(key.detail) if key.detail else None,
    }


def _described(name: str, kind: str, phase: Phase, certificate: x509.Certificate | None) -> dict[str, Any]:
    return {
        "identity": name,
        "kind": kind,
        "phase": phase.value,
        "serial": f"{certificate.serial_number:x}" if certificate else None,
        "sha256": certificate.fingerprint(SHA256()).hex() if certificate else None,
        "not_before": _time(certificate.not_valid_before_utc) if certificate else None,
        "not_after": _time(certificate.not_valid_after_utc) if certificate else None,
        "shown_at": None,
        "until": None,
        "due_at": None,
        "detail": None,
    }


def _is_well(name: str, rows: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    valid = [
        datetime.fromisoformat(each["not_before"]) <= now < datetime.fromisoformat(each["not_after"])
        for each in rows
        if each["identity"] == name and each["phase"] == Phase.SHOWN.value
    ]
    return bool(valid) and all(valid)


def _told(name: str, standing: Standing) -> str:
    if standing.certificate is None:
        return f"{name}: a new key is made; a running scep-ra obtains its certificate. See `scep-ra keys status`."
    return (
        f"{name}: {standing.certificate.serial_number:x} is {standing.phase.value}, from {_time(standing.key.shown_at)}"
    )


def _time(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None
