"""How a message travels by HTTP: the query as raw bytes, base64 as clients write it, capabilities as text.

RFC 8894 §4.1. A framework's own parsing of the query would turn `+` into a space, so none is used.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ra.scep.errors import BadQuery, TooLarge, Unreadable
from ra.scep.names import Operation

MAX_MESSAGE_BYTES = 65_536
_MAX_TEXT_BYTES = 4 * MAX_MESSAGE_BYTES
"""Base64 makes four of three; percent-encoding, at the worst, three of each."""

_OPERATIONS = {each.value.lower(): each for each in Operation}
_PARAMETERS = (b"operation", b"message", b"ca_id")
_SEQUENCE = b"\x30"
_CHARACTERS = bytes.maketrans(b" -_", b"++/")
_LINE_ENDS = b"\t\r\n"
_PERCENT_ENCODED = re.compile(rb"%[0-9A-Fa-f]{2}")
_TWICE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The parameters of one request.

    Attributes:
        operation: None where none is named; a POST without one is PKIOperation (H2).
        message: as sent, still encoded; for what is not a PKIOperation it may be anything (Q19).
    """

    operation: Operation | None
    message: bytes | None
    ca_id: str | None


def read_query(raw_query: bytes) -> Query:
    """The query string of a request, as it came; unknown parameters are passed over (Q19).

    A second `?` parts like `&`: clients append `?operation=` to a URL that already has a query. The order is free
    (scepclient 2.1 sends `message` first), and the operation's case.

    Raises:
        BadQuery: an operation that is not SCEP's, or a parameter given twice.
        TooLarge: longer than any message can need.
    """
    if len(raw_query) > _MAX_TEXT_BYTES:
        raise TooLarge("the query is too long")
    found: dict[bytes, bytes] = {}
    for part in re.split(rb"[&?]", raw_query):
        name, _, value = part.partition(b"=")
        name = name.lower()
        if name in found:
            raise BadQuery(f"the parameter {name.decode()} is given twice")
        if name in _PARAMETERS:
            found[name] = value
    ca_id = found.get(b"ca_id")
    return Query(
        operation=_read_operation(found.get(b"operation")),
        message=found.get(b"message"),
        ca_id=None if ca_id is None else _text(ca_id),
    )


def _read_operation(value: bytes | None) -> Operation | None:
    if not value:
        return None
    operation = _OPERATIONS.get(_text(value).lower())
    if operation is None:
        raise BadQuery("the operation is not one of SCEP")
    return operation


def _text(value: bytes) -> str:
    return unquote_to_bytes(value).decode("utf-8", "replace")


def read_message(message: bytes) -> bytes:
    """A pkiMessage, BER or DER, from a POST body or from the `message` of a GET, still encoded.

    A body that starts like a SEQUENCE is taken as it is; anything else is base64 (some POST that too, Q17g).

    Raises:
        Unreadable: empty, or no base64.
        TooLarge: above MAX_MESSAGE_BYTES.
    """
    if message[:1] != _SEQUENCE:
        message = _read_base64(message)
    if not message:
        raise Unreadable("there is no message")
    if len(message) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a message has at most {MAX_MESSAGE_BYTES} bytes")
    return message


def _read_base64(text: bytes) -> bytes:
    """Base64 as clients write it (Q17).

    (a) `+` not escaped: macOS, jscep. (b) `+` turned into a space: iOS 11. (c) the URL alphabet: Debian's scepclient
    2.1.0. (d) line breaks: Cisco IOS, strongSwan. (e) escaped twice. (f) padding left out or escaped, or not.
    """
    if len(text) > _MAX_TEXT_BYTES:
        raise TooLarge("the message is too long")
    for _ in range(_TWICE):
        if _PERCENT_ENCODED.search(text):
            text = unquote_to_bytes(text)
    text = text.strip().translate(_CHARACTERS, _LINE_ENDS).rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error as error:
        raise Unreadable("the message is no base64") from error


def write_capabilities(tokens: Iterable[str]) -> bytes:
    """The answer to GetCACaps, RFC 8894 §3.5.2: one token a line.

    Nothing follows the last token: strongSwan before 5.9.10 takes a blank line for every capability there is (Q24).
    """
    return "\n".join(tokens).encode("ascii")
