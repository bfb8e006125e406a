"""The simulated EJBCA's end entities and profiles: who may have which certificate, and the sentences that refuse one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors.api import KeyUsage
from connectors.usage import to_x509
from ra.simulate.authority import Clock, SimulatedCa, from_pem, read_csr
from ra.simulate.ejbca.forms import Refused, read_alternative_names, read_dn

NEW, GENERATED = 10, 40
_NOT_BEFORE_OFFSET = timedelta(minutes=10)
_SMALLEST_RSA_BITS = 2048
_REPLACED = str.maketrans(dict.fromkeys("\n\r;!\0%`?$~", "/"))
"""`forbidden.characters` of cesecore.properties, where nobody has changed it."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateProfile:
    """As far as it decides on what a device gets."""

    key_usage: frozenset[KeyUsage] = frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT})
    extended_key_usage: tuple[str, ...] = ("1.3.6.1.5.5.7.3.2",)
    validity: timedelta = timedelta(days=730)
    allows_validity_override: bool = False


@dataclass(slots=True, kw_only=True)
class EndEntity:
    """A user, in EJBCA's word. Without names of its own it gets those of its CSR.

    Attributes:
        csr: PEM, where it was made with one.
    """

    username: str
    password: str
    certificate_profile: str
    subject: str | None = None
    alternative_names: str | None = None
    csr: str | None = None
    status: int = NEW


@dataclass(slots=True, kw_only=True)
class Issuing:
    """One CA, with the end entities that it knows.

    Attributes:
        owners: who has a certificate, by serial number, and the CSR it came from.
        is_offline: the sentence that says so, while the CA or its key cannot be used.
    """

    now: Clock
    ca: SimulatedCa
    name: str
    certificate_profiles: dict[str, CertificateProfile]
    end_entity_profiles: set[str]
    entities: dict[str, EndEntity] = field(default_factory=dict)
    owners: dict[int, tuple[str, str]] = field(default_factory=dict)
    enforces_unique_keys: bool = True
    enforces_unique_subjects: bool = True
    is_offline: str | None = None

    def check_names(self, authority: str, certificate_profile: str, end_entity_profile: str) -> None:
        """Raises Refused where one of them is not there."""
        if authority != self.name:
            raise Refused(400, f"CA with name {authority} doesn't exist.")
        if certificate_profile not in self.certificate_profiles:
            raise Refused(400, f"Certificate profile {certificate_profile} does not exist.")
        if end_entity_profile not in self.end_entity_profiles:
            raise Refused(400, f"End entity profile {end_entity_profile} does not exist.")

    def sign(self, entity: EndEntity, text: str, end_time: datetime | None = None) -> x509.Certificate:
        """The certificate of an end entity that is new.

        Raises:
            Refused: as EJBCA's one-step enrolment does, nearly everything with 400.
        """
        if self.is_offline is not None:
            raise Refused(400, self.is_offline)
        csr, key = _read(text)
        profile = self.certificate_profiles[entity.certificate_profile]
        subject = _stored(csr.subject if entity.subject is None else read_dn(entity.subject))
        self._check_unique(entity.username, subject, key)
        now = self.now().replace(microsecond=0)
        not_after = now + profile.validity
        if end_time is not None and profile.allows_validity_override:
            not_after = min(end_time, not_after)
        certificate = self.ca.sign(
            subject,
            key,
            [*_usages(profile), *_alternative_names(entity, csr)],
            not_before=now - _NOT_BEFORE_OFFSET,
            not_after=min(not_after, self.ca.certificate.not_valid_after_utc),
        )
        entity.status = GENERATED
        self.entities[entity.username] = entity
        self.owners[certificate.serial_number] = entity.username, text
        return certificate

    def _check_unique(self, username: str, subject: x509.Name, key: PublicKey) -> None:
        for serial, (owner, _) in self.owners.items():
            other = self.ca.issued[serial]
            if owner == username:
                continue
            if self.enforces_unique_keys and _spki(other.public_key()) == _spki(key):
                raise Refused(400, f"User '{username}' is not allowed to use same key as another user is using.")
            if self.enforces_unique_subjects and other.subject == subject:
                raise Refused(
                    400,
                    f"User '{username}' is not allowed to use same subject DN as the user(s) '{owner}' is/are using "
                    "(even if CN postfix is used). See setting for 'Enforce unique DN' in the section "
                    "Certification Authority Information.",
                )


def _stored(name: x509.Name) -> x509.Name:
    """A subject as EJBCA's database takes it, and the certificate has it."""
    if all(str(each.value) == str(each.value).translate(_REPLACED) for each in name):
        return name
    return x509.Name(
        x509.RelativeDistinguishedName(
            x509.NameAttribute(each.oid, str(each.value).translate(_REPLACED)) for each in rdn
        )
        for rdn in name.rdns
    )


def _read(text: str) -> tuple[x509.CertificateSigningRequest, PublicKey]:
    try:
        csr, is_signed = read_csr(from_pem(text))
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(400, "An incorrect certificate request has been passed.") from None
    if not is_signed:
        raise Refused(400, "POPO verification failed.")
    if not isinstance(key, PublicKey):
        raise Refused(400, "Illegal key algorithm.")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SMALLEST_RSA_BITS:
        raise Refused(400, f"Illegal key length {key.key_size}.")
    return csr, key


def _alternative_names(
    entity: EndEntity, csr: x509.CertificateSigningRequest
) -> Iterator[tuple[x509.ExtensionType, bool]]:
    if entity.subject is not None:
        names = read_alternative_names(entity.alternative_names or "")
    else:
        try:
            names = list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        except x509.ExtensionNotFound:
            names = []
    if names:
        yield x509.SubjectAlternativeName(names), False


def _usages(profile: CertificateProfile) -> Iterator[tuple[x509.ExtensionType, bool]]:
    yield x509.BasicConstraints(ca=False, path_length=None), True
    yield to_x509(profile.key_usage), True
    yield x509.ExtendedKeyUsage([x509.ObjectIdentifier(each) for each in profile.extended_key_usage]), False


def _spki(key: object) -> bytes:
    assert isinstance(key, PublicKey)  # noqa: S101 - none other is signed
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
