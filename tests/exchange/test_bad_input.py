"""Bad input over real HTTP, against the running RA: each gets the answer that is due to it, none a 500, none an error in the log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ra.client.authority import CaCertificates, read_ca_certificates
from ra.client.csr import read_subject, self_signed, write_csr
from ra.client.enveloped import seal
from ra.client.names import Attribute, FailInfo, MessageType
from ra.client.replies import Failure, Reply
from ra.client.requests import Request, key_transaction_id
from ra.client.signed import write_signed
from tests.fakes.device import NOW, Device, pooled_key
from tests.interop.running import RunningRa, faulty_lines

MIB = 1 << 20
NONCE = bytes(range(16))


@dataclass(frozen=True, kw_only=True)
class Ra:
    """The running RA, its certificates, and a device to speak to it with."""

    http: httpx.Client
    url: str
    challenge: str
    ca: CaCertificates
    device: Device

    def post(self, body: bytes) -> httpx.Response:
        return self.http.post(f"{self.url}?operation=PKIOperation", content=body)

    def request(self) -> bytes:
        """A PKCSReq that would be granted, were it sent as it is."""
        return self.device.enrol_message(self.ca, challenge=self.challenge)

    def envelope(self, content: bytes | None = None) -> bytes:
        """EnvelopedData for the RA around a good CSR, or around `content`."""
        csr = self.device.csr(challenge=self.challenge) if content is None else content
        return seal(csr, self.ca.recipients[:1], self.device.algorithms, os.urandom)

    def ask(self, envelope: bytes, message_type: str = MessageType.PKCS_REQ) -> tuple[bytes, Reply]:
        """Signs an envelope, sends it, and verifies the answer: all but the envelope is always the same."""
        signer, transaction_id = self.device.signer, key_transaction_id(self.device.key)
        attributes: dict[Attribute, str | bytes] = {
            Attribute.MESSAGE_TYPE: message_type,
            Attribute.TRANSACTION_ID: transaction_id,
            Attribute.SENDER_NONCE: NONCE,
        }
        message = write_signed(envelope, attributes, signer, self.device.algorithms.digest)
        self.device.ca = self.ca
        self.device.request = Request(message=message, transaction_id=transaction_id, sender_nonce=NONCE, signer=signer)
        reply = self.post(message).raise_for_status().content
        return reply, self.device.open_reply(reply)


@pytest.fixture
def ra(ra_server: RunningRa) -> Iterator[Ra]:
    """The running RA; when the test is over it must have met no fault."""
    with httpx.Client() as http:
        ca = read_ca_certificates(http.get(f"{ra_server.url}?operation=GetCACert").content)
        yield Ra(http=http, url=ra_server.url, challenge=ra_server.challenge, ca=ca, device=Device())
        metrics = http.get(f"{ra_server.admin_url}/metrics").text
    assert faulty_lines(ra_server.log.read_text(encoding="utf-8", errors="replace")) == []
    assert "scep_ra_faults_total 0.0" in metrics.splitlines()


def nested(depth: int) -> bytes:
    """SEQUENCEs of indefinite length within each other, BER."""
    return b"\x30\x80" * depth + b"\x00\x00" * depth


UNREADABLE: dict[str, Callable[[Ra], bytes]] = {
    "empty": lambda _: b"",
    "garbage": lambda _: b"This is not the CMS you are looking for.",
    "random": lambda _: bytes(range(256)) * 8,
    "zeros": lambda _: bytes(4096),
    "truncated by a byte": lambda ra: ra.request()[:-1],
    "truncated by half": lambda ra: ra.request()[: len(ra.request()) // 2],
    "with a byte too much": lambda ra: ra.request() + b"\x00",
    "nested 10,000 deep": lambda _: nested(10_000),
    "an envelope that nobody signed": lambda ra: ra.envelope(),
    "a CSR that nobody signed": lambda ra: ra.device.csr(challenge=ra.challenge),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_answered_gets_a_clear_400(ra: Ra, case: str) -> None:
    answer = ra.post(UNREADABLE[case](ra))

    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.strip()


def test_a_mebibyte_gets_413(ra: Ra) -> None:
    answer = ra.post(bytes(MIB))

    assert answer.status_code == 413


@pytest.mark.parametrize("query", ["operation=PKIOperatio", "operation=", "operation=PKIOperation&operation=GetCACert"])
def test_an_unknown_operation_gets_400(ra: Ra, query: str) -> None:
    answer = ra.http.get(f"{ra.url}?{query}")

    assert answer.status_code == 400
    assert "operation" in answer.text


def test_garbage_by_get_gets_400(ra: Ra) -> None:
    answer = ra.http.get(f"{ra.url}?operation=PKIOperation&message=%%%")

    assert answer.status_code == 400


def test_a_wrong_signature_gets_bad_message_check(ra: Ra) -> None:
    message = bytearray(ra.request())
    message[-1] ^= 1

    answer = ra.device.open(ra.post(bytes(message)).raise_for_status().content)

    assert isinstance(answer, Failure)
    assert answer.fail_info is FailInfo.BAD_MESSAGE_CHECK


@pytest.mark.parametrize("message_type", ["0", "1", "3", "18", "23", "019", "PKCSReq"])
@pytest.mark.rfc8894("unknown-types-are-errors")
def test_an_unknown_message_type_gets_bad_request(ra: Ra, message_type: str) -> None:
    _, reply = ra.ask(ra.envelope(), message_type)

    assert isinstance(reply.result, Failure)
    assert reply.result.fail_info is FailInfo.BAD_REQUEST


@pytest.mark.parametrize("message_type", [MessageType.GET_CERT, MessageType.GET_CRL])
def test_a_query_for_what_is_not_served_gets_bad_cert_id(ra: Ra, message_type: MessageType) -> None:
    _, reply = ra.ask(ra.envelope(b"\x30\x00"), message_type)

    assert reply.result == Failure(FailInfo.BAD_CERT_ID, "")


@pytest.mark.rfc8894("poll-needs-a-request")
def test_a_poll_for_what_was_never_asked_gets_bad_cert_id(ra: Ra) -> None:
    message = ra.device.poll_message(ra.ca, transaction_id="never-seen")

    answer = ra.device.open(ra.post(message).raise_for_status().content)

    assert isinstance(answer, Failure)
    assert answer.fail_info is FailInfo.BAD_CERT_ID


def sealed_to_another(ra: Ra) -> bytes:
    key = pooled_key(99)
    stranger = self_signed(key, read_subject("CN=another RA"), NOW, serial=7)
    return seal(ra.device.csr(challenge=ra.challenge), [stranger], ra.device.algorithms, os.urandom)


def rewrapped(ra: Ra, wrap: Callable[[rsa.RSAPublicKey, cms.ContentInfo], bytes]) -> bytes:
    """A good envelope with another encryptedKey."""
    info = cms.ContentInfo.load(ra.envelope())
    public_key = ra.ca.recipients[0].public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    recipient = info["content"]["recipient_infos"][0].chosen
    recipient["encrypted_key"] = wrap(public_key, recipient)
    return bytes(info.dump(force=True))


def with_broken_wrapping(ra: Ra) -> bytes:
    return rewrapped(ra, lambda key, _: b"\x01" * (key.key_size // 8))


def with_a_short_wrapping(ra: Ra) -> bytes:
    return rewrapped(ra, lambda _, recipient: bytes(recipient["encrypted_key"].native[:-1]))


def with_a_key_of_another_length(ra: Ra) -> bytes:
    return rewrapped(ra, lambda key, _: key.encrypt(bytes(5), padding.PKCS1v15()))


def with_another_key(ra: Ra) -> bytes:
    return rewrapped(ra, lambda key, _: key.encrypt(bytes(16), padding.PKCS1v15()))


def with_broken_padding(ra: Ra) -> bytes:
    """The last byte of the plaintext changed, by way of the block before it: PKCS #7 padding is wrong."""
    info = cms.ContentInfo.load(ra.envelope())
    encrypted = info["content"]["encrypted_content_info"]
    ciphertext = bytearray(encrypted["encrypted_content"].native)
    ciphertext[-17] ^= 0xFF
    encrypted["encrypted_content"] = bytes(ciphertext)
    return bytes(info.dump(force=True))


def with_ciphertext_cut(ra: Ra) -> bytes:
    info = cms.ContentInfo.load(ra.envelope())
    encrypted = info["content"]["encrypted_content_info"]
    encrypted["encrypted_content"] = encrypted["encrypted_content"].native[:-1]
    return bytes(info.dump(force=True))


def with_a_broken_csr_signature(ra: Ra) -> bytes:
    csr = bytearray(ra.device.csr(challenge=ra.challenge))
    csr[-1] ^= 1
    return ra.envelope(bytes(csr))


def with_a_csr_signed_by_another_key(ra: Ra) -> bytes:
    own = ra.device.csr(challenge=ra.challenge)
    other = write_csr(pooled_key(98), read_subject(ra.device.subject), challenge_password=ra.challenge)
    return ra.envelope(own[:-256] + other[-256:])


INNER: dict[str, Callable[[Ra], bytes]] = {
    "sealed to another RA": sealed_to_another,
    "a wrapping that is no PKCS #1": with_broken_wrapping,
    "a wrapping of the wrong length": with_a_short_wrapping,
    "a content key of the wrong length": with_a_key_of_another_length,
    "another content key": with_another_key,
    "broken padding": with_broken_padding,
    "a ciphertext that ends within a block": with_ciphertext_cut,
    "no CSR": lambda ra: ra.envelope(b"no CSR"),
    "an empty CSR": lambda ra: ra.envelope(b""),
    "a truncated CSR": lambda ra: ra.envelope(ra.device.csr(challenge=ra.challenge)[:-1]),
    "a CSR and a byte": lambda ra: ra.envelope(ra.device.csr(challenge=ra.challenge) + b"\x00"),
    "a CSR nested 1,000 deep": lambda ra: ra.envelope(nested(1_000)),
    "a broken CSR signature": with_a_broken_csr_signature,
    "a CSR signed by another key": with_a_csr_signed_by_another_key,
    "no challenge": lambda ra: ra.envelope(ra.device.csr()),
    "a wrong challenge": lambda ra: ra.envelope(ra.device.csr(challenge="not-the-challenge")),
}


@pytest.mark.parametrize("case", INNER)
def test_whatever_fails_inside_gets_the_same_bad_request(ra: Ra, case: str) -> None:
    _, reply = ra.ask(INNER[case](ra))

    assert reply.result == Failure(FailInfo.BAD_REQUEST, "")


def test_inner_failures_cannot_be_told_apart(ra: Ra) -> None:
    replies = {case: masked(ra.ask(build(ra))[0]) for case, build in INNER.items()}

    expected = replies["a wrong challenge"]
    assert dict.fromkeys(INNER, expected) == replies


def masked(reply: bytes) -> bytes:
    """A CertRep without what is fresh in each: the signature, the server's nonce, and when it was signed."""
    signer = cms.ContentInfo.load(reply)["content"]["signer_infos"][0]
    fresh = [signer["signature"].contents]
    fresh += [
        attribute["values"].contents
        for attribute in signer["signed_attrs"]
        if attribute["type"].dotted in {Attribute.SENDER_NONCE, "1.2.840.113549.1.9.5"}
    ]
    for value in fresh:
        reply = reply.replace(value, bytes(len(value)))
    return reply


def test_good_requests_are_still_granted_afterwards(ra: Ra) -> None:
    reply = ra.post(ra.request()).raise_for_status().content

    certificate = ra.device.obtain(reply)

    assert isinstance(certificate, x509.Certificate)
    assert certificate.subject == read_subject(ra.device.subject)
