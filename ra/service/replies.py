"""What a committed transaction is told to the device as, and to the operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from connectors.api import Rejection
from ra.errors import Reason, Refused
from ra.journal.database import Journal
from ra.journal.records import Transaction
from ra.journal.states import FINAL, State
from ra.journal.transactions import mark_delivered
from ra.scep.messages import Deferral, Issuance, Reply
from ra.service.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A reply, and why it is no certificate yet: for the log, never for the device."""

    reply: Reply
    detail: str = ""
    password: str | None = field(default=None, repr=False)
    """What to seal the reply with, where the signer's key cannot be encrypted to."""


def tell(endpoint: Endpoint, transaction: Transaction) -> Told:
    """The present state of a transaction: SUCCESS once it is RELEASED, PENDING while it is open.

    Raises:
        Refused: it has ended without a certificate.
    """
    if transaction.state is State.RELEASED and transaction.certificate is not None:
        chain = transaction.chain if endpoint.profile.include_chain else ()
        return Told(reply=Issuance(certificates=(transaction.certificate, *chain)))
    if transaction.state is State.REJECTED:
        reason = Reason.CA_REFUSED if transaction.reason in set(Rejection) else Reason.DENIED
        raise Refused(reason, transaction.detail or "")
    if transaction.state in FINAL or transaction.state is State.REVOKING:
        why = [each for each in (transaction.revocation, transaction.detail) if each]
        raise Refused(Reason.TRANSACTION_CLOSED, ": ".join([f"the transaction is {transaction.state}", *why]))
    return Told(reply=Deferral(), detail=f"{transaction.state}: {transaction.detail or 'in hand'}")


async def deliver(journal: Journal, endpoint: Endpoint, transaction: Transaction, now: datetime) -> Told:
    """The same, noting that a certificate is handed out for the first time.

    Raises:
        Refused: as above.
        Unavailable: the journal cannot be written.
    """
    if transaction.state is State.RELEASED and transaction.delivered_at is None:
        supersedes = transaction.renews is not None and endpoint.profile.revoke_on_replace
        transaction = await journal.write(lambda c: mark_delivered(c, transaction.id, now, supersedes=supersedes))
    return tell(endpoint, transaction)
