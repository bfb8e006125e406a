"""Facts of an X.509 certificate that a renewal is judged by, and whether a CA has signed it (RFC 5280 §4.1, §4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import Certificate, InvalidVersion, load_der_x509_certificate

from ra.scep import asn1, x509
from ra.scep.csr import (
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    SUBJECT_ALT_NAME,
    GeneralName,
    Subject,
    read_extended_key_usage,
    read_general_names,
    read_is_ca,
    read_key_usage,
    read_subject,
)
from ra.scep.errors import Malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says.

    Attributes:
        issuer: Name, DER.
        key_usage: RFC 5280 names; None when the extension is absent.
        extended_key_usage: dotted OIDs; None when the extension is absent.
        not_before: UTC, as `not_after`.
        extensions: the values, DER, by dotted OID.
    """

    serial: int
    issuer: bytes
    subject: Subject
    subject_alternative_names: tuple[GeneralName, ...]
    key_usage: frozenset[str] | None
    extended_key_usage: tuple[str, ...] | None
    is_ca: bool
    not_before: datetime
    not_after: datetime
    extensions: Mapping[str, bytes] = field(repr=False)


def read_facts(der: bytes) -> CertificateFacts:
    """The facts of a certificate, DER. Its signature is not looked at.

    Raises:
        Malformed: it does not parse, or an extension comes twice.
    """
    tbs, loaded = x509.read_certificate(der), _load(der)
    read = [asn1.parse(each, asn1.Extension) for each in tbs.extensions or ()]
    extensions = {each.id.dotted_string: each.value for each in read}
    if len(extensions) != len(read):
        raise Malformed("an extension comes twice")
    usage, extended = extensions.get(KEY_USAGE), extensions.get(EXTENDED_KEY_USAGE)
    names, basic = extensions.get(SUBJECT_ALT_NAME), extensions.get(BASIC_CONSTRAINTS)
    return CertificateFacts(
        serial=tbs.serial,
        issuer=asn1.raw(tbs.issuer),
        subject=read_subject(asn1.raw(tbs.subject)),
        subject_alternative_names=() if names is None else read_general_names(names),
        key_usage=None if usage is None else read_key_usage(usage),
        extended_key_usage=None if extended is None else read_extended_key_usage(extended),
        is_ca=basic is not None and read_is_ca(basic),
        not_before=loaded.not_valid_before_utc,
        not_after=loaded.not_valid_after_utc,
        extensions=extensions,
    )


def is_issued_by(der: bytes, authority: bytes) -> bool:
    """Whether the name and the key of `authority` stand behind the certificate; both DER, whatever they hold."""
    try:
        _load(der).verify_directly_issued_by(_load(authority))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, Malformed):
        return False
    return True


def _load(der: bytes) -> Certificate:
    try:
        loaded = load_der_x509_certificate(der)
        _ = loaded.not_valid_before_utc, loaded.not_valid_after_utc
    except (ValueError, InvalidVersion) as error:
        raise Malformed("the certificate does not parse") from error
    return loaded
