"""KeyUsage as X.509 writes it, for certificates and for requests."""

from __future__ import annotations

from cryptography import x509

from connectors.api import KeyUsage


def to_x509(usage: frozenset[KeyUsage]) -> x509.KeyUsage:
    """The extension of an end entity: it never signs certificates or CRLs."""
    return x509.KeyUsage(
        digital_signature=KeyUsage.DIGITAL_SIGNATURE in usage,
        content_commitment=KeyUsage.CONTENT_COMMITMENT in usage,
        key_encipherment=KeyUsage.KEY_ENCIPHERMENT in usage,
        data_encipherment=KeyUsage.DATA_ENCIPHERMENT in usage,
        key_agreement=KeyUsage.KEY_AGREEMENT in usage,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=KeyUsage.ENCIPHER_ONLY in usage,
        decipher_only=KeyUsage.DECIPHER_ONLY in usage,
    )
