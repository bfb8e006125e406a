from __future__ import annotations

from datetime import timedelta

from cryptography import x509

from ra.simulate.authority import SimulatedCa
from tests.fakes import pki


def ca() -> SimulatedCa:
    return SimulatedCa("Test", lambda: pki.NOW)


def signed(authority: SimulatedCa) -> x509.Certificate:
    name = x509.Name([])
    until = pki.NOW + timedelta(days=1)
    return authority.sign(name, pki.rsa_key().public_key(), [], not_before=pki.NOW, not_after=until)


def test_what_it_signs_leads_to_its_root() -> None:
    authority = ca()

    certificate = signed(authority)

    issuing, root = authority.chain
    certificate.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert {certificate.serial_number: certificate} == authority.issued


def test_a_crl_lists_what_is_revoked_with_its_reason_and_counts_up() -> None:
    authority = ca()
    authority.revoke(1, x509.ReasonFlags.superseded)
    authority.revoke(1, x509.ReasonFlags.key_compromise)
    authority.revoke(2)

    first, second = authority.crl(), authority.crl()

    reasons = [
        each.extensions.get_extension_for_class(x509.CRLReason).value.reason for each in first if each.extensions
    ]
    numbers = [each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in (first, second)]
    assert [1, 2] == [each.serial_number for each in first]
    assert [x509.ReasonFlags.superseded] == reasons
    assert [1, 2] == numbers
    assert first.is_signature_valid(authority.certificate.public_key())  # type: ignore[arg-type] # an EC key
