"""A CA in memory that issues any certificate, good or bad, and keys that are made once for a test run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors.keyfiles import PrivateKey, make_key

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"


@cache
def key(key_spec: str, number: int = 0) -> PrivateKey:  # noqa: ARG001 - the number tells keys of one kind apart
    return make_key(key_spec)


def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    made = key("rsa:2048", number)
    assert isinstance(made, rsa.RSAPrivateKey)
    return made


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_usage(*allowed: str) -> x509.KeyUsage:
    """Allowed are the parameter names of x509.KeyUsage."""
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    rest = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{each: each in allowed for each in (*names, *rest)})


def extended_key_usage(*oids: str) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([x509.ObjectIdentifier(each) for each in oids])


RA_USAGE = key_usage("digital_signature", "key_encipherment")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeCa:
    """One root CA."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (der(self.certificate),)

    def issue(
        self,
        subject_key: PrivateKey,
        *,
        name: str = "SCEP RA test",
        usage: x509.KeyUsage | None = RA_USAGE,
        extended: x509.ExtendedKeyUsage | None = None,
        ca: bool = False,
        not_before: datetime = NOW - timedelta(days=1),
        not_after: datetime = NOW + timedelta(days=365),
    ) -> x509.Certificate:
        extensions = [x509.SubjectKeyIdentifier.from_public_key(subject_key.public_key()), usage, extended]
        basic = x509.BasicConstraints(ca=ca, path_length=None)
        builder = _builder(name, self.certificate.subject, subject_key, not_before, not_after)
        return _signed(builder, [basic, *extensions], self.key)


def root(key_spec: str = "ec:p256", name: str = "Test CA", number: int = 0) -> FakeCa:
    return root_of(key(key_spec, number), name)


def root_of(own: PrivateKey, name: str = "Test CA") -> FakeCa:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(name, subject, own, NOW - timedelta(days=2), NOW + timedelta(days=3650))
    extensions = [
        x509.BasicConstraints(ca=True, path_length=0),
        key_usage("key_cert_sign", "crl_sign"),
        x509.SubjectKeyIdentifier.from_public_key(own.public_key()),
    ]
    return FakeCa(key=own, certificate=_signed(builder, extensions, own))


def _builder(
    name: str, issuer: x509.Name, subject_key: PrivateKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(subject_key.public_key())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _signed(
    builder: x509.CertificateBuilder, extensions: Iterable[x509.ExtensionType | None], signer: PrivateKey
) -> x509.Certificate:
    for each in extensions:
        if each is not None:
            builder = builder.add_extension(each, critical=isinstance(each, x509.BasicConstraints | x509.KeyUsage))
    return builder.sign(signer, hashes.SHA256())
