"""The PKI engine of HashiCorp Vault or OpenBao.

```toml
type = "vault"
url = "https://vault.example.org:8200"
ca_file = "vault-ca.pem"                        # what Vault's own TLS certificate comes from
mount = "pki_dev"
issuer = "scep-issuing"                         # by name or id; "default" would change under us
role = "scep-devices"
ra_role = "scep-ra"                             # for the RA's own certificate
login = { method = "approle", role_id = "6b2c…", secret_id = "file:vault.secret-id" }
```

The certificate is made by `issuer/<issuer>/sign/<role>` from the approved names; key usages and the rest of the
subject are the role's. `sign-verbatim` is never used: it would copy what the device wrote. Vault has no idempotency and
knows no reason for a revocation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, model_validator

from connectors import certificates
from connectors.api import (
    ApprovedContents,
    Capability,
    CertificateState,
    ConnectorError,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    KeyUsage,
    Misconfigured,
    NoCapabilities,
    Rejected,
    RevocationReason,
    Services,
)
from connectors.transport import Answer, Effect, Meaning, Meanings, Transport, TransportOptions
from connectors.vault import answers
from connectors.vault.contents import NotSayable, RoleAttribute, parameters
from connectors.vault.login import CertLogin, Login, Mount, Segment, Session, check_login, keys_of
from connectors.vault.requests import get, post

_PAGE = 1000
_COMMON_NAME = "2.5.4.3"
_BACKDATED = timedelta(hours=1)
"""How far a notBefore may lie before the moment it was made at."""
_CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
"""The extended key usage that an RA's certificate has, and no device's."""


class Options(TransportOptions):
    """One PKI mount."""

    namespace: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/?$")] = None
    """Of Vault Enterprise or OpenBao, like `ns1/ns2/`."""
    mount: Mount = "pki"
    """Where the PKI engine is mounted, without a slash at either end."""
    issuer: Segment = "default"
    """Which issuer signs, by name or id. `default` follows the mount's default, and may change while devices renew."""
    role: Segment
    """The role that devices' certificates are signed with, by its name alone."""
    signing_role: Segment | None = None
    """The role for certificates whose one key usage is digitalSignature, as EC keys get: usages are the role's."""
    encryption_role: Segment | None = None
    """The role for certificates whose one key usage is keyEncipherment."""
    ra_role: Segment | None = None
    """The role for the RA's own certificates; without it the RA needs one from elsewhere."""
    next_issuer: Segment | None = None
    """The issuer that will follow, for GetNextCACert; it need not exist yet."""
    from_role: frozenset[RoleAttribute] = frozenset()
    """Subject attributes that the role puts in. In a request they are left out; any other that Vault does not take from
    a request is refused."""
    lists_certificates: bool = False
    """OpenBao 2.2 or later, and the policy allows `list` on certs/detailed: what a lost answer left is found there."""
    login: Login
    """By `method`: token, approle, kubernetes, jwt, cert or userpass."""

    @model_validator(mode="after")
    def _has_certificate(self) -> Self:
        if isinstance(self.login, CertLogin) and self.client_certificate is None:
            raise ValueError("login by cert needs client_certificate and client_key")
        return self


async def connect(options: Options, services: Services) -> VaultCa:
    """Reads files and secrets; no request is sent.

    Raises:
        Misconfigured: one of them cannot be read.
    """
    check_login(options.login, services)
    transport = Transport(
        options, services, statuses=answers.STATUSES, explain=answers.explain, credentials=keys_of(options.login)
    )
    return VaultCa(options, services, Session(options.login, transport, services, options.namespace))


class VaultCa(NoCapabilities):
    """The connector."""

    def __init__(self, options: Options, services: Services, session: Session) -> None:
        self._options = options
        self._services = services
        self._session = session

    @property
    def capabilities(self) -> frozenset[Capability]:
        always = {
            Capability.EXPLICIT_CONTENTS,
            Capability.NOT_AFTER,
            Capability.REVOKE,
            Capability.CRL,
            Capability.GET_CERTIFICATE,
        }
        configured = {
            Capability.RA_CERTIFICATE: self._options.ra_role,
            Capability.NEXT_CA: self._options.next_issuer,
            Capability.FIND_ISSUED: self._options.lists_certificates,
        }
        return frozenset(always | {each for each, is_set in configured.items() if is_set})

    async def issue(self, request: IssueRequest) -> IssueResult:
        try:
            body = parameters(request, self._options.from_role)
        except NotSayable as error:
            return Rejected(rejection=error.rejection, detail=str(error))
        role = self._role(request.contents)
        answer = await self._sign(role, body, Effect.ISSUES)
        if not answer.is_success:
            return answers.refusal(answer, f"{self._services.name}: sign at {answer.url}", role)
        signed = answer.parse(answers.Signed).data
        certificate = certificates.from_pem(signed.certificate)[0]
        chain = answers.chain(signed.issuing_ca, signed.ca_chain)
        return Issued(certificate=certificate, chain=chain, reference=signed.serial_number)

    async def find_issued(
        self, request: IssueRequest, since: datetime, others: frozenset[int] = frozenset()
    ) -> Issued | None:
        if not self._options.lists_certificates:
            raise self._lacks(Capability.FIND_ISSUED)
        name = next((each.value for rdn in request.contents.subject for each in rdn if each.oid == _COMMON_NAME), "")
        candidates = [
            (listed.not_before, serial)
            async for serial, listed in self._listed()
            if listed.common_name == name
            and listed.not_before >= since - _BACKDATED
            and int(serial.replace(":", ""), 16) not in others
        ]
        for _, serial in sorted(candidates, reverse=True):
            stored = await self._stored(serial)
            certificate = certificates.from_pem(stored.certificate)[0] if stored else b""
            if certificates.spki(certificate) == request.contents.spki:
                return Issued(certificate=certificate, chain=await self.ca_chain(), reference=serial)
        return None

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:  # noqa: ARG002 - Vault knows none
        loaded = certificates.load_own(certificate)
        body = {"serial_number": _colons(loaded.serial_number)}
        # The same status for a serial number that is not stored, and for one that must not be revoked.
        answer = await self._revoke(body, statuses={400: Meaning.ANSWER})
        if not answer.is_success:
            await self._revoke({"certificate": loaded.public_bytes(Encoding.PEM).decode("ascii")}, statuses={})

    async def ca_chain(self) -> tuple[bytes, ...]:
        return await self._chain_of(self._options.issuer)

    async def next_ca(self) -> tuple[bytes, ...]:
        if self._options.next_issuer is None:
            raise self._lacks(Capability.NEXT_CA)
        try:
            return await self._chain_of(self._options.next_issuer)
        except Misconfigured:
            # There is no issuer of that name: a mount that is wrong altogether fails here too.
            await self.ca_chain()
            return ()

    async def crl(self) -> bytes:
        answer = await self._session.open_call(get("crl", f"{self._issuer(self._options.issuer)}/crl"))
        return answers.crl(answer.parse(answers.Crl).data.crl)

    async def get_certificate(self, serial: int) -> CertificateState | None:
        stored = await self._stored(_colons(serial))
        if stored is None:
            return None
        certificate = certificates.from_pem(stored.certificate)[0]
        moment = datetime.fromtimestamp(stored.revocation_time, UTC) if stored.revocation_time else None
        return CertificateState(certificate=certificate, revoked_at=moment)

    async def health(self) -> Health:
        """Vault is there and not sealed, the issuer is there, and it lets us in."""
        try:
            call = get("health", "v1/sys/health?standbyok=true&perfstandbyok=true", statuses=answers.HEALTH_STATUSES)
            server = (await self._session.open_call(call)).parse(answers.ServerHealth)
            if server.sealed or not server.initialized:
                return Health(ready=False, detail="Vault is sealed" if server.sealed else "Vault is not initialised")
            not_after = certificates.load((await self.ca_chain())[0]).not_valid_after_utc
            if self._services.now() >= not_after:
                return Health(ready=False, detail=f"the issuer ran out at {not_after}", ca_not_after=not_after)
            await self._session.call(get("lookup", "v1/auth/token/lookup-self"))
        except ConnectorError as error:
            return Health.failed(error)
        return Health(ready=True, detail=f"Vault {server.version} lets us in", ca_not_after=not_after)

    async def rehearse(self) -> None:
        """Asks each role to sign nothing at all: Vault looks for the role first, and then for a CSR."""
        for role in ("role", "signing_role", "encryption_role", "ra_role"):
            if getattr(self._options, role) is not None:
                answer = await self._sign(role, {"csr": ""}, Effect.REPEATABLE)
                answers.refusal(answer, f"{self._services.name}: sign at {answer.url}", role)

    async def aclose(self) -> None:
        await self._session.transport.aclose()

    def _issuer(self, reference: str) -> str:
        return f"v1/{self._options.mount}/issuer/{reference}"

    def _role(self, contents: ApprovedContents) -> str:
        """The setting that names the role: a role decides on the usages, so that each set of them takes one of its own."""
        special = {KeyUsage.DIGITAL_SIGNATURE: "signing_role", KeyUsage.KEY_ENCIPHERMENT: "encryption_role"}
        one = next(iter(contents.key_usage)) if len(contents.key_usage) == 1 else None
        setting = special.get(one, "role") if one else "role"
        if _CERTIFICATE_REQUEST_AGENT in contents.extended_key_usage:
            setting = "ra_role"
        return setting if getattr(self._options, setting) is not None else "role"

    async def _sign(self, role_setting: str, body: dict[str, Any], effect: Effect) -> Answer:
        path = f"{self._issuer(self._options.issuer)}/sign/{getattr(self._options, role_setting)}"
        call = post(
            "sign",
            path,
            body,
            effect=effect,
            statuses={400: Meaning.ANSWER},
            settings=("issuer", "mount", role_setting),
        )
        return await self._session.call(call)

    async def _chain_of(self, issuer: str) -> tuple[bytes, ...]:
        answer = await self._session.open_call(
            get("chain", f"{self._issuer(issuer)}/json", settings=("issuer", "mount"))
        )
        data = answer.parse(answers.Issuer).data
        return answers.chain(data.certificate, data.ca_chain)

    async def _revoke(self, body: dict[str, Any], statuses: Meanings) -> Answer:
        call = post("revoke", f"v1/{self._options.mount}/revoke", body, statuses=statuses)
        return await self._session.call(call)

    async def _stored(self, serial: str) -> answers.StoredData | None:
        path = f"v1/{self._options.mount}/cert/{serial}"
        answer = await self._session.open_call(get("certificate", path, statuses={404: _of_404}))
        return answer.parse(answers.Stored).data if answer.is_success else None

    async def _listed(self) -> AsyncIterator[tuple[str, answers.ListedCertificate]]:
        """All certificates of the mount, page by page; a policy may make pages shorter than we ask for."""
        path, after = f"v1/{self._options.mount}/certs/detailed", ""
        while True:
            # Proxies do not know the method LIST; Vault takes this for the same.
            call = get("list", f"{path}?list=true&limit={_PAGE}&after={after}", statuses={404: _of_404})
            answer = await self._session.call(call)
            data = answer.parse(answers.Listed).data if answer.is_success else answers.ListedData(keys=())
            for serial in data.keys:
                yield serial, data.key_info[serial]
            last = "".join(data.keys[-1:]).replace(":", "-")  # as it is stored
            if last in ("", after):
                return
            after = last


def _of_404(answer: Answer) -> Meaning:
    return Meaning.MISCONFIGURED if answers.NOT_FOUND in answers.explain(answer) else Meaning.ANSWER


def _colons(serial: int) -> str:
    """A serial number as Vault writes it: hexadecimal octets with colons between."""
    return serial.to_bytes(max(1, (serial.bit_length() + 7) // 8)).hex(":")
