"""Why a request is refused, in our words, and the root of every error scep-ra raises.

    RaError
    ├── Refused          the device is told FAILURE: a Reason with a fixed public sentence, and a private detail
    ├── Unavailable      something we need cannot be asked now and nothing was committed: HTTP 503, never FAILURE
    ├── Misconfigured    the start is stopped; the message says what to change
    └── ScepError        what the codec finds wrong with a message (ra.scep.errors)

What a Reason looks like on the wire stands in one table, ra/service/outcome.py.
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a request is refused. The value is the fixed public sentence; the name is what logs and audit carry."""

    UNREADABLE_REQUEST = "The request could not be opened."
    BAD_MESSAGE_CHECK = "The signature of the message does not verify."
    ALGORITHM_NOT_ALLOWED = "An algorithm of the message is not allowed here."
    SIGNER_CANNOT_RECEIVE = "No reply can be sealed to the key that signed the message."
    MESSAGE_TYPE_NOT_SUPPORTED = "This message type is not supported."
    CHALLENGE_REFUSED = "The challenge was not accepted."
    SIGNER_KEY_DIFFERS = "The message is signed by another key than the one to be certified."
    KEY_NOT_ALLOWED = "The key is of a type, size or quality that is not allowed."
    SUBJECT_NOT_ALLOWED = "The subject name is not allowed."
    SUBJECT_ALT_NAME_NOT_ALLOWED = "A subject alternative name is not allowed."
    EXTENSION_NOT_ALLOWED = "A requested extension is not allowed."
    USAGE_NOT_ALLOWED = "A requested key usage is not allowed."
    TRANSACTION_CONFLICT = "The transaction belongs to another request."
    TRANSACTION_UNKNOWN = "No such transaction is known."
    TRANSACTION_CLOSED = "The transaction has ended without a certificate."
    CERTIFICATE_UNKNOWN = "No certificate matches the request."
    CA_REFUSED = "The certificate authority refused the request."
    DENIED = "The request was denied."


class RaError(Exception):
    """Root of all errors that scep-ra raises itself."""


class Refused(RaError):
    """A request that is answered FAILURE.

    Attributes:
        reason: what the device may be told.
        detail: what the operator is told; never sent to a device.
        alarm: it looks like an attack, and somebody should be told at once.
    """

    def __init__(self, reason: Reason, detail: str = "", *, alarm: bool = False) -> None:
        super().__init__(f"{reason.name}: {detail or reason.value}")
        self.reason = reason
        self.detail = detail or reason.value
        self.alarm = alarm


class Unavailable(RaError):
    """Something we need (validator, CA, database) cannot be asked now, and nothing is committed.

    Attributes:
        retry_after_seconds: when the device may try again.
    """

    def __init__(self, detail: str, retry_after_seconds: int = 30) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Misconfigured(RaError):
    """The configuration, a key or a certificate does not do; the message says which and what to change."""
