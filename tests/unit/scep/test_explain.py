from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import pytest

from ra.scep.csr import read_csr
from ra.scep.encode import certs_only, write_reply
from ra.scep.errors import ScepError, Unreadable
from ra.scep.explain import Explanation, explain
from ra.scep.keys import Identity
from ra.scep.messages import Deferral, Issuance, Refusal, Reply, Sealing
from ra.scep.names import Cipher, FailInfo, KeyTransport, Legacy
from ra.scep.words import ODDITIES
from tests.fakes.decoding import CSR, ENVELOPE, NONE, RA, message, outer
from tests.fakes.messages import (
    MESSAGE_TYPE,
    Envelope,
    Message,
    algorithm,
    certificate,
    challenge,
    csr,
    ec_key,
    integer,
    name,
    printable,
    rsa_key,
    seq,
    soft_key,
    to_ber,
)

ALL = frozenset(Legacy)
DEVICE = soft_key(rsa_key(), subject=name("device"), serial=7)
CLIENT = Identity(name="client", decryptor=DEVICE, signer=DEVICE)


def lines(explanation: Explanation) -> Iterator[str]:
    yield f"{explanation.label}: {explanation.value} ({explanation.note})"
    for child in explanation.children:
        yield from lines(child)


def said(data: bytes, *identities: Identity) -> str:
    return "\n".join(lines(explain(data, identities)))


def reply(to_say: Reply) -> bytes:
    read = outer(message())
    sealing = Sealing(cipher=Cipher.AES128_CBC, key_transport=KeyTransport.OAEP_SHA256)
    return write_reply(to_say, read.header, RA, os.urandom, recipient=read.signer, sealing=sealing, legacy=NONE)


def test_a_request_is_explained() -> None:
    text = said(message().build())

    for expected in ("pkiMessage: 19 (PKCSReq", "transactionID: 4DFA0C", "verifies", "CN=RA", "no key was given"):
        assert expected in text


def test_a_request_is_opened_with_the_key() -> None:
    text = said(message().build(), RA)

    assert "PKCS #10 request: CN=device" in text
    assert "challengePassword: 13 characters: lower case, others" in text
    assert "the challenge" not in text


def test_a_request_that_does_not_open_says_so() -> None:
    text = said(message(content=Envelope(RA, b"", ciphertext=bytes(32)).build()).build(), RA)

    assert "the content does not open" in text


def test_a_wrong_signature_is_said() -> None:
    assert "does not verify" in said(message(signature=bytes(256)).build())


def test_an_unknown_algorithm_is_said() -> None:
    assert "AES-128-GCM" in said(Envelope(RA, CSR, cipher_name=algorithm("2.16.840.1.101.3.4.1.6", seq())).build())


@pytest.mark.parametrize(
    ("to_say", "expected"),
    [
        (Deferral(), "PENDING"),
        (Refusal(fail_info=FailInfo.BAD_REQUEST, text="why not"), "failInfoText: why not"),
        (Refusal(fail_info=FailInfo.BAD_REQUEST), "a wrong challenge looks like this too"),
        (Issuance(certificates=(certificate(rsa_key(), subject=name("issued")),)), "certificate: CN=issued"),
    ],
)
def test_a_reply_is_explained_with_the_clients_key(to_say: Reply, expected: str) -> None:
    assert expected in said(reply(to_say), CLIENT)


@pytest.mark.parametrize("message_type", ["18", "x"])
def test_a_type_that_is_not_defined_is_said(message_type: str) -> None:
    assert "not defined by RFC 8894" in said(message(message_type=message_type).build())


@pytest.mark.parametrize(
    ("message_type", "content", "expected"),
    [
        ("20", seq(name("CA"), name("device")), "IssuerAndSubject: issuer CN=CA, subject CN=device"),
        ("21", seq(name("CA"), integer(0x1234)), "IssuerAndSerialNumber: serial 1234, issuer CN=CA"),
        ("21", b"garbage", "nothing that SCEP defines"),
    ],
)
def test_what_is_inside_is_explained(message_type: str, content: bytes, expected: str) -> None:
    assert expected in said(message(message_type=message_type, content=Envelope(RA, content).build()).build(), RA)


def test_a_poll_need_not_be_opened() -> None:
    assert "a server need not open it" in said(message(message_type="20").build())


def test_a_message_without_an_envelope_is_explained() -> None:
    assert "PKCS #10 request" in said(message(content=CSR).build())
    assert "content: empty" in said(message(content=b"\x00").build())


def test_the_answer_to_get_next_ca_cert_is_explained() -> None:
    content = certs_only([certificate(rsa_key(), subject=name("next"))])

    text = said(message(content=content, attributes={MESSAGE_TYPE: None}).build())

    assert "no pkiMessage" in text
    assert "CN=next" in text


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (CSR, "PKCS #10 request"),
        (ENVELOPE, "envelope"),
        (certificate(rsa_key()), "certificate"),
        (certificate(ec_key()), "certificate"),
        (certs_only([certificate(rsa_key())]), "degenerate SignedData"),
        (message().build(), "pkiMessage"),
    ],
)
def test_everything_is_explained_in_every_clothing(data: bytes, label: str) -> None:
    encoded = base64.encodebytes(data)

    for dressed in (data, to_ber(data), encoded, b"-----BEGIN X-----\n" + encoded + b"-----END X-----\n"):
        assert label == explain(dressed).label


@pytest.mark.parametrize("data", [b"", b"\x30", b"garbage", seq(), b"\x30\x80" * 10_000, b"\x30" * 1_048_576])
def test_what_is_nothing_of_that_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        explain(data)


def test_what_does_not_print_is_escaped() -> None:
    text = said(csr(rsa_key(), subject=name("a\x1b[31mé")))

    assert "CN=a\\x1b[31mé" in text


@pytest.mark.parametrize(
    "built",
    [
        message(sorted=False),
        message(nonce=None),
        message(nonce=b"\x04\x088 bytes!"),
        message(nonce=b"\x04\x01x"),
        message(content=Envelope(RA, CSR, pieces=2, by_key_id=True).build()),
        message(content=Envelope(RA, CSR, transport=KeyTransport.OAEP_SHA1).build()),
        message(content=Envelope(RA, CSR, others_after=[Envelope(RA, CSR).recipient_info()]).build()),
        message(transaction_id=b"\x0c\x01x"),
        message(certificates=[certificate(rsa_key()), certificate(rsa_key(), serial=integer(0))]),
    ],
)
def test_every_oddity_of_a_message_is_explained(built: Message) -> None:
    for word in outer(built).oddities:
        assert ODDITIES[word] in said(built.build())
    assert outer(built).oddities


@pytest.mark.parametrize(
    "request_",
    [
        csr(rsa_key(), version=1),
        csr(rsa_key(), version=2),
        csr(rsa_key(), attributes=None),
        csr(rsa_key(), subject=name("a@b", tag=0x13)),
    ],
)
def test_every_oddity_of_a_csr_is_explained(request_: bytes) -> None:
    for word in read_csr(request_).oddities:
        assert ODDITIES[word] in said(request_)
    assert read_csr(request_).oddities


def test_a_truncated_message_raises_nothing_else() -> None:
    whole = message().build()

    for length in range(0, len(whole), 7):
        with pytest.raises(ScepError):
            explain(whole[:length])


def test_a_challenge_is_described() -> None:
    text = said(csr(rsa_key(), attributes=[challenge("Ab1!Ab1!")]))

    assert "8 characters: upper case, lower case, digits, others" in text
    assert "Ab1!" not in text


def test_a_transaction_id_is_shown() -> None:
    assert "SSCEP transactionId" in said(message(transaction_id=printable("SSCEP transactionId")).build())
