"""What needs no server: filters, messages, and the block of the configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core, parser
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import connectors.api
from connectors.api import ProtocolViolation
from ra.challenge.directory import Options, connect
from ra.challenge.directory.ldap import filters, messages
from ra.challenge.directory.ldap.messages import Entry, Result, SearchRequest, tlv
from ra.errors import Misconfigured
from tests.fakes.challenges import FakeServices


def encoded(text: str, **names: str) -> bytes:
    return filters.parse(text).encode(names)


# ---------------------------------------------------------------- filters
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(cn=a)", "a307 0402636e 040161"),
        ("(cn=)", "a306 0402636e 0400"),
        ("(cn>=a)", "a507 0402636e 040161"),
        ("(cn<=a)", "a607 0402636e 040161"),
        ("(cn~=a)", "a807 0402636e 040161"),
        ("(cn=*)", "8702636e"),
        ("(cn=a*b*c)", "a40f 0402636e 3009 800161 810162 820163"),
        ("(cn=*b*)", "a409 0402636e 3003 810162"),
        ("(cn=a*)", "a409 0402636e 3003 800161"),
        (r"(cn=\2a\c3\a9)", "a309 0402636e 04032ac3a9"),
        ("(cn=\u00e9)", "a308 0402636e 0402c3a9"),
        ("(uac:1.2.3:=2)", "a90f 8105312e322e33 8203756163 830132"),
        ("(:1.2.3:=2)", "a90a 8105312e322e33 830132"),
        ("(ou:dn:=a)", "a90a 82026f75 830161 8401ff"),
        ("(ou:dn:1.2:=a)", "a90f 8103312e32 82026f75 830161 8401ff"),
        ("(&(a=b)(!(c=d)))", "a012 a306 040161 040162 a208 a306 040163 040164"),
        ("(|(a=b)(a=*))", "a10b a306 040161 040162 870161"),
        ("(1.2.3;x=a)", "a30c 0407312e322e333b78 040161"),
    ],
)
def test_a_filter_is_written_as_the_rfc_has_it(text: str, expected: str) -> None:
    assert bytes.fromhex(expected) == encoded(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cn=a",
        "(cn=a",
        "(cn=a))",
        "()",
        "(&)",
        "(!)",
        "(!(a=b)(c=d))",
        "(=a)",
        "(cn)",
        "(cn=a(b)",
        "(cn={value)",
        "(cn={})",
        "(cn={va lue})",
        "(cn=a\\zz)",
        "(cn=\0)",
        "(:=a)",
        "(cn:=a",
        "(cn:1.2>=a)",
        "(cn={value}*)",
        "(!(cn={value}))",
        "(&(a=b)(!(|(c=d)(cn={value}))))",
        "(&" * 30 + "(a=b)" + ")" * 30,
    ],
)
def test_what_is_no_filter_or_puts_a_name_where_none_may_stand_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is no|has|negates)"):
        filters.parse(text)


def test_names_are_told() -> None:
    found = filters.parse("(&(cn=PC-{value}.{dns})(|(a={value})(b=c)))")

    assert frozenset({"value", "dns"}) == found.names()


@given(st.text(max_size=300))
def test_whatever_is_put_in_is_one_value_and_nothing_else(value: str) -> None:
    plain = filters.parse("(&(objectClass=computer)(cn=a{value}b))")

    whole = parser.parse(plain.encode({"value": value}), strict=True)[4]
    members = list(_items(whole))
    name, compared = _items(members[1])

    assert 2 == len(members)
    assert (b"cn", f"a{value}b".encode()) == (name, compared)


def _items(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        _, _, _, head, body, _ = parser.parse(content[at:])
        found.append(body)
        at += len(head) + len(body)
    return found


@given(st.text(max_size=60))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    try:
        filters.parse(text)
    except ValueError:
        return


# ---------------------------------------------------------------- messages
@given(st.integers(0, 255).filter(lambda tag: tag & 31 != 31), st.binary(max_size=70000))
def test_what_is_written_reads_back(tag: int, content: bytes) -> None:
    class_, _, number, _, body, _ = parser.parse(tlv(tag, content), strict=True)

    assert (tag >> 6, tag & 31, content) == (class_, number, body)


@given(st.integers(0, 2**31 - 1))
def test_numbers_are_written_as_der_has_them(number: int) -> None:
    written = messages.write_unbind(number)

    assert tlv(messages.SEQUENCE, core.Integer(number).dump() + tlv(0x42, b"")) == written


def test_a_search_is_written_as_the_rfc_has_it() -> None:
    request = SearchRequest(base_dn="dc=x", filter=encoded("(a=*)"), attributes=("b",), most=2, seconds=9)

    written = messages.write_search(5, request)

    operation = "0404 64633d78 0a0102 0a0100 020102 020109 010100 870161 3003 040162"
    assert tlv(0x30, bytes.fromhex("020105") + tlv(0x63, bytes.fromhex(operation))) == written


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(content: bytes) -> None:
    try:
        messages.read_message(content)
    except ProtocolViolation:
        return


@pytest.mark.parametrize("content", ["020101 640a04", "020101 6403040261", "020101 64", "0201", "020101 3f0100"])
def test_what_ends_too_early_does_not_read(content: str) -> None:
    with pytest.raises(ProtocolViolation):
        messages.read_message(bytes.fromhex(content))


@given(st.binary(max_size=60), st.sampled_from([0x61, 0x64, 0x65, 0x73, 0x78]))
def test_no_operation_makes_the_reader_fail(content: bytes, tag: int) -> None:
    try:
        messages.read_message(b"\x02\x01\x01" + tlv(tag, content))
    except ProtocolViolation:
        return


def test_an_entry_is_read_with_its_options_left_out() -> None:
    attribute = tlv(0x30, tlv(4, b"objectSID;binary") + tlv(0x31, tlv(4, b"\x01") + tlv(4, b"\x02")))
    content = tlv(2, b"\x02") + tlv(0x64, tlv(4, b"cn=a") + tlv(0x30, attribute))

    number, entry = messages.read_message(content)

    assert (2, Entry(dn="cn=a", attributes={"objectsid": (b"\x01", b"\x02")})) == (number, entry)
    assert isinstance(entry, Entry)
    assert (b"\x01", b"\x02") == entry.values("objectSid")


def test_a_code_of_two_bytes_is_read() -> None:
    content = tlv(2, b"\x02") + tlv(0x65, tlv(10, b"\x10\x00") + tlv(4, b"") + tlv(4, b"text"))

    assert (2, Result(code=4096, text="text")) == messages.read_message(content)


# ---------------------------------------------------------------- the configuration
GIVEN = {"kind": "ldap", "urls": ["ldaps://x.example"], "bind_dn": "x", "password": "file:ldap", "base_dn": ""}


def opened(options: dict[str, Any]) -> None:
    asyncio.run(_open(options))


async def _open(options: dict[str, Any]) -> None:
    await connect(Options.model_validate(options), FakeServices({"file:ldap": "x"}).services())


@pytest.mark.parametrize(
    "changes",
    [
        {"filter": "(cn=x)"},
        {"filter": "cn={value}"},
        {"filter": "(cn={value})", "urls": []},
        {"filter": "(cn={value})", "urls": ["https://x.example"]},
        {"filter": "(cn={value})", "urls": ["ldaps://x.example/dc=org"]},
        {"filter": "(cn={value})", "urls": ["ldaps://user@x.example"]},
        {"filter": "(cn={value})", "urls": ["ldaps://x.example:99999"]},
        {"filter": "(cn={value})", "password": "a secret"},
    ],
)
def test_what_is_no_source_does_not_load(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"source": {**GIVEN, **changes}})


@pytest.mark.parametrize(
    ("changes", "require", "said"),
    [
        ({}, ["compliant"], "compliant"),
        ({"enabled_attribute": None}, ["enabled"], "enabled_attribute"),
    ],
)
def test_what_a_directory_cannot_say_is_not_required(changes: dict[str, Any], require: list[str], said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        opened({"source": {**GIVEN, "filter": "(cn={value})", **changes}, "require": require})


def test_a_ca_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(connectors.api.Misconfigured, match="ca_file"):
        opened({"source": {**GIVEN, "filter": "(cn={value})", "ca_file": str(tmp_path / "ca.pem")}})
