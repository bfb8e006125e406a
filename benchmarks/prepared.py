"""Messages of many devices, made beforehand and by every core: each with an EC key of its own to be certified.

Replies are sealed to RSA keys, of which a few serve all devices: a device is told by its transactionID.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from multiprocessing import get_context

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.devices import CORES, load_keys
from benchmarks.ledger.book import key_digest
from benchmarks.sites import CACHE
from ra.client.authority import CaCertificates, read_ca_certificates
from ra.client.csr import read_subject, self_signed, spki, write_csr
from ra.client.identifiers import issuer_and_subject
from ra.client.names import MessageType
from ra.client.replies import Success, open_reply
from ra.client.requests import Request, write_request
from ra.client.signed import Signer

SIGNERS = 16
NONCE_BYTES = 16
_AT_ONCE = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What one device sends.

    Attributes:
        key: SHA-256 of the SubjectPublicKeyInfo to be certified, hex.
        signer_key: of the SubjectPublicKeyInfo that signs, as the journal knows it.
        signer: which of the signers that is.
        sender_nonce: of both messages.
    """

    transaction_id: str
    key: str
    signer_key: bytes
    signer: int
    sender_nonce: bytes
    pkcs_req: bytes
    cert_poll: bytes


def prepare(count: int, ca: bytes, challenge: str | Sequence[str]) -> list[Prepared]:
    """PKCSReq and CertPoll of so many devices, for whoever answered GetCACert with `ca`; a challenge for all, or one each."""
    signers()  # made once, before several processes would
    print(f"preparing the messages of {count} devices", flush=True)
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        parts = [range(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE)]
        made = pool.map(partial(_prepare, ca=ca, challenge=challenge), parts)
        return [each for part in made for each in part]


def insist_on_certificates(replies: Iterable[tuple[Prepared, bytes]], ca: bytes) -> None:
    """Opens CertReps, which have to hold a certificate for the device's key.

    Raises:
        AssertionError: it is another reply, or for another key.
        ClientError: it cannot be opened or does not answer the device.
    """
    authority = read_ca_certificates(ca)
    for device, reply in replies:
        request = Request(
            message=device.pkcs_req,
            transaction_id=device.transaction_id,
            sender_nonce=device.sender_nonce,
            signer=signers()[device.signer],
        )
        result = open_reply(reply, request, authority.signers).result
        assert isinstance(result, Success), result
        key = result.certificates[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert key_digest(key) == device.key, "the certificate holds another key"


@cache
def signers() -> list[Signer]:
    """The keys that replies are sealed to, with their certificates."""
    now, subject = datetime.now(UTC), read_subject("CN=signer,O=Benchmark")  # noqa: TID251 - a program of its own
    keys = load_keys(CACHE / "rsa-2048.keys", SIGNERS)
    return [Signer(key=key, certificate=self_signed(key, subject, now, index)) for index, key in enumerate(keys, 1)]


def subject_of(number: int) -> str:
    """What a device calls itself."""
    return f"CN=device-{number:06d},O=Benchmark"


def _prepare(numbers: range, ca: bytes, challenge: str | Sequence[str]) -> list[Prepared]:
    authority = read_ca_certificates(ca)
    each = [challenge] * numbers.stop if isinstance(challenge, str) else challenge
    return [_prepared(number, authority, each[number]) for number in numbers]


def _prepared(number: int, ca: CaCertificates, challenge: str) -> Prepared:
    key, subject = ec.generate_private_key(ec.SECP256R1()), read_subject(subject_of(number))
    signer, nonce, transaction_id = number % SIGNERS, os.urandom(NONCE_BYTES), f"{number:032x}"
    seal = partial(
        write_request,
        signer=signers()[signer],
        recipients=ca.recipients[:1],
        transaction_id=transaction_id,
        sender_nonce=nonce,
    )
    return Prepared(
        transaction_id=transaction_id,
        key=key_digest(spki(key)),
        signer_key=hashlib.sha256(spki(signers()[signer].key)).digest(),
        signer=signer,
        sender_nonce=nonce,
        pkcs_req=seal(MessageType.PKCS_REQ, write_csr(key, subject, challenge_password=challenge)).message,
        cert_poll=seal(MessageType.CERT_POLL, issuer_and_subject(ca.issuer, subject)).message,
    )
