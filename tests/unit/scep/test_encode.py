"""Replies are opened with the client's codec, which shares no code with the one that writes them."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ra.client import replies
from ra.client.bags import read_bag
from ra.client.requests import Request
from ra.client.signed import Signer, read_signed, verify_signed
from ra.scep.encode import certs_only, crl_only, next_ca_response, write_reply
from ra.scep.errors import AlgorithmRefused
from ra.scep.header import CertificateId, Header, TransactionId
from ra.scep.keys import Identity
from ra.scep.messages import CrlDelivery, Deferral, Issuance, Refusal, Reply, Sealing, SignerCertificate
from ra.scep.names import Cipher, Digest, FailInfo, KeyTransport, Legacy, MessageType
from tests.fakes.messages import (
    certificate,
    der,
    ec_key,
    integer,
    key_padding,
    name,
    oid,
    ra_identity,
    rsa_key,
    soft_key,
    spki,
    transport_algorithm,
)

NONE: frozenset[Legacy] = frozenset()
ALL = frozenset(Legacy)
RA = ra_identity()
RA_CERTIFICATE = x509.load_der_x509_certificate(RA.signer.certificate)
DEVICE = certificate(rsa_key())
ISSUED = certificate(rsa_key(), subject=name("issued"), serial=integer(2))
CHAIN = certificate(rsa_key(100), subject=name("a"), serial=integer(3))
NONCE = b"0123456789abcdef"


def header(digest: Digest = Digest.SHA256, nonce: bytes = NONCE, tag: int = 0x13) -> Header:
    return Header(
        message_type=MessageType.PKCS_REQ,
        transaction_id=TransactionId(b"4DFA0C", tag),
        sender_nonce=nonce,
        digest=digest,
    )


def recipient(key: rsa.RSAPrivateKey | None = None) -> SignerCertificate:
    public = (key or rsa_key()).public_key()
    return SignerCertificate(
        der=DEVICE,
        certificate_id=CertificateId(issuer=name("device"), serial=7, key_id=None),
        subject=name("device"),
        spki=spki(public),
        public_key=public,
    )


def written(
    reply: Reply,
    to: Header | None = None,
    *,
    sealing: Sealing | None = None,
    legacy: frozenset[Legacy] = NONE,
    identity: Identity = RA,
    key: rsa.RSAPrivateKey | None = None,
) -> bytes:
    return write_reply(
        reply, to or header(), identity, os.urandom, recipient=recipient(key), sealing=sealing, legacy=legacy
    )


def opened(message: bytes, nonce: bytes = NONCE, signer: x509.Certificate = RA_CERTIFICATE) -> replies.Reply:
    own = Signer(certificate=x509.load_der_x509_certificate(DEVICE), key=rsa_key())
    request = Request(message=b"", transaction_id="4DFA0C", sender_nonce=nonce, signer=own)
    return replies.open_reply(message, request, [signer])


def success(message: bytes) -> replies.Success:
    result = opened(message).result
    assert isinstance(result, replies.Success)
    return result


def ders(certificates: tuple[x509.Certificate, ...]) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in certificates]


@pytest.mark.rfc8894("signer-certificate-enclosed")
def test_a_certificate_is_delivered() -> None:
    result = success(written(Issuance(certificates=(ISSUED,))))

    assert [ISSUED] == ders(result.certificates)
    assert ("aes128-cbc", "rsaes-pkcs1-v1_5") == (result.cipher, result.key_transport)


@pytest.mark.rfc8894("issued-is-leaf")
def test_q07_the_leaf_comes_first_whatever_its_length() -> None:
    """Apple pairs its key with the first certificate; as a SET OF the shorter one would come first."""
    assert len(CHAIN) < len(ISSUED)

    result = success(written(Issuance(certificates=(ISSUED, CHAIN))))

    assert [ISSUED, CHAIN] == ders(result.certificates)


@pytest.mark.rfc8894("crl-in-crls", "crl-alone")
def test_a_crl_is_delivered_alone() -> None:
    crl = a_crl()

    result = success(written(CrlDelivery(crl=crl)))

    assert () == result.certificates
    assert result.crl is not None
    assert crl == result.crl.public_bytes(Encoding.DER)


def a_crl() -> bytes:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateRevocationListBuilder(RA_CERTIFICATE.subject, now, now)
    return builder.sign(rsa_key(100), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("fail_info", list(FailInfo))
@pytest.mark.rfc8894("attributes-of-a-reply", "failure-says-why")
def test_a_refusal_says_why(fail_info: FailInfo) -> None:
    result = opened(written(Refusal(fail_info=fail_info, text="grün"))).result

    assert isinstance(result, replies.Failure)
    assert (fail_info.value, "grün") == (result.fail_info.value, result.text)


def test_a_refusal_may_say_nothing() -> None:
    result = opened(written(Refusal(fail_info=FailInfo.BAD_REQUEST))).result

    assert isinstance(result, replies.Failure)
    assert "" == result.text


@pytest.mark.rfc8894("pending-is-empty")
def test_a_deferral_says_pending() -> None:
    assert isinstance(opened(written(Deferral())).result, replies.Pending)


@pytest.mark.parametrize("reply", [Deferral(), Refusal(fail_info=FailInfo.BAD_REQUEST)])
@pytest.mark.rfc8894("no-data-no-envelope", "failure-says-why", "pending-is-empty")
def test_q01_certmonger_reads_no_reply_without_content(reply: Reply) -> None:
    signed = cms.ContentInfo.load(written(reply))["content"]

    assert bytes.fromhex("a0020400") == signed["encap_content_info"]["content"].dump()


def test_refusals_have_one_length() -> None:
    first, second = (written(Refusal(fail_info=each)) for each in (FailInfo.BAD_REQUEST, FailInfo.BAD_REQUEST))

    assert len(first) == len(second)
    assert first != second


@pytest.mark.parametrize("reply", [Deferral(), Refusal(fail_info=FailInfo.BAD_ALG), Issuance(certificates=(ISSUED,))])
def test_q06_strongswan_wants_the_ra_certificate_enclosed(reply: Reply) -> None:
    signed = cms.ContentInfo.load(written(reply))["content"]

    assert [RA.signer.certificate] == [each.dump() for each in signed["certificates"]]


@pytest.mark.parametrize("transport", list(KeyTransport))
@pytest.mark.rfc8894("rsa-key-transport")
def test_q08_the_key_transport_is_mirrored(transport: KeyTransport) -> None:
    sealing = Sealing(cipher=Cipher.AES256_CBC, key_transport=transport)

    message = written(Issuance(certificates=(ISSUED,)), sealing=sealing)

    content = cms.ContentInfo.load(message)["content"]["encap_content_info"]["content"].native
    recipient_info = cms.ContentInfo.load(content)["content"]["recipient_infos"][0].chosen
    wrapped = recipient_info["encrypted_key"].native
    assert 32 == len(rsa_key().decrypt(wrapped, key_padding(transport)))
    assert transport_algorithm(transport) == recipient_info["key_encryption_algorithm"].dump()


@pytest.mark.parametrize(
    ("cipher", "legacy", "expected"),
    [
        (Cipher.AES128_CBC, NONE, Cipher.AES128_CBC),
        (Cipher.AES192_CBC, NONE, Cipher.AES192_CBC),
        (Cipher.AES256_CBC, ALL, Cipher.AES256_CBC),
        (Cipher.DES3_CBC, ALL, Cipher.DES3_CBC),
        (Cipher.DES_CBC, ALL, Cipher.DES3_CBC),
        (Cipher.DES_CBC, frozenset({Legacy.DES}), Cipher.AES128_CBC),
    ],
)
@pytest.mark.rfc8894("mandatory-algorithms", "usual-algorithms")
def test_q09_the_cipher_is_mirrored(cipher: Cipher, legacy: frozenset[Legacy], expected: Cipher) -> None:
    sealing = Sealing(cipher=cipher, key_transport=KeyTransport.PKCS1_V15)

    result = success(written(Issuance(certificates=(ISSUED,)), sealing=sealing, legacy=legacy))

    assert expected.value == result.cipher.value
    assert [ISSUED] == ders(result.certificates)


@pytest.mark.parametrize(
    ("digest", "legacy", "expected"),
    [
        (Digest.SHA256, NONE, Digest.SHA256),
        (Digest.SHA384, NONE, Digest.SHA384),
        (Digest.SHA512, ALL, Digest.SHA512),
        (Digest.SHA1, ALL, Digest.SHA1),
        (Digest.SHA1, NONE, Digest.SHA256),
        (Digest.MD5, ALL, Digest.SHA1),
        (Digest.MD5, frozenset({Legacy.MD5}), Digest.SHA256),
    ],
)
@pytest.mark.rfc8894("usual-algorithms")
def test_q09_the_digest_is_mirrored(digest: Digest, legacy: frozenset[Legacy], expected: Digest) -> None:
    assert expected.value == opened(written(Deferral(), header(digest), legacy=legacy)).digest.value


@pytest.mark.parametrize(
    ("nonce", "own_bytes"), [(b"", 16), (b"8 bytes!", 8), (NONCE, 16), (b"odd", 16), (bytes(64), 16)]
)
@pytest.mark.rfc8894("nonce-is-copied")
def test_q11_the_nonce_is_echoed_and_ours_is_as_long_as_ios_expects(nonce: bytes, own_bytes: int) -> None:
    reply = opened(written(Deferral(), header(nonce=nonce)), nonce)

    assert own_bytes == len(reply.sender_nonce)


@pytest.mark.rfc8894("same-transaction-id")
def test_q12_the_transaction_id_is_echoed_with_its_tag() -> None:
    message = written(Deferral(), header(tag=0x0C))

    assert der(0x31, der(0x0C, b"4DFA0C")) in message


@pytest.mark.parametrize("digest", [Digest.SHA256, Digest.SHA384, Digest.SHA512])
def test_an_ec_key_signs(digest: Digest) -> None:
    signer = soft_key(ec_key(), subject=name("EC RA"))
    identity = Identity(name="ec", decryptor=RA.decryptor, signer=signer)

    message = written(Deferral(), header(digest), identity=identity)

    assert digest.value == opened(message, signer=x509.load_der_x509_certificate(signer.certificate)).digest.value


def test_the_oldest_way_is_taken_where_oaep_has_no_room() -> None:
    small = rsa_key(0, 1024)
    sealing = Sealing(cipher=Cipher.AES256_CBC, key_transport=KeyTransport.OAEP_SHA512)

    message = written(Issuance(certificates=(ISSUED,)), sealing=sealing, key=small)

    own = Signer(certificate=x509.load_der_x509_certificate(certificate(small)), key=small)
    request = Request(message=b"", transaction_id="4DFA0C", sender_nonce=NONCE, signer=own)
    result = replies.open_reply(message, request, [RA_CERTIFICATE]).result
    assert isinstance(result, replies.Success)
    assert "rsaes-pkcs1-v1_5" == result.key_transport


def test_nothing_is_issued_without_somebody_to_seal_it_to() -> None:
    with pytest.raises(AlgorithmRefused):
        write_reply(Issuance(certificates=(ISSUED,)), header(), RA, os.urandom, legacy=NONE)


def test_q05_certificates_stay_in_the_order_given() -> None:
    for order in ([ISSUED, CHAIN], [CHAIN, ISSUED]):
        assert order == ders(read_bag(certs_only(order), "it").certificates)


@pytest.mark.rfc8894("degenerate-content")
def test_the_content_of_a_degenerate_message_is_omitted() -> None:
    """RFC 8894 §3.4: the content "MUST be omitted"."""
    signed = cms.ContentInfo.load(certs_only([ISSUED]))["content"]

    assert oid("1.2.840.113549.1.7.1") == signed["encap_content_info"].contents
    assert 0 == len(signed["signer_infos"])


def test_a_crl_goes_in_a_degenerate_message() -> None:
    crl = a_crl()

    bag = read_bag(crl_only(crl), "it")

    assert [crl] == [each.public_bytes(Encoding.DER) for each in bag.crls]


@pytest.mark.parametrize("transport", list(KeyTransport))
def test_a_key_that_nothing_can_be_encrypted_to_is_an_algorithm_refused(transport: KeyTransport) -> None:
    even = rsa.RSAPublicNumbers(65537, 2**2047 + 2).public_key()
    sealing = Sealing(cipher=Cipher.AES128_CBC, key_transport=transport)
    to = replace(recipient(), public_key=even)

    with pytest.raises(AlgorithmRefused, match="encrypted"):
        write_reply(
            Issuance(certificates=(ISSUED,)), header(), RA, os.urandom, recipient=to, sealing=sealing, legacy=NONE
        )


@pytest.mark.rfc8894("next-ca-signed")
def test_the_next_ca_certificates_are_signed() -> None:
    signed = read_signed(next_ca_response([ISSUED, CHAIN], RA.signer), "it")

    assert RA_CERTIFICATE == verify_signed(signed, [RA_CERTIFICATE])
    assert [ISSUED, CHAIN] == ders(read_bag(signed.content, "it").certificates)
