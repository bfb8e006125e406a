"""Degenerate SignedData: certificates or a CRL in a CMS wrapping that nobody signed (RFC 8894 §3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from asn1crypto import cms
from cryptography import x509

from ra.client.errors import BadReply, reading


@dataclass(frozen=True, slots=True)
class Bag:
    """What a degenerate message carries, in the order sent."""

    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]


def read_bag(message: bytes, what: str) -> Bag:
    """The certificates and CRLs of a degenerate SignedData, DER or BER; `what` names it in errors.

    Raises:
        BadReply: it is none.
    """
    with reading(what):
        info = cms.ContentInfo.load(message, strict=True)
        if info["content_type"].native != "signed_data":
            raise BadReply(f"{what} carries no certificates (no CMS SignedData).")
        data = info["content"]
        return Bag(
            tuple(x509.load_der_x509_certificate(each.chosen.dump()) for each in data["certificates"]),
            tuple(x509.load_der_x509_crl(each.chosen.dump()) for each in data["crls"]),
        )
