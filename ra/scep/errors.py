"""What the codec finds wrong with a message.

    ScepError
    ├── Unreadable         no CMS, no transactionID, no signer certificate: there is nobody to answer (HTTP 400)
    │   ├── BadQuery          the HTTP request itself: unknown operation, a parameter given twice
    │   └── TooLarge          more bytes than are read (HTTP 413)
    ├── Malformed          a part of a message does not parse, verify or open; leaves ra.scep as one of the others
    ├── AlgorithmRefused   an algorithm is unknown or below the floor; leaves ra.scep as BadAlgorithm or BadInner
    └── Answerable         carries the Header to answer to
        ├── BadMessageCheck   the outer signature, messageDigest or contentType is wrong
        ├── BadAlgorithm      digest, cipher or key transport is not allowed
        ├── SignerCannotReceive   no reply can be sealed to the signer's key
        ├── BadMessageType    a messageType that RFC 8894 does not define as a request
        └── BadInner          anything that was only found after the envelope: one error, whatever failed

ra/service/outcome.py alone says which failInfo each becomes. The detail is for the operator, never for the device.
"""

from __future__ import annotations

from ra.errors import RaError
from ra.scep.header import Header


class ScepError(RaError):
    """Root of what the codec raises: no other exception leaves it, whatever the bytes."""


class Unreadable(ScepError):
    """Nothing in the bytes can be answered."""


class BadQuery(Unreadable):
    """The query of the HTTP request names no operation of SCEP, or names something twice."""


class TooLarge(Unreadable):
    """The message is larger than what is read."""


class Malformed(ScepError):
    """A part of a message (CSR, envelope, attribute) does not parse, verify or open; only the whole can be answered."""


class AlgorithmRefused(ScepError):
    """An algorithm that is unknown, or that the profile does not let in."""


class Answerable(ScepError):
    """A fault found after transactionID and signer were read, so a CertRep FAILURE can be sent."""

    def __init__(self, detail: str, header: Header) -> None:
        super().__init__(detail)
        self.header = header


class BadMessageCheck(Answerable):
    """RFC 8894 §3.2.1.4: the integrity check (the CMS signature) failed."""


class BadAlgorithm(Answerable):
    """RFC 8894 §3.2.1.4: unrecognised or unsupported algorithm."""


class SignerCannotReceive(Answerable):
    """RFC 8894 §3.1: a reply is sealed to the key that signed the request, and nothing can be sealed to this one."""


class BadMessageType(Answerable):
    """RFC 8894 §3.2.1.2: "Message types not defined above MUST be treated as errors"."""


class BadInner(Answerable):
    """No recipient of ours, unwrap, padding, CSR or query unreadable, CSR signature, trailing bytes: one and the same."""
