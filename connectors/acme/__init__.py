"""Any CA that speaks ACME (RFC 8555): step-ca, EJBCA, Sectigo, DigiCert and others, with an account that is known to it.

```toml
type = "acme"
url = "https://ca.example.org/acme/acme/directory"
ca_file = "acme-tls-ca.pem"                     # what the server's own TLS certificate comes from
ca_chain = "acme-chain.pem"                     # the CA's issuing certificate first, then its chain
account_key = "acme-account.key"                # made on first use; keep a copy
state = "acme.db"                               # which order was finalised for which request (SQLite)
contact = ["mailto:pki@example.org"]
terms_of_service_agreed = true
eab_key_id = "kid-1"
eab_hmac_key = "file:acme.eab"
dns01 = { command = ["/usr/local/bin/dns-record"] }     # where names are not authorised beforehand
```

The server takes names and key from the device's own CSR, and the rest from its own rules. It can certify host names and
IP addresses; any other name is refused before an order is placed. An order yields one certificate at most, and which
order was finalised for a request is written down before: so nothing is issued twice, whatever gets lost.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field

from connectors.acme import answers
from connectors.acme.answers import Chain, NotIssuable, Order, OrderStatus, Problem, explain, refusal
from connectors.acme.challenges import Authoriser, Dns01, Hook
from connectors.acme.finalised import FinalisedOrders
from connectors.acme.jose import base64url
from connectors.acme.names import identifiers
from connectors.acme.session import AccountOptions, Session, watch
from connectors.api import (
    BackendUnavailable,
    Capability,
    ConnectorError,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    Misconfigured,
    NoCapabilities,
    Pending,
    ProtocolViolation,
    Rejected,
    RevocationReason,
    Services,
)
from connectors.keyfiles import read_certificates
from connectors.transport import Answer, Effect, Transport

_PEM_CHAIN = "application/pem-certificate-chain"
_MOST_ALTERNATES = 10
_LEAST_WAIT_SECONDS, _MOST_WAIT_SECONDS = 2, 3600
_SETTLES = timedelta(seconds=120)
"""After a finalize whose answer was lost, an order that is still `ready` may yet be signed: some servers say `ready`
until they have signed. So long after, no server is at it any more."""

# RFC 5280 §5.3.1
_REASON_CODES = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
}


class Options(AccountOptions):
    """One ACME server, and the account there. `url` is the directory's."""

    ca_chain: Path
    """PEM: the CA's issuing certificate first, then what is above it; ACME has no way to ask for it."""
    preferred_chain: str | None = None
    """Where the server has several chains: the common name that issued the topmost certificate of the one to take."""
    state: Path = Path("acme.db")
    """SQLite file of which order was finalised for which request; it belongs to the journal: back it up with it."""
    state_is_shared: bool = True
    """False where the RA runs on several machines that each have a `state` of their own: then a lost answer may have to
    be looked into by a person, for a machine does not know the others' orders."""
    profile: str | None = None
    """The server's certificate profile, where it has several."""
    common_name_is_identifier: bool = True
    """Whether a common name that is a host name or an IP address is ordered too. Most servers count it among the CSR's
    names; Pebble does not."""
    sends_not_after: bool = False
    """Whether the order asks for the approved end of validity. step-ca and Pebble keep to it; many others refuse it."""
    wait_seconds: Annotated[float, Field(ge=0, le=45)] = 10.0
    """How long a request waits for an order that was finalised, before it is told to come back."""
    dns01: Dns01 | None = None
    """A command that sets DNS records, for names that are not authorised beforehand."""


async def connect(options: Options, services: Services) -> AcmeCa:
    """Reads files and secrets, and opens the state; no request is sent, and no account key is made.

    Raises:
        Misconfigured: one of them cannot be read.
    """
    chain = read_certificates(services.directory / options.ca_chain)
    transport = Transport(options, services, explain=explain)
    session = Session(options, transport, services)
    finalised = FinalisedOrders(services.directory / options.state)
    try:
        finalised.prepare()
    except BackendUnavailable as error:
        raise Misconfigured(str(error)) from error
    return AcmeCa(options, services, session, finalised, chain)


class AcmeCa(NoCapabilities):
    """The connector."""

    def __init__(
        self, options: Options, services: Services, session: Session, finalised: FinalisedOrders, chain: Chain
    ) -> None:
        self._options = options
        self._services = services
        self._session = session
        self._finalised = finalised
        self._chain = chain
        hook = Hook(options.dns01, services.directory) if options.dns01 else None
        self._authoriser = Authoriser(session, hook)

    @property
    def capabilities(self) -> frozenset[Capability]:
        certain = {Capability.IDEMPOTENT, Capability.FIND_ISSUED} if self._options.state_is_shared else set()
        dated = {Capability.NOT_AFTER} if self._options.sends_not_after else set()
        return frozenset({Capability.POLL, Capability.REVOKE} | certain | dated)

    async def issue(self, request: IssueRequest) -> IssueResult:
        finalised = await asyncio.to_thread(self._finalised.find, request.idempotency_key)
        return await self._go_on(request, finalised.order_url if finalised else None)

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:
        return await self._go_on(request, reference)

    async def find_issued(
        self,
        request: IssueRequest,
        since: datetime,  # noqa: ARG002 - the order is known, and no other request's
        others: frozenset[int] = frozenset(),  # noqa: ARG002
    ) -> Issued | None:
        """What the order of the request has yielded; nothing, where none was ever finalised for it.

        Raises:
            ConnectorError: it is not known yet.
        """
        if not self._options.state_is_shared:
            raise self._lacks(Capability.FIND_ISSUED)
        finalised = await asyncio.to_thread(self._finalised.find, request.idempotency_key)
        if finalised is None:
            return None
        order = await self._look(finalised.order_url)
        left = finalised.at + _SETTLES - self._services.now()
        if order.status is OrderStatus.VALID:
            return await self._issued(order, request)
        if order.status is OrderStatus.INVALID or (order.status is OrderStatus.READY and left <= timedelta()):
            return None
        detail = f"{self._session.where('order', order.url)} is {order.status}, and may yet be signed"
        raise BackendUnavailable(detail, maybe_issued=True, retry_after_seconds=self._wait(order, request))

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        url, revoked = (await self._session.directory()).revoke_cert, {"certificate": base64url(certificate)}
        said = await self._session.send("revoke", url, {**revoked, "reason": _REASON_CODES[reason]})
        if isinstance(said, Problem) and said.kind == "badRevocationReason":
            said = await self._session.send("revoke", url, revoked)
        if isinstance(said, Problem) and said.kind != "alreadyRevoked":
            raise answers.error_of(said, self._session.where("revoke", url))

    async def ca_chain(self) -> tuple[bytes, ...]:
        return answers.der(self._chain)

    async def health(self) -> Health:
        """The server is there, and knows our account."""
        not_after = self._chain[0].not_valid_after_utc
        if self._services.now() >= not_after:
            return Health(ready=False, detail=f"the CA certificate ran out at {not_after}", ca_not_after=not_after)
        try:
            await self._session.refresh()
            account = await self._session.account()
        except ConnectorError as error:
            return Health.failed(error, not_after)
        return Health(ready=True, detail=f"the account is {account}", ca_not_after=not_after)

    async def aclose(self) -> None:
        await self._session.aclose()

    # ------------------------------------------------------------ orders
    async def _go_on(self, request: IssueRequest, url: str | None) -> IssueResult:
        """Takes an order as far as it gets now, from wherever it is."""
        try:
            order = await self._open_order(request, url)
            if order.status is OrderStatus.PENDING:
                await self._authoriser.authorise(order.authorizations)
                order = await self._look(order.url)
            if order.status is OrderStatus.READY:
                return await self._finalise(order, request)
            return await self._result(order, request)
        except NotIssuable as error:
            return Rejected(rejection=error.rejection, detail=str(error))

    async def _open_order(self, request: IssueRequest, url: str | None) -> Order:
        """The order at `url`; a new one where there is none, or that one has failed for what was not the request's."""
        order = await self._look(url) if url else None
        if order is not None and order.status is not OrderStatus.INVALID:
            return order
        if order is not None and order.problem is not None:
            error = refusal(order.problem, order.url)
            if isinstance(error, NotIssuable):
                raise error
        return await self._place(request)

    async def _place(self, request: IssueRequest) -> Order:
        names = identifiers(request.contents, with_common_name=self._options.common_name_is_identifier)
        wanted: dict[str, Any] = {"identifiers": names}
        if self._options.sends_not_after:
            not_after = (request.requested_at + request.contents.validity).replace(microsecond=0)
            wanted["notAfter"] = not_after.isoformat().replace("+00:00", "Z")
        if self._options.profile is not None:
            wanted["profile"] = self._options.profile
        url = (await self._session.directory()).new_order
        said = await self._session.send("order", url, wanted, effect=Effect.ONCE)
        if isinstance(said, Problem):
            raise refusal(said, self._session.where("order", url))
        return answers.order(said, self._session.allowed_url(said.headers.get("location", "")))

    async def _finalise(self, order: Order, request: IssueRequest) -> IssueResult:
        """Has the order signed, and waits a little; from then on every fault means: look at that order again."""
        self._session.allowed_url(order.finalize)
        key, now = request.idempotency_key, self._services.now()
        before = await asyncio.to_thread(self._finalised.find, key)
        if before is not None and before.order_url == order.url and now < before.at + _SETTLES:
            return self._pending(order, request)
        await asyncio.to_thread(self._finalised.note, key, order.url, now)
        try:
            order, is_ours = await self._finalised_order(order, request.csr)
        except (ConnectorError, NotIssuable):
            await asyncio.to_thread(self._finalised.forget, key)
            raise
        try:
            if not order.is_settled:
                order = await watch(lambda: self._look(order.url), self._options.wait_seconds)
            return await self._result(order, request, is_ours=is_ours)
        except ConnectorError as error:
            asked = error.retry_after_seconds if isinstance(error, BackendUnavailable) else None
            return self._pending(replace(order, retry_after_seconds=asked), request)

    async def _finalised_order(self, order: Order, csr: bytes) -> tuple[Order, bool]:
        """The order after its finalize, and whether that was ours for certain; as it was before, where the answer was lost.

        Raises:
            NotIssuable: the server refuses the CSR.
            ConnectorError: it has surely done nothing.
        """
        try:
            said = await self._session.send("finalize", order.finalize, {"csr": base64url(csr)}, effect=Effect.ISSUES)
            if isinstance(said, Answer):
                return answers.order(said, order.url), True
        except BackendUnavailable as error:
            if not error.maybe_issued:
                raise
            return order, False
        except ProtocolViolation:
            return order, False
        if said.kind == "orderNotReady":  # somebody has finalised it
            return replace(order, status=OrderStatus.PROCESSING), False
        raise refusal(said, self._session.where("finalize", order.finalize), of_finalize=True)

    async def _result(self, order: Order, request: IssueRequest, *, is_ours: bool = False) -> IssueResult:
        """What an order yields; where it `is_ours` for certain, it has the CSR's key or is wrong."""
        if order.status is OrderStatus.VALID:
            issued = await self._issued(order, request, is_ours=is_ours)
            # Some servers hand the same order to everybody who wants the same names: then another key was faster.
            return issued or self._pending(await self._place(request), request)
        if order.status is OrderStatus.INVALID:
            problem = order.problem or Problem(detail="the order has failed, and the CA does not say why")
            raise refusal(problem, self._session.where("order", order.url))
        return self._pending(order, request)

    def _pending(self, order: Order, request: IssueRequest) -> Pending:
        return Pending(reference=order.url, retry_after_seconds=self._wait(order, request))

    def _wait(self, order: Order, request: IssueRequest) -> int:
        """What the server asks for; else the longer, the longer it has taken already."""
        if order.status is OrderStatus.READY and not self._options.state_is_shared:
            # Whoever polls next may be a machine that does not know of our finalize, and must not send another.
            return int(_SETTLES.total_seconds())
        if order.retry_after_seconds is not None:
            return max(_LEAST_WAIT_SECONDS, order.retry_after_seconds)
        age = (self._services.now() - request.requested_at).total_seconds()
        return max(_LEAST_WAIT_SECONDS, min(int(age / 4), _MOST_WAIT_SECONDS))

    async def _look(self, url: str) -> Order:
        return answers.order(await self._session.ask("look", url), url)

    # ------------------------------------------------------------ certificates
    async def _issued(self, order: Order, request: IssueRequest, *, is_ours: bool = False) -> Issued | None:
        """The certificate of an order that is valid; None, where it holds another's key. What `is_ours` is handed on."""
        if order.certificate is None:
            raise ProtocolViolation(f"{self._session.where('order', order.url)} is valid and has no certificate")
        chain = await self._preferred(order.certificate)
        certificate, *above = answers.der(chain)
        if not is_ours and _spki(chain) != request.contents.spki:
            return None
        return Issued(certificate=certificate, chain=tuple(above), reference=order.url)

    async def _preferred(self, url: str) -> Chain:
        """The chain that is preferred, if there is one; else the one that the server prefers."""
        answer = await self._session.ask("certificate", url, accept=_PEM_CHAIN)
        first, wanted = answers.chain(answer), self._options.preferred_chain
        if wanted is None or answers.leads_to(first, wanted):
            return first
        for each in answers.alternates(answer)[:_MOST_ALTERNATES]:
            other = answers.chain(await self._session.ask("certificate", each, accept=_PEM_CHAIN))
            if answers.leads_to(other, wanted):
                return other
        return first


def _spki(chain: Chain) -> bytes:
    try:
        return chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""
