from __future__ import annotations

import os

import pytest

from ra.scep.decode import read_inner
from ra.scep.enveloped import read_envelope
from ra.scep.header import TransactionId
from ra.scep.messages import Enrolment
from ra.scep.names import Digest
from tests.fakes.decoding import CSR, ENVELOPE, NONE, RA, enrolment, message, outer
from tests.fakes.messages import (
    NULL,
    Envelope,
    algorithm,
    attribute,
    certificate,
    der,
    rsa_key,
    seq,
    to_ber,
)


@pytest.mark.parametrize("content", [None, b"", b"\x00"])
@pytest.mark.rfc8894("no-data-no-envelope")
def test_q01_absent_empty_and_one_byte_content_are_all_no_envelope(content: bytes | None) -> None:
    """OpenXPKI leaves it out, EJBCA sends it empty, NDES sends one byte."""
    read = outer(message(content=content, message_type="20"))

    assert read.envelope is None
    assert () == read.header.recipients
    assert () == read.oddities


def test_q02_jscep_sends_ber_in_every_layer() -> None:
    built = message(content=to_ber(ENVELOPE, 100)).build()

    read = outer(to_ber(built, 100))

    assert read.envelope is not None
    assert read_envelope(ENVELOPE).ciphertext == read.envelope.ciphertext
    assert ("ber",) == read.oddities
    assert isinstance(read_inner(read, [RA], NONE, os.urandom), Enrolment)


def test_q02_the_content_alone_may_be_ber() -> None:
    assert ("ber",) == outer(message(content=to_ber(ENVELOPE))).oddities


@pytest.mark.parametrize("pieces", [1, 3])
def test_q02_debians_scepclient_sends_the_ciphertext_as_a_constructed_node(pieces: int) -> None:
    request = enrolment(Envelope(RA, CSR, pieces=pieces))

    assert CSR == request.csr.der
    assert ("split-ciphertext",) == request.outer.oddities


@pytest.mark.parametrize("sign_sorted", [False, True])
def test_q03_signed_attributes_may_be_unsorted(sign_sorted: bool) -> None:
    """Signed as they were sent, or in the order in which they should have been (OpenXPKI's library of old)."""
    read = outer(message(sorted=False, sign_sorted=sign_sorted))

    assert ("unsorted-attributes",) == read.oddities


@pytest.mark.parametrize(
    ("nonce", "odd"),
    [(None, ("no-nonce",)), (b"", ("no-nonce",)), (b"8 bytes!", ("nonce-8",)), (b"three", ("nonce-length",))],
)
def test_q11_apple_sends_a_nonce_of_8_bytes_and_some_send_none(nonce: bytes | None, odd: tuple[str, ...]) -> None:
    read = outer(message(nonce=None if nonce is None else der(0x04, nonce)))

    assert (nonce or b"") == read.header.sender_nonce
    assert odd == read.oddities


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (0x13, b"HVvzN0228V+AW+dUuDe8OPyDXD0="),  # Windows
        (0x13, b"1" * 78),  # certmonger
        (0x13, b"SSCEP transactionId"),  # sscep
        (0x0C, b"\xc3\xa9"),
        (0x13, b"x" * 255),
    ],
)
def test_q12_a_transaction_id_is_opaque(tag: int, value: bytes) -> None:
    assert TransactionId(value, tag) == outer(message(transaction_id=der(tag, value))).header.transaction_id


def test_q13_signed_attributes_of_jscep_openssl_and_windows_are_passed_over() -> None:
    more = [
        attribute("1.2.840.113549.1.9.52", seq(algorithm("2.16.840.1.101.3.4.2.1"))),  # cmsAlgorithmProtection
        attribute("1.2.840.113549.1.9.15", seq()),  # SMIMECapabilities
        attribute("1.3.6.1.4.1.311.21.38", der(0x04, b"b"), der(0x04, b"a")),
    ]

    assert () == outer(message(more_attributes=more)).oddities


@pytest.mark.parametrize("signature_name", ["1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11"])
@pytest.mark.parametrize("parameters", [NULL, b""])
def test_q14_algorithms_are_spelled_in_two_ways(signature_name: str, parameters: bytes) -> None:
    built = message(
        digest_name=algorithm("2.16.840.1.101.3.4.2.1", parameters),
        signature_name=algorithm(signature_name, parameters),
    )

    assert Digest.SHA256 is outer(built).header.digest


@pytest.mark.rfc8894("time-is-not-judged")
def test_q16_the_signing_time_of_a_device_with_a_wrong_clock_is_not_judged() -> None:
    signing_time = attribute("1.2.840.113549.1.9.5", der(0x17, b"700101000000Z"))

    assert () == outer(message(more_attributes=[signing_time])).oddities


def test_q16_the_validity_of_the_certificate_that_signs_is_not_judged() -> None:
    ran_out = certificate(rsa_key(), not_after=b"250102000000Z")

    assert ran_out == outer(message(certificates=[ran_out])).signer.der
