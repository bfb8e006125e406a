from __future__ import annotations

from datetime import timedelta

import pytest
from asn1crypto import csr as asn1_csr
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from ra.client.algorithms import Key
from ra.client.csr import read_general_name, read_subject, self_signed, write_csr
from ra.client.errors import BadArgument
from ra.client.names import Digest
from tests.fakes.device import NOW, pooled_key

SUBJECT = read_subject("CN=device,O=Example")
KEYS = [
    pytest.param(lambda: pooled_key(0), id="rsa"),
    pytest.param(lambda: ec.generate_private_key(ec.SECP256R1()), id="ec"),
    pytest.param(ed25519.Ed25519PrivateKey.generate, id="ed25519"),
]


@pytest.mark.parametrize("make_key", KEYS)
def test_a_csr_is_signed_by_its_key(make_key: type[Key]) -> None:
    key = make_key()

    request = x509.load_der_x509_csr(write_csr(key, SUBJECT))

    assert request.is_signature_valid
    assert key.public_key() == request.public_key()
    assert SUBJECT == request.subject


def test_a_csr_asks_for_its_extensions_in_the_order_given() -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    names = [read_general_name("dns:a.example"), read_general_name("ip:192.0.2.1")]

    der = write_csr(pooled_key(0), SUBJECT, subject_alternative_names=names, extensions=[usage])

    asked = [each.value for each in x509.load_der_x509_csr(der).extensions]
    assert [x509.SubjectAlternativeName(names), usage] == asked


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64))
def test_any_challenge_password_is_read_back(password: str) -> None:
    der = write_csr(ed25519.Ed25519PrivateKey.generate(), SUBJECT, challenge_password=password)

    assert password == _challenge(der).native


@pytest.mark.parametrize(
    ("password", "kind"),
    [("NQ3C6-GS3ZN 'x'", "printable_string"), ("with_underscore", "utf8_string"), ("Zürich", "utf8_string")],
)
def test_a_challenge_password_is_a_printable_string_where_it_fits(password: str, kind: str) -> None:
    der = write_csr(pooled_key(0), SUBJECT, challenge_password=password)

    assert kind == _challenge(der).name


def test_a_csr_without_wishes_has_no_attributes() -> None:
    request = x509.load_der_x509_csr(write_csr(pooled_key(0), SUBJECT, digest=Digest.SHA512))

    assert [] == list(request.attributes)
    assert isinstance(request.signature_hash_algorithm, hashes.SHA512)


def test_a_self_signed_certificate_names_the_device_and_may_sign_and_receive() -> None:
    certificate = self_signed(pooled_key(0), SUBJECT, NOW, serial=7)

    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    certificate.verify_directly_issued_by(certificate)
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    assert (certificate.subject, certificate.serial_number) == (SUBJECT, 7)
    assert NOW - timedelta(hours=1) == certificate.not_valid_before_utc


def test_a_signer_without_a_subject_still_gets_a_name() -> None:
    certificate = self_signed(pooled_key(0), x509.Name([]), NOW, serial=1)

    assert "CN=SCEP client" == certificate.subject.rfc4514_string()


def test_a_subject_is_read_as_rfc_4514_says() -> None:
    subject = read_subject("CN=device,SERIALNUMBER=42,O=Example")

    assert [NameOID.ORGANIZATION_NAME, NameOID.SERIAL_NUMBER, NameOID.COMMON_NAME] == [each.oid for each in subject]


def test_what_is_no_subject_is_refused() -> None:
    with pytest.raises(BadArgument, match="write it as CN=device"):
        read_subject("device")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dns:a.example", x509.DNSName("a.example")),
        ("DNS:a.example", x509.DNSName("a.example")),
        ("email:a@b.example", x509.RFC822Name("a@b.example")),
        ("uri:urn:uuid:1", x509.UniformResourceIdentifier("urn:uuid:1")),
    ],
)
def test_a_general_name_is_read_by_its_kind(text: str, expected: x509.GeneralName) -> None:
    assert expected == read_general_name(text)


@pytest.mark.parametrize("text", ["a.example", "ip:300.1.1.1", "dns:zürich.example", "upn:a@b", ""])
def test_what_is_no_general_name_is_refused(text: str) -> None:
    with pytest.raises(BadArgument):
        read_general_name(text)


def _challenge(der: bytes) -> asn1_csr.x509.DirectoryString:
    attributes = asn1_csr.CertificationRequest.load(der)["certification_request_info"]["attributes"]
    assert ["challenge_password"] == [each["type"].native for each in attributes]
    return attributes[0]["values"][0]
