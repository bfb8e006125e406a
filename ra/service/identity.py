"""The RA's own keys and certificates, obtained from the CA that it fronts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors import keyfiles
from connectors.api import (
    ApprovedContents,
    BackendUnavailable,
    Capability,
    Connector,
    ConnectorError,
    Issued,
    IssueRequest,
    KeyUsage,
    NameAttribute,
    Pending,
    Secret,
)
from connectors.keyfiles import PrivateKey
from connectors.usage import to_x509
from ra.errors import Misconfigured, Unavailable
from ra.service.ports import Entropy
from ra.service.returned import Deviations, Wrong, check

BOTH_USAGES = frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT})
"""Of a key that signs and decrypts."""

_COMMON_NAME = "2.5.4.3"
_SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
_CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What identity is to be obtained.

    Attributes:
        name: of the identity; the certificates are for `CN=SCEP RA <name>`.
        profile: the connector's profile to issue under.
        key_spec: one of connectors.keyfiles.KEY_MAKERS; RSA where it also decrypts.
        decryption_key_spec: of a decryption key of its own.
    """

    name: str
    profile: str
    key_spec: str = "rsa:2048"
    decryption_key_spec: str | None = None
    validity: timedelta = timedelta(days=730)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFiles:
    """Where an identity lies: PEM files, the keys encrypted. The names are those of load_identity's arguments."""

    certificate: Path
    key: Path
    decryption_certificate: Path | None = None
    decryption_key: Path | None = None


async def obtain(
    connector: Connector, wish: Wish, directory: Path, *, passphrase: Secret, now: datetime, entropy: Entropy
) -> IdentityFiles:
    """Makes the keys, has them certified, and writes both below `directory`; never over existing files.

    Raises:
        Misconfigured: the CA does not issue such a certificate, or a file cannot be written.
        Unavailable: the CA cannot be asked now, or takes its time.
    """
    if Capability.RA_CERTIFICATE not in connector.capabilities:
        raise Misconfigured("this CA cannot issue the RA's certificate: obtain one by hand and configure it")
    if wish.decryption_key_spec is None and not wish.key_spec.startswith("rsa:"):
        raise Misconfigured(f"devices can seal to an RSA key alone, and {wish.key_spec} is none: add a decryption key")
    maker = _Maker(connector=connector, wish=wish, directory=directory, passphrase=passphrase, now=now, entropy=entropy)
    try:
        if wish.decryption_key_spec is None:
            certificate, key = await maker.make("ra", wish.key_spec, BOTH_USAGES)
            return IdentityFiles(certificate=certificate, key=key)
        certificate, key = await maker.make("ra-signing", wish.key_spec, BOTH_USAGES - {KeyUsage.KEY_ENCIPHERMENT})
        decryption_certificate, decryption_key = await maker.make(
            "ra-decryption", wish.decryption_key_spec, BOTH_USAGES - {KeyUsage.DIGITAL_SIGNATURE}
        )
    except BackendUnavailable as error:
        raise Unavailable(f"the CA cannot be asked for the RA's certificate: {error}") from error
    except (ConnectorError, Wrong) as error:
        raise Misconfigured(f"the RA's certificate cannot be obtained: {error}") from error
    return IdentityFiles(
        certificate=certificate,
        key=key,
        decryption_certificate=decryption_certificate,
        decryption_key=decryption_key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    connector: Connector
    wish: Wish
    directory: Path
    passphrase: Secret
    now: datetime
    entropy: Entropy

    async def make(self, stem: str, key_spec: str, usage: frozenset[KeyUsage]) -> tuple[Path, Path]:
        """Writes `stem`.pem and `stem`.key, once the certificate is there and is what was asked for."""
        key = keyfiles.make_key(key_spec)
        idempotency_key = UUID(bytes=self.entropy(16), version=4)
        request = request_for(key, self.wish, usage, idempotency_key, self.now)
        result = await self.connector.issue(request)
        if isinstance(result, Pending):
            raise Unavailable("the CA has not decided on the RA's certificate yet", result.retry_after_seconds)
        if not isinstance(result, Issued):
            raise Misconfigured(f"the CA refuses the RA's certificate: {result.detail}")
        chain = await self.connector.ca_chain()
        known = Deviations(ca_adds=self.connector.ca_adds, may_drop=self.connector.may_drop)
        check(result, chain[0], request.contents, self.now, known=known)
        certificate_file, key_file = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        keyfiles.write_private_key(key_file, key, self.passphrase)
        keyfiles.write_certificates(certificate_file, [result.certificate])
        return certificate_file, key_file


def request_for(
    key: PrivateKey, wish: Wish, usage: frozenset[KeyUsage], idempotency_key: UUID, requested_at: datetime
) -> IssueRequest:
    """The same bytes for the same arguments, where the key is RSA: it is asked again with what it was asked before."""
    common_name = f"SCEP RA {wish.name}"
    contents = ApprovedContents(
        subject=((NameAttribute(_COMMON_NAME, common_name),),),
        subject_alternative_names=(),
        spki=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        key_usage=usage,
        # Windows accepts an RA certificate for one of the two, else it fails with 0x8010002c.
        extended_key_usage=(_SERVER_AUTH, _CERTIFICATE_REQUEST_AGENT),
        validity=wish.validity,
    )
    return IssueRequest(
        csr=_csr(key, common_name, contents),
        contents=contents,
        profile=wish.profile,
        idempotency_key=idempotency_key,
        requested_at=requested_at,
    )


def _csr(key: PrivateKey, common_name: str, contents: ApprovedContents) -> bytes:
    """PKCS #10, DER, that asks for what is approved, for a CA that copies from it."""
    extended = x509.ExtendedKeyUsage([x509.ObjectIdentifier(each) for each in contents.extended_key_usage])
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(_COMMON_NAME), common_name)])
    builder = x509.CertificateSigningRequestBuilder(name).add_extension(to_x509(contents.key_usage), critical=True)
    return builder.add_extension(extended, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
