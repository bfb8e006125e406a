"""The RA, the device and the messages that the tests of the decoder start from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ra.scep.decode import read_inner, read_outer
from ra.scep.keys import Identity
from ra.scep.messages import Enrolment, Outer, Request
from ra.scep.names import KeyTransport, Legacy
from tests.fakes.messages import (
    Envelope,
    Message,
    SoftKey,
    challenge,
    csr,
    integer,
    name,
    ra_identity,
    rsa_key,
    seq,
)

NONE: frozenset[Legacy] = frozenset()
ALL = frozenset(Legacy)
RA = ra_identity()
CSR = csr(rsa_key(), attributes=[challenge()])
ENVELOPE = Envelope(RA, CSR).build()
NONCE = b"0123456789abcdef"
SIGNED_BY_DEVICE = seq(name("device"), integer(7))


def message(**changes: object) -> Message:
    return replace(Message(rsa_key(), ENVELOPE), **changes)  # type: ignore[arg-type]  # passed on as they are


def outer(built: Message | bytes, legacy: frozenset[Legacy] = NONE) -> Outer:
    return read_outer(built if isinstance(built, bytes) else built.build(), legacy)


def inner(built: Message, legacy: frozenset[Legacy] = NONE, identities: Sequence[Identity] = (RA,)) -> Request:
    return read_inner(outer(built, legacy), identities, legacy, os.urandom)


def enrolment(
    envelope: Envelope, legacy: frozenset[Legacy] = NONE, identities: Sequence[Identity] = (RA,)
) -> Enrolment:
    request = inner(message(content=envelope.build()), legacy, identities)
    assert isinstance(request, Enrolment)
    return request


def unwrapped(identity: Identity) -> list[KeyTransport]:
    assert isinstance(identity.decryptor, SoftKey)
    return identity.decryptor.unwrapped
