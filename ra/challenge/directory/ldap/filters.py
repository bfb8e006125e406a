"""Search filters (RFC 4515) with places for names of a request: read once, and filled as BER (RFC 4511 §4.5.1.7).

A name is put in as the value of an assertion, length before it, when the filter has long been understood: whatever stands
in it, it cannot become a part of the filter. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ra.challenge.directory.ldap.messages import OCTET_STRING, SEQUENCE, tlv

_DEEPEST = 16

_ITEM = re.compile(
    r"(?P<attribute>[A-Za-z0-9][A-Za-z0-9.;-]*)?"
    r"(?P<extended>(?P<dn>:dn)?(?::(?P<rule>[A-Za-z0-9][A-Za-z0-9.-]*))?:)?"
    r"(?P<operator>=|~=|>=|<=)(?P<value>[^()\x00]*)"
)
_PIECE = re.compile(r"\\(?P<escaped>[0-9A-Fa-f]{2})|\{(?P<name>[A-Za-z0-9.]+)\}|(?P<text>[^\\{}*]+)")

_AND, _OR, _NOT = 0xA0, 0xA1, 0xA2
_COMPARED = {"=": 0xA3, ">=": 0xA5, "<=": 0xA6, "~=": 0xA8}
_SUBSTRINGS, _PRESENT, _EXTENDED = 0xA4, 0x87, 0xA9
_INITIAL, _ANY, _FINAL = 0x80, 0x81, 0x82
_RULE, _TYPE, _VALUE, _WITH_DN = 0x81, 0x82, 0x83, 0x84


class Filter(Protocol):
    """A filter, or a part of one."""

    def names(self) -> frozenset[str]:
        """What has to be filled in."""

    def encode(self, names: Mapping[str, str]) -> bytes:
        """The filter with the names in it, BER."""


@dataclass(frozen=True, slots=True)
class _Name:
    name: str


@dataclass(frozen=True, slots=True)
class _Value:
    pieces: tuple[bytes | _Name, ...]

    def names(self) -> frozenset[str]:
        return frozenset(each.name for each in self.pieces if isinstance(each, _Name))

    def fill(self, names: Mapping[str, str]) -> bytes:
        return b"".join(each if isinstance(each, bytes) else names[each.name].encode() for each in self.pieces)


@dataclass(frozen=True, slots=True)
class _Together:
    tag: int
    members: tuple[Filter, ...]

    def names(self) -> frozenset[str]:
        return frozenset().union(*(each.names() for each in self.members))

    def encode(self, names: Mapping[str, str]) -> bytes:
        return tlv(self.tag, b"".join(each.encode(names) for each in self.members))


@dataclass(frozen=True, slots=True)
class _Asserted:
    """What an attribute is compared with: `before` and `after` the value, as they are."""

    tag: int
    before: bytes
    value_tag: int
    value: _Value
    after: bytes = b""

    def names(self) -> frozenset[str]:
        return self.value.names()

    def encode(self, names: Mapping[str, str]) -> bytes:
        return tlv(self.tag, self.before + tlv(self.value_tag, self.value.fill(names)) + self.after)


@dataclass(frozen=True, slots=True)
class _Fixed:
    encoded: bytes

    def names(self) -> frozenset[str]:
        return frozenset()

    def encode(self, names: Mapping[str, str]) -> bytes:  # noqa: ARG002 - a Filter, into which nothing is filled
        return self.encoded


def parse(text: str) -> Filter:
    """Reads a filter; a name of the request stands in braces, where a whole value or a part of one is compared.

    Raises:
        ValueError: it is none, or a name stands where it may not: in a pattern with `*`, or in what is negated.
    """
    found, end = _filter(text, 0, 0)
    if end != len(text):
        raise ValueError(f"is no filter from character {end + 1} on: {text[end : end + 20]!a}")
    return found


def _filter(text: str, start: int, depth: int) -> tuple[Filter, int]:
    if text[start : start + 1] != "(" or depth > _DEEPEST:
        raise ValueError(f"is no filter from character {start + 1} on: a filter stands in parentheses")
    kind = text[start + 1 : start + 2]
    found, end = _members(text, start + 2, kind, depth) if kind and kind in "&|!" else _item(text, start + 1)
    if text[end : end + 1] != ")":
        raise ValueError(f"is no filter from character {end + 1} on: {text[end : end + 20]!a}")
    return found, end + 1


def _members(text: str, start: int, kind: str, depth: int) -> tuple[Filter, int]:
    members: list[Filter] = []
    end = start
    while text[end : end + 1] == "(":
        member, end = _filter(text, end, depth + 1)
        members.append(member)
    if not members or (kind == "!" and len(members) > 1):
        raise ValueError(f"has {len(members)} members for {kind} at character {start}")
    together = _Together({"&": _AND, "|": _OR, "!": _NOT}[kind], tuple(members))
    if kind == "!" and together.names():
        raise ValueError("negates a name of the request: whoever is called otherwise would be found")
    return together, end


def _item(text: str, start: int) -> tuple[Filter, int]:
    item = _ITEM.match(text, start)
    if item is None:
        raise ValueError(f"is no filter from character {start + 1} on: {text[start : start + 20]!a}")
    attribute, value, operator = item["attribute"] or "", item["value"], item["operator"]
    if item["extended"] is not None:
        return _extended(item), item.end()
    if not attribute:
        raise ValueError(f"has no attribute at character {start + 1}")
    if operator == "=" and "*" in value:
        return _pattern(attribute, value), item.end()
    described = tlv(OCTET_STRING, attribute.encode())
    return _Asserted(_COMPARED[operator], described, OCTET_STRING, _value(value)), item.end()


def _extended(item: re.Match[str]) -> Filter:
    rule, attribute = item["rule"], item["attribute"]
    if item["operator"] != "=" or (rule is None and attribute is None):
        raise ValueError(f"has an extensible match that is none: {item[0]!a}")
    before = b"".join(tlv(tag, each.encode()) for tag, each in ((_RULE, rule), (_TYPE, attribute)) if each)
    after = tlv(_WITH_DN, b"\xff") if item["dn"] else b""
    return _Asserted(_EXTENDED, before, _VALUE, _value(item["value"]), after)


def _pattern(attribute: str, value: str) -> Filter:
    if value == "*":
        return _Fixed(tlv(_PRESENT, attribute.encode()))
    first, *rest = map(_value, value.split("*"))
    pieces = [(_INITIAL, first), *((_ANY, each) for each in rest[:-1]), (_FINAL, rest[-1])]
    if any(each.names() for _, each in pieces):
        raise ValueError(f"has a name of the request in a pattern with *: {value!a}")
    encoded = b"".join(tlv(tag, each.fill({})) for tag, each in pieces if each.pieces)
    return _Fixed(tlv(_SUBSTRINGS, tlv(OCTET_STRING, attribute.encode()) + tlv(SEQUENCE, encoded)))


def _value(text: str) -> _Value:
    pieces: list[bytes | _Name] = []
    end = 0
    for piece in _PIECE.finditer(text):
        if piece.start() != end:
            break
        end = piece.end()
        if piece["name"] is not None:
            pieces.append(_Name(piece["name"]))
        else:
            pieces.append(piece["text"].encode() if piece["escaped"] is None else bytes.fromhex(piece["escaped"]))
    if end != len(text):
        raise ValueError(
            f"has a value that does not read: {text[:100]!a}; \\ * {{ }} are written as \\5c \\2a \\7b \\7d"
        )
    return _Value(tuple(pieces))
