"""Which names a certificate may say: checks of a subject and of subject alternative names against a Profile.

Names are approved as asked for, or the request is refused; nothing here changes one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from connectors.api import SanKind
from ra.errors import Reason, Refused
from ra.policy.profile import SUBJECT_ATTRIBUTES, Profile
from ra.policy.sid import claims_sid, uri_sid
from ra.scep.csr import Csr, GeneralName, GeneralNameKind, SubjectAttribute

_COMMON_NAME = SUBJECT_ATTRIBUTES["commonName"]
_COUNTRY = SUBJECT_ATTRIBUTES["countryName"]
_EMAIL_ADDRESS = SUBJECT_ATTRIBUTES["emailAddress"]

_STRING_TAGS = frozenset({0x0C, 0x12, 0x13, 0x14, 0x16, 0x1C, 0x1E})
"""UTF8String, NumericString, PrintableString, TeletexString, IA5String, UniversalString, BMPString."""

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls: NUL ends a name for some readers
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, and bidirectional controls
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"  # surrogates, noncharacters, tags
)
"""Characters that make a name read as another one than it is."""

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*(?=[0-9-]*[A-Za-z]){_LABEL}")
_EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?:{_LABEL}\.)*{_LABEL}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_UPN = re.compile(r"[^@\s]+@[^@\s]+")

_MAX_DNS_LENGTH = 253
_MAX_NAME_LENGTH = 1024
_MAX_UPN_OCTETS = 127
"""What no connector writes is not approved either."""


def check_subject(csr: Csr, profile: Profile) -> None:
    """Whether a subject may be certified as it is.

    Raises:
        Refused: SUBJECT_NOT_ALLOWED.
    """
    attributes = [attribute for rdn in csr.subject for attribute in rdn]
    if not attributes and not csr.subject_alternative_names:
        raise _subject_refused("the request has neither a subject nor a subject alternative name")
    if len(attributes) > profile.max_subject_attributes:
        raise _subject_refused(f"{len(attributes)} attributes are more than max_subject_attributes")
    for attribute in attributes:
        _check_attribute(attribute, profile)
    counts = Counter(attribute.oid for attribute in attributes)
    if counts[_COMMON_NAME] > profile.max_common_names:
        raise _subject_refused(f"{counts[_COMMON_NAME]} commonNames are more than max_common_names")
    if missing := profile.required_subject_attributes - counts.keys():
        raise _subject_refused(f"required attributes are missing: {', '.join(sorted(missing))}")


def _check_attribute(attribute: SubjectAttribute, profile: Profile) -> None:
    oid, value = attribute.oid, attribute.value
    if oid not in profile.subject_attributes:
        raise _subject_refused(f"attribute {oid} is not in subject_attributes")
    if attribute.tag not in _STRING_TAGS:
        raise _subject_refused(f"attribute {oid} is no string (tag {attribute.tag:#x})")
    if not 0 < len(value) <= profile.max_subject_value_length:
        raise _subject_refused(f"attribute {oid} has {len(value)} characters")
    if _UNSEEN.search(value):
        raise _subject_refused(f"attribute {oid} has characters that cannot be seen: {_shown(value)}")
    if fault := _ATTRIBUTE_FAULTS.get(oid, _no_fault)(value, profile):
        raise _subject_refused(f"{_shown(value)} {fault}")


def _common_name_fault(value: str, profile: Profile) -> str | None:
    if profile.common_name_pattern and not re.fullmatch(profile.common_name_pattern, value):
        return "does not match common_name_pattern"
    return None


def _country_fault(value: str, _: Profile) -> str | None:
    return None if re.fullmatch("[A-Za-z]{2}", value) else "is no two-letter countryName"


def _email_address_fault(value: str, profile: Profile) -> str | None:
    """An address outside the patterns must not come in by the subject instead."""
    return None if _matches(SanKind.EMAIL, value, profile) else "as emailAddress matches none of the patterns for email"


def _no_fault(_: str, __: Profile) -> str | None:
    return None


_Fault = Callable[[str, Profile], str | None]

_ATTRIBUTE_FAULTS: Mapping[str, _Fault] = {
    _COMMON_NAME: _common_name_fault,
    _COUNTRY: _country_fault,
    _EMAIL_ADDRESS: _email_address_fault,
}


def check_subject_alternative_names(names: Sequence[GeneralName], profile: Profile) -> None:
    """Whether subject alternative names may be certified as they are.

    Raises:
        Refused: SUBJECT_ALT_NAME_NOT_ALLOWED.
    """
    if len(names) > profile.max_subject_alternative_names:
        raise _san_refused(f"{len(names)} names are more than max_subject_alternative_names")
    for name in names:
        _check_name(name, profile)


def approved_kind(kind: GeneralNameKind) -> SanKind | None:
    """The same kind in the connectors' words; None for those that no certificate of ours may have."""
    return _KINDS.get(kind)


def _check_name(name: GeneralName, profile: Profile) -> None:
    kind = approved_kind(name.kind)
    if kind is None or kind not in profile.subject_alternative_names:
        raise _san_refused(f"a name of kind {name.kind} is not in subject_alternative_names")
    if len(name.value) > _MAX_NAME_LENGTH or _UNSEEN.search(name.value):
        raise _san_refused(f"{kind} {_shown(name.value)} is too long or has characters that cannot be seen")
    if fault := _NAME_FAULTS[kind](name.value, profile):
        raise _san_refused(f"{kind} {_shown(name.value)} {fault}")
    if not _matches(kind, name.value, profile):
        raise _san_refused(f"{kind} {_shown(name.value)} matches none of the patterns for {kind}")


def _dns_fault(value: str, profile: Profile) -> str | None:
    if len(value) > _MAX_DNS_LENGTH or not _DNS.fullmatch(value):
        return "is no DNS name"
    if value.startswith("*") and not profile.allow_wildcard_dns:
        return "is a wildcard, and allow_wildcard_dns is off"
    return None


def _email_fault(value: str, _: Profile) -> str | None:
    return None if _EMAIL.fullmatch(value) else "is no mailbox"


def _uri_fault(value: str, profile: Profile) -> str | None:
    if not _URI.fullmatch(value):
        return "is no URI"
    if claims_sid(value) and not (profile.allow_sid_uri and uri_sid(value)):
        return "is a Microsoft SID, and allow_sid_uri is off or it does not read"
    return None


def _ip_fault(value: str, _: Profile) -> str | None:
    try:
        address = ip_address(value)
    except ValueError:
        return "is no IP address"
    # Many CAs write the IPv4 address for it, which would be another name than was approved.
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return "is an IPv4 address in the form of IPv6"
    return None


def _upn_fault(value: str, _: Profile) -> str | None:
    if len(value.encode()) > _MAX_UPN_OCTETS:
        return f"has more than {_MAX_UPN_OCTETS} octets"
    return None if _UPN.fullmatch(value) else "is no user principal name"


_KINDS = {
    GeneralNameKind.DNS: SanKind.DNS,
    GeneralNameKind.EMAIL: SanKind.EMAIL,
    GeneralNameKind.URI: SanKind.URI,
    GeneralNameKind.IP: SanKind.IP,
    GeneralNameKind.UPN: SanKind.UPN,
}

_NAME_FAULTS: Mapping[SanKind, _Fault] = {
    SanKind.DNS: _dns_fault,
    SanKind.EMAIL: _email_fault,
    SanKind.URI: _uri_fault,
    SanKind.IP: _ip_fault,
    SanKind.UPN: _upn_fault,
}


def _matches(kind: SanKind, value: str, profile: Profile) -> bool:
    patterns = profile.subject_alternative_name_patterns.get(kind)
    return patterns is None or any(re.fullmatch(pattern, value) for pattern in patterns)


def _shown(value: str) -> str:
    """For a log: escaped, and cut."""
    return ascii(value[:80])


def _subject_refused(detail: str) -> Refused:
    return Refused(Reason.SUBJECT_NOT_ALLOWED, detail)


def _san_refused(detail: str) -> Refused:
    return Refused(Reason.SUBJECT_ALT_NAME_NOT_ALLOWED, detail)
