"""Messages built by hand, node by node, so that every part of one can be made wrong. Shares no code with ra.scep.

What a real client would send is made by ra.client; this is for what none should.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from asn1crypto import core
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ra.scep.header import CertificateId
from ra.scep.keys import Identity
from ra.scep.names import Digest, KeyTransport

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

NULL = b"\x05\x00"
CONTENT_KEY = b"0123456789abcdef0123456789ABCDEF"
DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
ENVELOPED_DATA = "1.2.840.113549.1.7.3"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
CHALLENGE = "1.2.840.113549.1.9.7"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
MS_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14"
MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
SENDER_NONCE = "2.16.840.1.113733.1.9.5"
TRANSACTION_ID = "2.16.840.1.113733.1.9.7"
RSA = "1.2.840.113549.1.1.1"
OAEP = "1.2.840.113549.1.1.7"

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha1": hashes.SHA1(),  # noqa: S303 - as old clients do
    "md5": hashes.MD5(),  # noqa: S303 - as old clients do
}
DIGESTS = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
    "sha1": "1.3.14.3.2.26",
    "md5": "1.2.840.113549.2.5",
}
RSA_SIGNATURES = {
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
    "sha1": "1.2.840.113549.1.1.5",
    "md5": "1.2.840.113549.1.1.4",
}
CIPHERS = {
    "aes128-cbc": ("2.16.840.1.101.3.4.1.2", 16),
    "aes192-cbc": ("2.16.840.1.101.3.4.1.22", 24),
    "aes256-cbc": ("2.16.840.1.101.3.4.1.42", 32),
    "3des": ("1.2.840.113549.3.7", 24),
    "des": ("1.3.14.3.2.7", 8),
}


def der(tag: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    if len(value) < 128:
        return bytes((tag, len(value))) + value
    length = len(value).to_bytes((len(value).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + value


def oid(dotted: str) -> bytes:
    encoded: bytes = core.ObjectIdentifier(dotted).dump()
    return encoded


def integer(value: int) -> bytes:
    encoded: bytes = core.Integer(value).dump()
    return encoded


def seq(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def algorithm(dotted: str, parameters: bytes = NULL) -> bytes:
    return seq(oid(dotted), parameters)


def name(common_name: str, tag: int = 0x0C) -> bytes:
    return seq(der(0x31, seq(oid("2.5.4.3"), der(tag, common_name.encode()))))


def spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@cache
def rsa_key(index: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of the keys that the tests of a session share; another index is another key."""
    del index
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign(message: bytes, key: Key, digest: str) -> bytes:
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(message, padding.PKCS1v15(), HASHES[digest])
        case ec.EllipticCurvePrivateKey():
            return key.sign(message, ec.ECDSA(HASHES[digest]))
        case ed25519.Ed25519PrivateKey():
            return key.sign(message)


def signature_algorithm(key: Key, digest: str) -> bytes:
    match key:
        case rsa.RSAPrivateKey():
            return algorithm(RSA_SIGNATURES[digest])
        case ec.EllipticCurvePrivateKey():
            return seq(oid("1.2.840.10045.4.1" if digest == "sha1" else "1.2.840.10045.4.3.2"))
        case ed25519.Ed25519PrivateKey():
            return seq(oid("1.3.101.112"))


def key_id_extension(key_id: bytes) -> bytes:
    return seq(oid("2.5.29.14"), der(0x04, der(0x04, key_id)))


def certificate(
    key: Key,
    *,
    subject: bytes = b"",
    serial: bytes | None = None,
    extensions: Sequence[bytes] = (),
    not_after: bytes = b"350101000000Z",
) -> bytes:
    """Self-signed; `serial` is an INTEGER, DER, of any kind."""
    subject = subject or name("device")
    validity = seq(der(0x17, b"250101000000Z"), der(0x17, not_after))
    tbs = seq(
        der(0xA0, integer(2)),
        serial or integer(7),
        signature_algorithm(key, "sha256"),
        subject,
        validity,
        subject,
        spki(key.public_key()),
        *([der(0xA3, seq(*extensions))] if extensions else []),
    )
    return seq(tbs, signature_algorithm(key, "sha256"), der(0x03, b"\x00", sign(tbs, key, "sha256")))


def attribute(dotted: str, *values: bytes) -> bytes:
    return seq(oid(dotted), der(0x31, *values))


def challenge(value: str = "the challenge", tag: int = 0x13, encoding: str = "utf-8") -> bytes:
    return attribute(CHALLENGE, der(tag, value.encode(encoding)))


def extension(dotted: str, value: bytes, *, critical: bytes = b"") -> bytes:
    return seq(oid(dotted), critical, der(0x04, value))


def extension_request(*extensions: bytes, dotted: str = EXTENSION_REQUEST) -> bytes:
    return attribute(dotted, seq(*extensions))


def csr(
    key: Key,
    *,
    attributes: Sequence[bytes] | None = (),
    subject: bytes = b"",
    version: int = 0,
    digest: str = "sha256",
    signature_name: bytes = b"",
    signature: bytes | None = None,
    key_info: bytes = b"",
) -> bytes:
    """A PKCS #10; `attributes` None leaves the field out."""
    info = seq(
        integer(version),
        subject or name("device"),
        key_info or spki(key.public_key()),
        *([] if attributes is None else [der(0xA0, *attributes)]),
    )
    signature = sign(info, key, digest) if signature is None else signature
    return seq(info, signature_name or signature_algorithm(key, digest), der(0x03, b"\x00", signature))


@dataclass
class SoftKey:
    """Implements Decryptor and Signer of ra.scep.keys; counts its private operations."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: bytes
    certificate_id: CertificateId
    unwrapped: list[KeyTransport] = field(default_factory=list)

    @property
    def signature_algorithm(self) -> str:
        return "rsa" if isinstance(self.key, rsa.RSAPrivateKey) else "ecdsa"

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        assert isinstance(self.key, rsa.RSAPrivateKey)
        self.unwrapped.append(transport)
        return self.key.decrypt(encrypted_key, key_padding(transport))

    def sign(self, message: bytes, digest: Digest) -> bytes:
        return sign(message, self.key, digest)


def soft_key(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    *,
    subject: bytes = b"",
    serial: int = 1,
    key_id: bytes = b"ours",
) -> SoftKey:
    subject = subject or name("RA")
    own = certificate(key, subject=subject, serial=integer(serial), extensions=[key_id_extension(key_id)])
    return SoftKey(key, own, CertificateId(issuer=subject, serial=serial, key_id=key_id))


def ra_identity(**options: bytes | int) -> Identity:
    """An RA whose one key decrypts and signs."""
    both = soft_key(rsa_key(100), **options)  # type: ignore[arg-type]  # passed on as they are
    return Identity(name="ra", decryptor=both, signer=both)


def key_padding(transport: str) -> padding.AsymmetricPadding:
    if transport == KeyTransport.PKCS1_V15:
        return padding.PKCS1v15()
    digest = HASHES[transport.removeprefix("rsaes-oaep-")]
    return padding.OAEP(padding.MGF1(digest), digest, None)


def transport_algorithm(transport: str) -> bytes:
    if transport == KeyTransport.PKCS1_V15:
        return algorithm(RSA)
    digest = algorithm(DIGESTS[transport.removeprefix("rsaes-oaep-")])
    mask = algorithm("1.2.840.113549.1.1.8", digest)
    return algorithm(OAEP, seq() if transport == KeyTransport.OAEP_SHA1 else seq(der(0xA0, digest), der(0xA1, mask)))


def encrypt(content: bytes, key: bytes, iv: bytes, cipher: str) -> bytes:
    padder = block_padding.PKCS7(len(iv) * 8).padder()
    padded = padder.update(content) + padder.finalize()
    return encrypt_blocks(padded, key, iv, cipher)


def encrypt_blocks(padded: bytes, key: bytes, iv: bytes, cipher: str) -> bytes:
    """CBC without padding, so that the padding can be wrong."""
    block = TripleDES(key * (24 // len(key))) if "des" in cipher else algorithms.AES(key)
    encryptor = Cipher(block, modes.CBC(iv)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


@dataclass
class Envelope:
    """EnvelopedData for `recipient`; every part can be replaced."""

    recipient: Identity
    content: bytes
    cipher: str = "aes128-cbc"
    content_key: bytes = CONTENT_KEY
    transport: str = KeyTransport.PKCS1_V15
    by_key_id: bool = False
    content_type: str = DATA
    issuer: bytes = b""
    encrypted_key: bytes | None = None
    ciphertext: bytes | None = None
    cipher_name: bytes = b""
    transport_name: bytes = b""
    pieces: int = 0
    others_before: Sequence[bytes] = ()
    others_after: Sequence[bytes] = ()

    def recipient_info(self) -> bytes:
        theirs = self.recipient.decryptor
        assert isinstance(theirs, SoftKey)
        public = theirs.key.public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        key_bytes = CIPHERS[self.cipher][1]
        wrapped = self.encrypted_key
        if wrapped is None:
            wrapped = public.encrypt(self.content_key[:key_bytes], key_padding(self.transport))
        named = seq(self.issuer or theirs.certificate_id.issuer, integer(theirs.certificate_id.serial))
        if self.by_key_id:
            named = der(0x80, theirs.certificate_id.key_id or b"")
        version = integer(2 if self.by_key_id else 0)
        return seq(version, named, self.transport_name or transport_algorithm(self.transport), der(0x04, wrapped))

    def build(self) -> bytes:
        name_, key_bytes = CIPHERS[self.cipher]
        iv = b"initial vector!!"[: 8 if "des" in self.cipher else 16]
        ciphertext = self.ciphertext
        if ciphertext is None:
            ciphertext = encrypt(self.content, self.content_key[:key_bytes], iv, self.cipher)
        info = seq(oid(self.content_type), self.cipher_name or algorithm(name_, der(0x04, iv)), self._node(ciphertext))
        recipients = der(0x31, *self.others_before, self.recipient_info(), *self.others_after)
        return seq(oid(ENVELOPED_DATA), der(0xA0, seq(integer(0), recipients, info)))

    def _node(self, ciphertext: bytes) -> bytes:
        if not self.pieces:
            return der(0x80, ciphertext)
        size = -(-len(ciphertext) // self.pieces)
        return der(0xA0, *(der(0x04, ciphertext[at : at + size]) for at in range(0, len(ciphertext), size)))


def printable(value: str) -> bytes:
    return der(0x13, value.encode())


@dataclass
class Message:
    """A pkiMessage around `content`; every part can be replaced. Attributes are sorted as DER has it unless told."""

    key: Key
    content: bytes | None
    message_type: str = "19"
    transaction_id: bytes = printable("4DFA0C")
    nonce: bytes | None = der(0x04, b"0123456789abcdef")
    digest: str = "sha256"
    digest_name: bytes = b""
    signature_name: bytes = b""
    signature: bytes | None = None
    content_type: str = DATA
    attributes: Mapping[str, bytes | None] = field(default_factory=dict)
    more_attributes: Sequence[bytes] = ()
    sorted: bool = True
    sign_sorted: bool = False
    certificates: Sequence[bytes] | None = None
    signer: bytes = b""
    signer_infos: int = 1
    signed_attributes: bool = True
    unsigned: bytes = b""
    trailer: bytes = b""

    def build(self) -> bytes:
        own = certificate(self.key)
        certificates = [own] if self.certificates is None else list(self.certificates)
        nodes = self._attributes()
        to_sign = der(0x31, *(sorted(nodes) if self.sign_sorted else nodes))
        if not self.signed_attributes:
            to_sign = self.content or b""
        signature = sign(to_sign, self.key, self.digest) if self.signature is None else self.signature
        signer_info = seq(
            integer(1),
            self.signer or seq(name("device"), integer(7)),
            self.digest_name or algorithm(DIGESTS[self.digest]),
            der(0xA0, *nodes) if self.signed_attributes else b"",
            self.signature_name or signature_algorithm(self.key, self.digest),
            der(0x04, signature),
            self.unsigned,
        )
        content = b"" if self.content is None else der(0xA0, der(0x04, self.content))
        signed_data = seq(
            integer(1),
            der(0x31, algorithm(DIGESTS[self.digest])),
            seq(oid(self.content_type), content),
            der(0xA0, *certificates) if certificates else b"",
            der(0x31, *([signer_info] * self.signer_infos)),
        )
        return seq(oid(SIGNED_DATA), der(0xA0, signed_data)) + self.trailer

    def _attributes(self) -> list[bytes]:
        digest = hashlib.new(self.digest, self.content or b"", usedforsecurity=False).digest()
        values: dict[str, bytes | None] = {
            TRANSACTION_ID: self.transaction_id,
            MESSAGE_TYPE: printable(self.message_type),
            SENDER_NONCE: self.nonce,
            CONTENT_TYPE: oid(DATA),
            MESSAGE_DIGEST: der(0x04, digest),
            **self.attributes,
        }
        nodes = [attribute(dotted, value) for dotted, value in values.items() if value is not None]
        nodes += self.more_attributes
        return sorted(nodes) if self.sorted else sorted(nodes, reverse=True)


def to_ber(node: bytes, piece_bytes: int = 1000) -> bytes:
    """The same value as Bouncy Castle writes it: indefinite lengths, long OCTET STRINGs in pieces."""
    tag, value = node[0], value_of(node)
    if tag == 0x04 and len(value) > piece_bytes:
        pieces = (der(0x04, value[at : at + piece_bytes]) for at in range(0, len(value), piece_bytes))
        return b"\x24\x80" + b"".join(pieces) + b"\x00\x00"
    if not tag & 0x20:
        return node
    return bytes((tag, 0x80)) + b"".join(to_ber(each, piece_bytes) for each in children(value)) + b"\x00\x00"


def children(value: bytes) -> list[bytes]:
    nodes = []
    while value:
        size = _header_bytes(value) + _length(value)
        nodes.append(value[:size])
        value = value[size:]
    return nodes


def value_of(node: bytes) -> bytes:
    return node[_header_bytes(node) :]


def _header_bytes(node: bytes) -> int:
    return 2 if node[1] < 0x80 else 2 + (node[1] & 0x7F)


def _length(node: bytes) -> int:
    return node[1] if node[1] < 0x80 else int.from_bytes(node[2 : _header_bytes(node)])
