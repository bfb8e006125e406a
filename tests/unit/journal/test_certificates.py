from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import Issued
from ra.journal.certificates import describe
from tests.fakes.enrolments import CHAIN, NOW


def test_what_is_kept_is_read_from_the_certificate_itself() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(77).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    kept = describe(Issued(certificate=der, chain=CHAIN, reference="order 1"))

    assert (der, CHAIN, "order 1") == (kept.certificate, kept.chain, kept.reference)
    assert (77, NOW + timedelta(days=1)) == (kept.serial, kept.not_after)


def test_what_is_no_certificate_is_not_kept() -> None:
    with pytest.raises(ValueError, match="parsing"):
        describe(Issued(certificate=b"\x30\x00", chain=(), reference=""))
