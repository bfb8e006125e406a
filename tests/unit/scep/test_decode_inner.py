from __future__ import annotations

import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ra.scep.decode import read_inner
from ra.scep.errors import (
    BadAlgorithm,
    BadInner,
    BadMessageType,
    SignerCannotReceive,
)
from ra.scep.header import CertificateId, TransactionId
from ra.scep.keys import Identity
from ra.scep.messages import CertPoll, CertQuery, Enrolment, Sealing
from ra.scep.names import Cipher, KeyTransport, Legacy
from tests.fakes.decoding import ALL, CSR, NONE, RA, enrolment, inner, message, outer, unwrapped
from tests.fakes.messages import (
    CONTENT_KEY,
    ENVELOPED_DATA,
    SIGNED_DATA,
    Envelope,
    SoftKey,
    algorithm,
    challenge,
    csr,
    der,
    ec_key,
    encrypt_blocks,
    integer,
    name,
    oid,
    ra_identity,
    rsa_key,
    seq,
    soft_key,
)


def test_an_enrolment_is_opened() -> None:
    request = inner(message())

    assert isinstance(request, Enrolment)
    assert CSR == request.csr.der
    assert "the challenge" == request.csr.challenge_password
    assert "the challenge" not in repr(request)
    assert Sealing(cipher=Cipher.AES128_CBC, key_transport=KeyTransport.PKCS1_V15) == request.sealing
    assert NONE == request.legacy


@pytest.mark.parametrize("message_type", ["17", "19"])
def test_a_renewal_is_an_enrolment(message_type: str) -> None:
    assert isinstance(inner(message(message_type=message_type)), Enrolment)


@pytest.mark.parametrize("cipher", ["aes128-cbc", "aes192-cbc", "aes256-cbc", "3des", "des"])
@pytest.mark.rfc8894("mandatory-algorithms")
def test_every_cipher_opens(cipher: str) -> None:
    request = enrolment(Envelope(RA, CSR, cipher=cipher), ALL)

    assert cipher == request.sealing.cipher
    assert frozenset({cipher} if "des" in cipher else set()) == request.legacy


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_a_legacy_signature_of_the_csr_counts(digest: str) -> None:
    request = enrolment(Envelope(RA, csr(rsa_key(), digest=digest), cipher="3des"), ALL)

    assert {Legacy.DES3, Legacy(digest)} == request.legacy


@pytest.mark.parametrize("cipher", ["3des", "des"])
def test_a_legacy_cipher_needs_its_own_word_before_the_key_is_used(cipher: str) -> None:
    identity = ra_identity()

    with pytest.raises(BadAlgorithm, match=cipher):
        enrolment(Envelope(identity, CSR, cipher=cipher), ALL - {Legacy(cipher)}, [identity])

    assert [] == unwrapped(identity)


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


@pytest.mark.rfc8894("rollover-recipient")
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
        "content of another type": Envelope(RA, CSR, content_type=SIGNED_DATA),
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
    return rsa_key(100).public_key().encrypt(key, padding.PKCS1v15())


@pytest.mark.parametrize("failure", list(failures()))
@pytest.mark.rfc8894("envelope-holds-data", "envelope-matches-type")
def test_whatever_fails_inside_is_one_and_the_same(failure: str) -> None:
    with pytest.raises(BadInner) as caught:
        enrolment(failures()[failure])

    assert BadInner is type(caught.value)
    assert TransactionId(b"4DFA0C") == caught.value.header.transaction_id


@pytest.mark.parametrize("content", [None, b"", b"garbage", CSR, seq(oid(ENVELOPED_DATA), der(0xA0, seq()))])
@pytest.mark.rfc8894("never-unenveloped", "content-matches-type")
def test_a_request_without_an_envelope_is_refused(content: bytes | None) -> None:
    with pytest.raises(BadInner):
        inner(message(content=content))


class StubbornKey(SoftKey):
    """Never opens anything, as an HSM does that reports bad padding."""

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:  # noqa: ARG002 - the contract's
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
        return CONTENT_KEY[:count]

    request = read_inner(
        outer(message(content=Envelope(RA, CSR, encrypted_key=wrapped).build())), [identity], NONE, entropy
    )

    assert isinstance(request, Enrolment)
    assert [16] == drawn
    assert 1 == len(stubborn.unwrapped)


@pytest.mark.parametrize("message_type", ["17", "19", "21", "22"])
def test_q15_nothing_can_be_sealed_to_the_ec_key_of_sscep(message_type: str) -> None:
    identity = ra_identity()

    with pytest.raises(SignerCannotReceive, match="not RSA"):
        inner(message(key=ec_key(), message_type=message_type), NONE, [identity])

    assert [] == unwrapped(identity)


def test_nothing_can_be_sealed_to_a_tiny_key() -> None:
    read = outer(message())
    tiny = rsa.RSAPublicNumbers(65537, 2**768 - 1).public_key()

    with pytest.raises(SignerCannotReceive, match="768"):
        read_inner(replace(read, signer=replace(read.signer, public_key=tiny)), [RA], NONE, os.urandom)


@pytest.mark.parametrize("key", [rsa_key(), ec_key()], ids=["rsa", "ec"])
@pytest.mark.rfc8894("poll-by-transaction")
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


def test_a_type_that_nobody_reads_is_refused() -> None:
    read = outer(message())

    with pytest.raises(BadMessageType):
        read_inner(replace(read, header=replace(read.header, message_type=None)), [RA], NONE, os.urandom)
