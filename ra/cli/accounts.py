"""What `transactions` and `certs` have in common: how the journal is asked, and how it is told."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ra.bootstrap.clock import SystemClock
from ra.cli.opened import with_journal
from ra.cli.output import printable
from ra.journal.database import Journal
from ra.journal.listing import Cursor, Filter, Listed, Page
from ra.journal.outbox import Letter
from ra.journal.records import Transaction
from ra.journal.sealing import JournalKey
from ra.journal.strays import Stray
from ra.service.operate import Account, Operations
from ra.service.situations import told

T = TypeVar("T")

SHORT = 13
"""Characters of an id that are shown in a table: enough for any command to know it by."""

_LONG = 60
"""Characters of a detail that is told once."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Profile = Annotated[str | None, typer.Option("--profile", help="Only of this profile.")]
Connector = Annotated[str | None, typer.Option("--connector", help="Only of this CA, as the configuration calls it.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Authorised since: 2026-11-23, or 90m, 12h, 7d ago.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Authorised before.")]
Subject = Annotated[str | None, typer.Option("--subject", help="A part of the subject, whatever its case.")]
Count = Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many at most, the newest first.")]
After = Annotated[str | None, typer.Option("--after", help="Go on where a list has ended: what it said there.")]


def with_operations(config: Path, work: Callable[[Operations], Awaitable[T]]) -> T:
    """What `work` makes of the journal that the configuration file names, while `serve` may run beside.

    Raises:
        Misconfigured: there is no journal, its key cannot be read, or it was made with another one.
    """

    async def run(journal: Journal, key: JournalKey) -> T:
        return await work(Operations(journal=journal, key=key, clock=SystemClock(), entropy=os.urandom))

    return with_journal(config, run)


def find(config: Path, which: Filter, after: str | None, count: int) -> Page:
    """A page of transactions; `after` as a page before has ended."""
    cursor = Cursor.read(after) if after is not None else None
    return with_operations(config, lambda operations: operations.find(which, cursor, count))


def account_of(config: Path, text: str) -> Account:
    """All there is to know of the one transaction that is called so, by whatever name."""

    async def work(operations: Operations) -> Account:
        return await operations.show((await operations.identify(text, by_device=True)).id)

    return with_operations(config, work)


def moment(text: str | None, option: str) -> datetime | None:
    """A time as ISO 8601 has it, UTC where it says nothing else, or so long ago: 90m, 12h, 7d."""
    return None if text is None else _moment(text, option, ahead=False)


def ahead(text: str, option: str) -> datetime:
    """The same, but so far from now."""
    return _moment(text, option, ahead=True)


def _moment(text: str, option: str, *, ahead: bool) -> datetime:
    now = SystemClock().now()
    if found := re.fullmatch(r"([0-9]{1,5})([smhd])", text):
        distance = timedelta(**{_UNITS[found[2]]: int(found[1])})
        return now + distance if ahead else now - distance
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            "write a time as 2026-11-23 or 2026-11-23T12:00:00+01:00, or a distance as 90m, 12h or 7d",
            param_hint=option,
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


# ---------------------------------------------------------------- how it is told
def as_value(one: Listed | Transaction) -> dict[str, Any]:
    """What a list has of a transaction, as JSON."""
    return {
        "id": str(one.id),
        "state": one.state.value,
        "profile": one.profile,
        "connector": one.connector,
        "transaction_id": transaction_id(one),
        "subject": one.subject,
        "created_at": one.created_at.isoformat(),
        "updated_at": one.updated_at.isoformat(),
        "due_at": _iso(one.due_at),
        "expires_at": one.expires_at.isoformat(),
        "reason": one.reason,
        "detail": one.detail,
        "orphans": one.orphans,
        "revocation": one.revocation,
        "delivered_at": _iso(one.delivered_at),
        "serial": one.serial,
        "not_after": _iso(one.not_after),
    }


def account_as_value(account: Account) -> dict[str, Any]:
    """An account as JSON; an event of the history is as the audit has it."""
    it = account.transaction
    return {
        **as_value(it),
        "situation": {
            "state": account.situation.state,
            "why": account.situation.why,
            "advice": account.situation.advice,
        },
        "signer_key": it.signer_key.hex(),
        "csr_key": it.csr_key.hex(),
        "renewal_of": it.renewal_signer.hex() if it.renewal_signer else None,
        "renews": str(it.renews) if it.renews else None,
        "grant": {"method": it.grant_method, "label": it.grant_label, "attributes": dict(it.grant_attributes)},
        "attempts": it.attempts,
        "reference": it.reference,
        "history": [{"at": each.at.isoformat(), **each.read()} for each in account.history],
        "letters": [_letter(each) for each in account.letters],
        "strays": [_stray(each) for each in account.strays],
    }


def account_as_text(account: Account, facts: Mapping[str, object]) -> str:
    """An account for a person, with some facts beside those of every transaction."""
    it, situation = account.transaction, account.situation
    attributes = ", ".join(f"{name}={value}" for name, value in it.grant_attributes.items())
    said: dict[str, object] = {
        "Subject": it.subject,
        "Profile": f"{it.profile}, CA {it.connector}",
        "Let in by": f"{it.grant_method} ({it.grant_label})" + (f": {attributes}" if attributes else ""),
        "transactionID": transaction_id(it),
        "Signer's key": f"SHA-256 {it.signer_key.hex()}",
        "Authorised": day(it.created_at),
        "At the CA": it.reference,
        **facts,
    }
    history = (f"  {day(each.at)}  {printable(told(each.read()))}" for each in account.history)
    letters = [(each.due_at is None, f"  {each.validator}: {_state_of(each)}") for each in account.letters]
    blocks = [
        [f"{it.id}  {it.state}"],
        [printable(each) for each in (situation.state, situation.why, situation.advice) if each],
        [f"{name:14} {printable(str(value))}" for name, value in said.items() if value],
        _headed("History", history),
        _headed("Still to be told", (line for is_dead, line in letters if not is_dead)),
        _headed("Given up telling", (line for is_dead, line in letters if is_dead)),
    ]
    told_once = _told_once([it.detail, *(each.detail for each in account.letters)])
    return "\n\n".join("\n".join(map(told_once, block)) for block in blocks if block)


def footer(page: Page, count: int) -> str:
    """What follows a page, for a person."""
    return f"\n\nThe newest {count}; those before: --after {page.after}" if page.after else ""


def day(time: datetime | None) -> str:
    """A time, for a person."""
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else ""


def transaction_id(one: Listed | Transaction) -> str:
    """As the device calls it; what is no ASCII is escaped."""
    return one.transaction_id.decode("ascii", "backslashreplace")


def _headed(head: str, lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    return [head, *lines] if lines else []


def _told_once(details: Iterable[str | None]) -> Callable[[str], str]:
    """Of a detail that is long, the first line that has it has all of it, and those below say so."""
    long = sorted({printable(each) for each in details if each and len(each) > _LONG}, key=len, reverse=True)
    seen: set[str] = set()

    def shorten(line: str) -> str:
        for detail in long:
            if detail in line:
                if detail in seen:
                    return line.replace(detail, "as above")
                seen.update(each for each in long if each in detail)
                return line
        return line

    return shorten


def _letter(letter: Letter) -> dict[str, Any]:
    return {
        "id": str(letter.id),
        "validator": letter.validator,
        "is_strict": letter.is_strict,
        "attempts": letter.attempts,
        "due_at": _iso(letter.due_at),
        "deadline_at": letter.deadline_at.isoformat(),
        "detail": letter.detail,
    }


def _stray(stray: Stray) -> dict[str, Any]:
    return {
        "serial": stray.serial,
        "certificate": stray.certificate.hex(),
        "because": stray.reason,
        "due_at": _iso(stray.due_at),
        "attempts": stray.attempts,
        "revoked_at": _iso(stray.revoked_at),
        "detail": stray.detail,
    }


def _state_of(letter: Letter) -> str:
    state = f"tried again {day(letter.due_at)}" if letter.due_at else f"letter {letter.id}"
    said = f": {printable(letter.detail)}" if letter.detail else ""
    return f"{state}, after {letter.attempts} attempt{'s' * (letter.attempts != 1)}{said}"


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
