"""Opens a CertRep: verifies who signed it and that it answers the request, then reads what it says (RFC 8894 §3.3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509

from ra.client.bags import read_bag
from ra.client.enveloped import unseal
from ra.client.errors import BadReply
from ra.client.names import Attribute, Cipher, Digest, FailInfo, KeyTransport, MessageType, PkiStatus
from ra.client.requests import Request
from ra.client.signed import Signed, read_signed, verify_signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """Certificates in the order sent, or a CRL, and how they had been sealed: without key transport by a password."""

    certificates: tuple[x509.Certificate, ...]
    crl: x509.CertificateRevocationList | None
    cipher: Cipher
    key_transport: KeyTransport | None


@dataclass(frozen=True, slots=True)
class Failure:
    """FAILURE; `text` is empty when the server gave none."""

    fail_info: FailInfo
    text: str


@dataclass(frozen=True, slots=True)
class Pending:
    """PENDING: ask again with CertPoll."""


Result = Success | Failure | Pending


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A CertRep that verified and answers the request.

    Attributes:
        digest: of its signature.
        signer: the RA's certificate.
        sender_nonce: the server's own; empty where it sent none, as old servers do.
    """

    result: Result
    digest: Digest
    signer: x509.Certificate
    sender_nonce: bytes


def open_reply(message: bytes, request: Request, signers: Sequence[x509.Certificate]) -> Reply:
    """What the server answered, DER, to `request`; `signers` are the certificates trusted to sign for it.

    Raises:
        BadReply: it cannot be read, does not verify, or does not answer this request.
    """
    signed = read_signed(message, "The reply")
    signer = verify_signed(signed, signers)
    _check_answers(signed, request)
    return Reply(
        result=_read_result(signed, request),
        digest=signed.digest,
        signer=signer,
        sender_nonce=_octets(signed, Attribute.SENDER_NONCE),
    )


def _check_answers(signed: Signed, request: Request) -> None:
    if (found := _text(signed, Attribute.MESSAGE_TYPE)) != MessageType.CERT_REP:
        raise BadReply(f"The reply is of messageType {found!r}, not CertRep.")
    if (found := _text(signed, Attribute.TRANSACTION_ID)) != request.transaction_id:
        raise BadReply(f"The reply belongs to another transaction: {found!r}.")
    # RFC 8894 §3.2.1.5: the recipientNonce MUST be the request's senderNonce, or the reply is rejected.
    if _octets(signed, Attribute.RECIPIENT_NONCE) != request.sender_nonce:
        raise BadReply("The reply does not echo the request's nonce: it may be the replay of an older one.")


def _read_result(signed: Signed, request: Request) -> Result:
    match _text(signed, Attribute.PKI_STATUS):
        case PkiStatus.SUCCESS:
            return _open_success(signed.content, request)
        case PkiStatus.FAILURE:
            return Failure(_fail_info(signed), _text(signed, Attribute.FAIL_INFO_TEXT))
        case PkiStatus.PENDING:
            return Pending()
        case other:
            raise BadReply(f"The reply has the pkiStatus {other!r}, which RFC 8894 does not know.")


def _open_success(envelope: bytes, request: Request) -> Success:
    opened = unseal(envelope, request.signer, request.password)
    bag = read_bag(opened.content, "The content of the reply")
    if not bag.certificates and len(bag.crls) != 1:
        raise BadReply("The reply says SUCCESS but carries neither a certificate nor one CRL.")
    return Success(
        certificates=bag.certificates,
        crl=bag.crls[0] if bag.crls else None,
        cipher=opened.cipher,
        key_transport=opened.key_transport,
    )


def _fail_info(signed: Signed) -> FailInfo:
    value = _text(signed, Attribute.FAIL_INFO)
    try:
        return FailInfo(value)
    except ValueError as fault:
        raise BadReply(f"The reply has the failInfo {value!r}, which RFC 8894 does not know.") from fault


def _text(signed: Signed, attribute: Attribute) -> str:
    value = (signed.attributes or {}).get(attribute, "")
    if not isinstance(value, str):
        raise BadReply(f"The attribute {attribute.name} of the reply is no string.")
    return value


def _octets(signed: Signed, attribute: Attribute) -> bytes:
    value = (signed.attributes or {}).get(attribute, b"")
    if not isinstance(value, bytes):
        raise BadReply(f"The attribute {attribute.name} of the reply is no OCTET STRING.")
    return value
