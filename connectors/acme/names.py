"""The names that an order is placed for. An ACME server knows host names and IP addresses; other names are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from connectors.acme.answers import NotIssuable
from connectors.api import ApprovedContents, Rejection, SanKind

_COMMON_NAME = "2.5.4.3"
_LONGEST_HOST_NAME = 253
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")

Identifier = dict[str, str]


def identifiers(contents: ApprovedContents, *, with_common_name: bool) -> list[Identifier]:
    """The identifiers of an order, each once (RFC 8555 §7.1.3, RFC 8738 §3), in the order of the names.

    RFC 8555 §7.4: "The CSR MUST indicate the exact same set of requested identifiers as the initial newOrder request."

    Raises:
        NotIssuable: there are none, or a name is of a kind that the server would leave out or refuse.
    """
    if contents.sid is not None:
        raise NotIssuable(Rejection.NAME, "an ACME server cannot put the Microsoft SID into a certificate")
    found = [_identifier(each.kind, each.value) for each in contents.subject_alternative_names]
    if with_common_name:
        found += _common_names(contents)
    if not found:
        raise NotIssuable(Rejection.NAME, "an ACME server certifies host names and IP addresses, and there is none")
    return [each for position, each in enumerate(found) if each not in found[:position]]


def _identifier(kind: SanKind, value: str) -> Identifier:
    found = _ip(value) if kind is SanKind.IP else _dns(value) if kind is SanKind.DNS else None
    if found is None:
        raise NotIssuable(Rejection.NAME, f"an ACME server does not certify the {kind} name {value!r}")
    return found


def _common_names(contents: ApprovedContents) -> Iterator[Identifier]:
    """The common name, where it is a host name or an IP address; what else it may be, servers ignore or refuse."""
    for attribute in (each for rdn in contents.subject for each in rdn if each.oid == _COMMON_NAME):
        found = _ip(attribute.value) or _dns(attribute.value)
        if found:
            yield found


def _dns(value: str) -> Identifier | None:
    name = value.lower()
    is_name = len(name) <= _LONGEST_HOST_NAME and _HOST_NAME.fullmatch(name)
    return {"type": "dns", "value": name} if is_name else None


def _ip(value: str) -> Identifier | None:
    try:
        return {"type": "ip", "value": str(ip_address(value))}
    except ValueError:
        return None
