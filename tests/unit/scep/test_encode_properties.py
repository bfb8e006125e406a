"""Whatever reply is written to whatever request, the client's codec, which shares no code with ours, reads it back."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from ra.client import replies
from ra.client.names import KeyTransport as TheirTransport
from ra.client.requests import Request
from ra.client.signed import Signer
from ra.scep import ciphers
from ra.scep.encode import write_reply
from ra.scep.header import CertificateId, Header, TransactionId
from ra.scep.keys import Identity
from ra.scep.messages import CrlDelivery, Deferral, Issuance, Refusal, Reply, Sealing, SignerCertificate
from ra.scep.names import Cipher, Digest, FailInfo, KeyTransport, Legacy, MessageType
from tests.fakes.messages import certificate, ec_key, integer, name, ra_identity, rsa_key, soft_key, spki

RSA_RA = ra_identity()
EC_RA = Identity(name="ec", decryptor=RSA_RA.decryptor, signer=soft_key(ec_key(), subject=name("EC RA")))
DEVICE = certificate(rsa_key())
CERTIFICATES = [certificate(rsa_key(), subject=name("x" * size), serial=integer(size)) for size in (1, 20, 60)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CRL = (
    x509.CertificateRevocationListBuilder(x509.load_der_x509_certificate(DEVICE).subject, NOW, NOW)
    .sign(rsa_key(100), hashes.SHA256())
    .public_bytes(Encoding.DER)
)
RECIPIENT = SignerCertificate(
    der=DEVICE,
    certificate_id=CertificateId(issuer=name("device"), serial=7, key_id=None),
    subject=name("device"),
    spki=spki(rsa_key().public_key()),
    public_key=rsa_key().public_key(),
)
OWN = Signer(certificate=x509.load_der_x509_certificate(DEVICE), key=rsa_key())

some_replies = st.one_of(
    st.builds(
        Issuance, certificates=st.lists(st.sampled_from(CERTIFICATES), min_size=1, max_size=3, unique=True).map(tuple)
    ),
    st.just(CrlDelivery(crl=CRL)),
    st.just(Deferral()),
    st.builds(Refusal, fail_info=st.sampled_from(FailInfo), text=st.none() | st.text(st.characters(codec="utf-8"))),
)
some_headers = st.builds(
    Header,
    message_type=st.sampled_from(MessageType),
    transaction_id=st.builds(
        TransactionId, st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1).map(str.encode)
    ),
    sender_nonce=st.binary(max_size=64),
    digest=st.sampled_from(Digest),
)
some_sealings = st.none() | st.builds(
    Sealing,
    cipher=st.sampled_from(Cipher),
    key_transport=st.sampled_from([KeyTransport(each) for each in TheirTransport]),
)


@given(
    some_replies,
    some_headers,
    st.sampled_from([RSA_RA, EC_RA]),
    some_sealings,
    st.frozensets(st.sampled_from(Legacy)),
)
@settings(deadline=None, max_examples=200)
@pytest.mark.rfc8894("attributes-of-every-message", "attributes-of-a-reply", "status-is-defined")
def test_every_reply_is_read_as_it_was_meant(
    reply: Reply, header: Header, identity: Identity, sealing: Sealing | None, legacy: frozenset[Legacy]
) -> None:
    request = Request(
        message=b"",
        transaction_id=header.transaction_id.value.decode(),
        sender_nonce=header.sender_nonce,
        signer=OWN,
    )

    message = write_reply(reply, header, identity, os.urandom, recipient=RECIPIENT, sealing=sealing, legacy=legacy)
    opened = replies.open_reply(message, request, [x509.load_der_x509_certificate(identity.signer.certificate)])

    assert ciphers.reply_digest(header.digest, legacy).value == opened.digest.value
    assert expected(reply, sealing, legacy) == said(opened.result)


def expected(reply: Reply, sealing: Sealing | None, legacy: frozenset[Legacy]) -> tuple[object, ...]:
    cipher = ciphers.reply_cipher(sealing.cipher, legacy) if sealing else Cipher.AES128_CBC
    sealed = (cipher.value, (sealing.key_transport if sealing else KeyTransport.PKCS1_V15).value)
    match reply:
        case Issuance():
            return ("success", reply.certificates, None, *sealed)
        case CrlDelivery():
            return ("success", (), reply.crl, *sealed)
        case Deferral():
            return ("pending",)
        case Refusal():
            return ("failure", reply.fail_info.value, reply.text or "")


def said(result: replies.Result) -> tuple[object, ...]:
    match result:
        case replies.Success():
            certificates = tuple(each.public_bytes(Encoding.DER) for each in result.certificates)
            crl = result.crl.public_bytes(Encoding.DER) if result.crl is not None else None
            return (
                "success",
                certificates,
                crl,
                result.cipher.value,
                result.key_transport and result.key_transport.value,
            )
        case replies.Pending():
            return ("pending",)
        case replies.Failure():
            return ("failure", result.fail_info.value, result.text)
