from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ra.scep.decode import read_inner
from ra.scep.errors import (
    BadAlgorithm,
    BadInner,
    ScepError,
    Unreadable,
)
from ra.scep.header import TransactionId
from ra.scep.messages import Enrolment
from tests.fakes.decoding import ALL, ENVELOPE, RA, message, outer

WHOLE = message().build()


def test_a_truncated_message_is_unreadable_wherever_it_is_cut() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(Unreadable):
            outer(WHOLE[:length])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_a_changed_byte_raises_nothing_but_the_codecs_own(position: int, change: int) -> None:
    changed = bytearray(WHOLE)
    changed[position] ^= change

    try:
        read = outer(bytes(changed), ALL)
        read_inner(read, [RA], ALL, os.urandom)
    except ScepError:
        return

    assert read.header.transaction_id == TransactionId(b"4DFA0C")


@given(st.integers(0, len(ENVELOPE) - 1), st.integers(1, 255))
@settings(max_examples=200)
def test_a_changed_byte_of_the_envelope_raises_nothing_but_the_codecs_own(position: int, change: int) -> None:
    changed = bytearray(ENVELOPE)
    changed[position] ^= change
    read = outer(message(content=bytes(changed)), ALL)

    try:
        request = read_inner(read, [RA], ALL, os.urandom)
    except (BadInner, BadAlgorithm):
        return

    assert isinstance(request, Enrolment)
