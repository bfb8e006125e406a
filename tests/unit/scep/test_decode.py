from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from ra.scep.enveloped import read_envelope
from ra.scep.errors import (
    BadAlgorithm,
    BadMessageCheck,
    BadMessageType,
    TooLarge,
    Unreadable,
)
from ra.scep.header import CertificateId, TransactionId
from ra.scep.names import Digest, Legacy, MessageType
from tests.fakes.decoding import ALL, ENVELOPE, NONCE, NONE, message, outer
from tests.fakes.messages import (
    CONTENT_TYPE,
    ENVELOPED_DATA,
    MESSAGE_DIGEST,
    MESSAGE_TYPE,
    NULL,
    SENDER_NONCE,
    TRANSACTION_ID,
    algorithm,
    attribute,
    certificate,
    der,
    integer,
    key_id_extension,
    name,
    oid,
    printable,
    rsa_key,
    seq,
    spki,
)


def test_the_outer_message_is_read() -> None:
    read = outer(message())

    assert MessageType.PKCS_REQ is read.header.message_type
    assert TransactionId(b"4DFA0C") == read.header.transaction_id
    assert NONCE == read.header.sender_nonce
    assert Digest.SHA256 is read.header.digest
    assert (CertificateId(issuer=name("RA"), serial=1, key_id=None),) == read.header.recipients
    assert certificate(rsa_key())[:-256] == read.signer.der[:-256]
    assert CertificateId(issuer=name("device"), serial=7, key_id=None) == read.signer.certificate_id
    assert read.envelope is not None
    assert read_envelope(ENVELOPE).ciphertext == read.envelope.ciphertext
    assert () == read.oddities
    assert NONE == read.legacy


@pytest.mark.parametrize(
    ("flaw", "data"),
    [
        ("empty", b""),
        ("garbage", b"garbage"),
        ("another structure", seq()),
        ("a certificate", certificate(rsa_key())),
        ("an envelope", ENVELOPE),
        ("bytes after it", message(trailer=b"\x00").build()),
        ("nested deeply", b"\x30\x80" * 10_000),
        ("nested deeply with lengths", b"\x30\x82\xff\xff" * 10_000),
    ],
)
def test_what_is_no_signed_message_is_unreadable(flaw: str, data: bytes) -> None:
    with pytest.raises(Unreadable):
        outer(data)

    assert flaw


def test_a_mebibyte_is_too_large() -> None:
    with pytest.raises(TooLarge):
        outer(b"\x30" * 1_048_576)


@pytest.mark.parametrize(
    ("flaw", "changes"),
    [
        ("no signer", {"signer_infos": 0}),
        ("two signers", {"signer_infos": 2}),
        ("no signed attributes", {"signed_attributes": False}),
        ("no transactionID", {"transaction_id": None}),
        ("an empty transactionID", {"transaction_id": printable("")}),
        ("a transactionID of 256 bytes", {"transaction_id": printable("x" * 256)}),
        ("a transactionID that is no string", {"transaction_id": integer(1)}),
        ("transactionID twice", {"more_attributes": [attribute(TRANSACTION_ID, printable("x"))]}),
        ("messageType twice", {"more_attributes": [attribute(MESSAGE_TYPE, printable("19"))]}),
        ("a nonce twice", {"more_attributes": [attribute(SENDER_NONCE, der(0x04, NONCE))]}),
        ("two nonces", {"nonce": None, "more_attributes": [attribute(SENDER_NONCE, der(4, b"a"), der(4, b"b"))]}),
        ("no value", {"nonce": None, "more_attributes": [attribute(SENDER_NONCE)]}),
        ("a nonce of 65 bytes", {"nonce": der(0x04, bytes(65))}),
        ("a nonce that is none", {"nonce": NULL}),
        ("sixty attributes more", {"more_attributes": [attribute(f"1.2.{i}", NULL) for i in range(60)]}),
        ("no certificate", {"certificates": []}),
        ("another certificate", {"certificates": [certificate(rsa_key(1), serial=integer(8))]}),
        ("two candidates", {"certificates": [certificate(rsa_key()), certificate(rsa_key(1))]}),
        ("nine certificates", {"certificates": [certificate(rsa_key(), serial=integer(i)) for i in range(9)]}),
        ("a broken certificate", {"certificates": [seq(integer(1))]}),
    ],
)
@pytest.mark.rfc8894("signer-certificate-enclosed")
def test_what_cannot_be_answered_is_unreadable(flaw: str, changes: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        outer(message(**changes))

    assert flaw


@pytest.mark.parametrize(
    ("flaw", "changes"),
    [
        ("another signature", {"signature": bytes(256)}),
        ("no signature", {"signature": b""}),
        ("the signature of another key", {"certificates": [certificate(rsa_key(1))]}),
        ("another digest", {"attributes": {MESSAGE_DIGEST: der(0x04, bytes(32))}}),
        ("no digest", {"attributes": {MESSAGE_DIGEST: None}}),
        ("digest twice", {"more_attributes": [attribute(MESSAGE_DIGEST, der(0x04, bytes(32)))]}),
        ("another content type", {"attributes": {CONTENT_TYPE: oid(ENVELOPED_DATA)}}),
        ("no content type", {"attributes": {CONTENT_TYPE: None}}),
        ("content type twice", {"more_attributes": [attribute(CONTENT_TYPE, oid(ENVELOPED_DATA))]}),
        ("content of another type", {"content_type": ENVELOPED_DATA}),
        ("a signature of another kind", {"signature_name": seq(oid("1.2.840.10045.4.3.2"))}),
    ],
)
@pytest.mark.rfc8894("content-is-data", "attributes-of-every-message")
def test_a_wrong_signature_is_a_bad_message_check(flaw: str, changes: dict[str, object]) -> None:
    with pytest.raises(BadMessageCheck) as caught:
        outer(message(**changes))

    assert TransactionId(b"4DFA0C") == caught.value.header.transaction_id, flaw
    assert NONCE == caught.value.header.sender_nonce
    assert 1 == len(caught.value.header.recipients)


def test_the_digest_is_checked_when_there_is_no_content() -> None:
    with pytest.raises(BadMessageCheck, match="digest"):
        outer(message(content=None, attributes={MESSAGE_DIGEST: der(0x04, bytes(32))}))


@pytest.mark.rfc8894("signed-attributes")
def test_what_is_not_signed_is_not_read() -> None:
    unsigned = der(0xA1, attribute(MESSAGE_TYPE, printable("20")), attribute(TRANSACTION_ID, printable("other")))

    read = outer(message(unsigned=unsigned))

    assert MessageType.PKCS_REQ is read.header.message_type
    assert TransactionId(b"4DFA0C") == read.header.transaction_id


@pytest.mark.parametrize("message_type", ["3", "18", "0", "23", "019", "", "19 ", "PKCSReq", "٣"])
@pytest.mark.rfc8894("unknown-types-are-errors")
def test_only_the_requests_of_the_rfc_are_let_in(message_type: str) -> None:
    with pytest.raises(BadMessageType) as caught:
        outer(message(message_type=message_type))

    assert caught.value.header.message_type is None


def test_a_message_without_a_type_is_a_bad_message_type() -> None:
    with pytest.raises(BadMessageType):
        outer(message(attributes={MESSAGE_TYPE: None}))


def test_a_wrong_signature_comes_before_a_wrong_type() -> None:
    with pytest.raises(BadMessageCheck):
        outer(message(message_type="18", signature=bytes(256)))


@pytest.mark.parametrize(("digest", "word"), [("sha1", Legacy.SHA1), ("md5", Legacy.MD5)])
def test_a_legacy_digest_needs_leave_and_is_recorded(digest: str, word: Legacy) -> None:
    assert frozenset({word}) == outer(message(digest=digest), frozenset({word})).legacy
    with pytest.raises(BadAlgorithm) as caught:
        outer(message(digest=digest), ALL - {word})
    assert digest == caught.value.header.digest


def test_a_legacy_digest_in_the_name_of_the_signature_needs_leave_too() -> None:
    with pytest.raises(BadAlgorithm, match="sha1"):
        outer(message(signature_name=algorithm("1.2.840.113549.1.1.5")))


def test_an_unknown_digest_is_answered_with_the_mandatory_one() -> None:
    with pytest.raises(BadAlgorithm, match="SHA-224") as caught:
        outer(message(digest_name=algorithm("2.16.840.1.101.3.4.2.4")))

    assert Digest.SHA256 is caught.value.header.digest


def test_a_signer_with_a_key_beyond_all_use_is_a_bad_algorithm() -> None:
    huge = rsa.RSAPublicNumbers(65537, 2**8200 - 1).public_key()
    info = seq(der(0xA0, integer(2)), integer(7), algorithm("1.2.3"), name("device"), seq(), name("device"), spki(huge))

    with pytest.raises(BadAlgorithm, match="beyond"):
        outer(message(certificates=[seq(info, algorithm("1.2.3"), der(0x03, b"\x00"))]))


@pytest.mark.parametrize(
    "serial", [der(0x02, b"0123456789abcdef" * 2), integer(0), integer(-5), der(0x02, b"\x7f" * 40)]
)
def test_strange_serial_numbers_are_read(serial: bytes) -> None:
    """The serial number of sscep is the 32 characters of a hexadecimal MD5."""
    own = certificate(rsa_key(), serial=serial)

    read = outer(message(certificates=[own], signer=seq(name("device"), serial)))

    assert own == read.signer.der
    assert ("signer-serial",) == read.oddities


def test_a_signer_may_be_named_by_its_key_identifier() -> None:
    own = certificate(rsa_key(), extensions=[key_id_extension(b"mine")])

    read = outer(message(certificates=[own], signer=der(0x80, b"mine")))

    assert b"mine" == read.signer.certificate_id.key_id
    assert ("signer-by-key-id",) == read.oddities


def test_the_signer_is_found_wherever_it_stands() -> None:
    """A server of jscep takes the first certificate for the signer; whoever adds one must gain nothing by it."""
    own, other = certificate(rsa_key()), certificate(rsa_key(1), serial=integer(8))

    for certificates in ([own, other], [other, own]):
        read = outer(message(certificates=certificates))

        assert own == read.signer.der
        assert ("extra-certificates",) == read.oddities


def test_the_same_certificate_twice_is_one() -> None:
    own = certificate(rsa_key())

    assert own == outer(message(certificates=[own, own])).signer.der
