"""The vocabulary of the wire: message types, statuses, capabilities, OIDs and media types, as RFC 8894 spells them.

Nothing here has behaviour.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class MessageType(StrEnum):
    """RFC 8894 §3.2.1.2, as the PrintableString on the wire. Types not defined here MUST be treated as errors."""

    CERT_REP = "3"
    RENEWAL_REQ = "17"
    PKCS_REQ = "19"
    CERT_POLL = "20"
    GET_CERT = "21"
    GET_CRL = "22"


class PkiStatus(StrEnum):
    """RFC 8894 §3.2.1.3."""

    SUCCESS = "0"
    FAILURE = "2"
    PENDING = "3"


class FailInfo(StrEnum):
    """RFC 8894 §3.2.1.4."""

    BAD_ALG = "0"
    BAD_MESSAGE_CHECK = "1"
    BAD_REQUEST = "2"
    BAD_TIME = "3"
    BAD_CERT_ID = "4"


class Operation(Enum):
    """The `operation` of the HTTP request, RFC 8894 §4.1. GetCACertChain is of the drafts, and certmonger asks for it."""

    GET_CA_CAPS = "GetCACaps"
    GET_CA_CERT = "GetCACert"
    GET_CA_CERT_CHAIN = "GetCACertChain"
    GET_NEXT_CA_CERT = "GetNextCACert"
    PKI_OPERATION = "PKIOperation"


class Capability(StrEnum):
    """RFC 8894 §3.5.2."""

    AES = "AES"
    DES3 = "DES3"
    GET_NEXT_CA_CERT = "GetNextCACert"
    POST_PKI_OPERATION = "POSTPKIOperation"
    RENEWAL = "Renewal"
    SHA_1 = "SHA-1"
    SHA_256 = "SHA-256"
    SHA_512 = "SHA-512"
    SCEP_STANDARD = "SCEPStandard"


class MediaType(StrEnum):
    """RFC 8894 §6, and the older label that some libraries ask for. Sent exactly so: no charset (certmonger compares)."""

    CAPABILITIES = "text/plain"
    CA_CERT = "application/x-x509-ca-cert"
    CA_RA_CERT = "application/x-x509-ca-ra-cert"
    CA_CERT_CHAIN = "application/x-x509-ca-ra-cert-chain"
    NEXT_CA_CERT = "application/x-x509-next-ca-cert"
    PKCS_CERTIFICATES = "application/x-pkcs-certs"
    PKI_MESSAGE = "application/x-pki-message"


class Digest(StrEnum):
    """Digest algorithms of the codec; SHA1 and MD5 only by a profile's `legacy`, MD5 never produced."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    SHA1 = "sha1"
    MD5 = "md5"


class Cipher(StrEnum):
    """Content encryption of the codec; DES3 and DES only by a profile's `legacy`, DES never produced."""

    AES128_CBC = "aes128-cbc"
    AES192_CBC = "aes192-cbc"
    AES256_CBC = "aes256-cbc"
    DES3_CBC = "3des"
    DES_CBC = "des"


class KeyTransport(StrEnum):
    """How the content key is wrapped for an RSA recipient. OAEP's digest is its hash and its MGF1 hash alike."""

    PKCS1_V15 = "rsaes-pkcs1-v1_5"
    OAEP_SHA1 = "rsaes-oaep-sha1"
    OAEP_SHA256 = "rsaes-oaep-sha256"
    OAEP_SHA384 = "rsaes-oaep-sha384"
    OAEP_SHA512 = "rsaes-oaep-sha512"


class Legacy(StrEnum):
    """What a profile may let in beside today's algorithms, each use counted: `legacy = ["3des", "sha1"]`."""

    DES3 = "3des"
    SHA1 = "sha1"
    DES = "des"
    MD5 = "md5"


class Oid:
    """Object identifiers, dotted."""

    DATA = "1.2.840.113549.1.7.1"
    SIGNED_DATA = "1.2.840.113549.1.7.2"
    ENVELOPED_DATA = "1.2.840.113549.1.7.3"

    CONTENT_TYPE = "1.2.840.113549.1.9.3"
    MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
    SIGNING_TIME = "1.2.840.113549.1.9.5"

    MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
    PKI_STATUS = "2.16.840.1.113733.1.9.3"
    FAIL_INFO = "2.16.840.1.113733.1.9.4"
    SENDER_NONCE = "2.16.840.1.113733.1.9.5"
    RECIPIENT_NONCE = "2.16.840.1.113733.1.9.6"
    TRANSACTION_ID = "2.16.840.1.113733.1.9.7"
    FAIL_INFO_TEXT = "1.3.6.1.5.5.7.24.1"

    CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105
    EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
    MS_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14"
    MS_NAME_VALUE_PAIR = "1.3.6.1.4.1.311.13.2.1"
