"""`scep-ra audit …`: finds what was changed in the audit, and hands it on to others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from ra.bootstrap.journal import journal_place
from ra.cli.output import DEFAULT_CONFIG, FAILED, AsJson, ConfigPath, counted, show
from ra.errors import Misconfigured
from ra.journal.audit import EPOCH, Event, stream
from ra.journal.checkpoints import Stored, newest
from ra.journal.export import (
    read_checkpoint,
    read_public_key,
    stream_sealed,
    write_checkpoint,
    write_json,
    write_syslog,
)
from ra.journal.migrations import insist_on_head
from ra.journal.sealing import JournalKey
from ra.journal.verify import Report
from ra.journal.verify import verify as verify_audit
from ra.settings.load import load
from ra.settings.sources import read_secret

command = typer.Typer(no_args_is_help=True)


class Format(StrEnum):
    """How an event is written."""

    JSON = "json"
    SYSLOG = "syslog"


_WRITERS: dict[Format, Callable[[Event], str]] = {Format.JSON: write_json, Format.SYSLOG: write_syslog}


@command.command()
def verify(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="One that was exported: tells whether the end was cut off.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="PEM: in place of the one that belongs to the journal's key.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what was changed, removed or put in. Says up to which checkpoint nothing was."""
    exported = read_checkpoint(_read(checkpoint).decode("utf-8", "replace")) if checkpoint else None
    given = read_public_key(_read(public_key)) if public_key else None

    with _snapshot(config) as (connection, own):
        report = verify_audit(connection, given or own, exported)
    show(_as_value(report), _as_text(report), as_json=as_json)
    if report.broken:
        raise typer.Exit(FAILED)


def _read(path: Path) -> bytes:
    """A file that was named; that it cannot be read says nothing of the audit."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from None


@command.command()
def export(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    style: Annotated[Format, typer.Option("--format", help="JSON lines, or messages of RFC 5424.")] = Format.JSON,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="From this time on.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this time.")] = None,
    after: Annotated[
        int | None,
        typer.Option("--after", min=0, help="What later checkpoints seal: the number the last export ended with."),
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="The last checkpoint alone, to be kept elsewhere.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write events to standard output, a line each; how many there were goes to standard error."""
    if after is not None and (since or until):
        raise typer.BadParameter("--after goes with neither --since nor --until")
    earliest, latest = _time(since) if since else EPOCH, _time(until) if until else None

    with _snapshot(config) as (connection, key):
        last = newest(connection)
        if checkpoints:
            typer.echo(json.dumps(write_checkpoint(_insist(last), key)))
            return
        if after is None:
            events = stream(connection, since=earliest, until=latest)
        else:
            events = stream_sealed(connection, after, _insist(last, max(after, 1)).number)
        written = _print(events, _WRITERS[style])
    value = {"events": written, "checkpoint": last.number if last else 0}
    text = f"{value['events']} events; the last checkpoint is {value['checkpoint']}"
    typer.echo(json.dumps(value) if as_json else text, file=sys.stderr)


@contextmanager
def _snapshot(config: Path) -> Iterator[tuple[Connection, Ed25519PublicKey]]:
    """The journal as it is at one moment, while `serve` may run beside; and what its checkpoints are checked with."""
    configuration = load(config)
    database, here = configuration.settings.database, configuration.directory
    key = JournalKey.read(read_secret(database.key, here)).checkpoint_signer.public_key()
    with journal_place(configuration).snapshot() as connection:
        insist_on_head(connection)
        yield connection, key


def _insist(last: Stored | None, number: int = 1) -> Stored:
    if last is None or last.number < number:
        raise Misconfigured(
            f"there is no checkpoint {number} yet; `serve` makes one every minute in which there is something new"
        )
    return last


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("write a time as 2026-11-23 or 2026-11-23T12:00:00+01:00") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _print(events: Iterable[Event], write: Callable[[Event], str]) -> int:
    count = 0
    for event in events:
        sys.stdout.write(write(event) + "\n")
        count += 1
    sys.stdout.flush()
    return count


def _as_value(report: Report) -> dict[str, Any]:
    return {
        "ok": report.broken == 0,
        "events": report.events,
        "chains": report.chains,
        "checkpoints": report.checkpoints,
        "sealed_by": report.sealed_by,
        "sealed_at": report.sealed_at.isoformat() if report.sealed_at else None,
        "kept_since": report.kept_since,
        "unsealed": report.unsealed,
        "broken": report.broken,
        "breaks": [
            {
                "chain": str(each.chain) if each.chain else None,
                "number": each.number,
                "checkpoint": each.checkpoint,
                "what": each.what,
            }
            for each in report.breaks
        ],
    }


def _as_text(report: Report) -> str:
    sealed = (
        f"Checkpoint {report.sealed_by} of {report.sealed_at:%Y-%m-%d %H:%M:%S} UTC seals all before it"
        if report.sealed_by is not None
        else "No checkpoint seals anything for certain"
    )
    found = f"{counted(report.broken, 'thing is', 'things are')} wrong" if report.broken else "nothing is wrong"
    more = [f"… and {report.broken - len(report.breaks)} more"] if report.broken > len(report.breaks) else []
    events, chains = counted(report.events, "event", "events"), counted(report.chains, "chain", "chains")
    checkpoints = counted(report.checkpoints, "checkpoint", "checkpoints")
    return "\n".join(
        [
            *map(str, report.breaks),
            *more,
            f"{events} in {chains}, {checkpoints}: {found}.",
            f"{sealed}; {counted(report.unsealed, 'event is', 'events are')} not sealed yet.",
        ]
    )
