"""Writes the requests a client sends: one pkiMessage of any type, with what its answer must match."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509

from ra.client import algorithms
from ra.client.algorithms import Algorithms, Entropy, Key
from ra.client.csr import spki
from ra.client.enveloped import seal
from ra.client.names import Attribute, Digest
from ra.client.signed import Signer, Value, write_signed

NONCE_BYTES = 16
"""RFC 8894 §3.2.1.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A pkiMessage, DER, what its answer must match, and the challenge that opens it where the signer's key cannot."""

    message: bytes
    transaction_id: str
    sender_nonce: bytes
    signer: Signer
    password: str | None = field(default=None, repr=False)


def write_request(
    message_type: str,
    content: bytes,
    *,
    signer: Signer,
    recipients: Sequence[x509.Certificate],
    transaction_id: str,
    algorithm: Algorithms = Algorithms(),  # noqa: B008 - frozen
    sender_nonce: bytes | None = None,
    password: str | None = None,
    entropy: Entropy = os.urandom,
) -> Request:
    """Seals `content` to the recipients and signs it (RFC 8894 §3.1).

    The content is what the type asks for, DER: a PKCS #10, IssuerAndSubject or IssuerAndSerialNumber. The type may be
    one that RFC 8894 does not know, to see how a server takes it. The nonce is fresh when None, left out when empty.

    Raises:
        BadArgument: a recipient's key is not RSA.
    """
    nonce = entropy(NONCE_BYTES) if sender_nonce is None else sender_nonce
    attributes: dict[Attribute, Value] = {
        Attribute.MESSAGE_TYPE: str(message_type),
        Attribute.TRANSACTION_ID: transaction_id,
    }
    if nonce:
        attributes[Attribute.SENDER_NONCE] = nonce
    envelope = seal(content, recipients, algorithm, entropy)
    return Request(
        message=write_signed(envelope, attributes, signer, algorithm.digest),
        transaction_id=transaction_id,
        sender_nonce=nonce,
        signer=signer,
        password=password,
    )


def key_transaction_id(key: Key) -> str:
    """The transactionID of an enrolment: the hexadecimal SHA-256 of the public key (RFC 8894 §3.2.1.1)."""
    return algorithms.digest(spki(key), Digest.SHA256).hex()
