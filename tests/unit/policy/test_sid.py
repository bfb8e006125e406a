from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ra.policy.sid import binary_sid, claims_sid, is_sid, read_sid, uri_sid

SID = "S-1-5-21-3734714977-4168152908-3764207930-1104"
EXTENSION = bytes.fromhex(
    "3040a03e060a2b060104018237190201a030042e"
    "532d312d352d32312d333733343731343937372d343136383135323930382d333736343230373933302d31313034"
)
URI = f"tag:microsoft.com,2022-09-14:sid:{SID}"


def test_the_sid_of_the_extension_that_ad_cs_writes_is_read() -> None:
    sid = read_sid(EXTENSION)

    assert SID == sid


@pytest.mark.parametrize(
    "value",
    [
        b"",
        EXTENSION[:-1],
        EXTENSION + b"0",
        EXTENSION[:-1] + b"\n",
        EXTENSION.replace(b"\xa0\x30", b"\xa1\x30"),
        EXTENSION.replace(b"S-1-5-21", b"S-2-5-21"),
        EXTENSION.replace(b"S-1-5-21", b"S-1-X-21"),
        SID.encode(),
    ],
)
def test_an_extension_of_another_form_does_not_read(value: bytes) -> None:
    sid = read_sid(value)

    assert sid is None


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(value: bytes) -> None:
    sid = read_sid(value)

    assert sid is None


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8))
def test_every_sid_reads_back_from_the_extension(sub_authorities: list[int]) -> None:
    sid = "-".join(["S-1-5", *map(str, sub_authorities)]).encode()
    octets = bytes((0x04, len(sid))) + sid
    inner = bytes.fromhex("060a2b060104018237190201") + bytes((0xA0, len(octets))) + octets
    outer = bytes((0xA0, len(inner))) + inner

    read = read_sid(bytes((0x30, len(outer))) + outer)

    assert sid.decode() == read


def test_the_sid_of_a_uri_is_read() -> None:
    sid = uri_sid(URI)

    assert SID == sid


@pytest.mark.parametrize("uri", [SID, URI + "%00", URI.upper(), URI + "\n", "tag:microsoft.com,2022-09-14:sid:"])
def test_a_uri_of_another_form_has_no_sid(uri: str) -> None:
    sid = uri_sid(uri)

    assert sid is None


@pytest.mark.parametrize(
    "uri", [URI, URI.upper(), URI.replace(":sid:", "%3asid%3a"), URI.replace("t", "%74", 1), "tag:microsoft.com,2099:x"]
)
def test_whatever_may_be_taken_for_a_sid_claims_one(uri: str) -> None:
    claims = claims_sid(uri)

    assert claims


@pytest.mark.parametrize("uri", ["https://example.org/", "IntuneDeviceId://0a1b", "tag:example.org,2022:sid:S-1-5"])
def test_any_other_uri_claims_none(uri: str) -> None:
    claims = claims_sid(uri)

    assert not claims


# ---------------------------------------------------------------- objectSid


def test_the_sid_of_an_attribute_is_read() -> None:
    parts = (21, 3734714977, 4168152908, 3764207930, 1104)
    value = bytes.fromhex("0105000000000005") + b"".join(each.to_bytes(4, "little") for each in parts)

    assert SID == binary_sid(value)


@given(st.integers(0, 2**48 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=15))
def test_every_binary_sid_reads_as_windows_writes_it(authority: int, parts: list[int]) -> None:
    value = bytes((1, len(parts))) + authority.to_bytes(6) + b"".join(each.to_bytes(4, "little") for each in parts)

    text = "-".join(map(str, ("S", 1, authority, *parts)))
    assert (text if 1 <= len(parts) <= 8 else None) == binary_sid(value)
    assert is_sid(text) is (1 <= len(parts) <= 8)


@given(st.binary(max_size=80))
def test_bytes_that_are_no_sid_are_none(value: bytes) -> None:
    found = binary_sid(value)

    assert found is None or (is_sid(found) and len(value) == 8 + 4 * value[1])


@pytest.mark.parametrize("change", [lambda v: v[:-1], lambda v: v + b"\0", lambda v: b"\x02" + v[1:], lambda v: v[:7]])
def test_a_binary_sid_has_its_length_and_its_revision(change: Callable[[bytes], bytes]) -> None:
    value = bytes.fromhex("01010000000000052a000000")

    assert "S-1-5-42" == binary_sid(value)
    assert binary_sid(change(value)) is None
