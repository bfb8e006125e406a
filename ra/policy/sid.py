"""The Microsoft security identifier (KB5014754), in the two places where a request can carry one.

Active Directory maps a certificate to the account of its SID, whatever the subject says: to choose one is to choose who
one is.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

SID_EXTENSION = "1.3.6.1.4.1.311.25.2"

_SID_URI = "tag:microsoft.com,2022-09-14:sid:"
_MICROSOFT_TAG = "tag:microsoft.com,"

# At most 8 sub-authorities: Windows has none longer in use, and every length of the encoding below fits one byte.
_SID = r"S-1-[0-9]{1,15}(?:-[0-9]{1,10}){1,8}"
_SID_TEXT = re.compile(_SID)
_SID_AT_END = re.compile(rf"{_SID}\Z".encode())

_SID_HEAD_BYTES = 8
"""Revision, number of sub-authorities, authority."""

_OBJECT_SID_OID = bytes.fromhex("060a2b060104018237190201")
"""1.3.6.1.4.1.311.25.2.1, DER."""


def is_sid(text: str) -> bool:
    """Whether it is a SID as Windows writes one: `S-1-5-21-…`."""
    return _SID_TEXT.fullmatch(text) is not None


def binary_sid(value: bytes) -> str | None:
    """The SID in the value of an attribute objectSid (MS-DTYP §2.4.2.2); None when it is not exactly one."""
    if len(value) < _SID_HEAD_BYTES or value[0] != 1 or len(value) != _SID_HEAD_BYTES + 4 * value[1]:
        return None
    authority = int.from_bytes(value[2:_SID_HEAD_BYTES], "big")
    parts = (int.from_bytes(value[at : at + 4], "little") for at in range(_SID_HEAD_BYTES, len(value), 4))
    sid = "-".join(map(str, ("S", 1, authority, *parts)))
    return sid if is_sid(sid) else None


def read_sid(extension: bytes) -> str | None:
    """The SID in the value of extension 1.3.6.1.4.1.311.25.2, DER; None when it is not exactly of the known form."""
    found = _SID_AT_END.search(extension)
    if found is None or _sid_extension(found[0]) != extension:
        return None
    return found[0].decode()


def _sid_extension(sid: bytes) -> bytes:
    """SEQUENCE { [0] { OID, [0] { OCTET STRING } } }, as AD CS writes it."""
    octets = _tlv(0x04, sid)
    return _tlv(0x30, _tlv(0xA0, _OBJECT_SID_OID + _tlv(0xA0, octets)))


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def claims_sid(uri: str) -> bool:
    """Whether some reader may take this URI for a SID: any `tag:microsoft.com`, however it is spelled."""
    return unquote(uri).strip().casefold().startswith(_MICROSOFT_TAG)


def uri_sid(uri: str) -> str | None:
    """The SID in a URI `tag:microsoft.com,2022-09-14:sid:S-1-…`; None when it is not exactly of this form."""
    sid = uri.removeprefix(_SID_URI)
    return sid if sid != uri and _SID_TEXT.fullmatch(sid) else None
