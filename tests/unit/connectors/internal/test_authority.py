from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from ipaddress import IPv4Address
from operator import and_, or_
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from connectors.api import (
    ApprovedContents,
    IssueRequest,
    KeyUsage,
    Misconfigured,
    NameAttribute,
    Rejection,
    San,
    SanKind,
)
from connectors.internal.authority import Authority, NotIssuable, Rules, check
from connectors.keyfiles import PrivateKey
from tests.fakes import pki

PRINTABLE, UTF8, BMP = 0x13, 0x0C, 0x1E
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
RULES = Rules(
    digest=None,
    max_validity=timedelta(days=825),
    backdate=timedelta(minutes=5),
    aia_url=None,
    ocsp_url=None,
    crl_urls=(),
)


def spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


CONTENTS = ApprovedContents(
    subject=((NameAttribute("2.5.4.3", "device-1", PRINTABLE),),),
    subject_alternative_names=(),
    spki=spki(pki.key("ec:p256", 7)),
    key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE}),
    extended_key_usage=(CLIENT_AUTH,),
    validity=timedelta(days=90),
)
REQUEST = IssueRequest(
    csr=b"never read",
    contents=CONTENTS,
    profile="default",
    idempotency_key=UUID("8a0c7f8e-64f4-4d0c-9fb5-1f0d0d3c6d2a"),
    requested_at=pki.NOW,
)


def authority(rules: Rules = RULES, key_spec: str = "ec:p256") -> Authority:
    ca = pki.root(key_spec)
    return Authority(ca.certificate, ca.key, rules)


def issue(contents: ApprovedContents = CONTENTS, rules: Rules = RULES) -> x509.Certificate:
    der, _ = authority(rules).issue(replace(REQUEST, contents=contents))
    return x509.load_der_x509_certificate(der)


def extension_oids(certificate: x509.Certificate) -> Sequence[str]:
    return [each.oid.dotted_string for each in certificate.extensions]


@pytest.mark.parametrize("key_spec", ["rsa:2048", "rsa:3072", "ec:p256", "ec:p384"])
def test_one_request_yields_the_same_bytes_in_every_process(key_spec: str) -> None:
    ca = pki.root(key_spec)

    first = Authority(ca.certificate, ca.key, RULES).issue(REQUEST)
    second = Authority(ca.certificate, ca.key, RULES).issue(REQUEST)

    assert first == second


@pytest.mark.parametrize(
    ("key_spec", "digest", "expected"),
    [
        ("rsa:2048", None, "sha256"),
        ("ec:p256", None, "sha256"),
        ("ec:p384", None, "sha384"),
        ("rsa:2048", "sha512", "sha512"),
    ],
)
def test_the_digest_is_as_strong_as_the_curve_or_as_configured(
    key_spec: str, digest: str | None, expected: str
) -> None:
    der, _ = authority(replace(RULES, digest=digest), key_spec).issue(REQUEST)

    algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    assert algorithm is not None
    assert expected == algorithm.name


@given(keys=st.lists(st.uuids(), min_size=2, max_size=5, unique=True))
def test_serial_numbers_are_distinct_positive_and_of_17_octets_16_of_them_random(keys: list[UUID]) -> None:
    ca = authority()

    serials = [ca.issue(replace(REQUEST, idempotency_key=each))[1] for each in keys]

    assert len(keys) == len(set(serials))
    assert [1] * len(keys) == [each >> 128 for each in serials]


def test_all_128_random_bits_of_a_serial_number_vary() -> None:
    ca = authority()

    serials = [ca.issue(replace(REQUEST, idempotency_key=UUID(int=number)))[1] for number in range(64)]

    ever_set = reduce(or_, serials)
    always_set = reduce(and_, serials)
    assert ((1 << 129) - 1, 1 << 128) == (ever_set, always_set)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((replace(RULES, max_validity=timedelta(days=7)), {}), id="max_validity"),
        pytest.param((replace(RULES, backdate=timedelta(0)), {}), id="backdate"),
        pytest.param((replace(RULES, digest="sha512"), {}), id="digest"),
        pytest.param((replace(RULES, aia_url="http://ca/ca.cer"), {}), id="aia_url"),
        pytest.param((replace(RULES, ocsp_url="http://ca/ocsp"), {}), id="ocsp_url"),
        pytest.param((replace(RULES, crl_urls=("http://ca/ca.crl",)), {}), id="crl_urls"),
        pytest.param((RULES, {"subject": ((NameAttribute("2.5.4.3", "device-2", PRINTABLE),),)}), id="subject"),
        pytest.param((RULES, {"subject": ((NameAttribute("2.5.4.3", "device-1", UTF8),),)}), id="string type"),
        pytest.param((RULES, {"subject_alternative_names": (San(SanKind.DNS, "d.example"),)}), id="names"),
        pytest.param((RULES, {"spki": spki(pki.key("ec:p256", 8))}), id="key"),
        pytest.param((RULES, {"key_usage": frozenset({KeyUsage.KEY_AGREEMENT})}), id="key usage"),
        pytest.param((RULES, {"extended_key_usage": ("1.3.6.1.5.5.7.3.1",)}), id="extended key usage"),
        pytest.param((RULES, {"validity": timedelta(days=89)}), id="validity"),
        pytest.param((RULES, {"sid": "S-1-5-21-1-2-3-4"}), id="sid"),
    ],
)
def test_two_certificates_for_one_idempotency_key_never_share_a_serial_number(
    other: tuple[Rules, dict[str, Any]],
) -> None:
    rules, changes = other
    der, serial = authority().issue(REQUEST)

    other_der, other_serial = authority(rules).issue(replace(REQUEST, contents=replace(CONTENTS, **changes)))

    assert der != other_der
    assert serial != other_serial


def test_serial_numbers_cannot_be_told_from_the_idempotency_key_without_the_ca_key() -> None:
    first, second = pki.root("ec:p256", number=0), pki.root("ec:p256", number=1)

    _, one = Authority(first.certificate, first.key, RULES).issue(REQUEST)
    _, other = Authority(second.certificate, second.key, RULES).issue(REQUEST)

    assert one != other


def test_the_validity_counts_from_the_approval_and_begins_a_little_before() -> None:
    der, _ = authority().issue(replace(REQUEST, requested_at=pki.NOW.replace(microsecond=999_999)))

    certificate = x509.load_der_x509_certificate(der)
    assert pki.NOW - timedelta(minutes=5) == certificate.not_valid_before_utc
    assert pki.NOW + timedelta(days=90) == certificate.not_valid_after_utc


def test_the_validity_is_capped_by_the_configuration() -> None:
    certificate = issue(rules=replace(RULES, max_validity=timedelta(days=7)))

    assert pki.NOW + timedelta(days=7) == certificate.not_valid_after_utc


def test_the_validity_is_capped_by_the_ca_at_both_ends() -> None:
    rules = replace(RULES, max_validity=timedelta(days=36500), backdate=timedelta(days=30))
    ca = pki.root().certificate

    certificate = issue(replace(CONTENTS, validity=timedelta(days=36500)), rules)

    assert ca.not_valid_before_utc == certificate.not_valid_before_utc
    assert ca.not_valid_after_utc == certificate.not_valid_after_utc


def test_an_expired_ca_is_the_operators_to_mend() -> None:
    after = pki.root().certificate.not_valid_after_utc

    with pytest.raises(Misconfigured, match="the CA certificate ran out"):
        authority().issue(replace(REQUEST, requested_at=after))


def test_no_validity_is_not_issued() -> None:
    with pytest.raises(NotIssuable) as refusal:
        issue(replace(CONTENTS, validity=timedelta()))

    assert Rejection.VALIDITY is refusal.value.rejection


def test_a_certificate_carries_the_extensions_of_an_end_entity_and_no_more() -> None:
    certificate = issue()

    assert ["2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.14", "2.5.29.35"] == extension_oids(certificate)
    assert [True, True, False, False, False] == [each.critical for each in certificate.extensions]


def test_the_ca_key_id_is_that_of_the_ca_certificate() -> None:
    ca = pki.root().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    leaf = issue()

    named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    own = leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert ca.digest == named
    assert hashlib.sha1(_key_bits(leaf)).digest() == own  # noqa: S324 - RFC 5280 §4.2.1.2 (1)


def _key_bits(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def test_every_kind_of_name_is_written() -> None:
    names = (
        San(SanKind.DNS, "device-1.example.org"),
        San(SanKind.EMAIL, "device@example.org"),
        San(SanKind.URI, "urn:uuid:5c0c7f8e-64f4-4d0c-9fb5-1f0d0d3c6d2a"),
        San(SanKind.IP, "192.0.2.1"),
        San(SanKind.UPN, "jürgen@example.org"),
    )

    certificate = issue(replace(CONTENTS, subject_alternative_names=names))

    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    expected = [
        x509.DNSName("device-1.example.org"),
        x509.RFC822Name("device@example.org"),
        x509.UniformResourceIdentifier("urn:uuid:5c0c7f8e-64f4-4d0c-9fb5-1f0d0d3c6d2a"),
        x509.IPAddress(IPv4Address("192.0.2.1")),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x13" + "jürgen@example.org".encode()),
    ]
    assert expected == list(extension.value)
    assert not extension.critical


def test_without_a_subject_the_alternative_name_is_critical() -> None:
    contents = replace(CONTENTS, subject=(), subject_alternative_names=(San(SanKind.DNS, "device-1.example.org"),))

    certificate = issue(contents)

    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_the_microsoft_sid_is_written_as_windows_reads_it() -> None:
    certificate = issue(replace(CONTENTS, sid="S-1-5-21-1-2-3-1104"))

    extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.4.1.311.25.2")).value
    value = b"S-1-5-21-1-2-3-1104"
    other_name = bytes.fromhex("060a2b060104018237190201") + b"\xa0\x15\x04\x13" + value
    assert b"\x30\x25\xa0\x23" + other_name == extension.public_bytes()


def test_pointers_are_written_where_they_are_configured() -> None:
    rules = replace(
        RULES,
        aia_url="http://ca.example/ca.crt",
        ocsp_url="http://ocsp.example",
        crl_urls=("http://ca.example/ca.crl",),
    )

    certificate = issue(rules=rules)

    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert ["http://ocsp.example", "http://ca.example/ca.crt"] == [each.access_location.value for each in access]
    assert [[x509.UniformResourceIdentifier("http://ca.example/ca.crl")]] == [each.full_name for each in points]


@pytest.mark.parametrize(
    ("value", "tag", "written"),
    [
        ("device-1", PRINTABLE, "1308"),
        ("device-1", UTF8, "0c08"),
        ("device-1", BMP, "0c08"),
        ("device@1", PRINTABLE, "0c08"),
    ],
)
def test_a_printable_string_stays_one_where_its_characters_allow(value: str, tag: int, written: str) -> None:
    certificate = issue(replace(CONTENTS, subject=((NameAttribute("2.5.4.3", value, tag),),)))

    assert bytes.fromhex(written) + value.encode() in certificate.subject.public_bytes()


def test_the_subject_keeps_its_order_and_its_multi_valued_names() -> None:
    subject = (
        (NameAttribute("2.5.4.6", "CH"),),
        (NameAttribute("2.5.4.10", "Lab"), NameAttribute("2.5.4.11", "Radio")),
        (NameAttribute("2.5.4.3", "device-1"),),
    )

    certificate = issue(replace(CONTENTS, subject=subject))

    written = [[(each.oid.dotted_string, each.value) for each in rdn] for rdn in certificate.subject.rdns]
    assert [[(each.oid, each.value) for each in rdn] for rdn in subject] == written


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ((NameAttribute("2.5.4.6", "Switzerland"),),)},
        {"subject": ((NameAttribute("2.5.4.3", ""),),)},
        {"subject": ((NameAttribute("no oid", "x"),),)},
        {"subject_alternative_names": (San(SanKind.IP, "192.0.2.256"),)},
        {"subject_alternative_names": (San(SanKind.DNS, "gerät.example"),)},
        {"subject_alternative_names": (San(SanKind.UPN, "x" * 128),)},
        {"extended_key_usage": ("no oid",)},
        {"key_usage": frozenset({KeyUsage.ENCIPHER_ONLY})},
        {"sid": "S-1-5-21-ü"},
    ],
)
def test_what_cannot_be_written_is_a_rejected_name(change: dict[str, object]) -> None:
    with pytest.raises(NotIssuable) as refusal:
        issue(replace(CONTENTS, **change))  # type: ignore[arg-type]  # any field

    assert Rejection.NAME is refusal.value.rejection


@pytest.mark.parametrize(
    "unfit",
    [
        b"",
        b"\x30\x00",
        x25519.X25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        spki(pki.root().key),
    ],
    ids=["empty", "garbage", "x25519", "the CA's own"],
)
def test_a_key_that_cannot_be_certified_is_rejected(unfit: bytes) -> None:
    with pytest.raises(NotIssuable) as refusal:
        issue(replace(CONTENTS, spki=unfit))

    assert Rejection.KEY is refusal.value.rejection


@given(
    subject=st.lists(st.tuples(st.sampled_from(["2.5.4.3", "2.5.4.6", "2.5.4.10", "1.2.3"]), st.text(max_size=80))),
    names=st.lists(st.tuples(st.sampled_from(SanKind), st.text(max_size=160))),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis
)
def test_whatever_is_approved_only_refusals_come_out(
    subject: list[tuple[str, str]], names: list[tuple[SanKind, str]], moment: datetime
) -> None:
    contents = replace(
        CONTENTS,
        subject=tuple((NameAttribute(oid, value),) for oid, value in subject),
        subject_alternative_names=tuple(San(kind, value) for kind, value in names),
    )

    try:
        der, serial = authority().issue(replace(REQUEST, contents=contents, requested_at=moment))
    except (NotIssuable, Misconfigured):
        return

    certificate = x509.load_der_x509_certificate(der)
    assert serial == certificate.serial_number
    assert [value for _, value in subject] == [each.value for each in certificate.subject]


def test_a_ca_that_can_issue_passes() -> None:
    ca = pki.root()

    check([ca.certificate], ca.key)


def test_a_ca_whose_files_do_not_go_together_is_refused() -> None:
    ca, other = pki.root(), pki.root(number=1)
    leaf_key = pki.key("ec:p256", 2)

    with pytest.raises(Misconfigured, match="does not belong to the first certificate"):
        check([ca.certificate], other.key)
    with pytest.raises(Misconfigured, match="is no CA certificate"):
        check([ca.issue(leaf_key)], leaf_key)
    with pytest.raises(Misconfigured, match=r"holds no chain, .*CN=Test CA.* is not issued by .*CN=Other CA"):
        check([ca.certificate, pki.root(name="Other CA", number=1).certificate], ca.key)


def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: _rsa(1024), "has 1024 bits; it must have 2048"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "is on secp521r1; it must be on P-256 or P-384"),
    ],
)
def test_a_ca_key_of_another_size_is_refused(make: Callable[[], PrivateKey], wrong: str) -> None:
    ca = pki.root_of(make())

    with pytest.raises(Misconfigured, match=wrong):
        check([ca.certificate], ca.key)
