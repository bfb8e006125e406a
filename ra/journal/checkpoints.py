"""Signed statements of where every chain of the audit stands, and the removal of what is old.

A checkpoint lists the chains that have grown since the one before, and holds that one's digest, which stands for all
the others: the statement stays small however many chains there are. So does a removal: whole chains go, with the
checkpoints that sealed them, and the next checkpoint says from where on the audit is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, Self
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import BigInteger, Connection, bindparam, cast, delete, select, type_coerce
from sqlalchemy.dialects.postgresql import insert  # its ON CONFLICT compiles for SQLite too, not the other way round
from sqlalchemy.types import NullType

from ra.errors import RaError
from ra.journal.audit import microseconds, write_time
from ra.journal.chain import CLOSED_WITHIN
from ra.journal.tables import audit_checkpoints, audit_events

PAGE = 1_000
LEARNED = 100
"""Checkpoints that are learned at once: on SQLite nothing else goes on meanwhile."""

MAX_REMOVED = 5_000
"""Events that are removed in one commit, or one checkpoint's chains."""

RESTS_AFTER = CLOSED_WITHIN + timedelta(hours=12)
"""A chain that has not grown for so long will not grow any more; the hours are for clocks that differ."""

_TYPE = "scep-ra audit checkpoint 1"
_MOST = (1 << 63) - 1

# As they stand in the file: what was changed into another type is not to be found out by an exception.
_AS_THEY_ARE = [type_coerce(each, NullType()).label(each.name) for each in audit_checkpoints.c]
_IS_NUMBERED = cast(audit_checkpoints.c.number, BigInteger) == audit_checkpoints.c.number
_NEXT = (
    select(*_AS_THEY_ARE)
    .where(audit_checkpoints.c.number > bindparam("after"), _IS_NUMBERED)
    .order_by(audit_checkpoints.c.number)
    .limit(bindparam("count"))
)
_NEWEST = select(*_AS_THEY_ARE).where(_IS_NUMBERED).order_by(audit_checkpoints.c.number.desc()).limit(1)
_INSERT = insert(audit_checkpoints).on_conflict_do_nothing().returning(audit_checkpoints.c.number)
_FORGET = delete(audit_checkpoints).where(audit_checkpoints.c.number < bindparam("of"))
_REMOVE = delete(audit_events).where(audit_events.c.chain == bindparam("of"))
_DIGEST = select(type_coerce(audit_events.c.digest, NullType())).where(
    audit_events.c.chain == bindparam("of"), audit_events.c.number == bindparam("of_number")
)


def _chains() -> Any:
    """Every chain and its last number, each by two looks into the index: a GROUP BY would read every event."""
    first = select(audit_events.c.chain).order_by(audit_events.c.chain).limit(1).scalar_subquery()
    chains = select(first.label("chain")).cte("chains", recursive=True)
    following = (
        select(audit_events.c.chain)
        .where(audit_events.c.chain > chains.c.chain)
        .order_by(audit_events.c.chain)
        .limit(1)
        .scalar_subquery()
    )
    chains = chains.union_all(select(following).where(chains.c.chain.is_not(None)))
    last = (
        select(audit_events.c.number)
        .where(audit_events.c.chain == chains.c.chain)
        .order_by(audit_events.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    chain, number = type_coerce(chains.c.chain, NullType()), type_coerce(last, NullType())
    return select(chain.label("chain"), number.label("number")).where(chains.c.chain.is_not(None))


_CHAINS = _chains()


class Unreadable(RaError):
    """A statement that no checkpoint of ours makes."""


class Sealed(NamedTuple):
    """What a checkpoint seals of one chain: events `first` to `last`; `digest` is that of the last."""

    first: int
    last: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is signed.

    Attributes:
        number: 1, 2, 3, …
        previous: SHA-256 of the statement before, hex; empty in the first.
        kept_since: number of the oldest checkpoint that is kept; what only older ones seal was removed.
        chains: those with events since the checkpoint before.
    """

    number: int
    at: datetime
    previous: str
    kept_since: int
    chains: Mapping[UUID, Sealed]

    def write(self) -> str:
        """The statement: JSON in ASCII, keys sorted, no spaces."""
        value = {
            "type": _TYPE,
            "number": self.number,
            "at": write_time(self.at),
            "previous": self.previous,
            "kept_since": self.kept_since,
            "chains": {
                str(chain): {"first": sealed.first, "last": sealed.last, "digest": sealed.digest.hex()}
                for chain, sealed in self.chains.items()
            },
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    @classmethod
    def read(cls, statement: str) -> Self:
        """The opposite of `write`.

        Raises:
            Unreadable: it is something else, or was not written by `write`.
        """
        try:
            value = json.loads(statement)
            if value["type"] != _TYPE:
                raise Unreadable("it is another kind of statement")
            return cls(
                number=_number(value["number"]),
                at=datetime.fromisoformat(value["at"]),
                previous=str(value["previous"]),
                kept_since=_number(value["kept_since"]),
                chains={
                    UUID(chain): Sealed(
                        _number(sealed["first"]), _number(sealed["last"]), bytes.fromhex(sealed["digest"])
                    )
                    for chain, sealed in value["chains"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Unreadable(f"it is no checkpoint: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A checkpoint as it is kept: the statement, and the Ed25519 signature over its bytes (RFC 8032).

    Attributes:
        at: microseconds since 1970 UTC.
    """

    number: int
    at: int
    statement: str
    signature: bytes

    @property
    def digest(self) -> str:
        """What the next checkpoint calls `previous`."""
        return sha256(str(self.statement).encode()).hexdigest()

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(self.signature, self.statement.encode())
        except (InvalidSignature, TypeError, AttributeError):
            return False
        return True


@dataclass(slots=True, kw_only=True)
class Known:
    """What the checkpoints that were read so far say; `learn` brings it up to date.

    All of them have to be read once: of a chain that was sealed long ago, no later one says that it was.

    Attributes:
        number: of the last one; 0 before the first.
        digest: of its statement.
        heads: the last sealed number of each chain.
        unreadable: what `learn` and `seal` have passed over, in words; `verify` tells more.
    """

    number: int = 0
    digest: str = ""
    kept_since: int = 1
    heads: dict[UUID, int] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)


def learn(connection: Connection, known: Known) -> bool:
    """Reads the next page of checkpoints; False once there is none. Reads only.

    What cannot be read is passed over: `verify` tells of it, and what is new must be sealed all the same.
    """
    page = _page(connection, known.number, LEARNED)
    for each in page:
        known.number, known.digest = each.number, each.digest
        try:
            checkpoint = Checkpoint.read(each.statement)
        except Unreadable:
            known.unreadable.add(f"checkpoint {each.number}")
            continue
        known.kept_since = checkpoint.kept_since
        known.heads.update((chain, sealed.last) for chain, sealed in checkpoint.chains.items())
    return bool(page)


def stream_checkpoints(connection: Connection, *, after: int = 0) -> Iterator[Stored]:
    """Those with greater numbers than `after`, in their order; read in pages."""
    while page := _page(connection, after, PAGE):
        yield from page
        after = page[-1].number


def newest(connection: Connection) -> Stored | None:
    """The last one. Reads only."""
    with any_text(connection):
        row = connection.execute(_NEWEST).mappings().first()
    return None if row is None else Stored(**row)


def chains(connection: Connection) -> dict[UUID, int]:
    """Every chain, and the number of its last event; not what was renamed to something that is no name. Reads only."""
    return _chains_and_others(connection)[0]


@contextmanager
def any_text(connection: Connection) -> Iterator[None]:
    """Reads a text that is no UTF-8 as another text: SQLite keeps such, and would fail for all that is read with it."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    before, driver.text_factory = driver.text_factory, lambda text: text.decode("utf-8", "replace")
    try:
        yield
    finally:
        driver.text_factory = before


def seal(
    connection: Connection, signer: Ed25519PrivateKey, known: Known, now: datetime, *, before: datetime | None = None
) -> Checkpoint | None:
    """Seals what `known` does not say is sealed, in one checkpoint; None: nothing is new, or another process was faster.

    `known` was brought up to date by `learn`, and is not changed but for what cannot be read. What was sealed before
    `before`, and by chains that will not grow any more, is removed in the same commit, a bounded part of it at a time.
    """
    heads, others = _chains_and_others(connection)
    known.unreadable |= others
    fresh = _fresh(connection, known, heads)
    kept_since, removable = known.kept_since, list[UUID]()
    if before is not None:
        kept_since, removable = _removable(connection, known, heads, min(before, now - RESTS_AFTER))
    if not fresh and not removable:  # else an old checkpoint that goes would make a new one, for ever
        return None
    checkpoint = Checkpoint(number=known.number + 1, at=now, previous=known.digest, kept_since=kept_since, chains=fresh)
    statement = checkpoint.write()
    values = {
        "number": checkpoint.number,
        "at": now,
        "statement": statement,
        "signature": signer.sign(statement.encode()),
    }
    if connection.execute(_INSERT, values).first() is None:
        return None
    if kept_since > known.kept_since:
        connection.execute(_FORGET, {"of": kept_since})
    if removable:
        connection.execute(_REMOVE, [{"of": chain} for chain in removable])
    return checkpoint


def _fresh(connection: Connection, known: Known, heads: Mapping[UUID, int]) -> dict[UUID, Sealed]:
    """The chains that have grown; one whose last digest was changed into something else is sealed when it grows on."""
    fresh = dict[UUID, Sealed]()
    for chain, number in heads.items():
        after = known.heads.get(chain, 0)
        if number <= after:
            continue
        with any_text(connection):
            own: Any = connection.execute(_DIGEST, {"of": chain, "of_number": number}).scalar()
        if isinstance(own, bytes):
            fresh[chain] = Sealed(after + 1, number, own)
        else:
            known.unreadable.add(f"chain {chain}, event {number}")
    return fresh


def _removable(
    connection: Connection, known: Known, heads: Mapping[UUID, int], before: datetime
) -> tuple[int, list[UUID]]:
    """From which checkpoint on the audit is still kept, and the chains that end with the ones before it.

    `before` is at least RESTS_AFTER ago, and a checkpoint is not older than what it seals: such a chain does not go on.
    """
    kept_since, removable, count = known.kept_since, list[UUID](), 0
    for each in _page(connection, kept_since - 1, PAGE):
        at: Any = each.at
        if not isinstance(at, int) or at >= microseconds(before):
            break
        ending = {
            chain: last
            for chain, last in _sealed_by(each).items()
            if last == known.heads.get(chain) and last >= heads.get(chain, 0)
        }
        count += sum(ending.values())
        if removable and count > MAX_REMOVED:
            break
        removable += ending
        kept_since = each.number + 1
    return kept_since, removable


def _sealed_by(stored: Stored) -> dict[UUID, int]:
    try:
        return {chain: sealed.last for chain, sealed in Checkpoint.read(stored.statement).chains.items()}
    except Unreadable:
        return {}


def _page(connection: Connection, after: int, count: int) -> list[Stored]:
    with any_text(connection):
        return [Stored(**row) for row in connection.execute(_NEXT, {"after": after, "count": count}).mappings()]


def _chains_and_others(connection: Connection) -> tuple[dict[UUID, int], set[str]]:
    """Every chain with the number of its last event; and in words those with a name or a number that cannot be."""
    found, others = dict[UUID, int](), set[str]()
    with any_text(connection):
        rows = connection.execute(_CHAINS).all()
    for name, number in rows:
        chain = _chain_of(name)
        if chain is None or not isinstance(number, int):
            others.add(f"chain {name}, event {number}")
        else:
            found[chain] = number
    return found, others


def _chain_of(name: object) -> UUID | None:
    try:
        return UUID(str(name))
    except ValueError:
        return None


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 < value <= _MOST:
        raise ValueError(f"{value!r} is no number")
    return value
