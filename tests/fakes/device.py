"""A device for tests: it has a key, writes requests with the client's codec, and opens the answers to its last one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from ra.client.algorithms import Algorithms, Key
from ra.client.authority import CaCertificates
from ra.client.csr import read_general_name, read_subject, self_signed, write_csr
from ra.client.identifiers import issuer_and_serial, issuer_and_subject
from ra.client.names import MessageType
from ra.client.replies import Reply, Result, Success, open_reply
from ra.client.requests import Request, key_transaction_id, write_request
from ra.client.signed import Signer

POOL_SIZE = 4
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@cache
def pooled_key(_index: int) -> rsa.RSAPrivateKey:
    """One of the RSA-2048 keys that all tests of a session share, because making them is slow."""
    return rsa.generate_private_key(65537, 2048)


_turn = itertools.cycle(range(POOL_SIZE))


def next_key() -> rsa.RSAPrivateKey:
    """The keys of the pool in turn: two devices made one after the other have different ones."""
    return pooled_key(next(_turn))


@dataclass
class Device:
    """One device. `password` opens the answers where its key is not RSA. `certificate` signs requests where it is set (renewal), a self-signed one otherwise."""

    subject: str = "CN=device.example,O=Example"
    key: Key = field(default_factory=next_key)
    algorithms: Algorithms = field(default_factory=Algorithms)
    certificate: x509.Certificate | None = None
    password: str | None = None
    request: Request | None = None
    ca: CaCertificates | None = None

    @property
    def signer(self) -> Signer:
        own = self.certificate or self_signed(self.key, read_subject(self.subject), NOW, serial=1)
        return Signer(key=self.key, certificate=own)

    def csr(
        self,
        *,
        challenge: str | None = None,
        sans: Sequence[str] = (),
        extensions: Sequence[x509.ExtensionType] = (),
        key: Key | None = None,
    ) -> bytes:
        return write_csr(
            key or self.key,
            read_subject(self.subject),
            subject_alternative_names=[read_general_name(each) for each in sans],
            challenge_password=challenge,
            extensions=extensions,
        )

    def enrol_message(
        self,
        ca: CaCertificates,
        *,
        challenge: str | None = None,
        sans: Sequence[str] = (),
        extensions: Sequence[x509.ExtensionType] = (),
        csr: bytes | None = None,
        message_type: str = MessageType.PKCS_REQ,
        transaction_id: str | None = None,
        sender_nonce: bytes | None = None,
    ) -> bytes:
        """A PKCSReq over a CSR of this device's, or over `csr`, DER."""
        content = csr if csr is not None else self.csr(challenge=challenge, sans=sans, extensions=extensions)
        return self.message(ca, message_type, content, transaction_id=transaction_id, sender_nonce=sender_nonce)

    def renew_message(self, ca: CaCertificates, new_key: Key, **csr: Sequence[str]) -> bytes:
        """A RenewalReq for `new_key`, signed by the present certificate."""
        content = self.csr(key=new_key, sans=csr.get("sans", ()))
        return self.message(ca, MessageType.RENEWAL_REQ, content, transaction_id=key_transaction_id(new_key))

    def poll_message(self, ca: CaCertificates, *, transaction_id: str | None = None) -> bytes:
        content = issuer_and_subject(ca.issuer, read_subject(self.subject))
        return self.message(ca, MessageType.CERT_POLL, content, transaction_id=transaction_id)

    def get_cert_message(self, ca: CaCertificates, serial: int) -> bytes:
        return self.message(ca, MessageType.GET_CERT, issuer_and_serial(ca.issuer, serial))

    def get_crl_message(self, ca: CaCertificates, serial: int) -> bytes:
        return self.message(ca, MessageType.GET_CRL, issuer_and_serial(ca.issuer, serial))

    def message(
        self,
        ca: CaCertificates,
        message_type: str,
        content: bytes,
        *,
        transaction_id: str | None = None,
        sender_nonce: bytes | None = None,
        recipients: Sequence[x509.Certificate] | None = None,
    ) -> bytes:
        """Any message, over any content; it is remembered so that `open` can check its answer."""
        self.ca = ca
        self.request = write_request(
            message_type,
            content,
            signer=self.signer,
            recipients=ca.recipients[:1] if recipients is None else recipients,
            transaction_id=transaction_id or key_transaction_id(self.key),
            algorithm=self.algorithms,
            sender_nonce=sender_nonce,
            password=self.password,
        )
        return self.request.message

    def open_reply(self, reply: bytes) -> Reply:
        """The answer to the last message, DER, with what is known of how it was made."""
        assert self.request is not None
        assert self.ca is not None
        return open_reply(reply, self.request, self.ca.signers)

    def open(self, reply: bytes) -> Result:
        """What the answer to the last message says."""
        return self.open_reply(reply).result

    def obtain(self, reply: bytes) -> x509.Certificate:
        """The leaf of a SUCCESS; from here on the device signs with it."""
        result = self.open(reply)
        assert isinstance(result, Success), result
        self.certificate = result.certificates[0]
        return self.certificate
