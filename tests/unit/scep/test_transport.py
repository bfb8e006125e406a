from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ra.scep.errors import BadQuery, ScepError, TooLarge, Unreadable
from ra.scep.names import Capability, Operation
from ra.scep.transport import (
    MAX_MESSAGE_BYTES,
    Query,
    read_message,
    read_query,
    write_capabilities,
)

# Every character of the base64 alphabet, `+` and `/` included, and padding.
MESSAGE = b"\x30" + bytes(range(256)) + b"\xfb\xff\xbf"
BASE64 = base64.b64encode(MESSAGE)
messages = st.binary(max_size=400).map(lambda tail: b"\x30" + tail)


def test_a_query_names_operation_message_and_ca() -> None:
    query = read_query(b"operation=PKIOperation&message=MIIB%2B&ca_id=1")

    assert Query(operation=Operation.PKI_OPERATION, message=b"MIIB%2B", ca_id="1") == query


def test_an_empty_query_names_nothing() -> None:
    assert Query(operation=None, message=None, ca_id=None) == read_query(b"")


@pytest.mark.parametrize("spelled", ["GetCACaps", "getcacaps", "GETCACAPS", "GetCACap%73"])
def test_q19_the_case_of_an_operation_is_free(spelled: str) -> None:
    assert Operation.GET_CA_CAPS is read_query(f"operation={spelled}".encode()).operation


@pytest.mark.parametrize(
    "raw_query",
    [
        b"message=&operation=GetCACert",  # scepclient 2.1 and jscep
        b"operation=GetCACert&message=0",  # certmonger
        b"operation=GetCACert&message=a%20name&x=1&x=2",
    ],
)
def test_q19_order_message_and_unknown_parameters_are_free(raw_query: bytes) -> None:
    assert Operation.GET_CA_CERT is read_query(raw_query).operation


def test_a_second_question_mark_parts_like_an_ampersand() -> None:
    query = read_query(b"ca_id=1?operation=PKIOperation&message=MIIB")

    assert Query(operation=Operation.PKI_OPERATION, message=b"MIIB", ca_id="1") == query


@pytest.mark.parametrize(
    "raw_query",
    [
        b"operation=GetCACaps&operation=PKIOperation",
        b"operation=PKIOperation&message=a&message=b",
        b"ca_id=1?operation=GetCACert&ca_id=2",
        b"operation=GetCACert&OPERATION=GetCACert",
    ],
)
def test_a_parameter_that_comes_twice_is_refused(raw_query: bytes) -> None:
    with pytest.raises(BadQuery, match="twice"):
        read_query(raw_query)


@pytest.mark.parametrize("operation", [b"GetCACapsX", b"%00", b"%ff", b"1"])
def test_an_unknown_operation_is_refused(operation: bytes) -> None:
    with pytest.raises(BadQuery, match="operation"):
        read_query(b"operation=" + operation)


def test_a_query_beyond_all_need_is_too_large() -> None:
    with pytest.raises(TooLarge):
        read_query(b"message=" + b"A" * 300_000)


@given(st.binary(max_size=200))
def test_no_query_raises_anything_else(raw_query: bytes) -> None:
    try:
        query = read_query(raw_query)
    except Unreadable:
        return

    assert isinstance(query, Query)


@given(messages)
def test_a_body_is_taken_as_it_is(message: bytes) -> None:
    assert message == read_message(message)


@given(messages)
def test_base64_that_is_percent_encoded_is_read(message: bytes) -> None:
    assert message == read_message(quote(base64.b64encode(message), safe="").encode())


@pytest.mark.parametrize(
    ("client", "sent"),
    [
        ("(a) macOS, jscep: + and / literal, = escaped", BASE64.replace(b"=", b"%3D")),
        ("(b) iOS 11: + became a space", BASE64.replace(b"+", b" ")),
        ("(b) iOS 11: + became %20", BASE64.replace(b"+", b"%20")),
        ("(c) Debian's scepclient 2.1.0: URL alphabet", base64.urlsafe_b64encode(MESSAGE)),
        ("(d) Cisco 2800: %0A between lines and at the end", base64.encodebytes(MESSAGE).replace(b"\n", b"%0A")),
        ("(d) strongSwan: a line break every 64 characters", b"\r\n".join([BASE64[:64], BASE64[64:]])),
        ("(e) escaped twice", quote(quote(BASE64, safe=""), safe="").encode()),
        ("(f) not escaped at all", BASE64),
        ("no padding", BASE64.rstrip(b"=")),
        ("(g) a POST body in base64 with line breaks", base64.encodebytes(MESSAGE)),
    ],
)
@pytest.mark.rfc8894("base64-in-get")
def test_q17_base64_as_clients_write_it(client: str, sent: bytes) -> None:
    assert MESSAGE == read_message(sent), client


@pytest.mark.parametrize("sent", [b"", b"=", b"%", b"A", b"MII*", b"M=II", b"MIIB%zz", b"\xff\xfe", b"MIIBa"])
def test_what_is_no_base64_is_unreadable(sent: bytes) -> None:
    with pytest.raises(Unreadable):
        read_message(sent)


def test_the_largest_message_is_read_and_a_larger_one_is_not() -> None:
    largest = b"\x30" + bytes(MAX_MESSAGE_BYTES - 1)

    assert largest == read_message(largest)
    assert largest == read_message(base64.b64encode(largest))
    for larger in (largest + b"\x00", base64.b64encode(largest + b"\x00"), b"M" * 1_048_576):
        with pytest.raises(TooLarge):
            read_message(larger)


@given(st.binary(max_size=300))
def test_no_message_raises_anything_else(sent: bytes) -> None:
    try:
        message = read_message(sent)
    except ScepError:
        return

    assert isinstance(message, bytes)


@pytest.mark.rfc8894("caps-case")
def test_q24_no_blank_line_follows_the_capabilities() -> None:
    body = write_capabilities([Capability.AES, Capability.SHA_256, Capability.SCEP_STANDARD])

    assert b"AES\nSHA-256\nSCEPStandard" == body
