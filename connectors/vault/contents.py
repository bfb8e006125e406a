"""ApprovedContents as the parameters of `sign/:role`. Usages are the role's alone; what cannot be said is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

from connectors.api import ApprovedContents, IssueRequest, RdnSequence, Rejection, SanKind
from connectors.certificates import csr_pem

RoleAttribute = Literal["C", "O", "OU", "L", "ST", "STREET", "POSTALCODE"]
"""The subject attributes that a role alone decides on; those of a request are dropped."""

_OF_ROLE: dict[str, RoleAttribute] = {
    "2.5.4.6": "C",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.17": "POSTALCODE",
}
_OF_REQUEST = {"2.5.4.3": "common_name", "2.5.4.5": "serial_number", "0.9.2342.19200300.100.1.1": "user_ids"}

# Vault leaves out, without a word, a DNS name that does not match this.
_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


class NotSayable(Exception):
    """What was approved cannot be asked of Vault."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(detail)
        self.rejection = rejection


def parameters(request: IssueRequest, from_role: Collection[RoleAttribute]) -> dict[str, object]:
    """The body of a `sign` request.

    Raises:
        NotSayable: a name, or the SID, has no parameter.
    """
    contents = request.contents
    if contents.sid is not None:
        raise NotSayable(Rejection.NAME, "Vault cannot put the Microsoft SID into a certificate")
    return {
        "csr": _pem(request.csr),
        **_subject(contents.subject, from_role),
        # The common name is no alternative name unless it was approved as one.
        "exclude_cn_from_sans": True,
        **_alternative_names(contents),
        "ttl": f"{int(contents.validity.total_seconds())}s",
        "format": "pem",
        "remove_roots_from_chain": False,
    }


def _pem(csr: bytes) -> str:
    """The device's own request, whose signature Vault verifies; read before, so that it goes out unchanged."""
    pem = csr_pem(csr)
    if pem is None:
        raise NotSayable(Rejection.CSR, "the PKCS #10 cannot be read")
    return pem


def _subject(subject: RdnSequence, from_role: Collection[RoleAttribute]) -> dict[str, str]:
    said: dict[str, list[str]] = {}
    for attribute in (each for rdn in subject for each in rdn):
        if _OF_ROLE.get(attribute.oid) in from_role:
            continue
        name = _OF_REQUEST.get(attribute.oid)
        if name is None:
            which = _OF_ROLE.get(attribute.oid, attribute.oid)
            raise NotSayable(Rejection.NAME, f"Vault takes no {which} from a request; where the role has it: from_role")
        said.setdefault(name, []).append(attribute.value)
    for name in ("common_name", "serial_number"):
        if len(said.get(name, ())) > 1:
            raise NotSayable(Rejection.NAME, f"Vault takes one {name}, and the subject has several")
    return {name: _list(values) if name == "user_ids" else values[0] for name, values in said.items()}


def _alternative_names(contents: ApprovedContents) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for san in contents.subject_alternative_names:
        match san.kind:
            case SanKind.DNS:
                if not _HOST_NAME.fullmatch(san.value):
                    raise NotSayable(Rejection.NAME, f"Vault leaves out {san.value!r}, which is no host name")
                names.setdefault("alt_names", []).append(san.value)
            case SanKind.EMAIL:
                if "@" not in san.value:
                    raise NotSayable(Rejection.NAME, f"Vault takes {san.value!r} for a host name")
                names.setdefault("alt_names", []).append(san.value)
            case SanKind.IP:
                names.setdefault("ip_sans", []).append(san.value)
            case SanKind.URI:
                names.setdefault("uri_sans", []).append(san.value)
            case SanKind.UPN:
                names.setdefault("other_sans", []).append(f"1.3.6.1.4.1.311.20.2.3;UTF8:{san.value}")
    return {name: _list(values) for name, values in names.items()}


def _list(values: Sequence[str]) -> str:
    """Vault splits at every comma, and trims what it finds: one name would become two."""
    for each in values:
        if "," in each or each != each.strip() or not each:
            raise NotSayable(Rejection.NAME, f"Vault cannot be told {each!r}: it splits at commas and trims")
    return ",".join(values)
