"""ApprovedContents as a request to sign: what CFSSL would leave out or write otherwise is refused."""

from __future__ import annotations

import re
from typing import Any

from connectors import certificates
from connectors.api import IssueRequest, RdnSequence, Rejection, San, SanKind

_REPEATED = {"2.5.4.6": "C", "2.5.4.8": "ST", "2.5.4.7": "L", "2.5.4.10": "O", "2.5.4.11": "OU"}
_ONCE = {"2.5.4.3": "CN", "2.5.4.5": "serialnumber"}
_HOST_NAME = re.compile(r"(?![0-9.]+$)[A-Za-z0-9*_.-]+")
"""What CFSSL takes for nothing but a host name: not an address, an e-mail address or a URI."""


class NotSayable(Exception):
    """What was approved cannot be asked of CFSSL."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(detail)
        self.rejection = rejection


def parameters(request: IssueRequest, *, writes_uris: bool) -> dict[str, Any]:
    """The body of a request to sign, without profile and label.

    Raises:
        NotSayable: CFSSL would leave a name out, or write another.
    """
    contents = request.contents
    pem = certificates.csr_pem(request.csr)
    if pem is None:
        raise NotSayable(Rejection.CSR, "the PKCS #10 cannot be read")
    if contents.sid is not None:
        raise NotSayable(Rejection.NAME, "CFSSL cannot put the Microsoft SID into a certificate")
    asked = {"certificate_request": pem, "subject": _subject(contents.subject)}
    # Without `hosts` it takes the names of the CSR; an empty list is none.
    hosts = _hosts(contents.subject_alternative_names, writes_uris=writes_uris)
    return asked | ({"hosts": hosts} if hosts else {})


def _subject(subject: RdnSequence) -> dict[str, Any]:
    names: list[dict[str, str]] = []
    said: dict[str, Any] = {"names": names}
    for attribute in (each for rdn in subject for each in rdn):
        if attribute.oid in _REPEATED:
            names.append({_REPEATED[attribute.oid]: attribute.value})
            continue
        name = _ONCE.get(attribute.oid)
        if name is None or name in said:
            raise NotSayable(Rejection.NAME, f"CFSSL does not write {name or attribute.oid}, or not so often")
        said[name] = attribute.value
    return said


def _hosts(names: tuple[San, ...], *, writes_uris: bool) -> list[str]:
    kinds = {SanKind.DNS, SanKind.EMAIL, SanKind.IP} | ({SanKind.URI} if writes_uris else set())
    for san in names:
        if san.kind not in kinds or (san.kind is SanKind.DNS and not _HOST_NAME.fullmatch(san.value)):
            raise NotSayable(Rejection.NAME, f"CFSSL does not write {san.value!r} as {san.kind.value}")
    return [san.value for san in names]
