"""The devices: each with an RSA-2048 key of its own, made once and kept in a cache, and a request sealed beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from ra.client.authority import CaCertificates
from ra.client.csr import read_subject, self_signed, write_csr
from ra.client.names import MessageType
from ra.client.replies import Failure, Success, open_reply
from ra.client.requests import Request, key_transaction_id, write_request
from ra.client.signed import Signer

KEY_BITS = 2048
SUBJECT = "CN=device-{index:06d},O=Benchmark"
CORES = 2
LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True)
class Site:
    """Where devices enrol: the server's certificates and the challenge it wants."""

    ca: CaCertificates
    challenge: str


def load_keys(cache: Path, count: int) -> list[rsa.RSAPrivateKey]:
    """That many distinct keys, from the cache as far as it goes; what is missing is made and added to it."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    kept = list(_frames(cache.read_bytes())) if cache.exists() else []
    missing = count - len(kept)
    if missing > 0:
        print(f"making {missing} device keys (kept in {cache})", flush=True)
        with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
            made = list(pool.map(_make_key, range(missing), chunksize=16))
        kept += made
        cache.write_bytes(b"".join(len(each).to_bytes(LENGTH_BYTES) + each for each in kept))
    return [_load_key(each) for each in kept[:count]]


def prepare(keys: Iterable[rsa.RSAPrivateKey], site: Site, subject: str = SUBJECT) -> list[Request]:
    """One sealed PKCSReq for each key, `subject` with its index: AES-128 and SHA-256, which every server takes."""
    now = datetime.now(UTC)  # noqa: TID251 - a program of its own, not the service
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(lambda item: _request(item[0], item[1], site, now, subject), enumerate(keys)))


def serials(requests: Iterable[Request], bodies: Iterable[bytes], site: Site) -> list[int | None]:
    """Opens every reply and returns the serial numbers; None where the server said FAILURE.

    Raises:
        AssertionError: a reply is neither a FAILURE nor a SUCCESS that carries a certificate for the device's key.
        ClientError: a reply cannot be opened or does not answer its request.
    """
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(lambda pair: _serial(pair[0], pair[1], site), zip(requests, bodies, strict=True)))


def _request(index: int, key: rsa.RSAPrivateKey, site: Site, now: datetime, named: str) -> Request:
    subject = read_subject(named.format(index=index))
    return write_request(
        MessageType.PKCS_REQ,
        write_csr(key, subject, challenge_password=site.challenge),
        signer=Signer(key=key, certificate=self_signed(key, subject, now, index + 1)),
        recipients=site.ca.recipients[:1],
        transaction_id=key_transaction_id(key),
    )


def _serial(request: Request, body: bytes, site: Site) -> int | None:
    result = open_reply(body, request, site.ca.signers).result
    if isinstance(result, Failure):
        return None
    assert isinstance(result, Success), result
    leaf = result.certificates[0]
    assert leaf.public_key() == request.signer.key.public_key(), "the certificate holds another key"
    return leaf.serial_number


def _make_key(_: int) -> bytes:
    key = rsa.generate_private_key(65537, KEY_BITS)
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _load_key(der: bytes) -> rsa.RSAPrivateKey:
    key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _frames(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES])
        yield data[at + LENGTH_BYTES : end]
        at = end
