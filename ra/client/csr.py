"""Builds what a device brings: a PKCS #10 request, a self-signed certificate to sign with, names read from text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from asn1crypto import core, csr, keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ra.client.algorithms import Key, sign
from ra.client.errors import BadArgument
from ra.client.names import Digest

PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")
"""PrintableString's alphabet (X.680 §41.4)."""

_SUBJECT_NAMES = {"E": NameOID.EMAIL_ADDRESS, "SERIALNUMBER": NameOID.SERIAL_NUMBER}


def write_csr(
    key: Key,
    subject: x509.Name,
    *,
    subject_alternative_names: Sequence[x509.GeneralName] = (),
    challenge_password: str | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    digest: Digest = Digest.SHA256,
) -> bytes:
    """A PKCS #10 request, DER. `extensions` are asked for as not critical, after the subject alternative names."""
    names = (x509.SubjectAlternativeName(subject_alternative_names),) if subject_alternative_names else ()
    attributes = [_challenge(challenge_password)] if challenge_password is not None else []
    if names or extensions:
        attributes.append(_extension_request((*names, *extensions)))
    info = csr.CertificationRequestInfo(
        {
            "version": "v1",
            "subject": asn1_x509.Name.load(subject.public_bytes()),
            "subject_pk_info": keys.PublicKeyInfo.load(spki(key)),
            "attributes": attributes,
        }
    )
    request = csr.CertificationRequest(
        {
            "certification_request_info": info,
            "signature_algorithm": {"algorithm": signature_algorithm(key, digest)},
            "signature": sign(info.dump(), key, digest),
        }
    )
    return bytes(request.dump())


def self_signed(key: Key, subject: x509.Name, now: datetime, serial: int) -> x509.Certificate:
    """A certificate for a client that has none yet, valid for a week (RFC 8894 §2.3)."""
    named = subject if list(subject) else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SCEP client")])
    builder = x509.CertificateBuilder(
        issuer_name=named,
        subject_name=named,
        public_key=key.public_key(),
        serial_number=serial,
        not_valid_before=now - timedelta(hours=1),
        not_valid_after=now + timedelta(days=7),
    )
    hash_algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.add_extension(_signer_usage(), critical=True).sign(key, hash_algorithm)


def read_subject(text: str) -> x509.Name:
    """A subject from RFC 4514 text, the most specific attribute first: `CN=device,O=Example,C=CH`.

    Raises:
        BadArgument: the text is not a name.
    """
    try:
        return x509.Name.from_rfc4514_string(text, _SUBJECT_NAMES)
    except ValueError as fault:
        raise BadArgument(f"The subject {text!r} is no name; write it as CN=device,O=Example.") from fault


def read_general_name(text: str) -> x509.GeneralName:
    """A subject alternative name from `dns:…`, `email:…`, `ip:…` or `uri:…`.

    Raises:
        BadArgument: the text is not of one of these forms.
    """
    kind, _, value = text.partition(":")
    try:
        match kind.lower():
            case "dns":
                return x509.DNSName(value)
            case "email":
                return x509.RFC822Name(value)
            case "uri":
                return x509.UniformResourceIdentifier(value)
            case "ip":
                return x509.IPAddress(ipaddress.ip_address(value))
            case _:
                raise BadArgument(f"The subject alternative name {text!r} needs a kind: dns:, email:, ip: or uri:.")
    except ValueError as fault:
        raise BadArgument(f"The subject alternative name {text!r} is not valid: {fault}.") from fault


def spki(key: Key) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signature_algorithm(key: Key, digest: Digest) -> str:
    """asn1crypto's name of what `sign` makes with this key."""
    match key:
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case rsa.RSAPrivateKey():
            return f"{digest}_rsa"
        case _:
            return f"{digest}_ecdsa"


def _challenge(password: str) -> csr.CRIAttribute:
    # RFC 2985 §5.4.1: PrintableString where it fits, UTF8String where it does not.
    kind = "printable_string" if PRINTABLE.fullmatch(password) else "utf8_string"
    return csr.CRIAttribute({"type": "challenge_password", "values": [asn1_x509.DirectoryString(kind, password)]})


def _extension_request(extensions: Sequence[x509.ExtensionType]) -> csr.CRIAttribute:
    wanted = asn1_x509.Extensions(
        [
            {
                "extn_id": extension.oid.dotted_string,
                "critical": False,
                "extn_value": core.ParsableOctetString(extension.public_bytes()),
            }
            for extension in extensions
        ]
    )
    return csr.CRIAttribute({"type": "extension_request", "values": [wanted]})


def _signer_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
