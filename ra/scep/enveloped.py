"""EnvelopedData: read, opened with one private operation that tells nothing, and sealed.

RFC 5652 §6, RFC 8894 §3.2.2 (pkcsPKIEnvelope). PasswordRecipientInfo (RFC 8894 §3.1) is written, and not read: it is for
recipients whose key cannot be encrypted to, and the RA's can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ra.scep import asn1, ber, ciphers, x509
from ra.scep.ber import tlv
from ra.scep.errors import AlgorithmRefused, Malformed
from ra.scep.header import CertificateId
from ra.scep.keys import Decryptor
from ra.scep.names import Cipher, Digest, KeyTransport, Oid

MAX_RECIPIENTS = 16
MIN_SEALING_BITS = 1024

PBKDF2_ITERATIONS = 10_000
"""A few milliseconds, for the device too."""

_SEQUENCE, _SET, _OCTET_STRING = 0x30, 0x31, 0x04
_WHOLE_CONTENT, _SPLIT_CONTENT = 0x80, 0xA0
_INTEGER_0, _INTEGER_3 = asn1.encode_integer(0), asn1.encode_integer(3)
_NULL = tlv(0x05)
_PASSWORD_RECIPIENT = 0xA3
_PBKDF2, _PWRI_KEK = "1.2.840.113549.1.5.12", "1.2.840.113549.1.9.16.3.9"
_HMAC_SHA256 = tlv(_SEQUENCE, asn1.encode_oid("1.2.840.113549.2.9"), _NULL)
_WRAPPING = Cipher.AES256_CBC
_SALT_BYTES = 16
_DATA = asn1.encode_oid(Oid.DATA)
_ENVELOPED_DATA = asn1.encode_oid(Oid.ENVELOPED_DATA)
_P_SPECIFIED = "1.2.840.113549.1.1.9"
_NO_LABEL = tlv(_OCTET_STRING)
_OAEP = {digest: transport for transport, digest in ciphers.OAEP_DIGESTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One KeyTransRecipientInfo."""

    certificate_id: CertificateId
    algorithm: asn1.AlgorithmIdentifier
    encrypted_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """EnvelopedData, parsed.

    Attributes:
        recipients: those that are KeyTransRecipientInfo, in their order.
        in_pieces: whether the ciphertext came as a constructed [0] (Q2).
    """

    recipients: tuple[Recipient, ...]
    algorithm: asn1.AlgorithmIdentifier
    ciphertext: bytes
    in_pieces: bool


def read_envelope(der: bytes) -> Envelope:
    """EnvelopedData with at most MAX_RECIPIENTS recipients.

    Raises:
        Malformed: it is anything else, or what it holds is not of type data.
    """
    message = asn1.read(asn1.EnvelopedMessage, der)
    if message.content_type.dotted_string != Oid.ENVELOPED_DATA:
        raise Malformed("no EnvelopedData")
    recipients = asn1.set_elements(message.content.recipients)
    if len(recipients) > MAX_RECIPIENTS:
        raise Malformed(f"{len(recipients)} recipients are more than {MAX_RECIPIENTS}")
    info = message.content.content_info
    # RFC 8894 §3.2.2: "contentType in encryptedContentInfo MUST be data".
    if info.content_type.dotted_string != Oid.DATA:
        raise Malformed("the content type is not data")
    return Envelope(
        recipients=tuple(_read_recipient(each) for each in recipients if each[0] == _SEQUENCE),
        algorithm=info.algorithm,
        ciphertext=_ciphertext(info.content),
        in_pieces=asn1.tag(info.content) == _SPLIT_CONTENT,
    )


def _ciphertext(node: asn1.Node) -> bytes:
    """The ciphertext, joined where it came in pieces: Debian's scepclient 2.1.0 sends one piece so, jscep many (Q2)."""
    if asn1.tag(node) == _WHOLE_CONTENT:
        return asn1.value(node)
    if asn1.tag(node) == _SPLIT_CONTENT:
        return ber.join(ber.split(asn1.value(node)))
    raise Malformed("no encrypted content")


def _read_recipient(der: bytes) -> Recipient:
    info = asn1.read(asn1.KeyTransRecipientInfo, der)
    named = info.recipient
    if isinstance(named, bytes):
        certificate_id = CertificateId(issuer=b"", serial=0, key_id=named)
    else:
        certificate_id = CertificateId(issuer=asn1.raw(named.issuer), serial=named.serial, key_id=None)
    return Recipient(certificate_id=certificate_id, algorithm=info.algorithm, encrypted_key=info.encrypted_key)


def addresses(recipient: CertificateId, ours: CertificateId) -> bool:
    """Whether a recipient names a certificate of ours, by key identifier or by issuer and serial number (Q4)."""
    if recipient.key_id is not None:
        return recipient.key_id == ours.key_id
    return recipient.serial == ours.serial and x509.same_name(recipient.issuer, ours.issuer)


def read_cipher(envelope: Envelope) -> tuple[Cipher, bytes]:
    """Content encryption and IV.

    Raises:
        AlgorithmRefused: it is not in the table.
        Malformed: the IV or the ciphertext are of no length that the cipher knows.
    """
    cipher = ciphers.cipher_named(envelope.algorithm.algorithm.dotted_string)
    iv = asn1.read(bytes, asn1.parameters(envelope.algorithm) or b"")
    block_bytes = ciphers.BLOCK_BYTES[cipher]
    if len(iv) != block_bytes or not envelope.ciphertext or len(envelope.ciphertext) % block_bytes:
        raise Malformed("IV or ciphertext of a wrong length")
    return cipher, iv


def read_key_transport(recipient: Recipient) -> KeyTransport:
    """How the content key is wrapped: PKCS #1 v1.5, or OAEP as Windows does (Q8).

    Raises:
        AlgorithmRefused: in another way.
        Malformed: the parameters do not parse.
    """
    oid = recipient.algorithm.algorithm.dotted_string
    if oid == ciphers.RSA_ENCRYPTION:
        return KeyTransport.PKCS1_V15
    if oid != ciphers.RSAES_OAEP:
        raise AlgorithmRefused(f"key transport algorithm {oid}")
    parameters = asn1.read(asn1.RsaesOaepParams, asn1.parameters(recipient.algorithm) or x509.EMPTY_SEQUENCE)
    if parameters.label is not None and (
        parameters.label.algorithm.dotted_string != _P_SPECIFIED or asn1.parameters(parameters.label) != _NO_LABEL
    ):
        raise AlgorithmRefused("OAEP with a label")
    digest = x509.parameter_digest(parameters.digest, parameters.mask)
    if digest not in _OAEP:
        raise AlgorithmRefused(f"OAEP with {digest}")
    return _OAEP[digest]


def open_envelope(
    envelope: Envelope, recipient: Recipient, decryptor: Decryptor, entropy: Callable[[int], bytes]
) -> bytes:
    """The content, by exactly one private operation.

    A key that does not unwrap, or is of the wrong length, is replaced by a random one drawn beforehand, and the
    content is decrypted with it all the same (RFC 3218 §2.3.2): what went wrong does not show in what is done.

    Raises:
        AlgorithmRefused: see `read_cipher` and `read_key_transport`; both are asked before the private operation.
        Malformed: the content does not open.
    """
    cipher, iv = read_cipher(envelope)
    transport = read_key_transport(recipient)
    substitute = entropy(ciphers.KEY_BYTES[cipher])
    try:
        key = decryptor.unwrap(recipient.encrypted_key, transport)
    except ValueError:
        key = substitute
    if len(key) != len(substitute):
        key = substitute
    return ciphers.decrypt(envelope.ciphertext, key, iv, cipher)


def seal(
    content: bytes,
    *,
    recipient: CertificateId,
    key: RSAPublicKey,
    cipher: Cipher,
    transport: KeyTransport,
    entropy: Callable[[int], bytes],
) -> bytes:
    """ContentInfo with EnvelopedData for one recipient (RFC 8894 §3.2.2), DER.

    `key` has MIN_SEALING_BITS at least; where `transport` needs more room than it has, PKCS #1 v1.5 is used.

    Raises:
        AlgorithmRefused: `key` is one that nothing can be encrypted to, such as one with an even modulus.
    """
    content_key = entropy(ciphers.KEY_BYTES[cipher])
    transport = _fitting(transport, key, len(content_key))
    wrapped = ciphers.wrap(content_key, key, transport)
    recipient_info = tlv(
        _SEQUENCE,
        _INTEGER_0,
        tlv(_SEQUENCE, recipient.issuer, asn1.encode_integer(recipient.serial)),
        _transport_algorithm(transport),
        tlv(_OCTET_STRING, wrapped),
    )
    return _enveloped(content, content_key, cipher, entropy, recipient_info=recipient_info, version=_INTEGER_0)


def seal_with_password(content: bytes, *, password: bytes, cipher: Cipher, entropy: Callable[[int], bytes]) -> bytes:
    """ContentInfo with EnvelopedData for whoever knows the password (RFC 8894 §3.1, RFC 5652 §6.2.4), DER.

    The iterations do not make up for a password that can be guessed: it has 128 bits of entropy, or is not used.
    """
    content_key, salt = entropy(ciphers.KEY_BYTES[cipher]), entropy(_SALT_BYTES)
    iv = entropy(ciphers.BLOCK_BYTES[_WRAPPING])
    wrapping_key = ciphers.derive(password, salt, PBKDF2_ITERATIONS, ciphers.KEY_BYTES[_WRAPPING])
    wrapped = ciphers.wrap_with_key(content_key, wrapping_key, iv, _WRAPPING, entropy)
    pbkdf2 = tlv(_SEQUENCE, tlv(_OCTET_STRING, salt), asn1.encode_integer(PBKDF2_ITERATIONS), _HMAC_SHA256)
    recipient_info = tlv(
        _PASSWORD_RECIPIENT,
        _INTEGER_0,
        tlv(0xA0, asn1.encode_oid(_PBKDF2), pbkdf2),
        tlv(_SEQUENCE, asn1.encode_oid(_PWRI_KEK), _cipher_algorithm(_WRAPPING, iv)),
        tlv(_OCTET_STRING, wrapped),
    )
    # RFC 5652 §6.1: with a PasswordRecipientInfo the version is 3.
    return _enveloped(content, content_key, cipher, entropy, recipient_info=recipient_info, version=_INTEGER_3)


def _enveloped(
    content: bytes,
    content_key: bytes,
    cipher: Cipher,
    entropy: Callable[[int], bytes],
    *,
    recipient_info: bytes,
    version: bytes,
) -> bytes:
    iv = entropy(ciphers.BLOCK_BYTES[cipher])
    content_info = tlv(
        _SEQUENCE,
        _DATA,
        _cipher_algorithm(cipher, iv),
        tlv(_WHOLE_CONTENT, ciphers.encrypt(content, content_key, iv, cipher)),
    )
    enveloped_data = tlv(_SEQUENCE, version, tlv(_SET, recipient_info), content_info)
    return tlv(_SEQUENCE, _ENVELOPED_DATA, tlv(0xA0, enveloped_data))


def _cipher_algorithm(cipher: Cipher, iv: bytes) -> bytes:
    """AlgorithmIdentifier, DER."""
    return tlv(_SEQUENCE, asn1.encode_oid(ciphers.CIPHER_OIDS[cipher]), tlv(_OCTET_STRING, iv))


def _fitting(transport: KeyTransport, key: RSAPublicKey, content_key_bytes: int) -> KeyTransport:
    if transport is KeyTransport.PKCS1_V15:
        return transport
    digest_bytes = len(ciphers.hash_of(b"", ciphers.OAEP_DIGESTS[transport]))
    # RFC 8017 §7.1.1: two digests and two bytes are overhead.
    fits = content_key_bytes <= key.key_size // 8 - 2 * digest_bytes - 2
    return transport if fits else KeyTransport.PKCS1_V15


@cache
def _transport_algorithm(transport: KeyTransport) -> bytes:
    """AlgorithmIdentifier, DER; OAEP with its parameters written out, as .NET wants them."""
    if transport is KeyTransport.PKCS1_V15:
        return tlv(_SEQUENCE, asn1.encode_oid(ciphers.RSA_ENCRYPTION), _NULL)
    digest = ciphers.OAEP_DIGESTS[transport]
    named = tlv(_SEQUENCE, asn1.encode_oid(ciphers.DIGEST_OIDS[digest]), _NULL)
    mask = tlv(_SEQUENCE, asn1.encode_oid(ciphers.MGF1), named)
    # DER leaves defaults out, and SHA-1 is the default (RFC 4055 §4.1).
    parameters = () if digest is Digest.SHA1 else (tlv(0xA0, named), tlv(0xA1, mask))
    return tlv(_SEQUENCE, asn1.encode_oid(ciphers.RSAES_OAEP), tlv(_SEQUENCE, *parameters))
