"""Tag, length, value: splitting and writing DER, and turning BER into it within bounds. No structure is known here.

The strict parser (ra.scep.asn1) is asked first; what it refuses passes through `normalise` once. Both are linear, so
nothing in front of them needs to scan.
"""

from __future__ import annotations

from collections.abc import Iterable

from ra.scep.errors import Malformed

MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_OID_BYTES = 64
MAX_ARC_BYTES = 9
MAX_INTEGER_BYTES = 4096
_MAX_LENGTH_BYTES = 8

_INTEGER, _OCTET_STRING, _OID, _SET = 0x02, 0x04, 0x06, 0x31
_CONSTRUCTED = 0x20
_TAG_NUMBER = 0x1F
_LONG_FORM = 0x80
_INDEFINITE = 0x80
_END_OF_CONTENTS = b"\x00\x00"


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER node: a one-byte tag, the length, and the parts as its value."""
    value = b"".join(parts)
    length = len(value)
    if length < _LONG_FORM:
        return bytes((tag, length)) + value
    size = (length.bit_length() + 7) // 8
    return bytes((tag, _LONG_FORM | size)) + length.to_bytes(size) + value


def set_of(elements: Iterable[bytes]) -> bytes:
    """A SET OF in DER order (X.690 §11.6)."""
    return tlv(_SET, *sorted(elements))


def split(value: bytes) -> tuple[bytes, ...]:
    """The DER nodes that make up the value of a constructed node, whole and in their order.

    Raises:
        Malformed: the bytes are not a row of nodes with definite lengths.
    """
    nodes: list[bytes] = []
    position = 0
    while position < len(value):
        start = position
        _, length, position = _read_header(value, position, len(value))
        if length is None:
            raise Malformed("a node has no definite length")
        position += length
        nodes.append(value[start:position])
    return tuple(nodes)


def value_of(node: bytes) -> bytes:
    """The value of one whole DER node.

    Raises:
        Malformed: the bytes are not exactly one node.
    """
    _, length, start = _read_header(node, 0, len(node))
    if length is None or start + length != len(node):
        raise Malformed("more or less than one node")
    return node[start:]


def normalise(data: bytes) -> bytes:
    """BER to DER (Q2): definite and minimal lengths everywhere, OCTET STRINGs in one piece.

    Everything else stays as it is, so a subtree that was DER (a certificate, a CSR) stays so byte for byte. jscep and
    Bouncy Castle send indefinite lengths and an OCTET STRING in pieces of 1000 bytes.

    Raises:
        Malformed: not exactly one BER value, or one beyond the bounds above.
    """
    node, end = _Transcoder(data).node(0, len(data), 0)
    if end != len(data):
        raise Malformed("bytes follow the message")
    return node


class _Transcoder:
    """Walks one BER value. Recursion is bounded by MAX_DEPTH, work by MAX_NODES and the length of the input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._nodes = 0

    def node(self, position: int, end: int, depth: int) -> tuple[bytes, int]:
        """The node at `position` as DER, and where it ends."""
        self._nodes += 1
        if depth >= MAX_DEPTH or self._nodes > MAX_NODES:
            raise Malformed("nested too deeply, or too many parts")
        tag, length, start = _read_header(self._data, position, end)
        if not tag & _CONSTRUCTED:
            if length is None:
                raise Malformed("a primitive value without a length")
            value = self._data[start : start + length]
            _check_primitive(tag, value)
            return tlv(tag, value), start + length
        children, after = self._children(start, end, length, depth + 1)
        if tag == _OCTET_STRING | _CONSTRUCTED:
            return tlv(_OCTET_STRING, join(children)), after
        return tlv(tag, *children), after

    def _children(self, position: int, end: int, length: int | None, depth: int) -> tuple[list[bytes], int]:
        children: list[bytes] = []
        if length is not None:
            end = position + length
        while position < end:
            if length is None and self._data.startswith(_END_OF_CONTENTS, position):
                return children, position + len(_END_OF_CONTENTS)
            child, position = self.node(position, end, depth)
            children.append(child)
        if length is None:
            raise Malformed("an indefinite length is never ended")
        return children, position


def join(pieces: Iterable[bytes]) -> bytes:
    """The value of an OCTET STRING that came in pieces, each a DER OCTET STRING.

    Raises:
        Malformed: a piece is something else.
    """
    pieces = tuple(pieces)
    if any(each[:1] != bytes((_OCTET_STRING,)) for each in pieces):
        raise Malformed("an OCTET STRING with parts that are none")
    return b"".join(map(value_of, pieces))


def _read_header(data: bytes, position: int, end: int) -> tuple[int, int | None, int]:
    """Tag, length (None if indefinite) and start of the value of the node at `position`."""
    if position + 2 > end:
        raise Malformed("the message is cut short")
    tag, first = data[position], data[position + 1]
    position += 2
    if tag & _TAG_NUMBER == _TAG_NUMBER:
        raise Malformed("a tag number above 30")
    if first == _INDEFINITE:
        return tag, None, position
    if first < _LONG_FORM:
        length = first
    else:
        size = first & ~_LONG_FORM
        if size > _MAX_LENGTH_BYTES:
            raise Malformed("a length of more than 8 bytes")
        length = int.from_bytes(data[position : position + size])
        position += size
    if position + length > end:
        raise Malformed("the message is cut short")
    return tag, length, position


def _check_primitive(tag: int, value: bytes) -> None:
    """Bounds what a later parser could spend more than linear time on."""
    if tag == _INTEGER and len(value) > MAX_INTEGER_BYTES:
        raise Malformed("an INTEGER beyond all use")
    if tag == _OID:
        if len(value) > MAX_OID_BYTES:
            raise Malformed("an object identifier beyond all use")
        _check_arcs(value)


def _check_arcs(value: bytes) -> None:
    length = 0
    for byte in value:
        length = length + 1 if byte & 0x80 else 0
        if length >= MAX_ARC_BYTES:
            raise Malformed("an object identifier beyond all use")
