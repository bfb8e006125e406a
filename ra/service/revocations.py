"""Certificates that somebody beside a person wants revoked: whoever has let their requests in."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID
from sqlalchemy import Connection

from connectors.api import RevocationReason
from ra.challenge.api import Revocation
from ra.journal import listing, settle, transactions
from ra.journal.database import Journal
from ra.journal.listing import Filter, read_serial
from ra.journal.records import Transaction
from ra.journal.states import HELD, LostRace, State
from ra.service.ports import Clock

_MOST = 10
"""Transactions that one text may mean; there are hardly ever two."""

_LONG_SERIAL = 16
"""Hexadecimal digits, 64 bits: no two CAs give the same one. Those that count give short ones, and so do others."""

_ENDED = HELD | {State.REVOKING, State.REVOKED}


class Revocations:
    """Implements ra.challenge.api.Certificates for the validator of that name."""

    def __init__(self, *, journal: Journal, validator: str, clock: Clock) -> None:
        self._journal = journal
        self._validator = validator
        self._clock = clock

    async def revoke(self, serial: str, why: str, issuer: str | None = None) -> Revocation:
        found = await self._journal.read(lambda c: self._find(c, serial, issuer))
        if found is None:
            return Revocation.NOT_OURS
        if found.state in HELD:
            now = self._clock.now()
            try:
                await self._journal.write(lambda c: settle.revoke(c, found, RevocationReason.UNSPECIFIED, why, now))
            except LostRace:  # it was handed out, or revoked, at this moment: whoever asks again is told
                return Revocation.UNDER_WAY
        return Revocation.DONE if found.state is State.REVOKED else Revocation.UNDER_WAY

    def _find(self, connection: Connection, serial: str, issuer: str | None) -> Transaction | None:
        """The one certificate that is meant; where digits may be hex or decimal, what they are in hex comes first."""
        meant = read_serial(serial)
        rows = listing.find_transactions(connection, Filter(serials=meant), None, _MOST).rows if meant else ()
        known = [transactions.get(connection, each.id) for each in rows]
        ours = [each for each in known if each.state in _ENDED and self._validator in each.grant_method.split("+")]
        if issuer:
            ours = [each for each in ours if len(each.serial or "") >= _LONG_SERIAL or _is_issued_by(each, issuer)]
        as_hex = serial.lower().removeprefix("0x").replace(":", "").lstrip("0")
        exact = [each for each in ours if each.serial == as_hex] or ours
        return exact[0] if len(exact) == 1 else None


def _is_issued_by(transaction: Transaction, issuer: str) -> bool:
    """Whether a text names the CA: spaces, case and what stands around the common name do not count."""
    if transaction.certificate is None:
        return False
    name = x509.load_der_x509_certificate(transaction.certificate).issuer
    common = [str(each.value) for each in name.get_attributes_for_oid(NameOID.COMMON_NAME)] or [name.rfc4514_string()]
    return any("".join(each.casefold().split()) in "".join(issuer.casefold().split()) for each in common)
