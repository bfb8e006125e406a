from __future__ import annotations

import pytest
from cryptography import x509
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
