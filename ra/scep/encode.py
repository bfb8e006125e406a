"""From what a reply says to its bytes: CertRep, and the degenerate messages of GetCACert, GetCRL and GetNextCACert."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ra.scep import ciphers
from ra.scep.ber import tlv
from ra.scep.enveloped import seal, seal_with_password
from ra.scep.errors import AlgorithmRefused
from ra.scep.header import Header
from ra.scep.keys import Identity, Signer
from ra.scep.messages import CrlDelivery, Deferral, Issuance, Refusal, Reply, Sealing, SignerCertificate
from ra.scep.names import Cipher, Digest, FailInfo, KeyTransport, Legacy, MessageType, Oid, PkiStatus
from ra.scep.signed import write_bag, write_signed

_OCTET_STRING, _UTF8_STRING, _PRINTABLE_STRING = 0x04, 0x0C, 0x13
_NONCE_BYTES, _SHORT_NONCE_BYTES = 16, 8


def write_reply(
    reply: Reply,
    header: Header,
    identity: Identity,
    entropy: Callable[[int], bytes],
    *,
    recipient: SignerCertificate | None = None,
    sealing: Sealing | None = None,
    password: str | None = None,
    legacy: frozenset[Legacy],
) -> bytes:
    """A CertRep, DER (RFC 8894 §3.3.2).

    1. The attributes: what happened, and the request's transactionID and senderNonce as they came (Q11, Q12).
    2. The content: for SUCCESS a degenerate SignedData sealed to the request's signer (§3.1), with the algorithms of
       the request where the floor allows (Q8, Q9); else an empty OCTET STRING. RFC 8894 §3.2 would omit that too, but
       certmonger does not read a SignedData without content (Q1).
    3. Sign, with the RA certificate enclosed: strongSwan takes it from nowhere else (Q6).

    Args:
        reply: what to say.
        header: of the request.
        identity: signs; the one that the request addressed.
        entropy: that many random bytes.
        recipient: the request's signer; needed for SUCCESS.
        sealing: how the request was sealed; None (a CertPoll was not opened) means as RFC 8894 §2.9 has it.
        password: the challenge, to seal SUCCESS with where the recipient's key is not RSA (§3.1).
        legacy: what the profile lets in.

    Raises:
        AlgorithmRefused: SUCCESS, no password, and no recipient whose key can be sealed to; `read_inner` lets none such through.
    """
    return write_signed(
        _content(reply, entropy, recipient, sealing, password=password, legacy=legacy),  # (2)
        attributes=_attributes(reply, header, entropy),  # (1)
        signer=identity.signer,
        digest=ciphers.reply_digest(header.digest, legacy),
        certificates=(identity.signer.certificate,),  # (3)
    )


def _attributes(reply: Reply, header: Header, entropy: Callable[[int], bytes]) -> dict[str, bytes]:
    """The SCEP attributes of a CertRep (RFC 8894 §3.2.1, table 1), DER by dotted type."""
    attributes = {
        Oid.MESSAGE_TYPE: _printable(MessageType.CERT_REP),
        Oid.TRANSACTION_ID: tlv(header.transaction_id.tag, header.transaction_id.value),
        Oid.RECIPIENT_NONCE: tlv(_OCTET_STRING, header.sender_nonce),
        Oid.SENDER_NONCE: tlv(_OCTET_STRING, entropy(_nonce_bytes(header))),
    }
    match reply:
        case Refusal():
            attributes[Oid.PKI_STATUS] = _printable(PkiStatus.FAILURE)
            attributes[Oid.FAIL_INFO] = _printable(reply.fail_info)
            if reply.text is not None:
                attributes[Oid.FAIL_INFO_TEXT] = tlv(_UTF8_STRING, reply.text.encode())
        case Deferral():
            attributes[Oid.PKI_STATUS] = _printable(PkiStatus.PENDING)
        case Issuance() | CrlDelivery():
            attributes[Oid.PKI_STATUS] = _printable(PkiStatus.SUCCESS)
    return attributes


@cache
def _printable(value: MessageType | PkiStatus | FailInfo) -> bytes:
    return tlv(_PRINTABLE_STRING, value.encode("ascii"))


def _nonce_bytes(header: Header) -> int:
    """16, or 8 for iOS of old, which sends 8 and expects as many (Q11)."""
    return _SHORT_NONCE_BYTES if len(header.sender_nonce) == _SHORT_NONCE_BYTES else _NONCE_BYTES


def _content(
    reply: Reply,
    entropy: Callable[[int], bytes],
    recipient: SignerCertificate | None,
    sealing: Sealing | None,
    *,
    password: str | None,
    legacy: frozenset[Legacy],
) -> bytes:
    if isinstance(reply, Refusal | Deferral):
        return b""
    content = certs_only(reply.certificates) if isinstance(reply, Issuance) else crl_only(reply.crl)
    sealing = sealing or _MANDATORY
    cipher = ciphers.reply_cipher(sealing.cipher, legacy)
    if recipient is None or not isinstance(recipient.public_key, RSAPublicKey):
        if recipient is None or not password:
            raise AlgorithmRefused("nothing can be sealed without a recipient's RSA key, or a password")
        return seal_with_password(content, password=password.encode(), cipher=cipher, entropy=entropy)
    return seal(
        content,
        recipient=recipient.certificate_id,
        key=recipient.public_key,
        cipher=cipher,
        transport=sealing.key_transport,
        entropy=entropy,
    )


_MANDATORY = Sealing(cipher=Cipher.AES128_CBC, key_transport=KeyTransport.PKCS1_V15)
"""RFC 8894 §2.9."""


def certs_only(certificates: Sequence[bytes]) -> bytes:
    """Certificates, DER, in a degenerate SignedData (RFC 8894 §3.4), in the order given: RA, issuer, chain (Q5)."""
    return write_bag(certificates)


def crl_only(crl: bytes) -> bytes:
    """A CRL, DER, in a degenerate SignedData (RFC 8894 §3.4, §4.6.1)."""
    return write_bag((), (crl,))


def next_ca_response(chain: Sequence[bytes], signer: Signer, digest: Digest = Digest.SHA256) -> bytes:
    """The answer to GetNextCACert (RFC 8894 §4.7.1): the CA certificates that follow, DER, issuer first, signed.

    The RFC has the present CA key sign; where `signer` is the RA's, clients must trust it for that.
    """
    return write_signed(
        certs_only(chain), attributes={}, signer=signer, digest=digest, certificates=(signer.certificate,)
    )
