from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ra.scep import ber
from ra.scep.errors import Malformed
from tests.fakes.messages import der, integer, oid, seq, to_ber

primitives = st.one_of(
    st.integers().map(integer),
    st.binary(max_size=300).map(lambda value: der(0x04, value)),
    st.text(max_size=40).map(lambda value: der(0x0C, value.encode())),
    st.just(oid("1.2.840.113549.1.7.2")),
)
values = st.recursive(
    primitives,
    lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0, 0xA3]), st.lists(inner, max_size=5)).map(
        lambda drawn: der(drawn[0], *drawn[1])
    ),
    max_leaves=20,
)


@given(values)
@example(seq())
def test_der_stays_as_it_is(value: bytes) -> None:
    normalised = ber.normalise(value)

    assert value == normalised


@given(values, st.integers(1, 100))
def test_q02_jscep_sends_indefinite_lengths_and_strings_in_pieces(value: bytes, piece_bytes: int) -> None:
    normalised = ber.normalise(to_ber(value, piece_bytes))

    assert value == normalised


@given(st.binary(max_size=300))
def test_anything_else_is_malformed(data: bytes) -> None:
    try:
        normalised = ber.normalise(data)
    except Malformed:
        return

    assert normalised == ber.normalise(normalised)


@given(st.binary(max_size=200_000))
def test_a_node_is_written_and_read_back(value: bytes) -> None:
    node = ber.tlv(0x04, value)

    assert value == ber.value_of(node)
    assert (node, node) == ber.split(node + node)


def test_lengths_become_minimal() -> None:
    normalised = ber.normalise(bytes.fromhex("3084000000050482 0001ff"))

    assert bytes.fromhex("30030401ff") == normalised


def test_nested_pieces_of_a_string_are_joined() -> None:
    normalised = ber.normalise(bytes.fromhex("2480 2405 040161 0400 040162 0000".replace(" ", "")))

    assert der(0x04, b"ab") == normalised


@pytest.mark.parametrize(
    ("flaw", "data"),
    [
        ("empty", ""),
        ("a lone tag", "30"),
        ("cut", "3003020105"[:-2]),
        ("cut in the length", "3082"),
        ("a length of nine bytes", "3089000000000000000000"),
        ("longer than what is left", "3084ffffffff00"),
        ("a high tag number", "1f810100"),
        ("bytes after it", "300000"),
        ("an end without a beginning", "0000" * 2),
        ("no end", "3080020105"),
        ("a primitive without a length", "0480"),
        ("a piece that is no OCTET STRING", "2403020105"),
        ("a huge arc", "060b" + "ff" * 10 + "01"),
        ("a huge object identifier", "0641" + "01" * 65),
    ],
)
def test_what_has_a_flaw_is_malformed(flaw: str, data: str) -> None:
    with pytest.raises(Malformed):
        ber.normalise(bytes.fromhex(data))

    assert flaw


def test_a_huge_integer_is_malformed() -> None:
    with pytest.raises(Malformed, match="INTEGER"):
        ber.normalise(der(0x02, b"\x01" * (ber.MAX_INTEGER_BYTES + 1)))


@pytest.mark.parametrize("depth", [ber.MAX_DEPTH + 1, 10_000])
def test_deep_nesting_is_malformed(depth: int) -> None:
    with pytest.raises(Malformed, match="deeply"):
        ber.normalise(b"\x30\x80" * depth + b"\x00\x00" * depth)


def test_the_deepest_that_is_read() -> None:
    depth = ber.MAX_DEPTH

    normalised = ber.normalise(b"\x30\x80" * depth + b"\x00\x00" * depth)

    assert 2 * depth == len(normalised)


def test_too_many_parts_are_malformed() -> None:
    with pytest.raises(Malformed, match="many"):
        ber.normalise(seq(b"\x05\x00" * ber.MAX_NODES))


@pytest.mark.parametrize("data", ["3080", "04", "0482", "0403ff", "1f8101"])
def test_a_row_of_nodes_has_definite_lengths(data: str) -> None:
    with pytest.raises(Malformed):
        ber.split(bytes.fromhex(data))


@pytest.mark.parametrize("data", ["", "04", "0401", "04010000", "3080"])
def test_a_value_is_that_of_exactly_one_node(data: str) -> None:
    with pytest.raises(Malformed):
        ber.value_of(bytes.fromhex(data))


def test_a_set_is_written_in_order() -> None:
    assert bytes.fromhex("3106020101020102") == ber.set_of([integer(2), integer(1)])
