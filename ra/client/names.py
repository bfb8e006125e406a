"""The vocabulary of the wire as the client spells it, written again from RFC 8894 and not shared with ra.scep.

Nothing here has behaviour.
"""

from __future__ import annotations

from enum import StrEnum


class MessageType(StrEnum):
    """RFC 8894 §3.2.1.2."""

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


class Digest(StrEnum):
    """Digests the client can make and check; SHA1 and MD5 are legacy."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    SHA1 = "sha1"
    MD5 = "md5"


class Cipher(StrEnum):
    """Content encryption the client can do and undo; DES3 and DES are legacy."""

    AES128_CBC = "aes128-cbc"
    AES192_CBC = "aes192-cbc"
    AES256_CBC = "aes256-cbc"
    DES3_CBC = "3des"
    DES_CBC = "des"


class KeyTransport(StrEnum):
    """How the content key is wrapped for an RSA recipient; OAEP uses one digest for its hash and MGF1."""

    PKCS1_V15 = "rsaes-pkcs1-v1_5"
    OAEP_SHA1 = "rsaes-oaep-sha1"
    OAEP_SHA256 = "rsaes-oaep-sha256"


class Attribute(StrEnum):
    """Signed attributes, dotted: CMS's own (RFC 5652 §11) and SCEP's (RFC 8894 §3.2)."""

    CONTENT_TYPE = "1.2.840.113549.1.9.3"
    MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
    MESSAGE_TYPE = "2.16.840.1.113733.1.9.2"
    PKI_STATUS = "2.16.840.1.113733.1.9.3"
    FAIL_INFO = "2.16.840.1.113733.1.9.4"
    SENDER_NONCE = "2.16.840.1.113733.1.9.5"
    RECIPIENT_NONCE = "2.16.840.1.113733.1.9.6"
    TRANSACTION_ID = "2.16.840.1.113733.1.9.7"
    FAIL_INFO_TEXT = "1.3.6.1.5.5.7.24.1"
