"""Operations on the RA's own keys: made, certified, shown, forgotten. Every process of every replica reads the same.

A key is sealed by the journal's key before it comes here. Of each identity one key at a time waits for its certificate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography import x509
from sqlalchemy import Connection, and_, bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert  # its ON CONFLICT compiles for SQLite too, not the other way round

from ra.journal import audit
from ra.journal.tables import ra_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class RaKey:
    """One key of an identity.

    Attributes:
        key: sealed, for this id.
        idempotency_key, requested_at: of the request to the CA, the same on every attempt.
        due_at: when the CA is to be asked; None once there is a certificate.
        reference: what the CA called the request when it put it off.
        detail: why there is no certificate yet.
        certificate: DER.
        shown_at: from when on GetCACert shows it.
        forget_at: until when requests that were sealed to it are opened.
    """

    id: UUID
    identity: str
    key: bytes = field(repr=False)
    idempotency_key: UUID
    requested_at: datetime
    due_at: datetime | None
    attempts: int = 0
    reference: str | None = None
    detail: str | None = None
    certificate: bytes | None = None
    shown_at: datetime | None = None
    forget_at: datetime | None = None


_LIST = select(*(ra_keys.c[each.name] for each in fields(RaKey))).order_by(ra_keys.c.requested_at, ra_keys.c.id)
_MAKE = insert(ra_keys).on_conflict_do_nothing().returning(ra_keys.c.id)
_IS_OPEN = and_(ra_keys.c.id == bindparam("of"), ra_keys.c.is_open)
_POSTPONE = update(ra_keys).where(_IS_OPEN)
_HASTEN = update(ra_keys).where(ra_keys.c.identity == bindparam("of"), ra_keys.c.is_open)
_CERTIFY = (
    update(ra_keys)
    .where(_IS_OPEN)
    .values(is_open=None, due_at=None, reference=None, detail=None)
    .returning(ra_keys.c.id)
)
_FORGET_AT = bindparam("of_forget_at", type_=ra_keys.c.forget_at.type)
_FOLLOW = (
    update(ra_keys)
    .where(ra_keys.c.identity == bindparam("of"), ra_keys.c.id != bindparam("of_id"), ra_keys.c.forget_at > _FORGET_AT)
    .values(forget_at=_FORGET_AT)
)
_FORGET = delete(ra_keys).where(ra_keys.c.id == bindparam("of"))


def list_keys(connection: Connection) -> tuple[RaKey, ...]:
    """All there are, the oldest first. Reads only."""
    return tuple(RaKey(**row) for row in connection.execute(_LIST).mappings())


def make(connection: Connection, key: RaKey, who: str | None = None) -> bool:
    """Keeps a new key, whose certificate is to be obtained; False where one of its identity waits for it already."""
    values = {each.name: getattr(key, each.name) for each in fields(RaKey)}
    if connection.execute(_MAKE, values | {"is_open": True}).first() is None:
        return False
    event: dict[str, audit.Value] = {"event": "ra-key-made", "identity": key.identity, "key": str(key.id), "who": who}
    audit.record(connection, key.requested_at, event)
    return True


def hasten(connection: Connection, identity: str, now: datetime) -> None:
    """Has the CA asked at once for the certificate that is waited for."""
    connection.execute(_HASTEN, {"of": identity, "due_at": now})


def postpone(connection: Connection, key: RaKey) -> None:
    """Notes how it stands with a certificate that could not be obtained; `key` is as it shall be."""
    changing = ("idempotency_key", "requested_at", "due_at", "attempts", "reference", "detail")
    connection.execute(_POSTPONE, {"of": key.id} | {name: getattr(key, name) for name in changing})


def certify(
    connection: Connection,
    key: RaKey,
    certificate: bytes,
    *,
    now: datetime,
    shown_at: datetime,
    forget_at: datetime,
    forget_others_at: datetime,
) -> bool:
    """Takes a certificate, DER; what the identity had before is forgotten by `forget_others_at` at the latest.

    False: another process was faster.
    """
    values: dict[str, Any] = {"certificate": certificate, "shown_at": shown_at, "forget_at": forget_at}
    if connection.execute(_CERTIFY, {"of": key.id} | values).first() is None:
        return False
    connection.execute(_FOLLOW, {"of": key.identity, "of_id": key.id, "of_forget_at": forget_others_at})
    event: dict[str, audit.Value] = {
        "event": "ra-certificate",
        "identity": key.identity,
        "key": str(key.id),
        "serial": f"{x509.load_der_x509_certificate(certificate).serial_number:x}",
        "shown_at": audit.write_time(shown_at),
        "forget_at": audit.write_time(forget_at),
    }
    audit.record(connection, now, event)
    return True


def forget(connection: Connection, keys: Iterable[RaKey], now: datetime, who: str | None = None) -> None:
    """Removes keys for good: nothing that was sealed to them can be opened any more."""
    for each in keys:
        if connection.execute(_FORGET, {"of": each.id}).rowcount:
            event: dict[str, audit.Value] = {
                "event": "ra-key-forgotten",
                "identity": each.identity,
                "key": str(each.id),
            }
            audit.record(connection, now, event | {"who": who})
