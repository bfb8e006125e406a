"""`scep-ra transactions …`: what was asked for, how it stands, and a person's word about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from ra.cli.accounts import (
    SHORT,
    After,
    Connector,
    Count,
    Profile,
    Since,
    Subject,
    Until,
    account_as_text,
    account_as_value,
    account_of,
    as_value,
    day,
    find,
    footer,
    moment,
    with_operations,
)
from ra.cli.opened import local_user
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show, table
from ra.errors import Misconfigured
from ra.journal.listing import Filter, Listed, read_serial
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.journal.verdicts import Verdict, Word
from ra.service.operate import Operations

command = typer.Typer(no_args_is_help=True)

_COLUMNS = ("id", "state", "authorised", "profile", "subject", "detail")

_SETTLED = {
    Word.ACCEPT: "`scep-ra serve` looks at it again",
    Word.REJECT: "Given up; the device may enrol again",
    Word.RETRY: "`scep-ra serve` asks the CA again",
}

Saying = Callable[[Operations, Listed], Awaitable[Transaction]]
Id = Annotated[str, typer.Argument(metavar="ID", help="The transaction: its id, or how that begins.")]


@command.command("list")
def list_transactions(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    state: Annotated[list[State] | None, typer.Option("--state", help="Only in this state, or in these.")] = None,
    profile: Profile = None,
    connector: Connector = None,
    since: Since = None,
    until: Until = None,
    subject: Subject = None,
    serial: Annotated[str | None, typer.Option("--serial", help="Of the certificate: hex, or decimal.")] = None,
    transaction_id: Annotated[
        str | None, typer.Option("--transaction-id", help="As the device, or its log, calls it.")
    ] = None,
    orphans: Annotated[bool, typer.Option("--orphans", help="Only where the CA may have issued twice.")] = False,
    count: Count = 50,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List transactions, the newest first."""
    which = Filter(
        states=frozenset(state or ()),
        profile=profile,
        connector=connector,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
        serials=_serials(serial),
        transaction_id=transaction_id.encode("utf-8", "surrogateescape") if transaction_id else None,
        subject=subject,
        may_be_orphan=orphans,
    )
    page = find(config, which, after, count)
    value = {"transactions": [as_value(each) for each in page.rows], "after": str(page.after) if page.after else None}
    text = table(_COLUMNS, [_row(each) for each in page.rows]) + footer(page, count) if page.rows else "There are none."
    show(value, text, as_json=as_json)


@command.command("show")
def show_transaction(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its id or how that begins, a serial number, or a transactionID.")
    ],
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    as_json: AsJson = False,
) -> None:
    """Say how a transaction stands, why, and what is to be done about it."""
    account = account_of(config, name)
    it = account.transaction
    facts = {"Serial": it.serial, "Valid until": day(it.not_after)}
    show(account_as_value(account), account_as_text(account, facts), as_json=as_json)


@command.command()
def approve(which: Id, config: ConfigPath = DEFAULT_CONFIG, *, as_json: AsJson = False) -> None:
    """Say yes to a request that waits for a person."""
    approved = _say(config, which, lambda operations, one: operations.approve(one.id, local_user()))
    text = f"Approved: {approved.subject}. `scep-ra serve` sends it to the CA {approved.connector}."
    show(as_value(approved), text, as_json=as_json)


@command.command()
def deny(
    which: Id,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    because: Annotated[str, typer.Option("--because", help="Why, for the audit; the device is not told.")],
    as_json: AsJson = False,
) -> None:
    """Say no to a request that waits for a person. The device is told FAILURE; a one-time secret stays spent."""
    denied = _say(config, which, lambda operations, one: operations.deny(one.id, local_user(), because))
    show(as_value(denied), f"Denied: {denied.subject}.", as_json=as_json)


@command.command()
def settle(
    which: Id,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Look at a quarantined certificate again, by the configuration as it is now."),
    ] = False,
    reject: Annotated[
        bool, typer.Option("--reject", help="It is over: the device is told FAILURE, and may enrol again.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Have the CA asked for another certificate.")] = False,
    because: Annotated[str, typer.Option("--because", help="Why, for the audit; the device is not told.")],
    as_json: AsJson = False,
) -> None:
    """Say what becomes of a certificate in quarantine, or of a request whose answer was lost."""
    said = [word for word, is_said in zip(Word, (accept, reject, retry), strict=True) if is_said]
    if len(said) != 1:
        raise Misconfigured("say one of --accept, --reject and --retry")
    verdict = Verdict(who=local_user(), why=because)
    settled = _say(config, which, lambda operations, one: operations.settle(one.id, said[0], verdict))
    show(as_value(settled), f"{_SETTLED[said[0]]}: {settled.subject}.", as_json=as_json)


def _say(config: Path, which: str, word: Saying) -> Transaction:
    async def work(operations: Operations) -> Transaction:
        return await word(operations, await operations.identify(which))

    return with_operations(config, work)


def _serials(text: str | None) -> tuple[str, ...]:
    serials = read_serial(text) if text is not None else ()
    if text is not None and not serials:
        raise typer.BadParameter("write a serial number in hexadecimal or decimal", param_hint="--serial")
    return serials


def _row(one: Listed) -> dict[str, object]:
    return {
        "id": str(one.id)[:SHORT],
        "state": one.state,
        "authorised": day(one.created_at),
        "profile": one.profile,
        "subject": one.subject,
        "detail": ": ".join(each for each in (one.revocation, one.reason, one.detail) if each),
    }
