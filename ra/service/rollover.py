"""GetNextCACert (RFC 8894 §4.7): the CA certificates that follow, while there are any, signed by the present CA.

Whether there are any is asked of the CA now and then; GetCACaps announces it meanwhile as it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from connectors.api import Capability
from ra.errors import Misconfigured, RaError
from ra.scep.encode import certs_only, next_ca_response
from ra.scep.keys import Identity
from ra.service.asking import ask
from ra.service.backend import Backend
from ra.service.endpoint import Endpoint
from ra.service.gate import Overloaded
from ra.service.ports import Clock, Metrics

REFRESH = timedelta(minutes=10)
"""Between two questions to the CA."""

TIMEOUT_SECONDS = 5.0
"""Devices that fetch the capabilities wait meanwhile."""


class NoNextCa(RaError):
    """What a CA gave is no chain to follow it, or is not signed; the message says why."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What a CA said last: the chain, and the signed message over it where the CA signs; both empty for none."""

    chain: tuple[bytes, ...]
    signed: bytes
    ask_again_at: datetime


class Rollover:
    """Knows the CA that follows each backend's."""

    def __init__(self, *, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._signed_by_ra: dict[bytes, tuple[tuple[bytes, ...], bytes]] = {}

    async def message(self, endpoint: Endpoint) -> bytes | None:
        """The body of GetNextCACert; None: no CA follows that could be shown.

        Signed by the CA's own key where the connector has it do so; else by the RA, if the profile wants that.

        Raises:
            Unavailable: the RA is to sign, and its key is away.
        """
        backend = endpoint.backend
        by_ca, by_ra = backend.can(Capability.SIGN_NEXT_CA), endpoint.profile.next_ca_signed_by_ra
        if not (by_ca or by_ra) or not (backend.next_ca or backend.can(Capability.NEXT_CA)):
            return None
        known = await self._current(backend)
        if not known.chain:
            return None
        return known.signed or await self._sign(endpoint.identities[0], known.chain)

    async def _current(self, backend: Backend) -> _Known:
        """The CA is asked by one request at a time; what was known serves the others meanwhile."""
        asking = self._asking.setdefault(backend.name, asyncio.Lock())
        known = self._known.get(backend.name)
        if known is not None and (asking.locked() or self._clock.now() < known.ask_again_at):
            return known
        async with asking:
            known = self._known.get(backend.name)
            if known is None or self._clock.now() >= known.ask_again_at:
                known = await self._refresh(backend, known)
        return known

    async def _sign(self, identity: Identity, chain: tuple[bytes, ...]) -> bytes:
        """Once for each chain: every stranger who fetches the capabilities asks for it."""
        signer = identity.signer
        signed = self._signed_by_ra.get(signer.certificate)
        if signed is None or signed[0] != chain:
            work = partial(next_ca_response, chain, signer)
            signed = (chain, await asyncio.to_thread(work) if identity.is_remote else work())
            self._signed_by_ra[signer.certificate] = signed
        return signed[1]

    async def _refresh(self, backend: Backend, before: _Known | None) -> _Known:
        ask_again_at = self._clock.now() + REFRESH
        try:
            chain = backend.next_ca or await self._ask_chain(backend)
            signed = await self._ask_signature(backend, chain) if chain else b""
            found = _Known(chain, signed, ask_again_at)
        except (NoNextCa, Overloaded):  # the connector's failure is counted where it is asked
            found = _Known(before.chain if before else (), before.signed if before else b"", ask_again_at)
        self._known[backend.name] = found
        return found

    async def _ask_chain(self, backend: Backend) -> tuple[bytes, ...]:
        permit = await backend.gate.enter(TIMEOUT_SECONDS)
        answer = await ask(backend, permit, backend.connector.next_ca(), self._metrics, TIMEOUT_SECONDS)
        if isinstance(answer, Exception):
            raise NoNextCa(str(answer)) from answer
        if answer:
            check_next_chain(answer, backend.ca_chain)
        return answer

    async def _ask_signature(self, backend: Backend, chain: tuple[bytes, ...]) -> bytes:
        if not backend.can(Capability.SIGN_NEXT_CA):
            return b""
        permit = await backend.gate.enter(TIMEOUT_SECONDS)
        asking = backend.connector.sign_next_ca(certs_only(chain))
        answer = await ask(backend, permit, asking, self._metrics, TIMEOUT_SECONDS)
        if isinstance(answer, Exception):
            raise NoNextCa(str(answer)) from answer
        return answer


def insist_on_next_ca(backend: Backend) -> None:
    """Whether the chain that is configured to follow could.

    Raises:
        Misconfigured: it could not.
    """
    if backend.next_ca:
        try:
            check_next_chain(backend.next_ca, backend.ca_chain)
        except NoNextCa as error:
            raise Misconfigured(f"next_ca: {error}") from error


def check_next_chain(chain: tuple[bytes, ...], present: tuple[bytes, ...]) -> None:
    """Whether a chain, issuer first, is one of CAs, and not the one there is already.

    Raises:
        NoNextCa: it is not.
    """
    if chain[0] == present[0]:
        raise NoNextCa("it is the present CA: the change is over")
    try:
        certificates = [x509.load_der_x509_certificate(each) for each in chain]
        for each in certificates:
            if not each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise NoNextCa(f"{each.subject.rfc4514_string()!r} is no CA certificate")
        for below, above in pairwise(certificates):
            below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, x509.InvalidVersion, x509.ExtensionNotFound) as error:
        raise NoNextCa(f"it is no chain of CA certificates, issuing one first: {error}") from error
