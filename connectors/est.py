"""Enrolment over Secure Transport (RFC 7030, RFC 8951): any CA that speaks it.

```toml
type = "est"
url = "https://est.example.org"
ca_file = "est-tls-ca.pem"                      # what the server's TLS certificate comes from
client_certificate = "est-client.pem"           # how it knows us; or user and password, or both
client_key = "est-client.key"
label = "devices"                               # https://est.example.org/.well-known/est/devices/simpleenroll
```

The CA is handed the device's CSR and decides on everything in the certificate. It is never renewed by simplereenroll,
which is for the device that holds the old key. EST can neither revoke nor say what it has issued.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Annotated, Self

from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, model_validator

from connectors import certificates
from connectors.api import (
    ApprovedContents,
    AuthFailed,
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
    Rejection,
    Secret,
    Services,
)
from connectors.keyfiles import read_certificates
from connectors.transport import (
    Answer,
    Call,
    Effect,
    Meaning,
    SecretReference,
    Transport,
    TransportOptions,
    read_secret,
)

_ACCEPTED = 202
_DEFAULT_WAIT_SECONDS = 300
"""Told to come back, and not when, though RFC 7030 §4.2.3 wants it said."""
_CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
"""The extended key usage that an RA's certificate has, and no device's."""

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9_~-][A-Za-z0-9_.~-]*$")]


class Options(TransportOptions):
    """One EST server, and what devices get there."""

    label: Label | None = None
    """The additional path segment (RFC 7030 §3.2.2), where the server has several CAs or profiles."""
    ra_label: Label | None = None
    """The path segment for the RA's own certificates; without it the RA needs one from elsewhere."""
    user: str | None = None
    """For HTTP Basic authentication."""
    password: SecretReference | None = None
    """`file:PATH` or `env:NAME`."""
    ca_chain: Path | None = None
    """PEM: the issuing CA first, then what is above it. Needed only where the server hands out several issuing CAs."""

    @model_validator(mode="after")
    def _says_who_we_are(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together: set both or neither")
        if self.user is not None and ":" in self.user:
            raise ValueError("user must not hold a colon (RFC 7617 §2)")
        if self.user is None and self.client_certificate is None:
            raise ValueError("set client_certificate and client_key, or user and password: EST wants to know who asks")
        return self


async def connect(options: Options, services: Services) -> EstCa:
    """Reads files and secrets; no request is sent.

    Raises:
        Misconfigured: one of them cannot be read.
    """
    authorization = None
    if options.user is not None and options.password is not None:
        pair = f"{options.user}:{read_secret(options.password, services).reveal()}"
        authorization = Secret("Basic " + b64encode(pair.encode()).decode("ascii"))
    chain: tuple[bytes, ...] = ()
    if options.ca_chain is not None:
        found = read_certificates(services.directory / options.ca_chain)
        chain = tuple(each.public_bytes(Encoding.DER) for each in found)
    credentials = ("user", "password") if authorization else ("client_certificate",)
    transport = Transport(options, services, credentials=credentials)
    return EstCa(options, services, transport, authorization, chain)


class EstCa(NoCapabilities):
    """The connector."""

    def __init__(
        self,
        options: Options,
        services: Services,
        transport: Transport,
        authorization: Secret | None,
        chain: tuple[bytes, ...],
    ) -> None:
        self._options = options
        self._services = services
        self._transport = transport
        self._authorization = authorization
        self._configured_chain = chain
        self._chains: dict[str | None, tuple[bytes, ...]] = {}

    @property
    def capabilities(self) -> frozenset[Capability]:
        can = {Capability.POLL}
        if self._options.ra_label is not None:
            can.add(Capability.RA_CERTIFICATE)
        return frozenset(can)

    async def issue(self, request: IssueRequest) -> IssueResult:
        if certificates.csr_pem(request.csr) is None:
            return Rejected(rejection=Rejection.CSR, detail="the PKCS #10 cannot be read")
        return await self._enrol(request, self._label_for(request.contents))

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:
        """Asks the same again, which is how EST polls (RFC 7030 §4.2.3)."""
        label, _, digest = reference.rpartition(" ")
        if digest != _digest(request.csr):
            raise Misconfigured(f"{self._services.name} is still waiting for another request than this one")
        return await self._enrol(request, label or None)

    async def ca_chain(self) -> tuple[bytes, ...]:
        return await self._chain_of(self._options.label)

    async def health(self) -> Health:
        """The server is there and hands out its CA; whether it knows us, only an enrolment tells."""
        try:
            not_after = certificates.load((await self.ca_chain())[0]).not_valid_after_utc
        except ConnectorError as error:
            return Health.failed(error)
        if self._services.now() >= not_after:
            return Health(ready=False, detail=f"the CA ran out at {not_after}", ca_not_after=not_after)
        return Health(ready=True, detail="the server hands out its CA", ca_not_after=not_after)

    async def rehearse(self) -> None:
        """Sends what is no CSR: an EST server looks at who asks first. What else it says to that is no matter."""
        for label in {self._options.label, self._options.ra_label or self._options.label}:
            try:
                await self._transport.call(self._enrolment(label, b"none", Effect.REPEATABLE))
            except (AuthFailed, Misconfigured):
                raise
            except ConnectorError:
                continue

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _label_for(self, contents: ApprovedContents) -> str | None:
        is_ours = _CERTIFICATE_REQUEST_AGENT in contents.extended_key_usage
        return self._options.ra_label if is_ours and self._options.ra_label else self._options.label

    async def _enrol(self, request: IssueRequest, label: str | None) -> IssueResult:
        chain = self._chains.get(label) or await self._chain_of(label)
        answer = await self._transport.call(self._enrolment(label, request.csr, Effect.ISSUES))
        if answer.status == _ACCEPTED:
            seconds = answer.retry_after_seconds
            return Pending(
                reference=f"{label or ''} {_digest(request.csr)}",
                retry_after_seconds=seconds if seconds is not None else _DEFAULT_WAIT_SECONDS,
            )
        if not answer.is_success:
            return Rejected(rejection=Rejection.OTHER, detail=answer.first_line())
        return self._issued(self._bag(answer), request.contents.spki, chain, label)

    def _enrolment(self, label: str | None, csr: bytes, effect: Effect) -> Call:
        return Call(
            operation="simpleenroll",
            effect=effect,
            method="POST",
            url=_path(label, "simpleenroll"),
            headers=self._headers(),
            content=b64encode(csr),
            statuses={400: _of_400},
            settings=("label", "ra_label") if self._options.ra_label else ("label",),
        )

    def _headers(self) -> dict[str, str | Secret]:
        # RFC 8951 does away with the transfer encoding; servers of RFC 7030 may look for it.
        headers: dict[str, str | Secret] = {
            "Content-Type": "application/pkcs10",
            "Content-Transfer-Encoding": "base64",
        }
        return headers | ({"Authorization": self._authorization} if self._authorization else {})

    def _issued(self, bag: tuple[bytes, ...], spki: bytes, chain: tuple[bytes, ...], label: str | None) -> Issued:
        """What came back; by another CA than before, with no more of a chain than came with it."""
        certificate = next((each for each in bag if certificates.spki(each) == spki), bag[0])
        leaf = certificates.load(certificate)
        if not certificates.has_issued(certificates.load(chain[0]), leaf):
            _, *chain_with_it = certificates.chain_above(certificate, bag)
            chain = tuple(chain_with_it)
            self._chains.pop(label, None)
        return Issued(certificate=certificate, chain=chain, reference=f"{leaf.serial_number:x}")

    async def _chain_of(self, label: str | None) -> tuple[bytes, ...]:
        """The chain, asked for anew; as it is configured, where it is."""
        call = Call(
            operation="cacerts", effect=Effect.REPEATABLE, url=_path(label, "cacerts"), settings=("label", "url")
        )
        bag = self._bag(await self._transport.call(call))
        chain = self._configured_chain or self._chain_in(bag)
        self._chains[label] = chain
        return chain

    def _chain_in(self, bag: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The chain from the one certificate that has issued no other: RFC 7030 §4.1.3 orders nothing."""
        loaded = [certificates.load(each) for each in dict.fromkeys(bag)]
        lowest = [
            each
            for each in loaded
            if not any(certificates.has_issued(each, other) for other in loaded if other != each)
        ]
        if len(lowest) != 1:
            names = ", ".join(each.subject.rfc4514_string() for each in lowest)
            raise Misconfigured(f"{self._services.name}: any of these may be the issuing CA, set ca_chain: {names}")
        return certificates.chain_above(lowest[0].public_bytes(Encoding.DER), bag)

    def _bag(self, answer: Answer) -> tuple[bytes, ...]:
        """The certificates of an answer: base64, which many servers break into lines (RFC 2045); some send DER."""
        body = answer.body.strip()
        try:
            return certificates.from_pkcs7(
                body if body[:1] == b"\x30" else b64decode(b"".join(body.split()), validate=True)
            )
        except (ValueError, ProtocolViolation) as error:
            kind = answer.media_type or "no Content-Type"
            raise ProtocolViolation(f"{answer.url} answered {answer.status} ({kind}) with no PKCS #7 bag") from error


def _of_400(answer: Answer) -> Meaning:
    """The one status that is about the CSR. As a page it comes from a proxy, which misses our certificate (nginx)."""
    return Meaning.MISCONFIGURED if answer.media_type == "text/html" else Meaning.ANSWER


def _path(label: str | None, operation: str) -> str:
    return f".well-known/est/{label}/{operation}" if label else f".well-known/est/{operation}"


def _digest(csr: bytes) -> str:
    return hashlib.sha256(csr).hexdigest()
