"""CFSSL, of Cloudflare: `cfssl serve` or `multirootca`.

```toml
type = "cfssl"
url = "https://cfssl.example.org:8888"
ca_file = "cfssl-tls-ca.pem"                    # what the TLS certificate before it comes from
auth_key = "file:cfssl.key"                     # the hexadecimal key of the profiles' auth_key
profile = "scep-devices"
has_database = true                             # cfssl serve -db-config: certificates can be revoked
```

CFSSL takes the public key from the CSR, names from the CSR or from us, and everything else from the profile: usages and
validity are the profile's, whatever was approved. For a profile that it does not know it takes the default, without a
word; `info` is asked before anything is issued, so that this is found out.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import model_validator

from connectors import certificates
from connectors.api import (
    ApprovedContents,
    Capability,
    ConnectorError,
    Health,
    Issued,
    IssueRequest,
    IssueResult,
    KeyUsage,
    Misconfigured,
    NoCapabilities,
    ProtocolViolation,
    Rejected,
    RevocationReason,
    Services,
)
from connectors.cfssl import answers
from connectors.cfssl.contents import NotSayable, parameters
from connectors.keyfiles import read_certificates
from connectors.transport import Call, Effect, Meanings, SecretReference, Transport, TransportOptions, read_secret

_SHORTEST_KEY = 16
_CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
"""The extended key usage that an RA's certificate has, and no device's."""


class Options(TransportOptions):
    """One CFSSL, and the profiles that devices get."""

    auth_key: SecretReference | None = None
    """`file:PATH` or `env:NAME` of the hexadecimal key; without it nothing but TLS tells CFSSL who we are."""
    label: str = ""
    """Which CA of a `multirootca`."""
    profile: str = ""
    """The signing profile; CFSSL's default where nothing is said."""
    signing_profile: str | None = None
    """The profile for certificates whose one key usage is digitalSignature, as EC keys get: a profile has one set."""
    encryption_profile: str | None = None
    """The profile for certificates whose one key usage is keyEncipherment."""
    ra_profile: str | None = None
    """The profile for the RA's own certificates; without it the RA needs one from elsewhere."""
    ca_chain: Path | None = None
    """PEM: what is above the issuing CA, which is all that CFSSL shows."""
    writes_uris: bool = False
    """CFSSL writes URIs into certificates (1.6 does). Old ones leave them out, so that a device with one is refused."""
    has_database: bool = False
    """CFSSL runs with -db-config, and can revoke."""
    publishes_crl: bool = False
    """CFSSL has a database and serves a CRL from it (1.6 does)."""

    @model_validator(mode="after")
    def _has_what_a_crl_needs(self) -> Self:
        if self.publishes_crl and not self.has_database:
            raise ValueError("publishes_crl needs has_database: a CRL is made from there")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """A profile that was asked about, and is not the default under another name.

    Attributes:
        chain: of the CA, DER, issuer first.
        validity: None where CFSSL does not say it.
    """

    chain: tuple[bytes, ...]
    validity: timedelta | None


async def connect(options: Options, services: Services) -> CfsslCa:
    """Reads files and secrets; no request is sent.

    Raises:
        Misconfigured: one of them cannot be read.
    """
    key = _auth_key(options.auth_key, services) if options.auth_key else None
    above: tuple[bytes, ...] = ()
    if options.ca_chain is not None:
        found = read_certificates(services.directory / options.ca_chain)
        above = tuple(each.public_bytes(Encoding.DER) for each in found)
    transport = Transport(
        options, services, statuses=answers.STATUSES, explain=answers.explain, credentials=("auth_key",)
    )
    return CfsslCa(options, services, transport, key, above)


def _auth_key(reference: str, services: Services) -> bytes:
    try:
        key = bytes.fromhex(read_secret(reference, services).reveal().strip())
    except ValueError:
        raise Misconfigured(f"{services.name}: {reference} is not hexadecimal") from None
    if len(key) < _SHORTEST_KEY:
        raise Misconfigured(f"{services.name}: {reference} has less than {_SHORTEST_KEY} bytes")
    return key


class CfsslCa(NoCapabilities):
    """The connector."""

    def __init__(
        self, options: Options, services: Services, transport: Transport, key: bytes | None, above: tuple[bytes, ...]
    ) -> None:
        self._options = options
        self._services = services
        self._transport = transport
        self._key = key
        self._above = above
        self._profiles: dict[str, _Profile] = {}

    @property
    def capabilities(self) -> frozenset[Capability]:
        configured = {
            Capability.REVOKE: self._options.has_database,
            Capability.CRL: self._options.publishes_crl,
            Capability.RA_CERTIFICATE: self._options.ra_profile,
        }
        return frozenset(each for each, is_set in configured.items() if is_set)

    @property
    def may_drop(self) -> frozenset[str]:
        """CFSSL has no word for it: the RA's own certificate is for serverAuth alone, which Windows takes as well."""
        return frozenset({_CERTIFICATE_REQUEST_AGENT})

    async def issue(self, request: IssueRequest) -> IssueResult:
        name = self._profile_for(request.contents)
        try:
            asked = parameters(request, writes_uris=self._options.writes_uris)
        except NotSayable as error:
            return Rejected(rejection=error.rejection, detail=str(error))
        profile = self._profiles.get(name) or await self._look_at(name)
        if profile.validity is not None and profile.validity > request.contents.validity:
            granted, approved = profile.validity, request.contents.validity
            raise Misconfigured(f'CFSSL\'s profile "{name}" grants {granted}, and {approved} was approved: shorten it')
        answer = await self._transport.call(self._call({**asked, "profile": name, "label": self._options.label}))
        if not answer.is_success:
            return answers.refusal(answer)
        (certificate,) = certificates.from_pem(answer.parse(answers.Reply[answers.Certificate]).result.certificate)[:1]
        return self._issued(certificate, profile)

    async def revoke(self, certificate: bytes, reason: RevocationReason) -> None:
        loaded = certificates.load_own(certificate)
        revoked = await self._revoke(loaded.serial_number, _authority_key_id(loaded), reason)
        # Debian 12's build writes no key identifier into the database.
        if not revoked and not await self._revoke(loaded.serial_number, "", reason):
            raise Misconfigured(f"{self._services.name} cannot revoke what is not in CFSSL's database")

    async def ca_chain(self) -> tuple[bytes, ...]:
        return self._chain_of(await self._info(self._options.profile))

    async def crl(self) -> bytes:
        if not self._options.publishes_crl:
            raise self._lacks(Capability.CRL)
        call = Call(operation="crl", effect=Effect.REPEATABLE, url="api/v1/cfssl/crl")
        text = (await self._transport.call(call)).parse(answers.Reply[str]).result
        try:
            return certificates.crl_from_der(b64decode(text, validate=True))
        except ValueError as error:
            raise ProtocolViolation(f"{self._services.name}: the CRL is not base64") from error

    async def health(self) -> Health:
        """CFSSL is there, and knows our profiles; `info` does not say whether it takes our key."""
        try:
            looked_at = [await self._look_at(each) for each in self._named]
            not_after = certificates.load(looked_at[0].chain[0]).not_valid_after_utc
        except ConnectorError as error:
            return Health.failed(error)
        if self._services.now() >= not_after:
            return Health(ready=False, detail=f"the CA ran out at {not_after}", ca_not_after=not_after)
        return Health(ready=True, detail="CFSSL knows our profiles", ca_not_after=not_after)

    async def rehearse(self) -> None:
        """Has each profile sign what is no CSR: CFSSL looks at our key first."""
        for name in self._named:
            nothing = {"certificate_request": "none", "profile": name, "label": self._options.label}
            await self._transport.call(self._call(nothing))

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _revoke(self, serial: int, key_id: str, reason: RevocationReason) -> bool:
        """Whether it is revoked; False where it is not in the database."""
        body = {"serial": str(serial), "authority_key_id": key_id, "reason": reason.value.lower()}
        call = self._post("revoke", body, statuses=answers.REVOKE_STATUSES)
        return (await self._transport.call(call)).is_success

    def _profile_for(self, contents: ApprovedContents) -> str:
        """A profile decides on the usages, so that each set of them takes a profile of its own."""
        options = self._options
        if _CERTIFICATE_REQUEST_AGENT in contents.extended_key_usage and options.ra_profile is not None:
            return options.ra_profile
        special = {
            frozenset({KeyUsage.DIGITAL_SIGNATURE}): options.signing_profile,
            frozenset({KeyUsage.KEY_ENCIPHERMENT}): options.encryption_profile,
        }
        return special.get(contents.key_usage) or options.profile

    @property
    def _named(self) -> dict[str, str]:
        """The profiles, with the settings that name them."""
        settings = ("ra_profile", "encryption_profile", "signing_profile", "profile")
        named = {getattr(self._options, each): each for each in settings}
        return {profile: setting for profile, setting in reversed(named.items()) if profile is not None}

    async def _look_at(self, name: str) -> _Profile:
        """Asks about a profile, and about the default, which a profile that is unknown looks like.

        Raises:
            ConnectorError: it is unknown, or CFSSL cannot be asked.
        """
        default = await self._info("")
        info = await self._info(name) if name else default
        if name and (info.usages, info.expiry) == (default.usages, default.expiry):
            raise Misconfigured(
                f'CFSSL has no profile "{name}", or one that is the same as its default, which it would issue by; '
                "write no profile where the default is meant",
                settings=(self._named[name],),
            )
        profile = _Profile(chain=self._chain_of(info), validity=answers.duration(info.expiry or default.expiry))
        self._profiles[name] = profile
        return profile

    async def _info(self, profile: str) -> answers.Info:
        body = {"label": self._options.label, "profile": profile}
        return (await self._transport.call(self._post("info", body))).parse(answers.Reply[answers.Info]).result

    def _chain_of(self, info: answers.Info) -> tuple[bytes, ...]:
        return certificates.chain_above(certificates.from_pem(info.certificate)[0], self._above)

    def _issued(self, certificate: bytes, profile: _Profile) -> Issued:
        """What came back; by another CA than before, it comes without a chain, and the profile is asked about anew."""
        leaf = certificates.load(certificate)
        chain = profile.chain
        if not certificates.has_issued(certificates.load(chain[0]), leaf):
            chain = ()
            self._profiles.clear()
        return Issued(certificate=certificate, chain=chain, reference=f"{leaf.serial_number:x}")

    def _call(self, request: dict[str, Any]) -> Call:
        """The request to sign; with a key, as bytes that are authenticated as they are."""
        issues: dict[str, Any] = {"effect": Effect.ISSUES, "statuses": answers.SIGN_STATUSES}
        if self._key is None:
            return self._post("sign", request, **issues)
        content = json.dumps(request).encode()
        token = hmac.digest(self._key, content, "sha256")
        body = {"token": _base64(token), "request": _base64(content)}
        return self._post("authsign", body, **issues)

    def _post(
        self,
        operation: str,
        body: dict[str, Any],
        *,
        effect: Effect = Effect.REPEATABLE,
        statuses: Meanings | None = None,
    ) -> Call:
        url = f"api/v1/cfssl/{operation}"
        return Call(operation=operation, effect=effect, method="POST", url=url, json=body, statuses=statuses or {})


def _authority_key_id(certificate: x509.Certificate) -> str:
    """In hexadecimal; nothing, where there is none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        return ""
    return (found or b"").hex()


def _base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")
