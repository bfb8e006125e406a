"""ApprovedContents in EJBCA's words: whether a CSR says the same, names as EJBCA writes them, and an end entity's name."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256

from cryptography import x509

from connectors.api import ApprovedContents, IssueRequest, RdnSequence, Rejection, San, SanKind, Secret
from connectors.certificates import csr_pem, load_csr

_UPN = "1.3.6.1.4.1.311.20.2.3"
_UTF8_STRING = 0x0C

_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SURNAME",
    "2.5.4.5": "SN",  # the serial number; EJBCA does not take it for the surname
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "T",
    "2.5.4.17": "POSTALCODE",
    "2.5.4.42": "GIVENNAME",
    "2.5.4.43": "INITIALS",
    "2.5.4.46": "DN",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "E",
    "1.2.840.113549.1.9.2": "UNSTRUCTUREDNAME",
    "1.2.840.113549.1.9.8": "UNSTRUCTUREDADDRESS",
}
_SANS = {
    SanKind.DNS: "dNSName",
    SanKind.EMAIL: "rfc822Name",
    SanKind.IP: "iPAddress",
    SanKind.URI: "uniformResourceId",
    SanKind.UPN: "upn",
}
_SPECIAL = re.compile(r'[,+"\\<>;=#]')


class NotSayable(Exception):
    """What was approved cannot be asked of EJBCA."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(detail)
        self.rejection = rejection


def readable_csr(request: IssueRequest) -> str:
    """The device's own request as PEM.

    Raises:
        NotSayable: it cannot be read, or a SID was approved, which EJBCA takes from nowhere in a request.
    """
    if request.contents.sid is not None:
        raise NotSayable(Rejection.NAME, "EJBCA cannot be told the Microsoft SID")
    pem = csr_pem(request.csr)
    if pem is None:
        raise NotSayable(Rejection.CSR, "the PKCS #10 cannot be read")
    return pem


def check_characters(contents: ApprovedContents, forbidden: str) -> None:
    """Whether EJBCA keeps every character of the names; it replaces those that it does not want, without a word.

    Raises:
        NotSayable: one is among the `forbidden`.
    """
    values = [each.value for rdn in contents.subject for each in rdn]
    values += [each.value for each in contents.subject_alternative_names]
    for value in values:
        _check_trimmed(value)
        if not set(forbidden).isdisjoint(value):
            raise NotSayable(Rejection.NAME, f"EJBCA would replace characters of {value!r}: see forbidden_characters")


def check_names(csr: bytes, contents: ApprovedContents) -> None:
    """For EJBCA's one-step enrolment, where the certificate says what the CSR (DER) says.

    Raises:
        NotSayable: something else was approved.
    """
    try:
        loaded = load_csr(csr)
        subject = [{(each.oid.dotted_string, each.value) for each in rdn} for rdn in loaded.subject.rdns]
        names = set(_names_of(loaded))
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise NotSayable(Rejection.CSR, "the PKCS #10 cannot be read") from error
    if subject != [{(each.oid, each.value) for each in rdn} for rdn in contents.subject]:
        raise NotSayable(Rejection.NAME, _DIFFERS.format("subject"))
    if names != set(contents.subject_alternative_names):
        raise NotSayable(Rejection.NAME, _DIFFERS.format("subject alternative name"))


_DIFFERS = 'EJBCA takes the {} from the CSR, and another one was approved; enrolment = "end-entity" can do that'


def distinguished_name(subject: RdnSequence) -> str:
    """A subject as EJBCA writes it: `CN=device-1,O=Example`.

    Raises:
        NotSayable: EJBCA has no word for an attribute, or a value would not come out as it goes in.
    """
    parts = []
    for rdn in subject:
        if len(rdn) != 1:
            raise NotSayable(Rejection.NAME, "EJBCA makes one name out of a relative name with several attributes")
        name = _ATTRIBUTES.get(rdn[0].oid)
        if name is None:
            raise NotSayable(Rejection.NAME, f"EJBCA has no name for the subject attribute {rdn[0].oid}")
        _check_trimmed(rdn[0].value)
        parts.append(f"{name}={_SPECIAL.sub(_escaped, rdn[0].value)}")
    return ",".join(parts)


def alternative_names(names: tuple[San, ...]) -> str:
    """Subject alternative names as EJBCA writes them: `dNSName=device-1.example.org,upn=…`.

    Raises:
        NotSayable: a value would not come out as it goes in.
    """
    for each in names:
        _check_trimmed(each.value)
        if "," in each.value or "\\" in each.value:
            raise NotSayable(Rejection.NAME, f"EJBCA would split {each.value!r}")
    return ",".join(f"{_SANS[each.kind]}={each.value}" for each in names)


def identity(contents: ApprovedContents) -> str:
    """What makes a device the same device to EJBCA: its subject, or its other names where that is empty.

    A CA that enforces unique subjects, or unique keys, refuses the second end entity of one device.
    """
    rdns = [[(each.oid, each.value) for each in rdn] for rdn in contents.subject]
    names = sorted((each.kind.value, each.value) for each in contents.subject_alternative_names)
    return json.dumps(rdns or names)


def username(prefix: str, *parts: str) -> str:
    """The end entity's name, the same whenever it is made of the same."""
    return prefix + sha256("\0".join(parts).encode()).hexdigest()[:32]


def enrolment_code(request: IssueRequest) -> Secret:
    """The end entity's password: as random as the key of the request, and the same on every attempt."""
    digest = sha256(b"scep-ra enrolment code\0" + request.idempotency_key.bytes).digest()
    return Secret(urlsafe_b64encode(digest[:24]).decode("ascii"))


def _names_of(csr: x509.CertificateSigningRequest) -> Iterator[San | x509.GeneralName]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for each in names:
        yield _san(each) or each


def _san(name: x509.GeneralName) -> San | None:
    match name:
        case x509.DNSName():
            return San(SanKind.DNS, name.value)
        case x509.RFC822Name():
            return San(SanKind.EMAIL, name.value)
        case x509.UniformResourceIdentifier():
            return San(SanKind.URI, name.value)
        case x509.IPAddress():
            return San(SanKind.IP, str(name.value))
        case x509.OtherName() if name.type_id.dotted_string == _UPN and name.value[:1] == bytes([_UTF8_STRING]):
            return San(SanKind.UPN, name.value[2:].decode("utf-8"))
        case _:
            return None


def _check_trimmed(value: str) -> None:
    if not value or value != value.strip() or not value.isprintable():
        raise NotSayable(Rejection.NAME, f"EJBCA would trim {value!r}")


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"
