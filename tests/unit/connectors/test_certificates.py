from __future__ import annotations

from base64 import b64decode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from connectors import certificates
from connectors.api import Misconfigured, ProtocolViolation
from ra.simulate.authority import SimulatedCa
from tests.fakes import pki
from tests.fakes.asking import request

CA = SimulatedCa("Issuing", lambda: pki.NOW)
ISSUING, ROOT = map(pki.der, CA.chain)
STRANGER = pki.der(pki.root().certificate)


def test_a_csr_keeps_its_bytes_as_pem() -> None:
    csr = request().csr

    text = certificates.csr_pem(csr)

    assert text is not None
    assert csr == x509.load_pem_x509_csr(text.encode()).public_bytes(Encoding.DER)


def test_what_is_no_csr_has_no_pem() -> None:
    assert certificates.csr_pem(b"0\x00") is None


def test_texts_may_hold_several_certificates_each() -> None:
    both = pki.pem(CA.certificate) + pki.pem(CA.root)

    found = certificates.from_pem(both.decode(), pki.pem(CA.root).decode())

    assert (ISSUING, ROOT, ROOT) == found


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_text_without_a_certificate_is_a_violation(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        certificates.from_pem(text)


def test_a_bag_gives_up_its_certificates() -> None:
    bag = pkcs7.serialize_certificates([CA.certificate, CA.root], Encoding.DER)

    assert {ISSUING, ROOT} == set(certificates.from_pkcs7(bag))


EMPTY_BAG = bytes.fromhex("3023 06092a864886f70d010702 a016 3014 020101 3100 300b 06092a864886f70d010701 3100")


@pytest.mark.parametrize("bag", [b"", b"0\x00", EMPTY_BAG, ROOT], ids=["nothing", "no content", "empty", "no bag"])
def test_a_bag_that_is_none_or_empty_is_a_violation(bag: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        certificates.from_pkcs7(bag)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([ROOT, STRANGER], (ISSUING, ROOT)),
        ([STRANGER, ISSUING, ROOT], (ISSUING, ROOT)),
        ([STRANGER], (ISSUING,)),
        ([], (ISSUING,)),
    ],
)
def test_a_chain_takes_what_belongs_to_it(known: list[bytes], expected: tuple[bytes, ...]) -> None:
    assert expected == certificates.chain_above(ISSUING, known)


def test_a_root_is_a_chain_of_its_own() -> None:
    assert (ROOT,) == certificates.chain_above(ROOT, [ISSUING, ROOT])


def test_what_cannot_be_read_is_the_backends_fault_or_the_callers() -> None:
    with pytest.raises(ProtocolViolation):
        certificates.load(b"0\x00")
    with pytest.raises(ProtocolViolation):
        certificates.crl_from_der(b"0\x00")
    with pytest.raises(Misconfigured):
        certificates.load_own(b"0\x00")


def test_a_crl_is_handed_on_as_it_is() -> None:
    crl = CA.crl().public_bytes(Encoding.DER)

    assert crl == certificates.crl_from_der(crl)


STRONGSWAN = b64decode(
    "MIICrTCCAZUCAQAwHzEdMBsGA1UEAxMUZGV2aWNlLTEuZXhhbXBsZS5vcmcwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIB"
    "AQCkPuGjisav96zCMMhfNYz0wnOqZ+WJ9Lyrg3HJTgECnfsbf68LPWqeb/XFMj3YwJfPidYn8ic9AdwoEsjGk9p0oFIjoC0LKna3"
    "nk7gjSEdwUfPgRjPthPVCZWSDQebXA6cxSLFOr0ARKSaXr7q247epoyAvEimEEFeJq1iwyw2tK44T5fUFCHcf0nnaqLIgIZLlVgI"
    "5s6dLhp14cU90wiJ1N/dFdYhIH9ewGRx5qEaRId37aGzaTOyB0W/+ruHrFVxjuiowGZRZr6uEI/6CWq4/C4atKsEBAyXA9uYA0AO"
    "GBvzCSTA37BJpNY7uUlfSnnzWKgw7jEREoaLSigDiZ+tAgMBAAGgSTAwBgkqhkiG9w0BCQ4xIzAhMB8GA1UdEQQYMBaCFGRldmlj"
    "ZS0xLmV4YW1wbGUub3JnMBUGCSqGSIb3DQEJBzEIDAZzZWNyZXQwDQYJKoZIhvcNAQELBQADggEBACY6yY4rh3nhgD9DvwTsNypI"
    "fBgAalAidIdZMIl/srh3uuNwEMTQxVUKyGkFPWWxD6eKNxfr4z6UrcQy83wBltKcucm/xeKzEgmpY5TBDbQiLCHA/9RHDGhq6NGA"
    "XhJdPmfF6VbEC7LHxbdGJy0bmRypELi3V7W7waO1wRPx96t+mGPmeXyqI6OS0Bj6ws3tNvIupw8SjF9xu/6i4BC//0bSJkGfjMwW"
    "uIaKbyQz9O7/xvr8LxmPaPDhV9bGuy5hDmIBWx6MT+N5LPE/YOFAgOq96JoNG5ym/9KAQPEZb3ov5J9p7/wFqKOCl3l+epibEeP8"
    "3Sfkwck65Q3lbVEjNBY="
)
"""A PKCS #10 of strongSwan 5.9.8: extensionRequest stands before challengePassword, against X.690 §11.6."""


def test_a_request_whose_attributes_are_in_no_order_is_read_and_goes_out_as_it_came() -> None:
    pem = certificates.csr_pem(STRONGSWAN)

    loaded = certificates.load_csr(STRONGSWAN)

    assert pem is not None
    assert STRONGSWAN == b64decode("".join(pem.splitlines()[1:-1]))
    assert "CN=device-1.example.org" == loaded.subject.rfc4514_string()
    assert ["device-1.example.org"] == loaded.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value.get_values_for_type(x509.DNSName)


def test_what_a_key_has_signed_is_what_was_received() -> None:
    key = certificates.load_csr(STRONGSWAN).public_key()

    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(
        certificates.load_csr(STRONGSWAN).signature,
        certificates.signed_part(STRONGSWAN),
        padding.PKCS1v15(),
        hashes.SHA256(),
    )


@pytest.mark.parametrize("csr", [b"", b"\x30", b"\x30\x03\x02\x01", b"\x30\x00", STRONGSWAN[:-1], STRONGSWAN[:50]])
def test_what_is_no_request_is_not_read(csr: bytes) -> None:
    assert certificates.csr_pem(csr) is None
