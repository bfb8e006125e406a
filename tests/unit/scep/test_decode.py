from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from ra.scep.decode import read_inner, read_outer
from ra.scep.errors import (
    BadAlgorithm,
    BadInner,
    BadMessageCheck,
    BadMessageType,
    ScepError,
    TooLarge,
    Unreadable,
)
from ra.scep.header import CertificateId, TransactionId
from ra.scep.keys import Identity
from ra.scep.messages import CertPoll, CertQuery, Enrolment, Outer, Request, Sealing
from ra.scep.names import Cipher, Digest, KeyTransport, Legacy, MessageType
from tests.fakes.messages import (
    CONTENT_TYPE,
    ENVELOPED_DATA,
    MESSAGE_DIGEST,
    MESSAGE_TYPE,
    NULL,
    SENDER_NONCE,
    TRANSACTION_ID,
    Envelope,
    Message,
    SoftKey,
    algorithm,
    attribute,
    certificate,
    challenge,
    csr,
    der,
    ec_key,
    encrypt_blocks,
    integer,
    key_id_extension,
    name,
    oid,
    printable,
    ra_identity,
    rsa_key,
    seq,
    soft_key,
    to_ber,
)

NONE: frozenset[Legacy] = frozenset()
ALL = frozenset(Legacy)
RA = ra_identity()
CSR = csr(rsa_key(), attributes=[challenge()])
ENVELOPE = Envelope(RA, CSR).build()
NONCE = b"0123456789abcdef"
SIGNED_BY_DEVICE = seq(name("device"), integer(7))


def message(**changes: object) -> Message:
    return replace(Message(rsa_key(), ENVELOPE), **changes)  # type: ignore[arg-type]  # passed on as they are


def outer(built: Message | bytes, legacy: frozenset[Legacy] = NONE) -> Outer:
    return read_outer(built if isinstance(built, bytes) else built.build(), legacy)


def inner(built: Message, legacy: frozenset[Legacy] = NONE, identities: Sequence[Identity] = (RA,)) -> Request:
    return read_inner(outer(built, legacy), identities, legacy, os.urandom)


def enrolment(
    envelope: Envelope, legacy: frozenset[Legacy] = NONE, identities: Sequence[Identity] = (RA,)
) -> Enrolment:
    request = inner(message(content=envelope.build()), legacy, identities)
    assert isinstance(request, Enrolment)
    return request


# ------------------------------------------------------------------ read_outer


def test_the_outer_message_is_read() -> None:
    read = outer(message())

    assert MessageType.PKCS_REQ is read.header.message_type
    assert TransactionId(b"4DFA0C") == read.header.transaction_id
    assert NONCE == read.header.sender_nonce
    assert Digest.SHA256 is read.header.digest
    assert (CertificateId(issuer=name("RA"), serial=1, key_id=None),) == read.header.recipients
    assert certificate(rsa_key())[:-256] == read.signer.der[:-256]
    assert CertificateId(issuer=name("device"), serial=7, key_id=None) == read.signer.certificate_id
    assert ENVELOPE == read.envelope
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
        ("no certificate", {"certificates": []}),
        ("another certificate", {"certificates": [certificate(rsa_key(1), serial=integer(8))]}),
        ("two candidates", {"certificates": [certificate(rsa_key()), certificate(rsa_key(1))]}),
        ("nine certificates", {"certificates": [certificate(rsa_key(), serial=integer(i)) for i in range(9)]}),
        ("a broken certificate", {"certificates": [seq(integer(1))]}),
    ],
)
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
def test_a_wrong_signature_is_a_bad_message_check(flaw: str, changes: dict[str, object]) -> None:
    with pytest.raises(BadMessageCheck) as caught:
        outer(message(**changes))

    assert TransactionId(b"4DFA0C") == caught.value.header.transaction_id, flaw
    assert NONCE == caught.value.header.sender_nonce
    assert 1 == len(caught.value.header.recipients)


def test_the_digest_is_checked_when_there_is_no_content() -> None:
    with pytest.raises(BadMessageCheck, match="digest"):
        outer(message(content=None, attributes={MESSAGE_DIGEST: der(0x04, bytes(32))}))


def test_what_is_not_signed_is_not_read() -> None:
    unsigned = der(0xA1, attribute(MESSAGE_TYPE, printable("20")), attribute(TRANSACTION_ID, printable("other")))

    read = outer(message(unsigned=unsigned))

    assert MessageType.PKCS_REQ is read.header.message_type
    assert TransactionId(b"4DFA0C") == read.header.transaction_id


@pytest.mark.parametrize("message_type", ["3", "18", "0", "23", "019", "", "19 ", "PKCSReq", "٣"])
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
    own = certificate(rsa_key()).replace(_spki(rsa_key().public_key()), b"")
    del own
    info = seq(
        der(0xA0, integer(2)), integer(7), algorithm("1.2.3"), name("device"), seq(), name("device"), _spki(huge)
    )

    with pytest.raises(BadAlgorithm, match="beyond"):
        outer(message(certificates=[seq(info, algorithm("1.2.3"), der(0x03, b"\x00"))]))


def _spki(key: rsa.RSAPublicKey) -> bytes:
    from tests.fakes.messages import spki

    return spki(key)


@pytest.mark.parametrize(
    "serial", [der(0x02, b"0123456789abcdef" * 2), integer(0), integer(-5), der(0x02, b"\x7f" * 40)]
)
def test_strange_serial_numbers_are_read(serial: bytes) -> None:
    """sscep takes 32 characters of a hexadecimal MD5 for its serial number."""
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
    """jscep's server takes the first certificate for the signer; whoever adds one must gain nothing by it."""
    own, other = certificate(rsa_key()), certificate(rsa_key(1), serial=integer(8))

    for certificates in ([own, other], [other, own]):
        read = outer(message(certificates=certificates))

        assert own == read.signer.der
        assert ("extra-certificates",) == read.oddities


def test_the_same_certificate_twice_is_one() -> None:
    own = certificate(rsa_key())

    assert own == outer(message(certificates=[own, own])).signer.der


# ------------------------------------------------------------------ quirks of the outer message


@pytest.mark.parametrize("content", [None, b"", b"\x00"])
def test_q01_absent_empty_and_one_byte_content_are_all_no_envelope(content: bytes | None) -> None:
    """OpenXPKI leaves it out, EJBCA sends it empty, NDES sends one byte."""
    read = outer(message(content=content, message_type="20"))

    assert b"" == read.envelope
    assert () == read.header.recipients
    assert () == read.oddities


def test_q02_jscep_sends_ber_in_every_layer() -> None:
    built = message(content=to_ber(ENVELOPE, 100)).build()

    read = outer(to_ber(built, 100))

    assert ENVELOPE == read.envelope
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


def test_q13_unknown_attributes_are_passed_over() -> None:
    more = [
        attribute("1.2.840.113549.1.9.52", seq(algorithm("2.16.840.1.101.3.4.2.1"))),
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


def test_q16_the_signing_time_is_not_judged() -> None:
    signing_time = attribute("1.2.840.113549.1.9.5", der(0x17, b"700101000000Z"))

    assert () == outer(message(more_attributes=[signing_time])).oddities


# ------------------------------------------------------------------ read_inner


def test_an_enrolment_is_opened() -> None:
    request = inner(message())

    assert isinstance(request, Enrolment)
    assert CSR == request.csr.der
    assert "the challenge" == request.csr.challenge_password
    assert Sealing(cipher=Cipher.AES128_CBC, key_transport=KeyTransport.PKCS1_V15) == request.sealing
    assert NONE == request.legacy


@pytest.mark.parametrize("message_type", ["17", "19"])
def test_a_renewal_is_an_enrolment(message_type: str) -> None:
    assert isinstance(inner(message(message_type=message_type)), Enrolment)


@pytest.mark.parametrize("cipher", ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des", "des"])
def test_every_cipher_opens(cipher: str) -> None:
    request = enrolment(Envelope(RA, CSR, cipher=cipher), ALL)

    assert cipher == request.sealing.cipher
    assert frozenset({cipher} if "des" in cipher else set()) == request.legacy


@pytest.mark.parametrize("cipher", ["3des", "des"])
def test_a_legacy_cipher_needs_its_own_word_before_the_key_is_used(cipher: str) -> None:
    identity = ra_identity()

    with pytest.raises(BadAlgorithm, match=cipher):
        enrolment(Envelope(identity, CSR, cipher=cipher), ALL - {Legacy(cipher)}, [identity])

    assert [] == unwrapped(identity)


def unwrapped(identity: Identity) -> list[KeyTransport]:
    assert isinstance(identity.decryptor, SoftKey)
    return identity.decryptor.unwrapped


@pytest.mark.parametrize("transport", list(KeyTransport))
def test_q08_windows_wraps_the_key_with_oaep(transport: KeyTransport) -> None:
    request = enrolment(Envelope(RA, CSR, transport=transport))

    assert transport is request.sealing.key_transport
    assert NONE == request.legacy
    assert (transport is not KeyTransport.PKCS1_V15) == ("oaep" in request.outer.oddities)


SHA256, SHA512 = algorithm("2.16.840.1.101.3.4.2.1"), algorithm("2.16.840.1.101.3.4.2.3")


@pytest.mark.parametrize(
    ("flaw", "transport_name"),
    [
        ("unknown", algorithm("1.2.3")),
        ("two digests", algorithm("1.2.840.113549.1.1.7", seq(der(0xA0, SHA256)))),
        (
            "two digests, both named",
            algorithm(
                "1.2.840.113549.1.1.7", seq(der(0xA0, SHA256), der(0xA1, algorithm("1.2.840.113549.1.1.8", SHA512)))
            ),
        ),
        ("another mask", algorithm("1.2.840.113549.1.1.7", seq(der(0xA1, algorithm("1.2.3", SHA256))))),
        (
            "a label",
            algorithm("1.2.840.113549.1.1.7", seq(der(0xA2, algorithm("1.2.840.113549.1.1.9", der(0x04, b"x"))))),
        ),
        (
            "MD5",
            algorithm(
                "1.2.840.113549.1.1.7",
                seq(
                    der(0xA0, algorithm("1.2.840.113549.2.5")),
                    der(0xA1, algorithm("1.2.840.113549.1.1.8", algorithm("1.2.840.113549.2.5"))),
                ),
            ),
        ),
    ],
)
def test_another_key_transport_is_refused_before_the_key_is_used(flaw: str, transport_name: bytes) -> None:
    identity = ra_identity()

    with pytest.raises(BadAlgorithm):
        enrolment(Envelope(identity, CSR, transport_name=transport_name), NONE, [identity])

    assert [] == unwrapped(identity), flaw


def test_an_empty_label_of_oaep_is_none() -> None:
    label = der(0xA2, algorithm("1.2.840.113549.1.1.9", der(0x04)))
    envelope = Envelope(
        RA, CSR, transport=KeyTransport.OAEP_SHA1, transport_name=algorithm("1.2.840.113549.1.1.7", seq(label))
    )

    assert KeyTransport.OAEP_SHA1 is enrolment(envelope).sealing.key_transport


@pytest.mark.parametrize("dotted", ["2.16.840.1.101.3.4.1.6", "1.2.840.113549.3.2", "1.2.3"])
def test_another_cipher_is_refused_before_the_key_is_used(dotted: str) -> None:
    identity = ra_identity()

    with pytest.raises(BadAlgorithm):
        enrolment(Envelope(identity, CSR, cipher_name=algorithm(dotted, seq())), ALL, [identity])

    assert [] == unwrapped(identity)


OTHER = Identity(
    name="other", decryptor=soft_key(rsa_key(101), subject=name("other"), key_id=b"another"), signer=RA.signer
)
OTHERS = Envelope(OTHER, b"").recipient_info()
KEY_AGREEMENT = der(0xA1, integer(3))


@pytest.mark.parametrize(
    ("before", "after"),
    [([OTHERS], []), ([], [OTHERS]), ([KEY_AGREEMENT], []), ([OTHERS], [KEY_AGREEMENT])],
)
def test_q04_scepclient_seals_to_several_and_ours_is_found(before: list[bytes], after: list[bytes]) -> None:
    identity = ra_identity()

    request = enrolment(Envelope(identity, CSR, others_before=before, others_after=after), NONE, [identity])

    assert CSR == request.csr.der
    assert 1 == len(unwrapped(identity))


def test_q04_a_recipient_may_be_named_by_its_key_identifier() -> None:
    request = enrolment(Envelope(RA, CSR, by_key_id=True))

    assert (CertificateId(issuer=b"", serial=0, key_id=b"ours"),) == request.outer.header.recipients
    assert ("recipient-by-key-id",) == request.outer.oddities


def test_q04_windows_spells_our_issuer_with_other_strings() -> None:
    request = enrolment(Envelope(RA, CSR, issuer=name("ra ", tag=0x13)))

    assert ("issuer-re-encoded",) == request.outer.oddities


def test_the_newest_identity_that_is_addressed_opens() -> None:
    newest, older = ra_identity(serial=2, key_id=b"newest"), ra_identity()
    also_older = Envelope(older, CSR).recipient_info()

    enrolment(Envelope(newest, CSR, others_before=[also_older]), NONE, [newest, older])
    enrolment(Envelope(older, CSR), NONE, [newest, older])

    assert 1 == len(unwrapped(newest))
    assert 1 == len(unwrapped(older))


def failures() -> dict[str, Envelope]:
    """Everything that is found only with the private key, or that must look as if."""
    wrong_padding = encrypt_blocks(
        CSR + bytes(-len(CSR) % 16 + 16), b"0123456789abcdef", b"initial vector!!", "aes128-cbc"
    )
    return {
        "an encrypted key that does not open": Envelope(RA, CSR, encrypted_key=bytes(255) + b"\x01"),
        "an encrypted key that is too long": Envelope(RA, CSR, encrypted_key=b"\x01" * 1000),
        "an empty encrypted key": Envelope(RA, CSR, encrypted_key=b""),
        "a content key of another length": Envelope(RA, CSR, cipher="aes256-cbc", encrypted_key=_wrapped(b"short")),
        "another content key": Envelope(RA, CSR, encrypted_key=_wrapped(bytes(16))),
        "wrong padding": Envelope(RA, CSR, ciphertext=wrong_padding),
        "no ciphertext": Envelope(RA, CSR, ciphertext=b""),
        "half a block": Envelope(RA, CSR, ciphertext=bytes(24)),
        "no CSR": Envelope(RA, b"garbage"),
        "nothing": Envelope(RA, b""),
        "bytes after the CSR": Envelope(RA, CSR + b"\x00"),
        "a CSR whose signature is wrong": Envelope(RA, csr(rsa_key(), signature=bytes(256))),
        "a CSR whose key is refused": Envelope(RA, csr(rsa_key(), signature_name=algorithm("1.2.3"))),
        "a CSR with two challenges": Envelope(RA, csr(rsa_key(), attributes=[challenge(), challenge("x")])),
        "another recipient": Envelope(OTHER, CSR),
        "one recipient twice": Envelope(RA, CSR, others_after=[Envelope(RA, CSR).recipient_info()]),
        "seventeen recipients": Envelope(RA, CSR, others_after=[OTHERS] * 16),
        "a broken recipient": Envelope(RA, CSR, others_after=[seq()]),
        "an IV of another length": Envelope(RA, CSR, cipher_name=algorithm("2.16.840.1.101.3.4.1.2", der(4, bytes(8)))),
        "no IV": Envelope(RA, CSR, cipher_name=algorithm("2.16.840.1.101.3.4.1.2")),
    }


def _wrapped(key: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import padding

    public = rsa_key(100).public_key()
    return public.encrypt(key, padding.PKCS1v15())


@pytest.mark.parametrize("failure", list(failures()))
def test_whatever_fails_inside_is_one_and_the_same(failure: str) -> None:
    with pytest.raises(BadInner) as caught:
        enrolment(failures()[failure])

    assert BadInner is type(caught.value)
    assert TransactionId(b"4DFA0C") == caught.value.header.transaction_id


@pytest.mark.parametrize("content", [None, b"", b"garbage", CSR, seq(oid(ENVELOPED_DATA), der(0xA0, seq()))])
def test_a_request_without_an_envelope_is_refused(content: bytes | None) -> None:
    with pytest.raises(BadInner):
        inner(message(content=content))


class StubbornKey(SoftKey):
    """Never opens anything, as an HSM does that reports bad padding."""

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        self.unwrapped.append(transport)
        raise ValueError("bad padding")


@pytest.mark.parametrize("wrapped", [None, bytes(256)])
def test_a_random_key_is_drawn_before_and_used_when_the_key_does_not_open(wrapped: bytes | None) -> None:
    """RFC 3218 §2.3.2: with a substitute that happens to be the right key, even this message opens."""
    own = soft_key(rsa_key(100), subject=name("RA"))
    stubborn = StubbornKey(own.key, own.certificate, own.certificate_id)
    identity = Identity(name="ra", decryptor=stubborn, signer=own)
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        assert [] == stubborn.unwrapped
        return Envelope.content_key()[:count]

    request = read_inner(
        outer(message(content=Envelope(RA, CSR, encrypted_key=wrapped).build())), [identity], NONE, entropy
    )

    assert isinstance(request, Enrolment)
    assert [16] == drawn
    assert 1 == len(stubborn.unwrapped)


@pytest.mark.parametrize("message_type", ["17", "19", "21", "22"])
def test_q15_nothing_can_be_sealed_to_an_ec_key(message_type: str) -> None:
    identity = ra_identity()

    with pytest.raises(BadAlgorithm, match="not RSA"):
        inner(message(key=ec_key(), message_type=message_type), NONE, [identity])

    assert [] == unwrapped(identity)


def test_nothing_can_be_sealed_to_a_tiny_key() -> None:
    with pytest.raises(BadAlgorithm, match="768"):
        inner(message(key=rsa_key(0, 768)))


@pytest.mark.parametrize("key", [rsa_key(), ec_key()], ids=["rsa", "ec"])
def test_a_poll_is_not_decrypted(key: rsa.RSAPrivateKey) -> None:
    identity = ra_identity()

    request = inner(message(key=key, message_type="20"), NONE, [identity])

    assert isinstance(request, CertPoll)
    assert Sealing(cipher=Cipher.AES128_CBC, key_transport=KeyTransport.PKCS1_V15) == request.sealing
    assert [] == unwrapped(identity)


@pytest.mark.parametrize("content", [None, b"garbage", Envelope(RA, CSR, cipher="des").build()])
def test_a_poll_is_answered_whatever_is_in_it(content: bytes | None) -> None:
    request = inner(message(content=content, message_type="20"))

    assert isinstance(request, CertPoll)
    assert request.sealing is None


@pytest.mark.parametrize("message_type", ["21", "22"])
def test_a_question_for_a_certificate_or_crl_is_read(message_type: str) -> None:
    question = seq(name("CA"), integer(0x1234))

    request = inner(message(message_type=message_type, content=Envelope(RA, question).build()))

    assert isinstance(request, CertQuery)
    assert (name("CA"), 0x1234) == (request.issuer, request.serial)


def test_bytes_after_a_question_are_refused() -> None:
    with pytest.raises(BadInner):
        inner(message(message_type="21", content=Envelope(RA, seq(name("CA"), integer(1)) + b"\x00").build()))


# ------------------------------------------------------------------ hostile bytes

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
