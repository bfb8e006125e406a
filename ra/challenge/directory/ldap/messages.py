"""LDAP messages (RFC 4511), as far as a bind and a search need them: bytes <-> values. Pure.

BER as LDAP allows it (RFC 4511 §5.1): lengths are definite, tags are of one byte, strings are primitive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from connectors.api import ProtocolViolation

OCTET_STRING, SEQUENCE = 0x04, 0x30

_INTEGER, _BOOLEAN, _ENUMERATED, _SET = 0x02, 0x01, 0x0A, 0x31
_BIND, _BOUND, _UNBIND, _SEARCH, _ENTRY, _DONE, _REFERENCE = 0x60, 0x61, 0x42, 0x63, 0x64, 0x65, 0x73
_EXTENDED, _EXTENDED_DONE = 0x77, 0x78
_SIMPLE, _REQUEST_NAME = 0x80, 0x80
_WHOLE_SUBTREE, _NEVER = 2, 0
_VERSION = 3
_START_TLS = b"1.3.6.1.4.1.1466.20037"
_SHORT, _LONGEST_LENGTH, _LONG_TAG = 0x80, 4, 0x1F


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What is looked for.

    Attributes:
        filter: BER.
        most: entries.
        seconds: that the server may take.
    """

    base_dn: str
    filter: bytes
    attributes: tuple[str, ...]
    most: int
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry; its attributes by their names in lower case, without options."""

    dn: str
    attributes: dict[str, tuple[bytes, ...]]

    def values(self, attribute: str) -> tuple[bytes, ...]:
        return self.attributes.get(attribute.lower(), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an operation ended; `code` by RFC 4511 §A, `text` from the server."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """That there may be more at another server. Nobody goes there."""


Answer = Entry | Result | Reference


def tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < _SHORT:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, _SHORT | size)) + length.to_bytes(size) + content


def write_bind(number: int, dn: str, password: str) -> bytes:
    """A simple bind; what it holds is a secret."""
    return _message(
        number,
        _BIND,
        _integer(_VERSION) + tlv(OCTET_STRING, dn.encode()) + tlv(_SIMPLE, password.encode()),
    )


def write_search(number: int, request: SearchRequest) -> bytes:
    attributes = b"".join(tlv(OCTET_STRING, each.encode()) for each in request.attributes)
    content = (
        tlv(OCTET_STRING, request.base_dn.encode()),
        _integer(_WHOLE_SUBTREE, _ENUMERATED),
        _integer(_NEVER, _ENUMERATED),
        _integer(request.most),
        _integer(request.seconds),
        tlv(_BOOLEAN, b"\0"),
        request.filter,
        tlv(SEQUENCE, attributes),
    )
    return _message(number, _SEARCH, b"".join(content))


def write_start_tls(number: int) -> bytes:
    return _message(number, _EXTENDED, tlv(_REQUEST_NAME, _START_TLS))


def write_unbind(number: int) -> bytes:
    return _message(number, _UNBIND, b"")


def length_bytes(head: bytes) -> int:
    """How many bytes of length follow the first two bytes of a message.

    Raises:
        ProtocolViolation: no message begins so.
    """
    if head[0] != SEQUENCE:
        raise ProtocolViolation("what answers does not speak LDAP")
    count = head[1] - _SHORT if head[1] >= _SHORT else 0
    if head[1] == _SHORT or count > _LONGEST_LENGTH:
        raise ProtocolViolation("an LDAP message has no length that could be")
    return count


def content_length(head: bytes) -> int:
    """How long the content of a message is, from its first bytes with all of the length."""
    return head[1] if head[1] < _SHORT else int.from_bytes(head[2:], "big")


def read_message(content: bytes) -> tuple[int, Answer]:
    """Number and answer in the content of a message.

    Raises:
        ProtocolViolation: it is no answer to a bind, a search or StartTLS.
    """
    (number_tag, number), (tag, operation), *_ = _exactly(content, 2)
    if number_tag != _INTEGER or not 1 <= len(number) <= 4:  # noqa: PLR2004 - maxInt is 2^31-1
        raise ProtocolViolation("an LDAP message has no number")
    return int.from_bytes(number, "big"), _answer(tag, operation)


def _answer(tag: int, operation: bytes) -> Answer:
    match tag:
        case 0x64:
            return _entry(operation)
        case 0x73:
            return Reference()
        case 0x61 | 0x65 | 0x78:
            (code_tag, code), _matched, (_, text), *_ = _exactly(operation, 3)
            if code_tag != _ENUMERATED or not 1 <= len(code) <= 2:  # noqa: PLR2004 - the longest code there is
                raise ProtocolViolation("an LDAP result has no code")
            return Result(code=int.from_bytes(code, "big"), text=text.decode("utf-8", "replace"))
        case _:
            raise ProtocolViolation(f"an LDAP message is none that was asked for: {tag:#x}")


def _entry(operation: bytes) -> Entry:
    (_, dn), (_, listed), *_ = _exactly(operation, 2)
    attributes: dict[str, tuple[bytes, ...]] = {}
    for _, attribute in _items(listed):
        (_, described), (_, values), *_ = _exactly(attribute, 2)
        name = described.decode("ascii", "replace").partition(";")[0].lower()
        attributes[name] = attributes.get(name, ()) + tuple(value for _, value in _items(values))
    return Entry(dn=dn.decode("utf-8", "replace"), attributes=attributes)


def _exactly(content: bytes, least: int) -> list[tuple[int, bytes]]:
    items = list(_items(content))
    if len(items) < least:
        raise ProtocolViolation("an LDAP message is incomplete")
    return items


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(content):
        head = content[at : at + 2]
        if len(head) < 2 or head[0] & _LONG_TAG == _LONG_TAG:  # noqa: PLR2004 - tag and length
            raise ProtocolViolation("an LDAP message does not read")
        count = head[1] - _SHORT if head[1] >= _SHORT else 0
        start = at + 2 + count
        if head[1] == _SHORT or count > _LONGEST_LENGTH or start > len(content):
            raise ProtocolViolation("an LDAP message does not read")
        end = start + (int.from_bytes(content[at + 2 : start], "big") if count else head[1])
        if end > len(content):
            raise ProtocolViolation("an LDAP message does not read")
        yield head[0], content[start:end]
        at = end


def _message(number: int, tag: int, content: bytes) -> bytes:
    return tlv(SEQUENCE, _integer(number) + tlv(tag, content))


def _integer(value: int, tag: int = _INTEGER) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1))
