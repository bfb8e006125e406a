"""`scep-ra certs …`: the certificates that were issued, and how one is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import RevocationReason
from ra.bootstrap.clock import SystemClock
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
    ahead,
    as_value,
    day,
    find,
    footer,
    moment,
    with_operations,
)
from ra.cli.opened import local_user
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show, table
from ra.journal.listing import Filter, Listed
from ra.journal.records import Transaction
from ra.journal.states import State
from ra.service.operate import NotPossible, Operations

command = typer.Typer(no_args_is_help=True)

_STANDING = frozenset({State.ISSUED, State.RELEASED})
_REVOKED = frozenset({State.REVOKING, State.REVOKED})
_COLUMNS = ("serial", "state", "until", "profile", "subject", "transaction")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Its serial number (hex or decimal), or the transaction's id.")
]


@command.command("list")
def list_certificates(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    profile: Profile = None,
    connector: Connector = None,
    since: Since = None,
    until: Until = None,
    subject: Subject = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="Only those that are, or are being, revoked.")] = False,
    ends_within: Annotated[
        str | None, typer.Option("--ends-within", metavar="TIME", help="Only those that end by then: 30d.")
    ] = None,
    count: Count = 50,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List certificates, the newest first; with --ends-within those that are still valid."""
    which = Filter(
        states=_REVOKED if revoked else _STANDING if ends_within else _STANDING | _REVOKED,
        profile=profile,
        connector=connector,
        since=moment(since, "--since"),
        until=moment(until, "--until"),
        subject=subject,
        not_after_since=SystemClock().now() if ends_within else None,
        not_after_until=ahead(ends_within, "--ends-within") if ends_within else None,
    )
    page = find(config, which, after, count)
    value = {"certificates": [as_value(each) for each in page.rows], "after": str(page.after) if page.after else None}
    text = table(_COLUMNS, [_row(each) for each in page.rows]) + footer(page, count) if page.rows else "There are none."
    show(value, text, as_json=as_json)


@command.command("show")
def show_certificate(
    name: Name,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificate itself, with its chain.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a certificate is, for whom it was issued, and how it stands."""
    account = account_of(config, name)
    it = account.transaction
    if it.certificate is None:
        raise NotPossible(f"{it.id} has no certificate: it is {it.state}")
    try:
        certificates = [x509.load_der_x509_certificate(each) for each in (it.certificate, *it.chain)]
    except (ValueError, x509.InvalidVersion):
        raise NotPossible(f"{it.id}: its certificate, or one of the chain, is damaged in the journal") from None
    leaf, bundle = certificates[0], "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)
    sha256 = leaf.fingerprint(hashes.SHA256()).hex()
    facts = {
        "Serial": it.serial,
        "Issuer": leaf.issuer.rfc4514_string(),
        "Valid": f"{day(leaf.not_valid_before_utc)} to {day(it.not_after)}",
        "SHA-256": sha256,
    }
    text = bundle.rstrip("\n") if pem else account_as_text(account, facts)
    show(account_as_value(account) | {"sha256": sha256, "pem": bundle}, text, as_json=as_json)


@command.command()
def revoke(
    name: Name,
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    reason: Annotated[RevocationReason, typer.Option("--reason", help="For the CRL.")] = RevocationReason.UNSPECIFIED,
    because: Annotated[str, typer.Option("--because", help="The same in words, for the audit.")] = "",
    as_json: AsJson = False,
) -> None:
    """Have a certificate revoked. It is not handed out any more from now on, and the CA is asked until it confirms."""
    revoking = _revoke(config, name, reason, because)
    text = (
        f"Serial number {revoking.serial} ({revoking.subject}) is not handed out any more. `scep-ra serve` has the CA "
        f"{revoking.connector} revoke it; `scep-ra certs show {revoking.serial}` says when that is done."
    )
    show(as_value(revoking), text, as_json=as_json)


def _revoke(config: Path, name: str, reason: RevocationReason, because: str) -> Transaction:
    async def work(operations: Operations) -> Transaction:
        which = await operations.identify(name)
        return await operations.revoke(which.id, reason, local_user(), because)

    return with_operations(config, work)


def _row(one: Listed) -> dict[str, object]:
    return {
        "serial": one.serial,
        "state": one.state,
        "until": day(one.not_after),
        "profile": one.profile,
        "subject": one.subject,
        "transaction": str(one.id)[:SHORT],
    }
