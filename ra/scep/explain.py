"""Says in words what the bytes of a SCEP message are, what is odd about them, and which client is known for that.

The result is a tree of plain text; ra.cli renders it. A challenge is described, never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ra.scep import asn1, ber, ciphers, x509
from ra.scep.csr import Csr, read_csr
from ra.scep.decode import read_outer
from ra.scep.enveloped import Envelope, Recipient, addresses, open_envelope, read_envelope, read_key_transport
from ra.scep.errors import AlgorithmRefused, Malformed, ScepError, Unreadable
from ra.scep.keys import Identity
from ra.scep.names import Cipher, Digest, Legacy, MessageType, Oid
from ra.scep.signed import Signed, find_signer, only_value, read_bag, read_signed, verify
from ra.scep.transport import read_message
from ra.scep.words import (
    FAIL_INFOS,
    MESSAGE_TYPES,
    ODDITIES,
    RDN_ATTRIBUTES,
    SIGNED_ATTRIBUTES,
    STATUSES,
    UNDEFINED,
)

_PEM = re.compile(rb"-----BEGIN [A-Z0-9 #]+-----(.+?)-----END", re.DOTALL)
_EVERYTHING = frozenset(Legacy)
_UTC_TIME = 0x17


@dataclass(frozen=True, slots=True)
class Explanation:
    """One line, and those below it: what it is about, what stands there, and what is to be said about that."""

    label: str
    value: str = ""
    note: str = ""
    children: tuple[Explanation, ...] = ()


def explain(data: bytes, identities: Sequence[Identity] = ()) -> Explanation:
    """What these bytes are: a pkiMessage (request or reply), a degenerate CMS, an envelope, a certificate or a CSR.

    Args:
        data: DER, BER, PEM or base64.
        identities: keys that may open an envelope; a reply is sealed to the client's.

    Raises:
        ScepError: they are nothing of that.
    """
    pem = _PEM.search(data)
    message = read_message(pem.group(1) if pem else data) if pem or data[:1] != b"\x30" else data
    readers: tuple[Callable[[bytes], Explanation], ...] = (
        lambda der: _explain_signed(read_signed(der), message, identities),
        _explain_bag,
        lambda der: _explain_envelope(read_envelope(der), identities, None),
        lambda der: _explain_certificate("certificate", der),
        lambda der: _explain_csr(read_csr(der)),
    )
    for reader in readers:
        try:
            return asn1.leniently(reader, message)[0]
        except Malformed:
            continue
    raise Unreadable("these bytes are no SCEP message, CMS, certificate or PKCS #10 request")


def _explain_signed(signed: Signed, message: bytes, identities: Sequence[Identity]) -> Explanation:
    message_type = _attribute_text(signed, Oid.MESSAGE_TYPE)
    if message_type is None:
        label, note = "SignedData", "signed, but without a messageType: no pkiMessage"
    else:
        label, note = "pkiMessage", MESSAGE_TYPES.get(message_type, UNDEFINED)
    return Explanation(
        label,
        message_type or "",
        note,
        (
            *_explain_attributes(signed),
            _explain_signature(signed),
            *(_explain_certificate("enclosed certificate", each) for each in signed.certificates),
            _explain_content(signed, message_type, identities),
            *_explain_oddities(_oddities(signed, message_type, message)),
        ),
    )


def _attribute_text(signed: Signed, oid: str) -> str | None:
    node = only_value(signed, oid)
    return None if node is None else _shown(x509.text(asn1.tag(node), asn1.value(node)))


def _explain_attributes(signed: Signed) -> Iterable[Explanation]:
    for oid, label in ((Oid.TRANSACTION_ID, "transactionID"), (Oid.FAIL_INFO_TEXT, "failInfoText")):
        text = _attribute_text(signed, oid)
        if text is not None:
            yield Explanation(label, text)
    status = _attribute_text(signed, Oid.PKI_STATUS)
    if status is not None:
        yield Explanation("pkiStatus", status, STATUSES.get(status, UNDEFINED))
    fail_info = _attribute_text(signed, Oid.FAIL_INFO)
    if fail_info is not None:
        yield Explanation("failInfo", fail_info, FAIL_INFOS.get(fail_info, UNDEFINED))
    for oid, label in ((Oid.SENDER_NONCE, "senderNonce"), (Oid.RECIPIENT_NONCE, "recipientNonce")):
        node = only_value(signed, oid)
        if node is not None:
            yield Explanation(label, asn1.value(node).hex(), f"{len(asn1.value(node))} bytes")
    names = (SIGNED_ATTRIBUTES.get(oid, oid) for oid in signed.attributes)
    yield Explanation("signed attributes", ", ".join(names))


def _explain_signature(signed: Signed) -> Explanation:
    info = signed.signer_info
    try:
        digest = ciphers.digest_named(info.digest_algorithm.algorithm.dotted_string)
        algorithm = x509.read_signature_algorithm(info.signature_algorithm)
        value = f"{algorithm.scheme.value} with {algorithm.digest or digest}"
        _, certificate = find_signer(signed)
        verify(signed, x509.read_public_key(asn1.raw(certificate.spki)), algorithm, digest)
    except AlgorithmRefused as error:
        return Explanation("signature", "", f"not verified: {error}")
    except Malformed as error:
        return Explanation("signature", "", f"does not verify: {error}")
    return Explanation("signature", value, f"verifies with the enclosed certificate{_legacy_text(digest)}")


def _explain_content(signed: Signed, message_type: str | None, identities: Sequence[Identity]) -> Explanation:
    if len(signed.content) <= 1:
        return Explanation("content", "empty", "as it should be in a FAILURE or PENDING, and nowhere else")
    try:
        envelope, _ = asn1.leniently(read_envelope, signed.content)
    except Malformed:
        return _explain_plain(signed.content, "content")
    return _explain_envelope(envelope, identities, message_type)


def _explain_plain(content: bytes, label: str) -> Explanation:
    """What is in an envelope, or was sent without one."""
    readers: tuple[Callable[[bytes], Explanation], ...] = (
        lambda der: _explain_csr(read_csr(der)),
        _explain_bag,
        _explain_issuer_and_serial,
        _explain_issuer_and_subject,
    )
    for reader in readers:
        try:
            return reader(content)
        except ScepError:
            continue
    return Explanation(label, f"{len(content)} bytes", "nothing that SCEP defines; the key may be the wrong one")


def _explain_envelope(envelope: Envelope, identities: Sequence[Identity], message_type: str | None) -> Explanation:
    oid = envelope.algorithm.algorithm.dotted_string
    try:
        cipher = ciphers.cipher_named(oid)
        value, note = str(cipher), f"opens with the recipient's key{_legacy_text(cipher)}"
    except AlgorithmRefused as error:
        value, note = oid, f"cannot be opened here: {error}"
    recipients = tuple(
        Explanation("recipient", _recipient_text(each), _transport_text(each)) for each in envelope.recipients
    )
    content = Explanation("encrypted content", f"{len(envelope.ciphertext)} bytes", "no key was given that opens it")
    if message_type == MessageType.CERT_POLL:
        content = Explanation("encrypted content", f"{len(envelope.ciphertext)} bytes", "a server need not open it")
    return Explanation("envelope", value, note, (*recipients, _opened(envelope, identities) or content))


def _legacy_text(algorithm: Digest | Cipher) -> str:
    word = ciphers.legacy_word(algorithm)
    return f'; only where a profile has legacy = ["{word}"]' if word else ""


def _opened(envelope: Envelope, identities: Sequence[Identity]) -> Explanation | None:
    for identity in identities:
        for recipient in envelope.recipients:
            if addresses(recipient.certificate_id, identity.decryptor.certificate_id):
                return _open(envelope, recipient, identity)
    return None


def _open(envelope: Envelope, recipient: Recipient, identity: Identity) -> Explanation:
    try:
        # Zeros do for the substitute key: nobody learns anything here but who holds the key already.
        return _explain_plain(open_envelope(envelope, recipient, identity.decryptor, bytes), "content")
    except ScepError as error:
        return Explanation("encrypted content", f"{len(envelope.ciphertext)} bytes", str(error))


def _recipient_text(recipient: Recipient) -> str:
    named = recipient.certificate_id
    if named.key_id is not None:
        return f"key identifier {named.key_id.hex()}"
    return f"serial {named.serial:x}, issuer {_name_text(named.issuer)}"


def _transport_text(recipient: Recipient) -> str:
    try:
        return str(read_key_transport(recipient))
    except ScepError as error:
        return str(error)


def _explain_bag(der: bytes) -> Explanation:
    certificates, crls = read_bag(der)
    return Explanation(
        "degenerate SignedData",
        f"{len(certificates)} certificates, {len(crls)} CRLs",
        "an answer to GetCACert, or what is sealed in a CertRep",
        (
            *(_explain_certificate("certificate", each) for each in certificates),
            *(Explanation("CRL", f"{len(each)} bytes") for each in crls),
        ),
    )


def _explain_certificate(label: str, der: bytes) -> Explanation:
    certificate = x509.read_certificate(der)
    subject, issuer = asn1.raw(certificate.subject), asn1.raw(certificate.issuer)
    return Explanation(
        label,
        _name_text(subject),
        "self-signed, or a root" if subject == issuer else "",
        (
            Explanation("issuer", _name_text(issuer)),
            Explanation("serial", f"{certificate.serial:x}"),
            Explanation("valid", " to ".join(map(_time_text, ber.split(asn1.value(certificate.validity))))),
            Explanation("key", _key_text(asn1.raw(certificate.spki))),
        ),
    )


def _time_text(der: bytes) -> str:
    digits = _shown(ber.value_of(der).decode("latin-1"))
    return digits if der[0] != _UTC_TIME else ("19" if digits >= "50" else "20") + digits


def _explain_csr(csr: Csr) -> Explanation:
    names = tuple(Explanation(f"alternative name: {n.kind}", _shown(n.value)) for n in csr.subject_alternative_names)
    usages = sorted(csr.key_usage or ()) + list(csr.extended_key_usage or ())
    return Explanation(
        "PKCS #10 request",
        _name_text(csr.subject_der),
        "its signature verifies: the key is held",
        (
            *names,
            Explanation("key", _key_text(csr.spki)),
            Explanation("signed with", str(csr.signature_digest or "EdDSA")),
            Explanation("asks for usages", ", ".join(usages) or "none"),
            *([Explanation("asks for CA:TRUE", "", "never granted by default")] if csr.basic_constraints_ca else []),
            Explanation("extensions", ", ".join(each.oid for each in csr.extensions) or "none"),
            Explanation("challengePassword", _challenge_text(csr.challenge_password)),
            *_explain_oddities(csr.oddities),
        ),
    )


def _challenge_text(challenge: str | None) -> str:
    """How long a challenge is and what it is made of; never the challenge."""
    if challenge is None:
        return "none"
    kinds = {
        "upper case": any(each.isupper() for each in challenge),
        "lower case": any(each.islower() for each in challenge),
        "digits": any(each.isdigit() for each in challenge),
        "others": not challenge.isalnum() and bool(challenge),
    }
    return f"{len(challenge)} characters: {', '.join(kind for kind, is_so in kinds.items() if is_so) or 'nothing'}"


def _explain_issuer_and_serial(der: bytes) -> Explanation:
    named = asn1.read(asn1.IssuerAndSerialNumber, der)
    return Explanation("IssuerAndSerialNumber", f"serial {named.serial:x}, issuer {_name_text(asn1.raw(named.issuer))}")


def _explain_issuer_and_subject(der: bytes) -> Explanation:
    issuer, subject = map(x509.read_name, _pair(asn1.elements(der)))
    return Explanation("IssuerAndSubject", f"issuer {_rdns_text(issuer)}, subject {_rdns_text(subject)}")


def _pair(elements: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if len(elements) != len(("issuer", "subject")):
        raise Malformed("no IssuerAndSubject")
    return elements


def _oddities(signed: Signed, message_type: str | None, message: bytes) -> tuple[str, ...]:
    if message_type == MessageType.CERT_REP:
        return () if Oid.SENDER_NONCE in signed.attributes else ("reply-without-nonce",)
    try:
        return read_outer(message, _EVERYTHING).oddities
    except ScepError:
        return ()


def _explain_oddities(words: Iterable[str]) -> Iterable[Explanation]:
    return (Explanation("odd", word, ODDITIES[word]) for word in words)


def _key_text(spki: bytes) -> str:
    try:
        key = x509.read_public_key(spki)
    except ScepError as error:
        return str(error)
    match key:
        case RSAPublicKey():
            return f"RSA, {key.key_size} bits"
        case EllipticCurvePublicKey():
            return f"EC, {key.curve.name}"
        case _:
            return type(key).__name__.removesuffix("PublicKey")


def _name_text(der: bytes) -> str:
    try:
        return _rdns_text(x509.read_name(der))
    except Malformed as error:
        return str(error)


def _rdns_text(name: x509.Name) -> str:
    attributes = (
        f"{RDN_ATTRIBUTES.get(oid, oid)}={_shown(x509.text(tag, value)) if x509.is_string(tag) else value.hex()}"
        for rdn in name
        for oid, tag, value in rdn
    )
    return ", ".join(attributes) or "(empty)"


def _shown(text: str) -> str:
    """Text for a terminal: what does not print is escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
