from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from connectors.api import ApprovedContents, Issued, KeyUsage, NameAttribute, San, SanKind
from ra.service.returned import Deviations, Wrong, check

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CA_KEY, DEVICE_KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


SID = x509.UnrecognizedExtension(
    x509.ObjectIdentifier("1.3.6.1.4.1.311.25.2"),
    bytes.fromhex("301da01b060a2b060104018237190201a00d040b") + b"S-1-5-21-50",
)
APPLICATION_POLICIES = x509.ObjectIdentifier("1.3.6.1.4.1.311.21.10")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def name(text: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else []
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def ca_certificate(key: ec.EllipticCurvePrivateKey = CA_KEY) -> bytes:
    builder = x509.CertificateBuilder().subject_name(name("CA")).issuer_name(name("CA")).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=3650))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


CA_CERTIFICATE = ca_certificate()
CONTENTS = ApprovedContents(
    subject=((NameAttribute("2.5.4.3", "device"),),),
    subject_alternative_names=(San(SanKind.DNS, "device.example"),),
    spki=DEVICE_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE}),
    extended_key_usage=(CLIENT_AUTH,),
    validity=timedelta(days=365),
)


def leaf(
    *,
    subject: str = "device",
    organization: str = "",
    key: ec.EllipticCurvePrivateKey = DEVICE_KEY,
    signed_by: ec.EllipticCurvePrivateKey = CA_KEY,
    not_before: datetime = NOW - timedelta(minutes=5),
    not_after: datetime = NOW + timedelta(days=365),
    names: tuple[x509.GeneralName, ...] = (x509.DNSName("device.example"),),
    usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    extra: x509.UnrecognizedExtension | None = None,
    critical: bool = False,
    key_usage: bool = True,
    ca: bool = False,
    crl_sign: bool = False,
) -> bytes:
    builder = x509.CertificateBuilder().subject_name(name(subject, organization)).issuer_name(name("CA"))
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(not_before).not_valid_after(not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    bits: dict[str, Any] = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign"), False
    )
    usage = x509.KeyUsage(digital_signature=True, crl_sign=crl_sign, encipher_only=False, decipher_only=False, **bits)
    if key_usage:
        builder = builder.add_extension(usage, critical=True)
    if extra:
        builder = builder.add_extension(extra, critical=critical)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signed_by, hashes.SHA256()).public_bytes(Encoding.DER)


def issued(certificate: bytes, *chain: bytes) -> Issued:
    return Issued(certificate=certificate, chain=chain, reference="order 1")


def test_what_was_decided_passes() -> None:
    check(issued(leaf()), ca_certificate(), CONTENTS, NOW)


def test_every_kind_of_name_is_compared_by_its_value() -> None:
    upn = b"\x0c\x0buser@domain"
    names = (x509.RFC822Name("a@example"), x509.OtherName(UPN, upn), x509.UniformResourceIdentifier("urn:x"))
    approved = (San(SanKind.EMAIL, "a@example"), San(SanKind.UPN, "user@domain"), San(SanKind.URI, "urn:x"))

    check(issued(leaf(names=names)), ca_certificate(), replace(CONTENTS, subject_alternative_names=approved), NOW)


def test_an_approved_sid_passes_and_must_be_there() -> None:
    approved = replace(CONTENTS, sid="S-1-5-21-50")

    check(issued(leaf(extra=SID)), ca_certificate(), approved, NOW)
    with pytest.raises(Wrong, match="SID is missing"):
        check(issued(leaf()), ca_certificate(), approved, NOW)


def test_what_a_ca_adds_without_harm_passes() -> None:
    check(issued(leaf(extra=UNKNOWN)), ca_certificate(), CONTENTS, NOW)


@pytest.mark.parametrize(
    ("certificate", "complaint"),
    [
        (lambda: leaf(signed_by=OTHER_KEY), "not signed by"),
        (lambda: leaf(key=OTHER_KEY), "another key"),
        (lambda: leaf(subject="somebody else"), "subject is not"),
        (lambda: leaf(names=()), "alternative names are not"),
        (
            lambda: leaf(names=(x509.DNSName("device.example"), x509.DNSName("more.example"))),
            "alternative names are not",
        ),
        (lambda: leaf(names=(x509.OtherName(UPN, b"\x16\x01a"),)), "no UTF8String"),
        (lambda: leaf(names=(x509.RegisteredID(UPN),)), "never approved"),
        (lambda: leaf(ca=True), "a CA certificate"),
        (lambda: leaf(crl_sign=True), "key usages are not"),
        (lambda: leaf(key_usage=False), "key usages are not"),
        (lambda: leaf(extra=SID), "Microsoft SID is not"),
        (lambda: leaf(extra=UNKNOWN, critical=True), "critical extension"),
        (lambda: leaf(usages=()), "no extended key usage"),
        (
            lambda: leaf(usages=(ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING)),
            "extended key usages are not",
        ),
        (lambda: leaf(not_before=NOW + timedelta(hours=2)), "not valid yet"),
        (lambda: leaf(not_before=NOW - timedelta(days=2), not_after=NOW), "expired"),
        (lambda: leaf(not_after=NOW + timedelta(days=366)), "longer than was approved"),
        (lambda: b"no certificate", "cannot be read"),
    ],
)
def test_what_was_not_decided_is_wrong(certificate: Callable[[], bytes], complaint: str) -> None:
    with pytest.raises(Wrong, match=complaint):
        check(issued(certificate()), ca_certificate(), CONTENTS, NOW)


CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
ORGANIZATION, COMMON_NAME = "2.5.4.10", "2.5.4.3"


@pytest.mark.parametrize(
    ("certificate", "ca_adds", "may_drop"),
    [
        (leaf(usages=(CLIENT, SERVER)), {SERVER.dotted_string}, set()),
        (leaf(usages=(SERVER,)), {SERVER.dotted_string}, {CLIENT.dotted_string}),
        (leaf(organization="Example"), {ORGANIZATION}, set()),
        (leaf(organization="Example"), {f"{ORGANIZATION}=Example"}, set()),
        (leaf(subject="device.example"), {COMMON_NAME}, {COMMON_NAME}),
        (leaf(subject="somebody else"), {f"{COMMON_NAME}=somebody else"}, {COMMON_NAME}),
        (leaf(subject=""), set(), {COMMON_NAME}),
        (leaf(subject=""), set(), {f"{COMMON_NAME}=device"}),
    ],
)
def test_what_is_declared_passes_and_without_that_it_is_wrong(
    certificate: bytes, ca_adds: set[str], may_drop: set[str]
) -> None:
    known = Deviations(ca_adds=frozenset(ca_adds), may_drop=frozenset(may_drop))

    check(issued(certificate), CA_CERTIFICATE, CONTENTS, NOW, known=known)
    with pytest.raises(Wrong):
        check(issued(certificate), CA_CERTIFICATE, CONTENTS, NOW)


def test_a_key_usage_may_be_added_or_missing() -> None:
    both = replace(CONTENTS, key_usage=CONTENTS.key_usage | {KeyUsage.KEY_ENCIPHERMENT})
    other = replace(CONTENTS, key_usage=frozenset({KeyUsage.KEY_ENCIPHERMENT}))
    drops = frozenset({"keyEncipherment"})

    check(issued(leaf()), CA_CERTIFICATE, both, NOW, known=Deviations(may_drop=drops))
    with pytest.raises(Wrong, match="lacks 'keyEncipherment'"):
        check(issued(leaf()), CA_CERTIFICATE, both, NOW, known=Deviations(ca_adds=drops))
    check(
        issued(leaf()),
        CA_CERTIFICATE,
        other,
        NOW,
        known=Deviations(ca_adds=frozenset({"digitalSignature"}), may_drop=drops),
    )


EVERYTHING = frozenset({COMMON_NAME, ORGANIZATION, *KeyUsage, CLIENT_AUTH, SERVER.dotted_string})


@pytest.mark.parametrize(
    ("certificate", "complaint"),
    [
        (lambda: leaf(subject="somebody else"), "has '2.5.4.3=somebody else'"),
        (lambda: leaf(names=()), "alternative names are not"),
        (lambda: leaf(names=(x509.DNSName("device.example"), x509.DNSName("device"))), "alternative names are not"),
        (lambda: leaf(key_usage=False), "would be good for any"),
        (lambda: leaf(usages=()), "good for anything"),
        (lambda: leaf(crl_sign=True), "has 'cRLSign'"),
        (lambda: leaf(ca=True), "a CA certificate"),
        (lambda: leaf(key=OTHER_KEY), "another key"),
    ],
)
def test_whatever_is_declared_the_rest_is_wrong(certificate: Callable[[], bytes], complaint: str) -> None:
    known = Deviations(ca_adds=EVERYTHING, may_drop=EVERYTHING)

    with pytest.raises(Wrong, match=complaint):
        check(issued(certificate()), CA_CERTIFICATE, CONTENTS, NOW, known=known)


def test_what_was_declared_with_its_value_has_that_value() -> None:
    known = Deviations(ca_adds=frozenset({f"{ORGANIZATION}=Example"}))

    with pytest.raises(Wrong, match=r"has '2\.5\.4\.10=Other', which ca_adds does not hold"):
        check(issued(leaf(organization="Other")), CA_CERTIFICATE, CONTENTS, NOW, known=known)


@pytest.mark.parametrize("chain", [(CA_CERTIFICATE,), (ca_certificate(),), (CA_CERTIFICATE, CA_CERTIFICATE)])
def test_a_chain_from_the_issuer_passes(chain: tuple[bytes, ...]) -> None:
    check(issued(leaf(), *chain), CA_CERTIFICATE, CONTENTS, NOW)


@pytest.mark.parametrize(
    ("chain", "complaint"),
    [
        ((b"0",), "cannot be read"),
        ((ca_certificate(OTHER_KEY),), "not signed by"),
        ((CA_CERTIFICATE, b"0"), "cannot be read"),
        ((CA_CERTIFICATE, ca_certificate(OTHER_KEY)), "not signed by"),
    ],
)
def test_a_chain_that_is_none_is_wrong(chain: tuple[bytes, ...], complaint: str) -> None:
    with pytest.raises(Wrong, match=complaint):
        check(issued(leaf(), *chain), CA_CERTIFICATE, CONTENTS, NOW)


def test_what_the_library_trips_over_is_wrong_and_no_fault() -> None:
    twice = leaf().replace(bytes.fromhex("0603551d25"), bytes.fromhex("0603551d0f"))

    with pytest.raises(Wrong):
        check(issued(twice), ca_certificate(), CONTENTS, NOW)


def application_policies(*usages: x509.ObjectIdentifier) -> x509.UnrecognizedExtension:
    policies = x509.CertificatePolicies([x509.PolicyInformation(each, None) for each in usages])
    return x509.UnrecognizedExtension(APPLICATION_POLICIES, policies.public_bytes())


def test_application_policies_are_extended_key_usages() -> None:
    """CVE-2024-49019: Windows looks at them first."""
    agent = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.1")
    more = leaf(extra=application_policies(CLIENT, agent))
    unreadable = leaf(extra=x509.UnrecognizedExtension(APPLICATION_POLICIES, b"none"))
    known = Deviations(ca_adds=frozenset({agent.dotted_string}))

    check(issued(leaf(extra=application_policies(CLIENT))), CA_CERTIFICATE, CONTENTS, NOW)
    check(issued(more), CA_CERTIFICATE, CONTENTS, NOW, known=known)
    with pytest.raises(Wrong, match=r"application policies .* has '1\.3\.6\.1\.4\.1\.311\.20\.2\.1'"):
        check(issued(more), CA_CERTIFICATE, CONTENTS, NOW)
    with pytest.raises(Wrong, match="cannot be read"):
        check(issued(unreadable), CA_CERTIFICATE, CONTENTS, NOW)


def rewritten(**fields: object) -> bytes:
    """A certificate with what no library lets one write, signed all the same."""
    certificate = asn1_x509.Certificate.load(leaf())
    for name_, value in fields.items():
        certificate["tbs_certificate"][name_] = value
    certificate["signature_value"] = CA_KEY.sign(
        certificate["tbs_certificate"].dump(force=True), ec.ECDSA(hashes.SHA256())
    )
    der: bytes = certificate.dump(force=True)
    return der


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("serial", [-5, 0, 1 << 160])
def test_a_serial_number_is_positive_and_not_long(serial: int) -> None:
    with pytest.raises(Wrong, match="serial number"):
        check(issued(rewritten(serial_number=serial)), CA_CERTIFICATE, CONTENTS, NOW)


def test_a_certificate_of_version_1_has_no_extensions_that_count() -> None:
    with pytest.raises(Wrong, match="version 3"):
        check(issued(rewritten(version="v1")), CA_CERTIFICATE, CONTENTS, NOW)


def test_a_certificate_may_be_backdated_but_not_to_before_its_ca() -> None:
    check(issued(leaf(not_before=NOW - timedelta(minutes=50))), CA_CERTIFICATE, CONTENTS, NOW)
    with pytest.raises(Wrong, match="before there was its CA"):
        check(issued(leaf(not_before=NOW - timedelta(hours=2))), CA_CERTIFICATE, CONTENTS, NOW)


@pytest.mark.parametrize(
    ("approved", "found"),
    [
        (San(SanKind.DNS, "Device.Example"), x509.DNSName("device.example")),
        (San(SanKind.EMAIL, "Me@Example"), x509.RFC822Name("Me@example")),
        (San(SanKind.URI, "URN:x#"), x509.UniformResourceIdentifier("urn:x")),
    ],
)
def test_the_same_name_in_other_letters_is_the_same(approved: San, found: x509.GeneralName) -> None:
    """Else a device would stop the CA for all others by the way it writes its name."""
    contents = replace(CONTENTS, subject_alternative_names=(approved,))

    check(issued(leaf(names=(found,))), CA_CERTIFICATE, contents, NOW)


@pytest.mark.parametrize(
    ("approved", "found"),
    [
        (San(SanKind.EMAIL, "Me@example"), x509.RFC822Name("me@example")),
        (San(SanKind.URI, "urn:X"), x509.UniformResourceIdentifier("urn:x")),
    ],
)
def test_where_letters_count_they_are_compared(approved: San, found: x509.GeneralName) -> None:
    contents = replace(CONTENTS, subject_alternative_names=(approved,))

    with pytest.raises(Wrong, match="alternative names"):
        check(issued(leaf(names=(found,))), CA_CERTIFICATE, contents, NOW)
