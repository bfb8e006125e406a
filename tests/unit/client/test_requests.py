from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path

import pytest
from asn1crypto import cms, core
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ra.client.algorithms import Algorithms, digest
from ra.client.csr import spki
from ra.client.enveloped import unseal
from ra.client.errors import BadArgument
from ra.client.identifiers import issuer_and_serial, issuer_and_subject
from ra.client.names import Cipher, Digest, KeyTransport, MessageType
from ra.client.requests import key_transaction_id, write_request
from ra.client.signed import Signer, read_signed, verify_signed
from tests import peers
from tests.fakes.device import Device, pooled_key
from tests.fakes.scep_server import Authority, ScepServer

SERVER = ScepServer()
CA = SERVER.ca_certificates
EVERY_ALGORITHM = [
    Algorithms(digest=each[0], cipher=each[1], key_transport=each[2]) for each in product(Digest, Cipher, KeyTransport)
]
# OpenSSL 3 reads single DES and MD5 with its legacy provider only, which is not always installed.
OPENSSL_READS = [
    each for each in EVERY_ALGORITHM if each.cipher is not Cipher.DES_CBC and each.digest is not Digest.MD5
]


def spelled(algorithm: Algorithms) -> str:
    return f"{algorithm.digest}+{algorithm.cipher}+{algorithm.key_transport}"


@pytest.mark.parametrize("algorithm", EVERY_ALGORITHM, ids=spelled)
def test_what_is_written_with_any_algorithm_is_read_back(algorithm: Algorithms) -> None:
    device = Device(algorithms=algorithm)

    signed = read_signed(device.message(CA, MessageType.PKCS_REQ, b"content"), "The request")

    verify_signed(signed, [device.signer.certificate])
    opened = unseal(signed.content, SERVER.ra)
    assert algorithm.digest is signed.digest
    assert (b"content", algorithm.cipher) == (opened.content, opened.cipher)
    assert algorithm.key_transport is opened.key_transport


@given(
    content=st.binary(max_size=300), transaction_id=st.text("abcXYZ019-=+/", min_size=1), message_type=st.text("0129")
)
@settings(deadline=None, max_examples=50)
def test_asn1crypto_reads_back_what_was_written(content: bytes, transaction_id: str, message_type: str) -> None:
    message = Device().message(CA, message_type, content, transaction_id=transaction_id, sender_nonce=b"8 octets")

    signer = cms.ContentInfo.load(message, strict=True)["content"]["signer_infos"][0]
    attributes = {each["type"].dotted: each["values"][0].native for each in signer["signed_attrs"]}
    assert message_type == attributes["2.16.840.1.113733.1.9.2"]
    assert transaction_id == attributes["2.16.840.1.113733.1.9.7"]
    assert b"8 octets" == attributes["2.16.840.1.113733.1.9.5"]
    assert content == SERVER.receive(message).content


def test_the_attributes_of_scep_are_of_the_types_the_rfc_asks_for() -> None:
    message = Device().enrol_message(CA, challenge="secret")

    signer = cms.ContentInfo.load(message)["content"]["signer_infos"][0]
    types = {
        each["type"].dotted: each["values"][0].parse()
        for each in signer["signed_attrs"]
        if "113733" in each["type"].dotted
    }
    assert isinstance(types["2.16.840.1.113733.1.9.2"], core.PrintableString)
    assert isinstance(types["2.16.840.1.113733.1.9.7"], core.PrintableString)
    assert isinstance(types["2.16.840.1.113733.1.9.5"], core.OctetString)


def test_a_message_can_be_sealed_to_several_recipients() -> None:
    other = Signer(key=pooled_key(3), certificate=Authority.root("Other", pooled_key(3)).certificate)
    message = Device().message(
        CA, MessageType.PKCS_REQ, b"content", recipients=[other.certificate, SERVER.ra.certificate]
    )

    envelope = read_signed(message, "The request").content

    assert [b"content", b"content"] == [unseal(envelope, each).content for each in (other, SERVER.ra)]


def test_the_nonce_is_fresh_unless_given_and_absent_when_empty() -> None:
    device = Device()

    messages = [device.enrol_message(CA, sender_nonce=each) for each in (None, None, b"")]

    nonces = [SERVER.receive(message).sender_nonce for message in messages]

    assert 16 == len(nonces[0]) == len(nonces[1])
    assert nonces[0] != nonces[1]
    assert b"" == nonces[2]


def test_all_randomness_is_taken_from_entropy() -> None:
    device = Device()

    requests = [
        write_request(
            MessageType.PKCS_REQ,
            b"content",
            signer=device.signer,
            recipients=[SERVER.ra.certificate],
            transaction_id="1",
            algorithm=Algorithms(digest=Digest.SHA512),
            entropy=lambda count: b"\x07" * count,
        )
        for _ in range(2)
    ]

    opened = [SERVER.receive(request.message) for request in requests]
    assert opened[0] == opened[1]
    assert opened[0].sender_nonce == b"\x07" * 16


def test_the_transaction_id_of_an_enrolment_is_the_hash_of_the_public_key() -> None:
    key = pooled_key(0)

    assert digest(spki(key), Digest.SHA256).hex() == key_transaction_id(key)


def test_the_contents_of_queries_are_sequences_of_issuer_and_what_is_asked_for() -> None:
    by_serial = core.SequenceOf.load(issuer_and_serial(CA.issuer, 4711), spec=core.Any)
    by_subject = core.SequenceOf.load(issuer_and_subject(CA.issuer, CA.issuer.subject), spec=core.Any)

    issuer = CA.issuer.subject.public_bytes()
    assert [issuer, core.Integer(4711).dump()] == [each.dump() for each in by_serial]
    assert [issuer, issuer] == [each.dump() for each in by_subject]


def test_a_message_cannot_be_sealed_to_a_key_that_is_not_rsa() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = SERVER.issuer.issue(CA.issuer.subject, key.public_key())

    with pytest.raises(BadArgument, match="RSA key only"):
        Device().message(CA, MessageType.PKCS_REQ, b"content", recipients=[certificate])


@pytest.mark.peer
@pytest.mark.parametrize("algorithm", OPENSSL_READS, ids=spelled)
def test_openssl_verifies_and_decrypts_what_is_written(algorithm: Algorithms, tmp_path: Path) -> None:
    openssl = peers.require("openssl")
    (tmp_path / "message.der").write_bytes(Device(algorithms=algorithm).message(CA, MessageType.PKCS_REQ, b"content"))
    (tmp_path / "ra.pem").write_bytes(SERVER.ra.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "ra.key").write_bytes(SERVER.ra_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    verify = [openssl, "cms", "-verify", "-noverify", "-binary", "-inform", "DER", "-in", "message.der"]
    subprocess.run([*verify, "-out", "envelope.der"], cwd=tmp_path, check=True, capture_output=True)
    decrypt = [openssl, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", "envelope.der"]
    done = subprocess.run(
        [*decrypt, "-recip", "ra.pem", "-inkey", "ra.key"], cwd=tmp_path, check=True, capture_output=True
    )

    assert b"content" == done.stdout
