"""The state machine of a transaction, as data. moves.py and claims.py alone write states, and only along it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ra.errors import RaError


class State(StrEnum):
    """Where a transaction stands."""

    AUTHORISED = "authorised"
    """Granted and decided; nothing was sent to the CA, or certainly nothing arrived there."""
    AWAITING_APPROVAL = "awaiting-approval"
    """A person has to say yes; then it is authorised."""
    SUBMITTING = "submitting"
    """The CA is being asked, until `due_at`; after that the answer was lost."""
    ISSUED = "issued"
    """There is a certificate; somebody must be told before the device is."""
    RELEASED = "released"
    """The device may have the certificate. Whether it took it is a column: delivered_at."""
    PENDING = "pending"
    """The CA has accepted the request and not yet decided."""
    UNKNOWN = "unknown"
    """The CA was asked and no answer was had: it may have issued."""
    REJECTED = "rejected"
    """The CA or an approver said a final no."""
    QUARANTINED = "quarantined"
    """What the CA sent is not what was asked for; a person has to look."""
    EXPIRED = "expired"
    """It took too long. What the CA still sends for an order of it is revoked and never handed out."""
    REVOKING = "revoking"
    """The CA is to revoke the certificate."""
    REVOKED = "revoked"
    """The CA has revoked the certificate."""


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.AUTHORISED: frozenset({State.SUBMITTING, State.EXPIRED}),
    State.AWAITING_APPROVAL: frozenset({State.AUTHORISED, State.REJECTED, State.EXPIRED}),
    State.SUBMITTING: frozenset(
        {State.ISSUED, State.PENDING, State.UNKNOWN, State.REJECTED, State.QUARANTINED, State.AUTHORISED}
    ),
    State.PENDING: frozenset({State.ISSUED, State.REJECTED, State.QUARANTINED, State.EXPIRED}),
    State.UNKNOWN: frozenset(
        {State.ISSUED, State.PENDING, State.QUARANTINED, State.AUTHORISED, State.REJECTED}  # rejected by a person
    ),
    State.ISSUED: frozenset({State.RELEASED, State.REVOKING}),
    State.RELEASED: frozenset({State.REVOKING}),
    State.EXPIRED: frozenset({State.REVOKING}),
    State.REVOKING: frozenset({State.REVOKED}),
    State.REJECTED: frozenset(),
    State.QUARANTINED: frozenset({State.ISSUED, State.AUTHORISED, State.REJECTED}),  # as a person wants it
    State.REVOKED: frozenset(),
}
"""Every move there is."""

FIRST = frozenset({State.AUTHORISED, State.AWAITING_APPROVAL, State.SUBMITTING})
"""In one of these a transaction is written: what may be sent at once was AUTHORISED in the same commit."""

OPEN = frozenset(
    {
        State.AUTHORISED,
        State.AWAITING_APPROVAL,
        State.SUBMITTING,
        State.PENDING,
        State.UNKNOWN,
        State.QUARANTINED,
    }
)
"""No certificate and no final no: the device is told PENDING, and its transactionID is taken."""

DEFERRED = OPEN | {State.ISSUED}
"""The device is told PENDING: whatever transactionID it was told that under must be known when it polls."""

HELD = frozenset({State.ISSUED, State.RELEASED})
"""There is a certificate, and it stands."""

FINAL = frozenset({State.REJECTED, State.EXPIRED, State.REVOKED})
"""The device is told that it is over; nothing is handed out."""


class IllegalTransition(RaError):
    """A move that TRANSITIONS does not hold: a fault of the caller."""


class LostRace(RaError):
    """The transaction is no longer in the state it was expected in: somebody else has moved it."""


class NotItsOwn(RaError):
    """The certificate that a transaction is to have is another one's."""


def check_first(state: State) -> None:
    """Lets a state pass in which a transaction may begin.

    Raises:
        IllegalTransition: it is not in FIRST.
    """
    if state not in FIRST:
        raise IllegalTransition(f"nothing begins as {state}")


def check_path(before: State, *path: State) -> None:
    """Lets a way through legal moves pass, one after the other.

    Raises:
        IllegalTransition: a move of it is not in TRANSITIONS.
    """
    for after in path:
        if after not in TRANSITIONS[before]:
            raise IllegalTransition(f"{before} -> {after} is not a transition")
        before = after
