"""Operations on one-time secrets: minted, looked up, listed and withdrawn here; spent by `transactions.authorise`.

Only the journal key's digest of a secret is kept. Whoever mints or withdraws one is audited in the same commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, bindparam, insert, select, update

from ra.journal import audit
from ra.journal.records import OneTimeSecret
from ra.journal.tables import one_time_secrets, spent_secrets

_KEPT = [each.name for each in fields(OneTimeSecret) if each.name in one_time_secrets.c]
_ALL = (
    select(
        *(one_time_secrets.c[name] for name in _KEPT),
        spent_secrets.c.transaction.label("spent_by"),
        spent_secrets.c.csr_key.label("spent_key"),
    )
    .select_from(one_time_secrets)
    .outerjoin(spent_secrets, spent_secrets.c.key == one_time_secrets.c.key)
)
_MINT = insert(one_time_secrets)
_LOOK_UP = _ALL.where(one_time_secrets.c.key == bindparam("of"))
_REVOKE = (
    update(one_time_secrets)
    .where(one_time_secrets.c.key == bindparam("of"), one_time_secrets.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


class SecretState(StrEnum):
    """What has become of a one-time secret."""

    UNUSED = "unused"
    SPENT = "spent"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which one-time secrets are meant: those that all of these hold for; None holds for every one."""

    method: str | None = None
    profile: str | None = None
    label: str | None = None

    def holds(self) -> ColumnElement[bool]:
        wanted = {name: getattr(self, name) for name in ("method", "profile", "label")}
        return and_(True, *(one_time_secrets.c[name] == value for name, value in wanted.items() if value is not None))


def state_of(secret: OneTimeSecret, now: datetime) -> SecretState:
    """What has become of it. One that was spent is so whatever came after."""
    if secret.spent_by is not None:
        return SecretState.SPENT
    if secret.revoked_at is not None:
        return SecretState.REVOKED
    return SecretState.EXPIRED if secret.expires_at < now else SecretState.UNUSED


def mint(connection: Connection, secrets: Sequence[OneTimeSecret], who: str) -> None:
    """Keeps new secrets, at least one."""
    connection.execute(_MINT, [{name: getattr(each, name) for name in _KEPT} for each in secrets])
    for each in secrets:
        event = _event("secret-minted", each, who)
        names = None if each.names is None else ", ".join(each.names)
        event |= {"profile": each.profile, "names": names, "expires_at": audit.write_time(each.expires_at)}
        audit.record(connection, each.created_at, event)


def mint_within(connection: Connection, secret: OneTimeSecret, who: str, limit: int) -> bool:
    """Keeps a new secret unless `limit` of its method and label could still be used; whether it did.

    Several that are minted at once, by several processes, may come to a few more.
    """
    usable = (
        _select(Selection(method=secret.method, label=secret.label))
        .where(
            one_time_secrets.c.revoked_at.is_(None),
            one_time_secrets.c.expires_at >= secret.created_at,
            spent_secrets.c.transaction.is_(None),
        )
        .limit(limit)
    )
    if len(connection.execute(usable).all()) >= limit:
        return False
    mint(connection, [secret], who)
    return True


def look_up(connection: Connection, key: bytes) -> OneTimeSecret | None:
    """The secret of that digest, whatever has become of it. Reads only."""
    row = connection.execute(_LOOK_UP, {"of": key}).mappings().first()
    return None if row is None else _secret(row)


def list_secrets(connection: Connection, which: Selection, count: int) -> tuple[OneTimeSecret, ...]:
    """The newest of them first, no more than `count`. Reads only."""
    newest = _select(which).order_by(one_time_secrets.c.created_at.desc(), one_time_secrets.c.label)
    return tuple(map(_secret, connection.execute(newest.limit(count)).mappings()))


def revoke(connection: Connection, which: Selection, who: str, now: datetime) -> tuple[OneTimeSecret, ...]:
    """Withdraws those that could still let something in; returns them, as they were.

    One that is spent is among them: it must not come back to life where the CA rejects, which gives it back.
    """
    alive = and_(one_time_secrets.c.revoked_at.is_(None), one_time_secrets.c.expires_at >= now)
    chosen = _select(which).where(alive).with_for_update(of=one_time_secrets)
    found = tuple(map(_secret, connection.execute(chosen).mappings()))
    if found:
        connection.execute(_REVOKE, [{"of": each.key, "now": now} for each in found])
    for each in found:
        audit.record(connection, now, _event("secret-revoked", each, who))
    return found


def _select(which: Selection) -> Select[Any]:
    return _ALL.where(which.holds())


def _secret(row: RowMapping) -> OneTimeSecret:
    names = row["names"]
    return OneTimeSecret(**dict(row) | {"names": None if names is None else tuple(names)})


def _event(kind: str, secret: OneTimeSecret, who: str) -> dict[str, audit.Value]:
    return {"event": kind, "method": secret.method, "label": secret.label, "who": who}
