"""EnvelopedData for RSA recipients, written and read, and read where a password seals it (RFC 8894 §3.1, RFC 5652 §6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from asn1crypto import algos, cms, core, parser
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from ra.client import algorithms
from ra.client.algorithms import Algorithms, Entropy
from ra.client.errors import BadReply, reading
from ra.client.identifiers import CertificateId, read_identifier, write_identifier
from ra.client.names import Cipher, KeyTransport
from ra.client.signed import Signer

_CIPHERS = {
    "aes128_cbc": Cipher.AES128_CBC,
    "aes192_cbc": Cipher.AES192_CBC,
    "aes256_cbc": Cipher.AES256_CBC,
    "tripledes_3key": Cipher.DES3_CBC,
    "des": Cipher.DES_CBC,
}
_PWRI_KEK = "1.2.840.113549.1.9.16.3.9"
_CIPHER_NAMES = {cipher: name for name, cipher in _CIPHERS.items()}
_OAEP_HASHES = {"sha1": KeyTransport.OAEP_SHA1, "sha256": KeyTransport.OAEP_SHA256}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """What was in an envelope, and how it had been sealed."""

    content: bytes
    cipher: Cipher
    key_transport: KeyTransport | None
    """None where a password opened it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByPassword:
    """A PasswordRecipientInfo (RFC 5652 §6.2.4)."""

    salt: bytes
    iterations: int
    digest: str
    cipher: Cipher
    iv: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    recipients: tuple[tuple[CertificateId, KeyTransport | None, bytes], ...]
    by_password: _ByPassword | None
    cipher: Cipher | None
    iv: bytes
    ciphertext: bytes


# asn1crypto's own EncryptedContentInfo refuses the constructed [0] that micromdm's scepserver 2.1.0 sends (Q2).
class _EncryptedContentInfo(core.Sequence):  # type: ignore[misc]  # asn1crypto is untyped
    _fields: ClassVar[list[tuple[Any, ...]]] = [
        ("content_type", cms.ContentType),
        ("content_encryption_algorithm", cms.EncryptionAlgorithm),
        ("encrypted_content", core.Any),
    ]


class _EnvelopedData(core.Sequence):  # type: ignore[misc]  # asn1crypto is untyped
    _fields: ClassVar[list[tuple[Any, ...]]] = [
        ("version", cms.CMSVersion),
        ("recipient_infos", cms.RecipientInfos),
        ("encrypted_content_info", _EncryptedContentInfo),
    ]


class _ContentInfo(core.Sequence):  # type: ignore[misc]  # asn1crypto is untyped
    _fields: ClassVar[list[tuple[Any, ...]]] = [
        ("content_type", cms.ContentType),
        ("content", core.Any, {"explicit": 0}),
    ]


def seal(content: bytes, recipients: Sequence[x509.Certificate], algorithm: Algorithms, entropy: Entropy) -> bytes:
    """EnvelopedData for every recipient in a ContentInfo, DER.

    Raises:
        BadArgument: a recipient's key is not RSA.
    """
    key = entropy(algorithms.content_key_bytes(algorithm.cipher))
    iv = entropy(algorithms.iv_bytes(algorithm.cipher))
    data = cms.EnvelopedData(
        {
            "version": "v0",
            "recipient_infos": [_recipient(key, recipient, algorithm.key_transport) for recipient in recipients],
            "encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": {
                    "algorithm": _CIPHER_NAMES[algorithm.cipher],
                    "parameters": core.OctetString(iv),
                },
                "encrypted_content": algorithms.encrypt(content, key, iv, algorithm.cipher),
            },
        }
    )
    return bytes(cms.ContentInfo({"content_type": "enveloped_data", "content": data}).dump())


def unseal(message: bytes, receiver: Signer, password: str | None = None) -> Unsealed:
    """Opens an envelope with the key of `receiver`, or with the password where that key cannot be encrypted to.

    Raises:
        BadReply: it is no envelope, is sealed to somebody else, or does not open.
    """
    with reading("The envelope of the reply"):
        envelope = _read(message)
    if envelope.cipher is None:
        raise BadReply("The reply is sealed with an algorithm that this client does not know.")
    try:
        if isinstance(receiver.key, rsa.RSAPrivateKey):
            key, transport = _open_with_key(envelope, receiver, receiver.key)
        else:
            key, transport = _open_with_password(envelope, password), None
        content = algorithms.decrypt(envelope.ciphertext, key, envelope.iv, envelope.cipher)
    except ValueError as fault:
        raise BadReply("The reply does not open with the key that signed the request, or the challenge.") from fault
    return Unsealed(content=content, cipher=envelope.cipher, key_transport=transport)


def _open_with_key(envelope: _Envelope, receiver: Signer, key: rsa.RSAPrivateKey) -> tuple[bytes, KeyTransport]:
    mine = next((entry for entry in envelope.recipients if entry[0].names(receiver.certificate)), None)
    if mine is None:
        raise BadReply("The reply is sealed to another certificate than the one that signed the request.")
    _, transport, wrapped = mine
    if transport is None:
        raise BadReply("The reply is sealed with an algorithm that this client does not know.")
    return algorithms.unwrap(wrapped, key, transport), transport


def _open_with_password(envelope: _Envelope, password: str | None) -> bytes:
    """RFC 5652 §6.2.4: PBKDF2 makes a key of the password, and that unwraps the content key (RFC 3211)."""
    if password is None or envelope.by_password is None:
        raise BadReply("The reply is sealed, and only an RSA key can open it; sign the request with an RSA key.")
    sealed = envelope.by_password
    length = algorithms.content_key_bytes(sealed.cipher)
    key = algorithms.derive(password.encode(), sealed.salt, sealed.iterations, length, sealed.digest)
    return algorithms.unwrap_with_key(sealed.wrapped, key, sealed.iv, sealed.cipher)


def _recipient(content_key: bytes, recipient: x509.Certificate, transport: KeyTransport) -> Any:
    fields = {
        "version": "v0",
        "rid": cms.RecipientIdentifier({"issuer_and_serial_number": write_identifier(recipient)}),
        "key_encryption_algorithm": _transport_algorithm(transport),
        "encrypted_key": algorithms.wrap(content_key, recipient.public_key(), transport),
    }
    return cms.RecipientInfo({"ktri": fields})


def _transport_algorithm(transport: KeyTransport) -> dict[str, Any]:
    name = next((name for name, known in _OAEP_HASHES.items() if known is transport), None)
    if name is None:
        return {"algorithm": "rsaes_pkcs1v15"}
    digest = {"algorithm": name}
    mask = {"algorithm": "mgf1", "parameters": digest}
    return {"algorithm": "rsaes_oaep", "parameters": {"hash_algorithm": digest, "mask_gen_algorithm": mask}}


def _read(message: bytes) -> _Envelope:
    info = _ContentInfo.load(message, strict=True)
    if info["content_type"].native != "enveloped_data":
        raise BadReply("The content of the reply is not sealed (no CMS EnvelopedData).")
    data = info["content"].parse(_EnvelopedData)
    encrypted = data["encrypted_content_info"]
    algorithm = encrypted["content_encryption_algorithm"]
    cipher = _CIPHERS.get(algorithm["algorithm"].native)
    by_password = [choice.chosen for choice in data["recipient_infos"] if choice.name == "pwri"]
    transported = [choice.chosen for choice in data["recipient_infos"] if choice.name == "ktri"]
    return _Envelope(
        recipients=tuple(
            (read_identifier(entry["rid"]), _transport(entry), entry["encrypted_key"].native) for entry in transported
        ),
        by_password=_by_password(by_password[0]) if by_password else None,
        cipher=cipher,
        iv=algorithm["parameters"].native if cipher else b"",
        ciphertext=_joined(_elements(encrypted.contents)[2]),
    )


def _by_password(recipient: Any) -> _ByPassword | None:
    derivation, wrapping = recipient["key_derivation_algorithm"], recipient["key_encryption_algorithm"]
    if derivation["algorithm"].native != "pbkdf2" or wrapping["algorithm"].native != _PWRI_KEK:
        return None
    parameters = derivation["parameters"]
    kek = wrapping["parameters"].parse(algos.EncryptionAlgorithm)
    cipher = _CIPHERS.get(kek["algorithm"].native)
    if cipher is None:
        return None
    return _ByPassword(
        salt=parameters["salt"].native,
        iterations=parameters["iteration_count"].native,
        digest=parameters["prf"]["algorithm"].native,
        cipher=cipher,
        iv=kek["parameters"].native,
        wrapped=recipient["encrypted_key"].native,
    )


def _transport(recipient: Any) -> KeyTransport | None:
    algorithm = recipient["key_encryption_algorithm"]
    if algorithm["algorithm"].native == "rsaes_pkcs1v15":
        return KeyTransport.PKCS1_V15
    if algorithm["algorithm"].native != "rsaes_oaep":
        return None
    parameters = algorithm["parameters"]
    digest = parameters["hash_algorithm"]["algorithm"].native
    mask_digest = parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native
    return _OAEP_HASHES.get(digest) if digest == mask_digest else None


def _joined(encoded: bytes) -> bytes:
    """The octets of a string in one piece or in several (BER, Q2)."""
    _, constructed, _, _, content, _ = parser.parse(encoded, strict=True)
    return b"".join(_joined(piece) for piece in _elements(content)) if constructed else bytes(content)


def _elements(content: bytes) -> list[bytes]:
    found = []
    while content:
        length = parser.peek(content)
        found.append(content[:length])
        content = content[length:]
    return found
