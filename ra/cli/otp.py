"""`scep-ra otp …`: one-time secrets. What `create` prints is seen this once: only a digest of a secret is kept."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import Progress

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.journal import opened
from ra.bootstrap.plugins import one_time_offers
from ra.challenge.inventory import separator_hint
from ra.cli.opened import local_user
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show, table
from ra.cli.signing import insist_on_profile, sign_all
from ra.errors import Misconfigured
from ra.journal.one_time import Selection, state_of
from ra.journal.records import OneTimeSecret
from ra.service.mint import BadName, Mint, Minted, NotOffered, Terms, Wish, choose, read_names
from ra.settings.load import Configuration, load

command = typer.Typer(no_args_is_help=True)

BATCH = 250
"""Secrets in one commit."""

MAX_COUNT = 100_000
COLUMNS = ("label", "subject", "san")
"""Of the CSV file that `--from` reads; `san` holds names with spaces between them."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Profile = Annotated[str, typer.Option("--profile", help="The profile they are good for.")]


@command.command()
def create(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    profile: Profile = "default",
    challenge: Annotated[
        str | None, typer.Option("--challenge", help="Which of the profile's challenges, where several are one-time.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="The subject to ask for: CN=device,O=Example.")
    ] = None,
    san: Annotated[
        list[str] | None, typer.Option("--san", help="A name to ask for: dns:, email:, ip:, uri:, upn: or sid:.")
    ] = None,
    ttl: Annotated[str | None, typer.Option("--ttl", help="90s, 15m, 24h, 7d; else as configured.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="What lists and audit call it.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=MAX_COUNT, help="How many.")] = 1,
    file: Annotated[
        Path | None, typer.Option("--from", help="One for each line of a CSV file: label, subject, san.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="A new file for them, for its owner alone.")] = None,
    signed: Annotated[
        bool, typer.Option("--signed", help="Sign challenges for a challenge of type signed: no database is asked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Mint secrets that let in one request each; with names given, one that asks for just these names."""
    if file is not None and (subject or san or label or count > 1):
        raise typer.BadParameter("the file says label, subject and names itself", param_hint="--from")
    configuration, lasting = load(config), _duration(ttl) if ttl else None
    wishes = _wishes_of(file) if file is not None else _wishes(label, _names(subject, san or []), count)
    if signed:
        terms, minted = sign_all(configuration, profile, challenge, lasting, wishes)
        with _new_file(output) as destination:
            _hand_out([_shown(each, terms) for each in minted], output, destination, as_json=as_json)
        return
    terms = _terms(configuration, profile, challenge, lasting)
    with _new_file(output) as destination:
        minted = asyncio.run(_create(configuration, terms, wishes))
        _hand_out([_shown(each, terms) for each in minted], output, destination, as_json=as_json)


@command.command("list")
def list_secrets(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    challenge: Annotated[str | None, typer.Option("--challenge", help="Only of this challenge.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="Only for this profile.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Only with this label.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most, the newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what was minted and what became of it. The secrets themselves are not known any more."""
    which = Selection(method=challenge, profile=profile, label=label)

    async def work() -> Sequence[OneTimeSecret]:
        async with _mint(load(config)) as mint:
            return await mint.list_secrets(which, limit)

    now = SystemClock().now()
    rows = [_listed(each, now) for each in asyncio.run(work())]
    columns = ("label", "challenge", "profile", "state", "expires_at", "transaction", "names")
    show({"secrets": rows}, table(columns, rows) if rows else "There are none.", as_json=as_json)


@command.command()
def revoke(
    label: Annotated[str | None, typer.Argument(metavar="LABEL", help="Every one of that label.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    all_of: Annotated[str | None, typer.Option("--all-of", help="Every one of this challenge.")] = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw secrets before their time; the certificates they have let a device have stay as they are."""
    if (label is None) is (all_of is None):
        raise typer.BadParameter("name a label, or --all-of and a challenge")

    async def work() -> Sequence[OneTimeSecret]:
        async with _mint(load(config)) as mint:
            return await mint.revoke(Selection(label=label, method=all_of), local_user())

    revoked = asyncio.run(work())
    if label is not None and not revoked:
        raise typer.BadParameter(f"no secret that could still be used is called {label!r}; see `scep-ra otp list`")
    spent = sum(each.spent_by is not None for each in revoked)
    text = f"Revoked {len(revoked)}" + (f"; {spent} of them had been spent" if spent else "")
    show({"revoked": [each.label for each in revoked], "spent": spent}, text, as_json=as_json)


# ---------------------------------------------------------------- what is wanted
def _terms(configuration: Configuration, profile: str, challenge: str | None, ttl: timedelta | None) -> Terms:
    insist_on_profile(configuration, profile)
    offers = one_time_offers(configuration)
    try:
        return choose(offers, profile, challenge).terms(ttl)
    except NotOffered as error:
        others = dict.fromkeys(each.profile for each in offers if each.profile != profile)
        advice = f"; with --profile name one that does: {', '.join(others)}" if others else ""
        raise Misconfigured(f"{error}{advice}") from None


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 15m, 24h or 7d", param_hint="--ttl")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _names(subject: str | None, alternative_names: Sequence[str]) -> tuple[str, ...] | None:
    try:
        return read_names(subject, alternative_names)
    except BadName as error:
        raise typer.BadParameter(str(error)) from None


def _wishes(label: str | None, names: tuple[str, ...] | None, count: int) -> list[Wish]:
    if count == 1:
        return [_wish(label, names)]
    stem = _wish(label, names).label
    return [Wish(label=f"{stem}-{number}", names=names) for number in range(1, count + 1)]


def _wish(label: str | None, names: tuple[str, ...] | None) -> Wish:
    """What has no label is called by its first name, or by something random."""
    return Wish(label=label or (names[0] if names else f"otp-{secrets.token_hex(4)}"), names=names)


def _wishes_of(path: Path) -> list[Wish]:
    """All lines of the file, before anything is minted."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file, strict=True)
        try:
            if unknown := set(lines.fieldnames or ()) - set(COLUMNS):
                named, hint = ", ".join(sorted(unknown)), separator_hint(lines.fieldnames)
                raise Misconfigured(
                    f"{path}: the first line names columns that are not known ({named}){hint}. "
                    f"Write one or more of {', '.join(COLUMNS)}"
                )
            return [_wish_of(path, lines.line_num, line) for line in lines]
        except (csv.Error, UnicodeDecodeError) as error:
            raise Misconfigured(f"{path}, line {lines.line_num}: {error}") from None


def _wish_of(path: Path, number: int, line: Mapping[str | None, Any]) -> Wish:
    if None in line:
        raise Misconfigured(f"{path}, line {number}: there are more values than columns")
    try:
        return _wish(line.get("label"), read_names(line.get("subject"), (line.get("san") or "").split()))
    except BadName as error:
        raise Misconfigured(f"{path}, line {number}: {error}") from None


# ---------------------------------------------------------------- how it is made
@asynccontextmanager
async def _mint(configuration: Configuration) -> AsyncIterator[Mint]:
    async with opened(configuration) as (journal, key):
        yield Mint(journal=journal, key=key, clock=SystemClock(), entropy=os.urandom)


async def _create(configuration: Configuration, terms: Terms, wishes: Sequence[Wish]) -> list[Minted]:
    minted: list[Minted] = []
    hidden = not sys.stderr.isatty() or len(wishes) <= BATCH
    async with _mint(configuration) as mint:
        with Progress(console=Console(stderr=True), transient=True, disable=hidden) as progress:
            task = progress.add_task("Minting", total=len(wishes))
            for start in range(0, len(wishes), BATCH):
                minted += await mint.create(terms, wishes[start : start + BATCH], local_user())
                progress.update(task, completed=len(minted))
    return minted


# ---------------------------------------------------------------- how it is shown
@contextmanager
def _new_file(path: Path | None) -> Iterator[TextIO | None]:
    """A file that was not there before, for its owner alone; gone again where nothing was minted."""
    if path is None:
        yield None
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        try:
            yield file
        except BaseException:
            path.unlink()
            raise


def _hand_out(rows: list[dict[str, Any]], output: Path | None, file: TextIO | None, *, as_json: bool) -> None:
    if file is None:
        show({"secrets": rows}, _card(rows[0]) if len(rows) == 1 else _csv(rows).rstrip("\n"), as_json=as_json)
        return
    file.write(json.dumps({"secrets": rows}) + "\n" if as_json else _csv(rows))
    show({"count": len(rows), "output": str(output)}, f"Wrote {len(rows)} to {output}", as_json=as_json)


def _shown(minted: Minted, terms: Terms) -> dict[str, Any]:
    return {
        "label": minted.label,
        "secret": minted.secret.reveal(),
        "challenge": terms.method,
        "profile": terms.profile,
        "names": list(minted.names or ()),
        "expires_at": minted.expires_at.isoformat(timespec="seconds"),
    }


def _listed(secret: OneTimeSecret, now: datetime) -> dict[str, Any]:
    return {
        "label": secret.label,
        "challenge": secret.method,
        "profile": secret.profile,
        "names": list(secret.names or ()),
        "state": state_of(secret, now).value,
        "transaction": str(secret.spent_by) if secret.spent_by else None,
        "created_at": secret.created_at.isoformat(timespec="seconds"),
        "expires_at": secret.expires_at.isoformat(timespec="seconds"),
    }


def _card(row: Mapping[str, Any]) -> str:
    names = ", ".join(row["names"]) or "whatever the profile allows"
    return "\n".join(
        (
            f"Secret   {row['secret']}",
            f"Label    {row['label']}",
            f"Profile  {row['profile']}, for {names}",
            f"Until    {row['expires_at']}",
        )
    )


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("label", "secret", "profile", "expires_at", "names"), extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**each, "names": " ".join(each["names"])} for each in rows)
    return text.getvalue()
