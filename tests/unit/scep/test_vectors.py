"""Messages that nobody here wrote: a recorded Apple device, Gutmann's sample transaction, OpenSSL's fuzzing seeds."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from ra.scep import ber
from ra.scep.decode import read_inner, read_outer
from ra.scep.enveloped import open_envelope, read_envelope
from ra.scep.errors import BadAlgorithm, BadInner, BadMessageType, Malformed, ScepError
from ra.scep.explain import explain
from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.scep.messages import Enrolment
from ra.scep.names import Cipher, Digest, Legacy, MessageType
from ra.scep.signed import read_signed
from ra.scep.x509 import certificate_id, read_certificate
from tests.fakes.decoding import message
from tests.fakes.messages import CONTENT_KEY, SoftKey, ra_identity
from tests.fakes.messages import Envelope as EnvelopeBuilder
from tests.vectors.files import large_vector, vector

ALL = frozenset(Legacy)


def apple_ca() -> Identity:
    own = x509.load_pem_x509_certificate(vector("apple-pkcsreq/ca.crt")).public_bytes(Encoding.DER)
    key = load_der_private_key(vector("apple-pkcsreq/ca.key.der"), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    both = SoftKey(key, own, certificate_id(read_certificate(own)))
    return Identity(name="ca", decryptor=both, signer=both)


def test_the_message_of_an_apple_device_opens() -> None:
    outer = read_outer(vector("apple-pkcsreq/PKCSReq.der"), ALL)
    request = read_inner(outer, [apple_ca()], ALL, os.urandom)

    assert isinstance(request, Enrolment)
    assert MessageType.PKCS_REQ is outer.header.message_type
    assert bytes.fromhex("ae7fe8816cc6bedd") == outer.header.sender_nonce
    assert (Digest.SHA1, Cipher.DES3_CBC) == (outer.header.digest, request.sealing.cipher)
    assert ("nonce-8",) == outer.oddities
    assert ("csr-version-2",) == request.csr.oddities
    assert request.csr.challenge_password is None
    assert request.csr.subject[0][0].value.startswith("com.apple.security.scep.")
    assert {Legacy.SHA1} == outer.legacy
    assert {Legacy.DES3, Legacy.SHA1} == request.legacy


def test_gutmanns_request_verifies() -> None:
    outer = read_outer(vector("gutmann-samples/scep_req2.der"), frozenset())

    assert b"7XXEY-ERLPU-2JDR9" == outer.header.transaction_id.value
    assert outer.envelope is not None
    assert read_envelope(vector("gutmann-samples/scep_req1.der")).ciphertext == outer.envelope.ciphertext
    assert 1 == len(outer.header.recipients)


def test_gutmanns_reply_is_no_request_but_verifies() -> None:
    with pytest.raises(BadMessageType):
        read_outer(vector("gutmann-samples/scep_resp2.der"), frozenset())

    assert "reply-without-nonce" in rendered("gutmann-samples/scep_resp2.der")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scep_req0", "PKCS #10 request"),
        ("scep_req1", "envelope"),
        ("scep_req2", "pkiMessage"),
        ("scep_resp0", "degenerate SignedData"),
        ("scep_resp1", "envelope"),
        ("scep_resp2", "pkiMessage"),
    ],
)
def test_gutmanns_samples_are_explained(name: str, said: str) -> None:
    explanation = explain(vector(f"gutmann-samples/{name}.der"))

    assert said == explanation.label


def test_a_challenge_is_never_shown() -> None:
    """The sample's challenge is published: NQ3C6-GS3ZN-2XPGL-SEJTQ."""
    text = rendered("gutmann-samples/scep_req0.der")

    assert "NQ3C6" not in text
    assert "23 characters: upper case, digits, others" in text


def rendered(name: str) -> str:
    return repr(explain(vector(name)))


def test_the_apple_message_is_explained_with_the_key() -> None:
    text = repr(explain(vector("apple-pkcsreq/PKCSReq.der"), [apple_ca()]))

    for said in ("PKCSReq", "nonce-8", "csr-version-2", "com.apple.security.scep", "3des", "verifies"):
        assert said in text


def corpus() -> Iterator[bytes]:
    with tarfile.open(large_vector("openssl-cms-corpus/cms.tar.gz")) as archive:
        for member in archive:
            extracted = archive.extractfile(member)
            if extracted is not None:
                yield extracted.read()


def test_the_seeds_of_openssl_raise_nothing_but_the_codecs_own() -> None:
    seen = readable = 0
    for seed in corpus():
        seen += 1
        try:
            assert len(ber.normalise(seed)) <= len(seed)
            readable += 1
        except Malformed:
            pass
        for reader in (lambda data: read_outer(data, ALL), read_signed, read_envelope, explain):
            with suppress(ScepError):
                reader(seed)

    assert 1300 < seen
    assert 400 < readable


SEEDS = [
    vector("apple-pkcsreq/PKCSReq.der"),
    vector("gutmann-samples/scep_req0.der"),
    vector("gutmann-samples/scep_req2.der"),
    vector("gutmann-samples/scep_resp0.der"),
    vector("gutmann-samples/scep_resp2.der"),
]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_mutated_messages_raise_nothing_but_the_codecs_own(seed: bytes, changes: list[tuple[int, int]]) -> None:
    changed = bytearray(seed)
    for position, value in changes:
        changed[position % len(changed)] = value

    for reader in (explain, lambda data: read_outer(data, ALL)):
        with suppress(ScepError):
            reader(bytes(changed))


ENVELOPE = read_signed(vector("apple-pkcsreq/PKCSReq.der")).content
APPLE_CA = apple_ca()


@given(st.lists(st.tuples(st.integers(0, len(ENVELOPE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_mutated_envelopes_of_the_apple_device_raise_nothing_but_the_codecs_own(changes: list[tuple[int, int]]) -> None:
    """Signed anew, so that the private key is reached."""
    changed = bytearray(ENVELOPE)
    for position, value in changes:
        changed[position] = value
    outer = read_outer(message(content=bytes(changed)).build(), ALL)

    with suppress(BadInner, BadAlgorithm):
        request = read_inner(outer, [APPLE_CA], ALL, bytes)

        assert isinstance(request, Enrolment)


CONTENT = b"the content of an envelope"
AES = {16: "aes128-cbc", 24: "aes192-cbc", 32: "aes256-cbc"}


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_a_vector_of_wycheproof_opens_or_fails_like_all_the_others(bits: int) -> None:
    """Right or wrong padding, right or wrong length: nothing shows but that the content opens with the right key."""
    for group in json.loads(large_vector(f"wycheproof/rsa_pkcs1_{bits}_test.json").read_bytes())["testGroups"]:
        key = load_der_private_key(bytes.fromhex(group["privateKeyPkcs8"]), None, unsafe_skip_rsa_key_validation=True)
        assert isinstance(key, rsa.RSAPrivateKey)
        decryptor = SoftKey(key, b"", CertificateId(issuer=b"", serial=0, key_id=None))
        for test in group["tests"]:
            message, wrapped = bytes.fromhex(test["msg"]), bytes.fromhex(test["ct"])
            right = test["result"] == "valid" and len(message) in AES

            opened = open_with(decryptor, wrapped, message if right else CONTENT_KEY[:16])

            assert right == (opened == CONTENT), test["comment"]
            assert right or isinstance(opened, bytes) or "the content does not open" == opened
        assert len(group["tests"]) == len(decryptor.unwrapped)


def open_with(decryptor: SoftKey, wrapped: bytes, content_key: bytes) -> bytes | str:
    """The content of an envelope whose key is said to be wrapped so, or the one thing that is said when it fails."""
    builder = EnvelopeBuilder(
        ra_identity(), CONTENT, cipher=AES[len(content_key)], content_key=content_key, encrypted_key=wrapped
    )
    envelope = read_envelope(builder.build())
    try:
        return open_envelope(envelope, envelope.recipients[0], decryptor, bytes)
    except Malformed as error:
        return str(error)
