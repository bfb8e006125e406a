"""`scep-ra db`: brings the journal's tables up to date, and moves the journal from one database to another."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from ra.bootstrap.journal import journal_place, make_journal
from ra.cli.copying import announce, with_bar
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show
from ra.journal.copy import at_rest
from ra.journal.copy import copy as copy_journal
from ra.journal.database import place_of
from ra.settings.load import load
from ra.settings.sources import read_secret

command = typer.Typer(no_args_is_help=True)


@command.callback()
def _group() -> None:
    """Bring the journal's tables up to date, or move them to another database."""


@command.command()
def upgrade(config: ConfigPath = DEFAULT_CONFIG, *, as_json: AsJson = False) -> None:
    """Make the tables, or bring them to what this program needs; `serve` does it by itself. There is no way back."""
    configuration = load(config)
    done = make_journal(configuration)
    where = journal_place(configuration)
    if done.before == done.after:
        sentence = f"{where} is of revision {done.after}, the newest: there was nothing to do."
    else:
        sentence = f"{where}: upgraded from {done.before or 'nothing'} to revision {done.after}."
    show({"before": done.before, "after": done.after}, sentence, as_json=as_json)


@command.command()
def copy(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="sqlite:///PATH or postgresql://USER@HOST/NAME.")],
    to_password: Annotated[
        str | None, typer.Option("--to-password", metavar="REF", help="Of that server: file:PATH or env:NAME.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the journal into another, empty database. `serve` has to be stopped: what it wrote meanwhile would be lost."""
    configuration = load(config)
    here = configuration.directory
    password = read_secret(to_password, here) if to_password else None
    source = journal_place(configuration)
    target = place_of(to, directory=here, password=password, setting="--to")

    with at_rest(source), nullcontext() if str(source) == str(target) else at_rest(target):
        rows = with_bar(lambda progress: copy_journal(source, target, progress))

    sentence = f"{source} is copied to {target}. Name that in [database] url; the journal's key stays the same."
    announce({"from": str(source), "to": str(target)}, rows, sentence, as_json=as_json)
