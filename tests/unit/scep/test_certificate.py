from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ra.scep.certificate import is_issued_by, read_facts
from ra.scep.csr import GeneralName, GeneralNameKind
from ra.scep.errors import Malformed
from tests.fakes import pki

CA = pki.root()
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
CERTIFICATE = CA.issue(pki.rsa_key(), name="a", extended=pki.extended_key_usage(CLIENT_AUTH))


def test_what_a_certificate_says_is_read() -> None:
    names = x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.RFC822Name("a@example.org")])
    facts = read_facts(pki.der(CERTIFICATE))
    named = read_facts(pki.der(_with(names)))

    assert CERTIFICATE.serial_number == facts.serial
    assert ["a"] == [each.value for rdn in facts.subject for each in rdn]
    assert frozenset({"digitalSignature", "keyEncipherment"}) == facts.key_usage
    assert (CLIENT_AUTH,) == facts.extended_key_usage
    assert (pki.NOW - timedelta(days=1), pki.NOW + timedelta(days=365)) == (facts.not_before, facts.not_after)
    assert not facts.is_ca
    assert () == facts.subject_alternative_names
    assert (
        GeneralName(GeneralNameKind.DNS, "a.example"),
        GeneralName(GeneralNameKind.EMAIL, "a@example.org"),
    ) == named.subject_alternative_names


def _with(extension: x509.ExtensionType) -> x509.Certificate:
    return CA.issue(pki.rsa_key(), usage=None, extended=extension)  # type: ignore[arg-type]  # any extension does


def test_what_is_absent_is_not_what_is_empty() -> None:
    facts = read_facts(pki.der(CA.issue(pki.rsa_key(), usage=None)))

    assert (None, None) == (facts.key_usage, facts.extended_key_usage)


def test_a_ca_is_told_by_its_basic_constraints() -> None:
    assert read_facts(pki.der(CA.certificate)).is_ca
    assert read_facts(pki.der(CA.issue(pki.rsa_key(), ca=True))).is_ca


def test_a_ca_stands_behind_what_it_has_signed_alone() -> None:
    certificate = pki.der(CA.issue(pki.rsa_key()))
    namesake = pki.root(number=3)

    assert is_issued_by(certificate, pki.der(CA.certificate))
    assert not is_issued_by(certificate, pki.der(namesake.certificate))
    assert not is_issued_by(
        pki.der(pki.root(name="Another CA", number=4).issue(pki.rsa_key())), pki.der(CA.certificate)
    )


@pytest.mark.parametrize("cut", [0, 1, 100, 400])
def test_a_certificate_that_is_cut_is_malformed_and_nobodys(cut: int) -> None:
    der = pki.der(CA.issue(pki.rsa_key()))[:cut]

    with pytest.raises(Malformed):
        read_facts(der)
    assert not is_issued_by(der, pki.der(CA.certificate))


def test_a_certificate_of_an_unknown_version_is_malformed_and_nobodys() -> None:
    der = pki.der(CERTIFICATE).replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020103"), 1)

    with pytest.raises(Malformed):
        read_facts(der)
    assert not is_issued_by(der, pki.der(CA.certificate))


@given(st.integers(min_value=0, max_value=700), st.integers(min_value=1, max_value=255))
def test_a_certificate_that_was_changed_is_read_or_malformed_and_never_signed(where: int, change: int) -> None:
    der = bytearray(pki.der(CERTIFICATE))
    der[where % len(der)] ^= change

    with suppress(Malformed):
        read_facts(bytes(der))
    assert not is_issued_by(bytes(der), pki.der(CA.certificate))
