"""`scep-ra outbox …`: what is still to be told to somebody, and what was given up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from ra.bootstrap.clock import SystemClock
from ra.cli.opened import local_user, with_journal
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show, table
from ra.errors import Misconfigured
from ra.journal import outbox
from ra.journal.database import Journal
from ra.journal.outbox import Letter
from ra.journal.sealing import JournalKey, NotOurs
from ra.service.notices import Notices

command = typer.Typer(no_args_is_help=True)

MAX_LISTED = 1000
"""Letters of each kind that are listed; when so many wait, it is one fault that holds them up."""

_COLUMNS = ("id", "state", "validator", "occasion", "transaction", "attempts", "age", "detail")


@command.command("list")
def list_letters(config: ConfigPath = DEFAULT_CONFIG, *, as_json: AsJson = False) -> None:
    """What was given up, the oldest first, and what is still tried, the next one first."""
    letters = with_journal(config, _read)
    rows = [each | {"age": _age(each["age_seconds"])} for each in letters]
    text = table(_COLUMNS, rows) if rows else "Nothing waits, and nothing was given up."
    show({"letters": letters}, text, as_json=as_json)


@command.command()
def retry(
    letter: Annotated[str | None, typer.Argument(metavar="ID", help="The letter.", show_default=False)] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every letter that was given up.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a letter that was given up tried again, for a day."""
    if everything == (letter is not None):
        raise Misconfigured("name one letter, or --all")
    which = _uuid(letter) if letter is not None else None
    now, who = SystemClock().now(), local_user()

    async def work(journal: Journal, _: JournalKey) -> Sequence[Letter]:
        return await journal.write(lambda c: outbox.retry(c, which, who, now))

    retried = with_journal(config, work)
    count = f"{len(retried)} letters are" if len(retried) != 1 else "1 letter is"
    show({"retried": [str(each.id) for each in retried]}, f"{count} tried again.", as_json=as_json)


async def _read(journal: Journal, key: JournalKey) -> list[dict[str, Any]]:
    dead = await journal.read(lambda c: outbox.dead(c, MAX_LISTED))
    waiting = await journal.read(lambda c: outbox.waiting(c, MAX_LISTED))
    notices, now = Notices(key, os.urandom), SystemClock().now()
    return [_described(each, notices, now) for each in (*dead, *waiting)]


def _described(letter: Letter, notices: Notices, now: datetime) -> dict[str, Any]:
    try:
        occasion = notices.open(letter).occasion.value
    except NotOurs:
        occasion = "unreadable"
    return {
        "id": str(letter.id),
        "state": "waiting" if letter.due_at else "dead",
        "validator": letter.validator,
        "occasion": occasion,
        "transaction": str(letter.transaction) if letter.transaction else None,
        "is_strict": letter.is_strict,
        "attempts": letter.attempts,
        "age_seconds": int((now - letter.created_at).total_seconds()),
        "due_at": letter.due_at.isoformat() if letter.due_at else None,
        "deadline_at": letter.deadline_at.isoformat(),
        "detail": letter.detail,
    }


def _age(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Misconfigured(f"{text!r} is not the id of a letter; `scep-ra outbox list` shows them") from None
