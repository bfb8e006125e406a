"""Compares what the devices hold with what the CA has written down and with what the journal says of itself."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from benchmarks.crash.devices import Device, End
from benchmarks.ledger.attended import FORBIDDEN, Kind
from benchmarks.ledger.book import Book, Entry
from benchmarks.ledger.ca import BOOK
from ra.cli.opened import with_journal
from ra.journal.database import Journal
from ra.journal.sealing import JournalKey
from ra.journal.tables import audit_events, spent_secrets, transactions
from ra.journal.verify import verify

_SHOWN = 5
_LET_IN = frozenset({"authorised", "awaiting-approval"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the journal says of itself.

    Attributes:
        authorised: key digests in hex, one for each decision of the audit.
        spent: key digests in hex, one for each secret that is spent.
        orphans: how often a request was sent again without knowing what became of the time before.
        breaks: what is wrong with the audit, in sentences.
    """

    authorised: tuple[str, ...]
    spent: tuple[str, ...]
    orphans: int
    states: dict[str, int]
    breaks: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What is wrong, counted; and what is only worth knowing.

    Attributes:
        lost: keys that were authorised, whose device has no certificate that is in the ledger and stands.
        duplicate: certificates that stand beyond the first of each key.
        stray: certificates that stand though their device may not have them, or was told that it gets none.
        leaked: devices that got a certificate that nobody had accepted the notice of, or that they may never get.
        burnt: secrets that are spent without a certificate.
        double_spent: secrets that let two keys in.
        breaks: of the audit.
        refused: devices that were refused though nobody else had their secret.
        unfinished: devices without an answer in the end.
        fallen: processes of the RA that ended by themselves, and faults of the devices.
        ends: how many devices of each kind came to which end.
        orphans: certificates that the RA has listed as perhaps issued twice; they excuse as many duplicates.
    """

    devices: int
    certificates: int
    revoked: int
    orphans: int
    lost: int
    duplicate: int
    stray: int
    leaked: int
    burnt: int
    double_spent: int
    breaks: int
    refused: int
    unfinished: int
    fallen: int
    ends: Counter[str]
    remarks: list[str] = field(default_factory=list)

    @property
    def wrongs(self) -> dict[str, int]:
        """Everything that has to be nought."""
        return {
            "lost": self.lost,
            "duplicate": self.duplicate,
            "stray": self.stray,
            "leaked": self.leaked,
            "burnt": self.burnt,
            "double-spent": self.double_spent,
            "audit": self.breaks,
            "refused": self.refused,
            "unfinished": self.unfinished,
            "fallen": self.fallen,
        }


def judge(config: Path, devices: Sequence[Device], fallen: Sequence[str]) -> Verdict:
    """Looks at everything once all is over."""
    account = with_journal(config, _account)
    book = Book(config.parent / BOOK)
    ledger, accepted = book.entries(), book.accepted()
    book.close()
    return weigh(devices, ledger, account, fallen, accepted)


def weigh(
    devices: Sequence[Device],
    ledger: Sequence[Entry],
    account: Account,
    fallen: Sequence[str],
    accepted: AbstractSet[str] = frozenset(),
) -> Verdict:
    """The verdict itself, from values; `accepted` are the keys of whose certificates somebody was told."""
    forbidden = {each.key_digest for each in devices if each.kind in FORBIDDEN}
    late = {each.key_digest for each in devices if each.kind is Kind.LATE}
    standing = {(each.key, each.serial) for each in ledger if not each.is_revoked}
    served = {each.key_digest for each in devices if (each.key_digest, each.serial) in standing}
    holders = {each.secret for each in devices if each.key_digest in served}
    lost = set(account.authorised) - served - forbidden - late
    extra = {key: count - 1 for key, count in Counter(key for key, _ in standing).items() if count > 1}
    strayed = {key for key, _ in standing} & (forbidden | (late - served))
    duplicate = max(0, sum(extra.values()) - account.orphans)
    stray = max(0, len(strayed) - max(0, account.orphans - sum(extra.values())))
    leaked = [each for each in devices if each.end is End.ENROLLED and _is_kept_back(each, accepted)]
    refused = [each for each in devices if each.end is End.REFUSED and not _may_be_refused(each, holders)]
    unfinished = [each for each in devices if each.end is End.UNFINISHED]
    double_spent = _double_spent(devices, (*account.authorised, *(each.key for each in ledger)))
    return Verdict(
        devices=len(devices),
        certificates=len({each.serial for each in ledger}),
        revoked=len({each.serial for each in ledger if each.is_revoked}),
        orphans=account.orphans,
        lost=len(lost),
        duplicate=duplicate,
        stray=stray,
        leaked=len(leaked),
        burnt=len(set(account.spent) - served - forbidden),
        double_spent=len(double_spent),
        breaks=len(account.breaks),
        refused=len(refused),
        unfinished=len(unfinished),
        fallen=len(fallen),
        ends=Counter(f"{each.kind} {each.end}" for each in devices),
        remarks=[
            *_named("lost", devices, lost),
            *_named("twice", devices, set(extra) if duplicate else set()),
            *_named("stray", devices, strayed if stray else set()),
            *_named("leaked", leaked),
            *_named("refused", refused),
            *_named("unfinished", unfinished),
            *_some("audit", account.breaks),
            *_some("fallen", fallen),
            *([f"states: {account.states}"] if lost or unfinished or stray else []),
        ],
    )


def _is_kept_back(device: Device, accepted: AbstractSet[str]) -> bool:
    return device.kind in FORBIDDEN or (device.kind is Kind.TOLD and device.key_digest not in accepted)


def _may_be_refused(device: Device, holders: AbstractSet[str]) -> bool:
    """Whether another key was faster with its secret, or that is its kind."""
    return device.kind in {*FORBIDDEN, Kind.LATE} or (device.has_rival and device.secret in holders)


def _double_spent(devices: Sequence[Device], let_in: Iterable[str]) -> list[str]:
    secret_of = {each.key_digest: each.secret for each in devices}
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for key in let_in:
        keys[secret_of[key]].add(key)
    return [secret for secret, used_by in keys.items() if len(used_by) > 1]


def _named(what: str, devices: Iterable[Device], keys: AbstractSet[str] | None = None) -> list[str]:
    """What is to be said of those with these keys, or of all."""
    return _some(
        what,
        (
            f"{each.name} {each.end}, {each.tries} tries, {each.names} transactionIDs: {each.said}"
            for each in devices
            if keys is None or each.key_digest in keys
        ),
    )


def _some(what: str, sentences: Iterable[str]) -> list[str]:
    found = list(sentences)
    more = [f"{what}: and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [f"{what}: {each}" for each in found[:_SHOWN]] + more


async def _account(journal: Journal, key: JournalKey) -> Account:
    return await journal.read(lambda connection: _read(connection, key))


def _read(connection: Connection, key: JournalKey) -> Account:
    events: Iterable[dict[str, Any]] = map(json.loads, connection.execute(select(audit_events.c.event)).scalars())
    decisions = (each for each in events if each["event"] == "decision" and each["outcome"] in _LET_IN)
    audit = verify(connection, key.checkpoint_signer.public_key())
    states = select(transactions.c.state, func.count()).group_by(transactions.c.state)
    return Account(
        authorised=tuple(each["csr_key"] for each in decisions),
        spent=tuple(each.hex() for each in connection.execute(select(spent_secrets.c.csr_key)).scalars()),
        orphans=connection.execute(select(func.coalesce(func.sum(transactions.c.orphans), 0))).scalar_one(),
        states={state.value: count for state, count in connection.execute(states)},
        breaks=tuple(map(str, audit.breaks)),
    )
