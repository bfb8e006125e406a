"""CertPoll: the present state of a transaction, answered from the journal (RFC 8894 §3.3.3, §4.4).

A transaction is named by profile, signer key and transactionID together: a transactionID travels in clear and is often
predictable, so it alone is never trusted. The content of a CertPoll is not decrypted and not looked at.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ra.errors import Reason, Refused
from ra.journal.database import Journal
from ra.journal.records import Transaction
from ra.journal.sealing import JournalKey
from ra.journal.states import State
from ra.journal.transactions import find
from ra.scep.csr import read_csr
from ra.scep.messages import CertPoll
from ra.service.endpoint import Endpoint
from ra.service.kept import decision_of
from ra.service.ports import Clock
from ra.service.replies import Told, deliver


class Polls:
    """Answers CertPoll."""

    def __init__(self, *, journal: Journal, key: JournalKey, clock: Clock) -> None:
        self._journal = journal
        self._key = key
        self._clock = clock

    async def poll(self, endpoint: Endpoint, request: CertPoll) -> Told:
        """The present state of the transaction.

        Raises:
            Refused: no transaction of that name is known (a CA without a matching request "MUST reject this request", §4.4), or it has ended
                without a certificate.
            Unavailable: the journal cannot be asked.
        """
        signer_key = hashlib.sha256(request.outer.signer.spki).digest()
        transaction_id = request.outer.header.transaction_id.value
        transaction = await self._journal.read(
            lambda connection: find(connection, endpoint.profile.name, signer_key, transaction_id)
        )
        if transaction is None:
            raise Refused(Reason.TRANSACTION_UNKNOWN)
        if request.outer.signer.is_sealed_to or transaction.state is not State.RELEASED:
            return await deliver(self._journal, endpoint, transaction, self._clock.now())
        password = self._password(transaction)  # delivery wipes it
        return replace(await deliver(self._journal, endpoint, transaction, self._clock.now()), password=password)

    def _password(self, transaction: Transaction) -> str:
        """The challenge that the reply is sealed with. A device that lost it comes back with its request, and the challenge."""
        if transaction.request is None:
            raise Refused(Reason.SIGNER_CANNOT_RECEIVE, "the challenge that the reply is sealed with is kept no longer")
        decision = decision_of(self._key, transaction)
        password = read_csr(decision.csr).challenge_password
        if not password or not decision.seals_reply:  # a key that is not RSA asked for it again, after one that is
            raise Refused(Reason.SIGNER_CANNOT_RECEIVE, "the request was let in by no challenge that seals a reply")
        return password
