"""Events and checkpoints as others read them: JSON lines, syslog (RFC 5424), and a checkpoint in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from sqlalchemy import Connection

from ra.errors import Misconfigured
from ra.journal.audit import Event, microseconds, stream_part, write_time
from ra.journal.checkpoints import Checkpoint, Stored, Unreadable, stream_checkpoints
from ra.journal.events import EVENTS

_PRIORITY = 13 * 8 + 6  # RFC 5424 §6.2.1: log audit, informational


def write_json(event: Event) -> str:
    """One line. `event` stands last and as it is stored, so that the digest can be made again from the line."""
    text = event.event
    is_ours = bool(event.read()) and text.isascii() and text.isprintable()
    head = json.dumps(
        {
            "chain": str(event.chain),
            "number": event.number,
            "at": write_time(event.at),
            "digest": event.digest.hex(),
        },
        separators=(",", ":"),
    )
    # Somebody may have changed it into what is no JSON, or more than a line.
    return f'{head.removesuffix("}")},"event":{text if is_ours else json.dumps(text)}}}'


def write_syslog(event: Event) -> str:
    """One message of RFC 5424, without a line end: the JSON is its MSG, the chain its PROCID, the kind its MSGID.

    HOSTNAME is nil: any host may export what others have recorded.
    """
    kind = str(event.read().get("event"))
    kind = kind if kind in EVENTS else "-"
    return f"<{_PRIORITY}>1 {write_time(event.at)} - scep-ra {event.chain} {kind} - {write_json(event)}"


def stream_sealed(connection: Connection, after: int, last: int) -> Iterator[Event]:
    """What was sealed by the checkpoints from number `after`, exclusive, to `last`: nothing is missed, or told twice.

    Raises:
        Unreadable: a checkpoint was changed.
    """
    for stored in takewhile(lambda each: each.number <= last, stream_checkpoints(connection, after=after)):
        for chain, sealed in Checkpoint.read(stored.statement).chains.items():
            yield from stream_part(connection, chain, sealed.first - 1, sealed.last)


def write_checkpoint(stored: Stored, key: Ed25519PublicKey) -> dict[str, Any]:
    """A checkpoint to be kept elsewhere, and the public key (PEM) that its signature is checked with."""
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return {
        "number": stored.number,
        "statement": stored.statement,
        "signature": stored.signature.hex(),
        "public_key": pem,
    }


def read_checkpoint(text: str) -> Stored:
    """What `write_checkpoint` made, as JSON; the key in it is not believed.

    Raises:
        Misconfigured: it is something else.
    """
    try:
        value = json.loads(text)
        checkpoint = Checkpoint.read(value["statement"])
        return Stored(
            number=checkpoint.number,
            at=microseconds(checkpoint.at),
            statement=value["statement"],
            signature=bytes.fromhex(value["signature"]),
        )
    except (ValueError, KeyError, TypeError, Unreadable):
        raise Misconfigured("this is no checkpoint; `scep-ra audit export --checkpoints` writes one") from None


def read_public_key(pem: bytes) -> Ed25519PublicKey:
    """The key that checkpoints are checked with, from PEM.

    Raises:
        Misconfigured: it is something else.
    """
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Misconfigured("this is no Ed25519 public key in PEM")
    return key
