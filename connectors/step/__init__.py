"""step-ca, of smallstep: its own API with one-time tokens. Its ACME is the connector `acme`.

```toml
type = "step"
url = "https://ca.example.org:9000"
ca_file = "step-root.pem"                       # step-ca's root; its TLS certificate comes from there
provisioner = { type = "jwk", name = "scep-ra", key = "scep-ra.jwe", key_passphrase = "file:scep-ra.passphrase" }
template = "scep-ra"                            # the provisioner has the template of docs/connectors/step-ca.md
```

Every request carries a token that is good once, for five minutes, and for that CSR alone. With `template = "scep-ra"`
it carries what was approved as well, and the certificate is made from that. step-ca has no idempotency, and cannot be
asked for a certificate that it has issued.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from connectors import certificates
from connectors.api import (
    AuthFailed,
    Capability,
    ConnectorError,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    Misconfigured,
    NoCapabilities,
    ProtocolViolation,
    Rejected,
    Rejection,
    RevocationReason,
    Services,
)
from connectors.step import answers
from connectors.step.contents import NotSayable, approved, approved_names, names_of_csr
from connectors.step.provisioner import Provisioner, Signer, confirmation, open_provisioner
from connectors.transport import Call, Effect, Transport, TransportOptions

_PAGES = 50
_REASONS = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
}
"""RFC 5280 §5.3.1."""

_DEFAULT_USAGES = frozenset({"digitalSignature", "keyEncipherment", "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"})
"""What the default template grants to everybody: the one key usage or both, serverAuth and clientAuth."""


class Options(TransportOptions):
    """One provisioner of one step-ca."""

    provisioner: Provisioner
    """By `type`: jwk or x5c."""
    template: Literal["scep-ra", "default", "other"] = "scep-ra"
    """The provisioner's certificate template: the one that the documentation shows, none, or one of your own. `default`
    keeps the common name alone of the subject and always grants serverAuth and clientAuth."""
    publishes_crl: bool = False
    """`crl.enabled` is set in step-ca's configuration."""


async def connect(options: Options, services: Services) -> StepCa:
    """Reads files and secrets; no request is sent.

    Raises:
        Misconfigured: one of them cannot be read, or they do not go together.
    """
    signer = open_provisioner(options.provisioner, options.url, services)
    credentials = ("provisioner.name", "provisioner.key")
    transport = Transport(
        options, services, statuses=answers.STATUSES, explain=answers.explain, credentials=credentials
    )
    return StepCa(options, services, signer, transport)


class StepCa(NoCapabilities):
    """The connector."""

    def __init__(self, options: Options, services: Services, signer: Signer, transport: Transport) -> None:
        self._options = options
        self._services = services
        self._signer = signer
        self._transport = transport

    @property
    def capabilities(self) -> frozenset[Capability]:
        can = {Capability.NOT_AFTER, Capability.REVOKE}
        if self._options.template == "scep-ra":
            can |= {Capability.EXPLICIT_CONTENTS, Capability.SID, Capability.RA_CERTIFICATE}
        if self._options.publishes_crl:
            can.add(Capability.CRL)
        return frozenset(can)

    @property
    def ca_adds(self) -> frozenset[str]:
        """The default template asks nobody about usages."""
        return _DEFAULT_USAGES if self._options.template == "default" else frozenset()

    async def issue(self, request: IssueRequest) -> IssueResult:
        try:
            body = self._sign_request(request)
        except NotSayable as error:
            return Rejected(rejection=error.rejection, detail=str(error))
        answer = await self._transport.call(
            Call(
                operation="sign",
                effect=Effect.ISSUES,
                method="POST",
                url="1.0/sign",
                settings=("provisioner", "template"),
                json=body,
                statuses=answers.SIGN_STATUSES,
            )
        )
        if not answer.is_success:
            return answers.refusal(answer)
        certificate, *chain = certificates.from_pem(*answer.parse(answers.Signed).chain)
        serial = certificates.load(certificate).serial_number
        return Issued(certificate=certificate, chain=tuple(chain), reference=f"{serial:x}")

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        """step-ca says yes to a serial number that it has never seen."""
        serial = str(certificates.load_own(certificate).serial_number)
        body = {
            "serial": serial,
            "ott": self._signer.token("/1.0/revoke", serial, {}, self._services.now()),
            "reasonCode": _REASONS[reason],
            "reason": reason.value,
            "passive": True,  # the only way that step-ca knows
        }
        # Sent again, the token would be refused; asked again from outside, the certificate is revoked already.
        call = Call(
            operation="revoke",
            effect=Effect.ONCE,
            method="POST",
            url="1.0/revoke",
            json=body,
            statuses=answers.REVOKE_STATUSES,
        )
        await self._transport.call(call)

    async def ca_chain(self) -> tuple[bytes, ...]:
        issuing, *rest = await self._certificates("intermediates")
        return certificates.chain_above(issuing, [*rest, *await self._certificates("roots")])

    async def crl(self) -> bytes:
        if not self._options.publishes_crl:
            raise self._lacks(Capability.CRL)
        answer = await self._transport.call(Call(operation="crl", effect=Effect.REPEATABLE, url="1.0/crl"))
        return certificates.crl_from_der(answer.body)

    async def health(self) -> Health:
        """step-ca is there, its CA is good, and it has our provisioner."""
        try:
            answer = await self._transport.call(Call(operation="health", effect=Effect.REPEATABLE, url="health"))
            if answer.parse(answers.Health).status != "ok":
                return Health(ready=False, detail=f"step-ca says {answers.explain(answer)}")
            not_after = certificates.load((await self.ca_chain())[0]).not_valid_after_utc
            if self._services.now() >= not_after:
                return Health(ready=False, detail=f"the CA ran out at {not_after}", ca_not_after=not_after)
            await self._check_provisioner()
        except ConnectorError as error:
            return Health.failed(error)
        return Health(ready=True, detail="step-ca has our provisioner", ca_not_after=not_after)

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _sign_request(self, request: IssueRequest) -> dict[str, Any]:
        contents = request.contents
        pem = certificates.csr_pem(request.csr)
        if pem is None:
            raise NotSayable(Rejection.CSR, "the PKCS #10 cannot be read")
        claims: dict[str, Any] = {"cnf": confirmation(request.csr)}
        if self._options.template == "default":
            subject, claims["sans"] = approved_names(contents)
        else:
            subject, claims["sans"] = names_of_csr(request.csr)
            claims["scep_ra"] = approved(contents)
        return {
            "csr": pem,
            "ott": self._signer.token("/1.0/sign", subject, claims, self._services.now()),
            "notAfter": _rfc_3339(request.requested_at + contents.validity),
        }

    async def _certificates(self, kind: str) -> tuple[bytes, ...]:
        answer = await self._transport.call(Call(operation="chain", effect=Effect.REPEATABLE, url=f"1.0/{kind}"))
        return certificates.from_pem(*answer.parse(answers.Certificates).certificates)

    async def _check_provisioner(self) -> None:
        """Looks for ours in step-ca's list.

        Raises:
            AuthFailed: it is not there, or has another key.
            Misconfigured: it has no template.
        """
        ours = self._options.provisioner
        for each in await self._provisioners():
            if each.type.lower() == ours.type and each.name == ours.name and self._has_our_key(each):
                if self._options.template != "default" and not each.has_template:
                    detail = f'the provisioner "{ours.name}" has no template: give it one, or set template = "default"'
                    raise Misconfigured(detail, settings=("template",))
                return
        raise AuthFailed(
            f'step-ca has no {ours.type} provisioner named "{ours.name}" with our key',
            settings=("provisioner.name", "provisioner.key"),
        )

    def _has_our_key(self, provisioner: answers.Provisioner) -> bool:
        key_id = self._signer.header.get("kid")
        return key_id is None or provisioner.key.get("kid") == key_id

    async def _provisioners(self) -> list[answers.Provisioner]:
        found: list[answers.Provisioner] = []
        cursor = ""
        for _ in range(_PAGES):
            url = f"1.0/provisioners?limit=100&cursor={quote(cursor)}"
            answer = await self._transport.call(Call(operation="provisioners", effect=Effect.REPEATABLE, url=url))
            page = answer.parse(answers.Provisioners)
            found += page.provisioners or ()
            if not page.next_cursor:
                return found
            cursor = page.next_cursor
        raise ProtocolViolation(f"{self._services.name}: the list of provisioners has no end")


def _rfc_3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
