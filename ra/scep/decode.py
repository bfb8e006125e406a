"""From the bytes of a request to what it says, in two steps: what is outside the envelope, and what is inside.

The outer step uses public facts alone, so its errors may differ from each other; of the inner step nothing but
BadInner may be seen once the private key has been used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ra.scep import asn1, ciphers, x509
from ra.scep.csr import Csr, read_csr
from ra.scep.enveloped import (
    MIN_SEALING_BITS,
    Envelope,
    Recipient,
    addresses,
    open_envelope,
    read_cipher,
    read_envelope,
    read_key_transport,
)
from ra.scep.errors import (
    AlgorithmRefused,
    BadAlgorithm,
    BadInner,
    BadMessageCheck,
    BadMessageType,
    Malformed,
    ScepError,
    SignerCannotReceive,
    TooLarge,
    Unreadable,
)
from ra.scep.header import Header, TransactionId
from ra.scep.keys import Identity
from ra.scep.messages import CertPoll, CertQuery, Enrolment, Outer, Request, Sealing, SignerCertificate
from ra.scep.names import Digest, Legacy, MessageType, Oid
from ra.scep.signed import Signed, find_signer, only_value, read_signed, sorted_attributes, verify
from ra.scep.transport import MAX_MESSAGE_BYTES

MAX_TRANSACTION_ID_BYTES = 255
MAX_NONCE_BYTES = 64

_OCTET_STRING, _PRINTABLE_STRING = 0x04, 0x13
_NONCE_BYTES, _SHORT_NONCE_BYTES = 16, 8
_MAX_SERIAL_BITS = 159


def read_outer(message: bytes, legacy: frozenset[Legacy]) -> Outer:
    """Everything outside the envelope of a request, its signature verified.

    1. Parse, as DER or as BER within bounds: SignedData, one signer, signed attributes (RFC 8894 §3.2).
    2. Read what is needed to answer: transactionID, senderNonce, messageType, whom the envelope addresses (§3.2.1).
    3. Find the signer's certificate: the one and only that matches (§3.1).
    4. Check digest and signature algorithm against the floor (§2.9).
    5. Check content type, message digest and signature.
    6. Check that the messageType is one of a request (§3.2.1.2).

    Args:
        message: ContentInfo, DER or BER, as `transport.read_message` returns it.
        legacy: what the profile lets in.

    Raises:
        Unreadable: there is nobody to answer (1, 2, 3).
        BadAlgorithm: (4).
        BadMessageCheck: (5).
        BadMessageType: (6).
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise TooLarge(f"a message has at most {MAX_MESSAGE_BYTES} bytes")
    try:
        signed, der = asn1.leniently(read_signed, message)  # (1)
        envelope, envelope_is_ber = _read_envelope(signed.content)
        header = _read_header(signed, envelope)  # (2)
        signer_der, certificate = find_signer(signed)  # (3)
        signer = _signer_certificate(signer_der, certificate, header)
    except Malformed as error:
        raise Unreadable(str(error)) from error
    used = _verify(signed, signer, header, legacy)  # (4), (5)
    if header.message_type is None:  # (6)
        raise BadMessageType("the messageType is not one of a request", header)
    odd = (
        *(["ber"] if der is not message or envelope_is_ber else []),
        *_signed_oddities(signed, header, signer),
        *_envelope_oddities(envelope),
    )
    return Outer(header=header, signer=signer, envelope=envelope, legacy=used, oddities=odd)


def _read_envelope(content: bytes) -> tuple[Envelope | None, bool]:
    """The envelope if there is one that parses, and whether it came as BER; that there must be one says `read_inner`.

    Nothing, and the one byte that NDES sends in place of nothing (Q1), are no envelope either.
    """
    try:
        envelope, der = asn1.leniently(read_envelope, content)
    except Malformed:
        return None, False
    return envelope, der is not content


def _read_header(signed: Signed, envelope: Envelope | None) -> Header:
    return Header(
        message_type=_read_message_type(signed),
        transaction_id=_read_transaction_id(signed),
        sender_nonce=_read_nonce(signed),
        digest=_digest_or_default(signed),
        recipients=tuple(each.certificate_id for each in envelope.recipients) if envelope else (),
    )


def _read_message_type(signed: Signed) -> MessageType | None:
    """RFC 8894 §3.2.1.2: "Message types not defined above MUST be treated as errors"; CertRep is no request."""
    node = only_value(signed, Oid.MESSAGE_TYPE)
    try:
        message_type = MessageType(asn1.value(node).decode("ascii")) if node is not None else None
    except ValueError:
        return None
    return None if message_type is MessageType.CERT_REP else message_type


def _read_transaction_id(signed: Signed) -> TransactionId:
    """The transactionID, opaque (Q12): hex, base64 (Windows), 78 decimal digits (certmonger) or a sentence (sscep)."""
    node = only_value(signed, Oid.TRANSACTION_ID)
    if node is None:
        raise Malformed("there is no transactionID")
    tag, value = asn1.tag(node), asn1.value(node)
    if not x509.is_string(tag) or not 0 < len(value) <= MAX_TRANSACTION_ID_BYTES:
        raise Malformed("the transactionID is no string of 1 to 255 bytes")
    return TransactionId(value, tag)


def _read_nonce(signed: Signed) -> bytes:
    """The senderNonce (Q11): 8 bytes from Apple's older clients, none from some; echoed as it came."""
    node = only_value(signed, Oid.SENDER_NONCE)
    if node is None:
        return b""
    nonce = asn1.value(node)
    if asn1.tag(node) != _OCTET_STRING or len(nonce) > MAX_NONCE_BYTES:
        raise Malformed("the senderNonce is no OCTET STRING of at most 64 bytes")
    return nonce


def _digest_or_default(signed: Signed) -> Digest:
    """The digest to answer with; where the request's is not known, the one that is mandatory (RFC 8894 §2.9)."""
    try:
        return ciphers.digest_named(signed.signer_info.digest_algorithm.algorithm.dotted_string)
    except AlgorithmRefused:
        return Digest.SHA256


def _signer_certificate(der: bytes, certificate: asn1.TbsCertificate, header: Header) -> SignerCertificate:
    """Its names and its key. Neither its validity nor the signingTime is judged (Q16): devices' clocks are wrong.

    Whether a certificate of ours is still valid is asked where it is to authorise a renewal.
    """
    spki = asn1.raw(certificate.spki)
    try:
        key = x509.read_public_key(spki)
    except AlgorithmRefused as error:
        raise BadAlgorithm(f"signer: {error}", header) from error
    return SignerCertificate(
        der=der,
        certificate_id=x509.certificate_id(certificate),
        subject=asn1.raw(certificate.subject),
        spki=spki,
        public_key=key,
    )


def _verify(signed: Signed, signer: SignerCertificate, header: Header, legacy: frozenset[Legacy]) -> frozenset[Legacy]:
    """Steps 4 and 5 of `read_outer`; returns the legacy algorithms that were made use of."""
    info = signed.signer_info
    try:
        digest = ciphers.digest_named(info.digest_algorithm.algorithm.dotted_string)
        algorithm = x509.read_signature_algorithm(info.signature_algorithm)
        used = ciphers.admit(digest, legacy) | ciphers.admit(algorithm.digest or digest, legacy)
        verify(signed, signer.public_key, algorithm, digest)
    except AlgorithmRefused as error:
        raise BadAlgorithm(str(error), header) from error
    except Malformed as error:
        raise BadMessageCheck(str(error), header) from error
    return used


def _signed_oddities(signed: Signed, header: Header, signer: SignerCertificate) -> tuple[str, ...]:
    nonce_bytes, serial = len(header.sender_nonce), signer.certificate_id.serial
    found = {
        "unsorted-attributes": not sorted_attributes(signed),
        "no-nonce": nonce_bytes == 0,
        "nonce-8": nonce_bytes == _SHORT_NONCE_BYTES,
        "nonce-length": nonce_bytes not in {0, _SHORT_NONCE_BYTES, _NONCE_BYTES},
        "transaction-id-tag": header.transaction_id.tag != _PRINTABLE_STRING,
        "extra-certificates": len(signed.certificates) > 1,
        "signer-serial": serial <= 0 or serial.bit_length() > _MAX_SERIAL_BITS,
        "signer-by-key-id": isinstance(signed.signer_info.signer, bytes),
    }
    return tuple(word for word, is_so in found.items() if is_so)


def _envelope_oddities(envelope: Envelope | None) -> tuple[str, ...]:
    if envelope is None:
        return ()
    found = {
        "split-ciphertext": envelope.in_pieces,
        "several-recipients": len(envelope.recipients) > 1,
        "recipient-by-key-id": any(each.certificate_id.key_id is not None for each in envelope.recipients),
        "oaep": any(each.algorithm.algorithm.dotted_string == ciphers.RSAES_OAEP for each in envelope.recipients),
    }
    return tuple(word for word, is_so in found.items() if is_so)


def read_inner(
    outer: Outer,
    identities: Sequence[Identity],
    legacy: frozenset[Legacy],
    entropy: Callable[[int], bytes],
    *,
    password_recipient: bool = False,
) -> Request:
    """What a request asks for, decrypted unless it is a CertPoll.

    1. CertPoll is answered from the outer message (RFC 8894 §3.3.3); it costs no private operation.
    2. Check that a reply can be sealed to the signer's key (§3.1).
    3. Find the newest identity of ours that the envelope addresses, and the one recipient that names it.
    4. Check content encryption and key transport against the floor (§2.9).
    5. Decrypt, by exactly one private operation.
    6. Read the CSR (§3.3.1) or the IssuerAndSerialNumber (§3.3.4), to the last byte.

    Args:
        outer: as `read_outer` returned it, under the same `legacy`.
        identities: newest first.
        legacy: what the profile lets in.
        entropy: that many random bytes.
        password_recipient: whether a reply may be sealed with the challenge where the signer's key is not RSA.

    Raises:
        SignerCannotReceive: (2), a public fact.
        BadAlgorithm: (4), public facts.
        BadInner: no envelope or none for us (3), and whatever fails in (5) and (6): one and the same to the device.
    """
    header = outer.header
    if header.message_type is MessageType.CERT_POLL:  # (1)
        return CertPoll(outer=outer, sealing=_read_poll_sealing(outer, legacy))
    if not (password_recipient and _may_receive_by_password(outer)):
        _check_signer_can_receive(outer)  # (2)
    if outer.envelope is None:
        raise BadInner("there is no envelope that parses", header)
    try:
        identity, recipient = _find_recipient(outer.envelope, identities)  # (3)
        sealing, used = _check_sealing(outer.envelope, recipient, legacy, header)  # (4)
        content = open_envelope(outer.envelope, recipient, identity.decryptor, entropy)  # (5)
        outer = _note_recipient(outer, recipient, identity)
        return _read_content(outer, sealing, content, used)  # (6)
    except (Malformed, AlgorithmRefused) as error:
        raise BadInner(str(error), header) from error


def _read_poll_sealing(outer: Outer, legacy: frozenset[Legacy]) -> Sealing | None:
    """How a CertPoll was sealed, for the reply to mirror (Q9); it is answered whether that can be told or not."""
    if outer.envelope is None or not outer.envelope.recipients:
        return None
    try:
        sealing, _ = _check_sealing(outer.envelope, outer.envelope.recipients[0], legacy, outer.header)
    except ScepError:
        return None
    return sealing


def _may_receive_by_password(outer: Outer) -> bool:
    """An enrolment has a challenge, and a query has none."""
    is_enrolment = outer.header.message_type in {MessageType.PKCS_REQ, MessageType.RENEWAL_REQ}
    return is_enrolment and not outer.signer.is_sealed_to


def _check_signer_can_receive(outer: Outer) -> None:
    """Clients with EC keys (sscep and smallstep's users ask for them, Q15) are told so, before anything is decrypted."""
    key = outer.signer.public_key
    if not isinstance(key, RSAPublicKey):
        raise SignerCannotReceive("the signer's key is not RSA", outer.header)
    if key.key_size < MIN_SEALING_BITS:
        raise SignerCannotReceive(f"the signer's key has {key.key_size} bits", outer.header)


def _find_recipient(envelope: Envelope, identities: Sequence[Identity]) -> tuple[Identity, Recipient]:
    """Clients without a fingerprint seal to every certificate of GetCACert (scepclient, Q4): ours is looked for.

    Raises:
        Malformed: none is ours, or one of ours is named twice.
    """
    for identity in identities:
        ours = identity.decryptor.certificate_id
        found = [each for each in envelope.recipients if addresses(each.certificate_id, ours)]
        if len(found) > 1:
            raise Malformed("one recipient is named twice")
        if found:
            return identity, found[0]
    raise Malformed("the envelope is not for us")


def _check_sealing(
    envelope: Envelope, recipient: Recipient, legacy: frozenset[Legacy], header: Header
) -> tuple[Sealing, frozenset[Legacy]]:
    """Step 4 of `read_inner`. SHA-1 inside OAEP does not count as legacy: no collision helps against it."""
    try:
        cipher, _ = read_cipher(envelope)
        sealing = Sealing(cipher=cipher, key_transport=read_key_transport(recipient))
        return sealing, ciphers.admit(cipher, legacy)
    except AlgorithmRefused as error:
        raise BadAlgorithm(str(error), header) from error


def _note_recipient(outer: Outer, recipient: Recipient, identity: Identity) -> Outer:
    named = recipient.certificate_id
    if named.key_id is not None or named.issuer == identity.decryptor.certificate_id.issuer:
        return outer
    return replace(outer, oddities=(*outer.oddities, "issuer-re-encoded"))


def _read_content(outer: Outer, sealing: Sealing, content: bytes, used: frozenset[Legacy]) -> Request:
    match outer.header.message_type:
        case MessageType.PKCS_REQ | MessageType.RENEWAL_REQ:
            csr = read_csr(content)
            return Enrolment(outer=outer, sealing=sealing, csr=csr, legacy=used | _legacy_of(csr))
        case MessageType.GET_CERT | MessageType.GET_CRL:
            named = asn1.read(asn1.IssuerAndSerialNumber, content)
            return CertQuery(
                outer=outer, sealing=sealing, issuer=asn1.raw(named.issuer), serial=named.serial, legacy=used
            )
        case _:
            raise BadMessageType("the messageType is not one of a request", outer.header)


def _legacy_of(csr: Csr) -> frozenset[Legacy]:
    """What the CSR's own signature makes use of; whether that is let in is a rule of the policy."""
    word = ciphers.legacy_word(csr.signature_digest) if csr.signature_digest else None
    return frozenset({word}) if word else frozenset()
