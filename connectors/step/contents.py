"""ApprovedContents as claims of a token, which a template of step-ca makes the certificate from."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from connectors.api import ApprovedContents, Rejection, SanKind
from connectors.certificates import load_csr
from connectors.contents import extensions, subject_name

COMMON_NAME = "2.5.4.3"

_USAGES = {"nonRepudiation": "contentCommitment"}
_EXTENDED = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "ocspSigning",
}
_SANS = {SanKind.UPN: "userPrincipalName"}
_COMPARED = x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier | x509.IPAddress


class NotSayable(Exception):
    """What was approved cannot be asked of step-ca."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(detail)
        self.rejection = rejection


def common_name(contents: ApprovedContents) -> str:
    """The first common name, or nothing."""
    return next((each.value for rdn in contents.subject for each in rdn if each.oid == COMMON_NAME), "")


def approved_names(contents: ApprovedContents) -> tuple[str, list[str]]:
    """`sub` and `sans` of a token for step-ca's default template, which makes the certificate's names from them.

    Raises:
        NotSayable: that template would leave something out, or put something in.
    """
    if [each.oid for rdn in contents.subject for each in rdn] != [COMMON_NAME]:
        raise NotSayable(Rejection.NAME, "step-ca's default template keeps one common name, and nothing else")
    if not contents.subject_alternative_names:
        raise NotSayable(Rejection.NAME, "step-ca's default template makes the common name an alternative name as well")
    if contents.sid or any(each.kind is SanKind.UPN for each in contents.subject_alternative_names):
        raise NotSayable(Rejection.NAME, "step-ca's default template has no place for a UPN or a Microsoft SID")
    return common_name(contents), [each.value for each in contents.subject_alternative_names]


def names_of_csr(csr: bytes) -> tuple[str, list[str]]:
    """`sub` and `sans` of a token that carries what was approved elsewhere: step-ca compares these with the CSR (DER).

    Raises:
        NotSayable: it cannot be read.
    """
    try:
        loaded = load_csr(csr)
        common_names = [str(each.value) for each in loaded.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        names = _alternative_names(loaded)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise NotSayable(Rejection.CSR, "the PKCS #10 cannot be read") from error
    # Of several common names step-ca sees the last. A token has to have a subject, a CSR does not.
    return next(iter([*reversed(common_names), *names]), "scep-ra"), names


def approved(contents: ApprovedContents) -> dict[str, Any]:
    """The claim `scep_ra`: the members of a certificate template that docs/connectors/step-ca.md shows.

    Raises:
        NotSayable: a name cannot be written in a certificate.
    """
    try:
        subject = subject_name(contents.subject).public_bytes()
        others = [each for each in extensions(contents) if isinstance(each[0], x509.UnrecognizedExtension)]
    except ValueError as error:
        raise NotSayable(Rejection.NAME, f"a name cannot be written: {error}") from error
    oids = contents.extended_key_usage
    return {
        # Only for step-ca's own rules on names: what is written is rawSubject.
        "subject": {"commonName": common_name(contents)},
        "rawSubject": _base64(subject),
        "sans": [
            {"type": _SANS.get(each.kind, each.kind.value), "value": each.value}
            for each in contents.subject_alternative_names
        ],
        "keyUsage": sorted(_USAGES.get(each.value, each.value) for each in contents.key_usage),
        "extKeyUsage": [_EXTENDED[each] for each in oids if each in _EXTENDED],
        "unknownExtKeyUsage": [each for each in oids if each not in _EXTENDED],
        "extensions": [
            {"id": value.oid.dotted_string, "critical": critical, "value": _base64(value.public_bytes())}
            for value, critical in others
        ],
    }


def _alternative_names(csr: x509.CertificateSigningRequest) -> list[str]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(each.value) for each in names if isinstance(each, _COMPARED)]


def _base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")
