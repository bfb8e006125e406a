"""`scep-ra why`: which requests were refused or put off lately, why, and what is to be done about it, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ra.cli.accounts import day
from ra.cli.opened import with_journal
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, printable, show
from ra.errors import RaError
from ra.journal.database import Journal
from ra.journal.records import Refusal
from ra.journal.refusals import list_refusals
from ra.journal.sealing import JournalKey
from ra.service.reasons import meaning_of

Name = Annotated[
    str | None, typer.Argument(metavar="TRANSACTIONID", help="As the device, or its log, calls it; else the latest.")
]


def command(
    name: Name = None,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    profile: Annotated[str | None, typer.Option("--profile", help="Only at this profile.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many at most, the newest first.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Say why requests were refused, or told to come back, that never became a transaction; `transactions show` says it of the others."""
    which = name.encode("utf-8", "surrogateescape") if name is not None else None

    async def work(journal: Journal, _key: JournalKey) -> Sequence[Refusal]:
        return await journal.read(lambda c: list_refusals(c, which, profile, count))

    found = with_journal(config, work)
    if name is not None and not found:
        raise RaError(f"no refusal of {name!r} is known; `scep-ra transactions show` may know what became of it")
    text = "\n\n".join(map(_told, found)) or "Nothing was refused lately."
    show({"refusals": [_value(each) for each in found]}, text, as_json=as_json)


def _value(refusal: Refusal) -> dict[str, Any]:
    meaning = meaning_of(refusal.reason)
    return {
        "at": refusal.at.isoformat(),
        "profile": refusal.profile,
        "transaction_id": _transaction_id(refusal),
        "asked_for": refusal.asked_for,
        "reason": refusal.reason,
        "detail": refusal.detail,
        "means": meaning.means,
        "advice": meaning.advice,
    }


def _told(refusal: Refusal) -> str:
    meaning = meaning_of(refusal.reason)
    lines = [
        f"{day(refusal.at)}  {refusal.profile}  {refusal.reason}",
        f"  transactionID  {_transaction_id(refusal) or 'none'}",
        f"  asked for      {refusal.asked_for or 'nothing that could be read'}",
        f"  detail         {refusal.detail}",
        f"  {meaning.means} {meaning.advice}",
    ]
    return "\n".join(map(printable, lines))


def _transaction_id(refusal: Refusal) -> str | None:
    return refusal.transaction_id.decode("ascii", "backslashreplace") if refusal.transaction_id else None
