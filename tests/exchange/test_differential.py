"""The server's codec, the client's codec and OpenSSL over the same messages: three readers that share no code must agree."""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ra.client.algorithms import Algorithms
from ra.client.authority import CaCertificates, read_ca_certificates
from ra.client.names import Attribute, Cipher, Digest, KeyTransport, MessageType
from ra.client.replies import Success
from ra.client.requests import key_transaction_id
from ra.client.signed import Signer, write_signed
from ra.keyring.files import load_identity
from ra.scep.decode import read_inner, read_outer
from ra.scep.encode import write_reply
from ra.scep.keys import Identity
from ra.scep.messages import Enrolment, Issuance
from ra.scep.names import Legacy
from tests.fakes.device import Device
from tests.fakes.scep_server import ScepServer
from tests.peers import require

CHALLENGE = "three-readers"
LEGACY = frozenset({Legacy.DES3, Legacy.SHA1})
DIGESTS = (Digest.SHA256, Digest.SHA384, Digest.SHA512, Digest.SHA1)
CIPHERS = (Cipher.AES128_CBC, Cipher.AES192_CBC, Cipher.AES256_CBC, Cipher.DES3_CBC)
COMBINATIONS = [
    Algorithms(digest=digest, cipher=cipher, key_transport=transport)
    for digest, cipher, transport in itertools.product(DIGESTS, CIPHERS, KeyTransport)
]

every_combination = pytest.mark.parametrize(
    "algorithms", COMBINATIONS, ids=lambda a: f"{a.digest}-{a.cipher}-{a.key_transport}"
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A CA with an RA whose key lies in files, so that all three readers can have it."""

    server: ScepServer
    ca: CaCertificates
    identity: Identity
    directory: Path

    def openssl(self, *arguments: str | Path, stdin: bytes = b"") -> bytes:
        command = [require("openssl"), *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def openssl_verified(self, message: bytes) -> bytes:
        """The content of a SignedData whose signature OpenSSL has verified; the certificate is judged elsewhere."""
        return self.openssl("cms", "-verify", "-noverify", "-binary", "-inform", "DER", stdin=message)

    def openssl_opened(self, envelope: bytes, signer: Signer) -> bytes:
        """What OpenSSL finds in an EnvelopedData."""
        certificate, key = write_signer(self.directory, "recipient", signer)
        recipient = ("-recip", certificate, "-inkey", key)
        return self.openssl("cms", "-decrypt", "-binary", "-inform", "DER", *recipient, stdin=envelope)

    def read(self, message: bytes) -> Enrolment:
        """What the server's codec finds in a request."""
        outer = read_outer(message, LEGACY)
        request = read_inner(outer, [self.identity], LEGACY, os.urandom)
        assert isinstance(request, Enrolment)
        return request


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    directory = tmp_path_factory.mktemp("bench")
    server = ScepServer()
    certificate, key = write_signer(directory, "ra", server.ra)
    return Bench(
        server=server,
        ca=read_ca_certificates(server.get_ca_cert()),
        identity=load_identity("ra", certificate=certificate, key=key, passphrase=None),
        directory=directory,
    )


def write_signer(directory: Path, name: str, signer: Signer) -> tuple[Path, Path]:
    """Certificate and key as PEM files."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(signer.certificate.public_bytes(Encoding.PEM))
    key.touch(0o600)
    key.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key


@every_combination
def test_all_three_find_the_same_in_a_request(bench: Bench, algorithms: Algorithms) -> None:
    device = Device(algorithms=algorithms)
    csr = device.csr(challenge=CHALLENGE, sans=["dns:device.example"])
    message = device.enrol_message(bench.ca, csr=csr)

    by_server = bench.read(message)
    by_client = bench.server.receive(message)
    by_openssl = bench.openssl_opened(bench.openssl_verified(message), bench.server.ra)

    assert csr == by_server.csr.der == by_client.content == by_openssl
    assert by_client.transaction_id == str(by_server.outer.header.transaction_id)
    assert by_client.sender_nonce == by_server.outer.header.sender_nonce
    assert by_client.message_type == by_server.outer.header.message_type
    assert by_client.certificate.public_bytes(Encoding.DER) == by_server.outer.signer.der
    assert str(algorithms.digest) == str(by_server.outer.header.digest)
    assert str(algorithms.cipher) == str(by_server.sealing.cipher)
    assert str(algorithms.key_transport) == str(by_server.sealing.key_transport)


@every_combination
@pytest.mark.rfc8894("printable-strings")
def test_client_and_openssl_find_the_same_in_a_reply_made_like_the_request(
    bench: Bench, algorithms: Algorithms
) -> None:
    device = Device(algorithms=algorithms)
    message = device.enrol_message(bench.ca, challenge=CHALLENGE)
    request, leaf = bench.read(message), bench.server.issue(bench.server.receive(message))

    reply = write_reply(
        Issuance(certificates=(leaf.public_bytes(Encoding.DER),)),
        request.outer.header,
        bench.identity,
        os.urandom,
        recipient=request.outer.signer,
        sealing=request.sealing,
        legacy=LEGACY,
    )
    by_client = device.open_reply(reply)
    bag = bench.openssl_opened(bench.openssl_verified(reply), device.signer)
    by_openssl = bench.openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=bag)

    assert isinstance(by_client.result, Success)
    assert (leaf,) == by_client.result.certificates
    assert [leaf] == x509.load_pem_x509_certificates(by_openssl)
    assert algorithms.digest is by_client.digest
    assert algorithms.cipher is by_client.result.cipher
    assert algorithms.key_transport is by_client.result.key_transport


OPENSSL_SEALS = {
    "AES-128, DER": ("-aes128",),
    "AES-256, indefinite lengths and the ciphertext in pieces": ("-aes256", "-stream"),
    "RSAES-OAEP": ("-aes128", "-keyopt", "rsa_padding_mode:oaep"),
    "RSAES-OAEP, SHA-256": ("-aes128", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"),
}


@pytest.mark.parametrize("case", OPENSSL_SEALS)
def test_server_and_client_open_what_openssl_sealed(bench: Bench, case: str) -> None:
    device = Device()
    csr = device.csr(challenge=CHALLENGE)
    recipient = ("-recip", bench.directory / "ra.pem")
    sealed = bench.openssl("cms", "-encrypt", "-binary", "-outform", "DER", *recipient, *OPENSSL_SEALS[case], stdin=csr)
    message = signed(device, sealed)

    by_server = bench.read(message)

    assert csr == by_server.csr.der
    assert csr == bench.server.receive(message).content


def signed(device: Device, envelope: bytes) -> bytes:
    attributes: dict[Attribute, str | bytes] = {
        Attribute.MESSAGE_TYPE: MessageType.PKCS_REQ,
        Attribute.TRANSACTION_ID: key_transaction_id(device.key),
        Attribute.SENDER_NONCE: bytes(16),
    }
    return write_signed(envelope, attributes, device.signer, Digest.SHA256)
