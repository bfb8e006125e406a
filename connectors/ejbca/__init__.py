"""EJBCA, by its REST API.

```toml
type = "ejbca"
url = "https://ejbca.example.org:8443/ejbca/ejbca-rest-api"
ca_file = "ejbca-tls-ca.pem"                    # what EJBCA's own TLS certificate comes from
client_certificate = "ejbca-client.pem"         # of a role that may do what the documentation lists
client_key = "ejbca-client.key"
certificate_authority = "Issuing CA G1"         # names, as EJBCA shows them
certificate_profile = "SCEP_DEVICE"
end_entity_profile = "SCEP_EEP"
ra_certificate_profile = "SCEP_RA"              # for the RA's own certificate
```

Every device is an end entity whose name follows from its subject, so that a renewal, and a request that is repeated,
come to the same one. With `enrolment = "pkcs10enroll"` EJBCA takes the names from the CSR; with "end-entity"
(Enterprise Edition) from what was approved, and somebody may have to approve the end entity there. EJBCA has no
idempotency: what a lost answer has left is found by a search.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
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
    Pending,
    ProtocolViolation,
    Rejected,
    RevocationReason,
    Services,
)
from connectors.ejbca import answers, requests
from connectors.ejbca.contents import (
    NotSayable,
    alternative_names,
    check_characters,
    check_names,
    distinguished_name,
    enrolment_code,
    identity,
    readable_csr,
    username,
)
from connectors.ejbca.requests import EndEntity
from connectors.ejbca.session import ClientCredentialsLogin, Login, Session, check_login, keys_of
from connectors.transport import Answer, Call, Transport, TransportOptions

_ACCEPTED, _SERVER_ERROR = 202, 500
_PAGES = 100
_BACKDATED = timedelta(hours=1)
"""How far a notBefore may lie before the moment it was made at."""
_CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
"""The extended key usage that an RA's certificate has, and no device's."""
_REASONS = {
    RevocationReason.UNSPECIFIED: "UNSPECIFIED",
    RevocationReason.KEY_COMPROMISE: "KEY_COMPROMISE",
    RevocationReason.AFFILIATION_CHANGED: "AFFILIATION_CHANGED",
    RevocationReason.SUPERSEDED: "SUPERSEDED",
    RevocationReason.CESSATION_OF_OPERATION: "CESSATION_OF_OPERATION",
    RevocationReason.PRIVILEGE_WITHDRAWN: "PRIVILEGES_WITHDRAWN",
}

ProfileName = Annotated[str, Field(min_length=1, max_length=250)]


class Options(TransportOptions):
    """One CA of one EJBCA. `url` ends in /ejbca/ejbca-rest-api."""

    certificate_authority: ProfileName
    """The CA's name, as EJBCA shows it; no distinguished name."""
    certificate_profile: ProfileName
    """Key usages, and the longest validity, of devices' certificates."""
    end_entity_profile: ProfileName
    """Which names devices may have."""
    signing_certificate_profile: ProfileName | None = None
    """The certificate profile where the one key usage is digitalSignature, as EC keys get: usages are the profile's."""
    encryption_certificate_profile: ProfileName | None = None
    """The certificate profile where the one key usage is keyEncipherment."""
    ra_certificate_profile: ProfileName | None = None
    """The certificate profile of the RA's own certificates; without it the RA needs one from elsewhere."""
    ra_end_entity_profile: ProfileName | None = None
    """The end entity profile of the RA itself, if another."""
    next_certificate_authority: ProfileName | None = None
    """The CA that will follow, for GetNextCACert; it need not exist yet."""
    enrolment: Literal["pkcs10enroll", "end-entity"] = "pkcs10enroll"
    """`pkcs10enroll` works in every edition, takes the names from the CSR, and not with approvals. `end-entity` needs the
    Enterprise Edition's end entity API, takes the names that were approved, and waits for approvals."""
    sends_end_time: bool = False
    """The approved validity is sent with `pkcs10enroll`: a recent EJBCA, whose profile allows a validity override."""
    forbidden_characters: str = ";!%`?$~"
    """EJBCA's own setting of that name (`cesecore.properties`): it writes `/` for them. Devices whose names have one are
    refused beforehand."""
    searches: bool = True
    """"REST Certificate Management V2" is enabled in EJBCA: what a lost answer has left is found there."""
    username_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = "scep-"
    """What the names of our end entities begin with: at most 64 letters, digits, dots, `-` and `_`."""
    approval_poll_seconds: Annotated[int, Field(ge=1, le=86400)] = 300
    """How often we ask whether a request has been approved."""
    login: Login | None = None
    """By `method`: token or client-credentials. Without it the client certificate alone says who we are."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.login is None and self.client_certificate is None:
            raise ValueError("EJBCA knows nobody without client_certificate and client_key, or login")
        if self.sends_end_time and self.enrolment != "pkcs10enroll":
            raise ValueError('sends_end_time goes with enrolment = "pkcs10enroll" alone')
        if isinstance(self.login, ClientCredentialsLogin):
            # What goes for `url` goes for where the client secret is sent to.
            TransportOptions(url=self.login.token_url, allow_http=self.allow_http)
        return self


async def connect(options: Options, services: Services) -> EjbcaCa:
    """Reads files and secrets; no request is sent.

    Raises:
        Misconfigured: one of them cannot be read.
    """
    check_login(options.login, services)
    reached = options
    if isinstance(options.login, ClientCredentialsLogin):
        reached = options.model_copy(update={"other_urls": (*options.other_urls, options.login.token_url)})
    transport = Transport(
        reached, services, statuses=answers.STATUSES, explain=answers.explain, credentials=keys_of(options.login)
    )
    return EjbcaCa(options, services, Session(options.login, transport, services))


class EjbcaCa(NoCapabilities):
    """The connector."""

    def __init__(self, options: Options, services: Services, session: Session) -> None:
        self._options = options
        self._services = services
        self._session = session

    @property
    def capabilities(self) -> frozenset[Capability]:
        always = {Capability.POLL, Capability.REVOKE, Capability.CRL, Capability.GET_CERTIFICATE}
        configured = {
            Capability.EXPLICIT_CONTENTS: not self._has_names_of_csr,
            Capability.NOT_AFTER: self._options.sends_end_time,
            Capability.RA_CERTIFICATE: self._options.ra_certificate_profile,
            Capability.NEXT_CA: self._options.next_certificate_authority,
            Capability.FIND_ISSUED: self._options.searches,
        }
        return frozenset(always | {each for each, is_set in configured.items() if is_set})

    async def issue(self, request: IssueRequest) -> IssueResult:
        contents = request.contents
        try:
            check_characters(contents, self._options.forbidden_characters)
            entity = self._entity(request)
            if self._has_names_of_csr:
                check_names(request.csr, contents)
                not_after = request.requested_at + contents.validity if self._options.sends_end_time else None
                return await self._issued(requests.enroll(entity, not_after))
            subject = distinguished_name(contents.subject)
            add = requests.add(entity, subject, alternative_names(contents.subject_alternative_names))
        except NotSayable as error:
            return Rejected(rejection=error.rejection, detail=str(error))
        answer = await self._session.call(add)
        if answers.exists(answer):
            answer = await self._session.call(requests.renew(entity))
        if answer.status == _ACCEPTED:
            return self._pending(answer)
        if not answer.is_success:
            return self._refusal(answer)
        return await self._issued(requests.certificate_request(entity))

    async def poll(self, reference: str, request: IssueRequest) -> IssueResult:
        if not (reference.isascii() and reference.isdigit()):
            raise Misconfigured(f"{self._services.name}: {reference!r} is no number of a request for approval")
        try:
            entity = self._entity(request)
        except NotSayable as error:
            return Rejected(rejection=error.rejection, detail=str(error))
        chain = await self.ca_chain()  # before: once a certificate is issued, nothing may fail
        call = requests.finalize(entity, int(reference), has_csr=self._has_names_of_csr)
        answer = await self._session.call(call)
        if answer.is_success:
            return self._pending(answer) if answer.status == _ACCEPTED else self._enrolled(answer, chain)
        if answers.is_done(answer):
            return await self._left(request)
        if answer.status != _SERVER_ERROR:
            return self._refusal(answer)
        # Approved. The end entity was made without a CSR, and waits for it.
        answer = await self._session.call(requests.certificate_request(entity))
        return await self._left(request) if answers.is_done(answer) else self._result(answer)

    async def find_issued(
        self, request: IssueRequest, since: datetime, others: frozenset[int] = frozenset()
    ) -> Issued | None:
        if not self._options.searches:
            raise self._lacks(Capability.FIND_ISSUED)
        chain = await self.ca_chain()
        issuer, earliest = certificates.load(chain[0]), since - _BACKDATED
        found = [
            each
            async for each in self._certificates_of(self._username(request.contents))
            if _spki(each) == request.contents.spki
            and each.serial_number not in others
            and each.not_valid_before_utc >= earliest
            and certificates.has_issued(issuer, each)
        ]
        if not found:
            return None
        latest = max(found, key=lambda each: each.not_valid_before_utc)
        return _as_issued(latest.public_bytes(Encoding.DER), chain)

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        serial = certificates.load_own(certificate).serial_number
        issuer = (await self._authority()).subject_dn
        await self._session.call(requests.revoke(issuer, serial, _REASONS[reason]))

    async def ca_chain(self) -> tuple[bytes, ...]:
        return await self._chain_of(await self._authority())

    async def next_ca(self) -> tuple[bytes, ...]:
        name = self._options.next_certificate_authority
        if name is None:
            raise self._lacks(Capability.NEXT_CA)
        following = next((each for each in await self._authorities() if each.name == name), None)
        return await self._chain_of(following) if following is not None else ()

    async def crl(self) -> bytes:
        issuer = (await self._authority()).subject_dn
        content = (await self._session.call(requests.crl(issuer))).parse(answers.Crl).crl
        if content is None:
            raise Misconfigured(f"{self._services.name}: the CA has no CRL: let EJBCA generate one")
        return certificates.crl_from_der(answers.binary(content))

    async def get_certificate(self, serial: int) -> CertificateState | None:
        issuer = (await self._authority()).subject_dn
        answer = await self._session.call(requests.revocation_status(issuer, serial))
        if not answer.is_success:
            return None
        status = answer.parse(answers.RevocationStatus)
        if status.revoked and status.revocation_date is None:
            raise ProtocolViolation(f"{self._services.name}: {answer.url} names no date of a revocation")
        return CertificateState(certificate=None, revoked_at=status.revocation_date if status.revoked else None)

    async def health(self) -> Health:
        """EJBCA is there, knows us, shows us the CA, and the CA has not run out."""
        try:
            status = (await self._session.call(requests.get("health", "v1/certificate/status"))).parse(answers.Status)
            not_after = (await self._authority()).expiration_date
        except ConnectorError as error:
            return Health.failed(error)
        if self._services.now() >= not_after:
            return Health(ready=False, detail=f"the CA ran out at {not_after}", ca_not_after=not_after)
        return Health(ready=status.status == "OK", detail=f"{status.status}: {status.revision}", ca_not_after=not_after)

    async def aclose(self) -> None:
        await self._session.transport.aclose()

    @property
    def _has_names_of_csr(self) -> bool:
        return self._options.enrolment == "pkcs10enroll"

    def _entity(self, request: IssueRequest) -> EndEntity:
        certificate_profile, end_entity_profile = self._profiles(request.contents)
        return EndEntity(
            username=self._username(request.contents),
            code=enrolment_code(request),
            csr=readable_csr(request),
            authority=self._options.certificate_authority,
            certificate_profile=certificate_profile,
            end_entity_profile=end_entity_profile,
        )

    def _username(self, contents: ApprovedContents) -> str:
        if self._has_names_of_csr:
            return username(self._options.username_prefix, identity(contents))
        # This end entity is never changed once it is made: all that it is made of decides on its name.
        names = sorted(f"{each.kind.value}:{each.value}" for each in contents.subject_alternative_names)
        made_of = (identity(contents), *self._profiles(contents), self._options.certificate_authority, *names)
        return username(self._options.username_prefix, *made_of)

    def _profiles(self, contents: ApprovedContents) -> tuple[str, str]:
        """Certificate profile and end entity profile: a certificate profile has one set of usages."""
        options = self._options
        if _CERTIFICATE_REQUEST_AGENT in contents.extended_key_usage and options.ra_certificate_profile:
            return options.ra_certificate_profile, options.ra_end_entity_profile or options.end_entity_profile
        special = {
            KeyUsage.DIGITAL_SIGNATURE: options.signing_certificate_profile,
            KeyUsage.KEY_ENCIPHERMENT: options.encryption_certificate_profile,
        }
        one = next(iter(contents.key_usage)) if len(contents.key_usage) == 1 else None
        return (special.get(one) if one else None) or options.certificate_profile, options.end_entity_profile

    async def _issued(self, call: Call) -> IssueResult:
        return self._result(await self._session.call(call))

    def _result(self, answer: Answer) -> IssueResult:
        if not answer.is_success:
            return self._refusal(answer)
        return self._pending(answer) if answer.status == _ACCEPTED else self._enrolled(answer, None)

    def _pending(self, answer: Answer) -> Pending:
        request_id = answer.parse(answers.Accepted).request_id
        return Pending(reference=str(request_id), retry_after_seconds=self._options.approval_poll_seconds)

    def _enrolled(self, answer: Answer, chain: tuple[bytes, ...] | None) -> Issued:
        enrolled = answer.parse(answers.Enrolled)
        if chain is None:
            chain = tuple(answers.certificate(each) for each in enrolled.certificate_chain or ())
        if not chain:
            raise ProtocolViolation(f"{self._services.name}: {answer.url} left out the chain that was asked for")
        return _as_issued(answers.certificate(enrolled.certificate), chain)

    def _refusal(self, answer: Answer) -> Rejected:
        return answers.refusal(answer, f"{self._services.name}: {answer.url}")

    async def _left(self, request: IssueRequest) -> Issued:
        """What EJBCA says it has issued already."""
        found = await self.find_issued(request, request.requested_at)
        if found is None:
            raise ProtocolViolation(f"{self._services.name}: EJBCA has finished a request, and shows no certificate")
        return found

    async def _certificates_of(self, name: str) -> AsyncIterator[x509.Certificate]:
        for page in range(1, _PAGES + 1):
            found = (await self._session.call(requests.search(name, page))).parse(answers.FoundPage).certificates
            for each in found:
                if each.username == name and each.certificate is not None:
                    yield certificates.load(answers.binary(each.certificate))
            if len(found) < requests.PAGE:
                return
        raise ProtocolViolation(f"{self._services.name}: the certificates of {name} have no end")

    async def _chain_of(self, authority: answers.Authority) -> tuple[bytes, ...]:
        answer = await self._session.call(requests.chain(authority.subject_dn))
        first, *above = certificates.from_pem(answer.body.decode("ascii", "replace"))
        return certificates.chain_above(first, above)

    async def _authorities(self) -> tuple[answers.Authority, ...]:
        answer = await self._session.call(requests.get("authorities", "v1/ca"))
        return answer.parse(answers.Authorities).certificate_authorities

    async def _authority(self) -> answers.Authority:
        """Our CA; EJBCA wants its distinguished name in the order that it uses itself."""
        name, all_of_them = self._options.certificate_authority, await self._authorities()
        found = next((each for each in all_of_them if each.name == name), None)
        if found is None:
            shown = ", ".join(f'"{each.name}"' for each in all_of_them) or "none"
            raise Misconfigured(
                f'{self._services.name}: EJBCA shows us no CA named "{name}", but {shown}: '
                "set certificate_authority, or give our role access to it",
                settings=("certificate_authority",),
            )
        return found


def _as_issued(certificate: bytes, chain: tuple[bytes, ...]) -> Issued:
    serial = certificates.load(certificate).serial_number
    return Issued(certificate=certificate, chain=chain, reference=f"{serial:X}")


def _spki(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
