"""What can go wrong for the client, one tree, and the one place where a parser's exceptions become ours.

    ClientError
    ├── BadArgument      what the caller asked for cannot be said in SCEP
    ├── Unreachable      no connection, no answer in time, or the connection broke
    ├── HttpRefused      the server answered, but not with 200
    ├── BadReply         the answer cannot be read, does not verify, or does not belong to the request
    ├── NotOffered       the server does not announce what was asked for
    ├── TooWeak          only legacy algorithms are on offer and the caller did not allow them
    └── RequestFailed    the server answered FAILURE

Each message is a sentence that says what happened and, where something can be done, what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from ra.client.names import FailInfo
from ra.errors import RaError

# What asn1crypto and cryptography are known to raise on hostile bytes, beside ValueError.
PARSER_FAULTS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class ClientError(RaError):
    """Root of what the client raises; the message says what happened and what to do."""


class BadArgument(ClientError):
    """The caller asked for something that cannot be put in a message."""


class Unreachable(ClientError):
    """The server could not be asked, or did not finish its answer."""


class HttpRefused(ClientError):
    """The server answered with an HTTP status other than 200.

    Attributes:
        status: the HTTP status.
        retry_after_seconds: what the server asked for, if it did.
    """

    def __init__(self, status: int, text: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(f"The server answered HTTP {status}: {text}")
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class BadReply(ClientError):
    """The answer is no SCEP, does not verify, or answers something else."""


class NotOffered(ClientError):
    """The server does not announce what was asked for."""


class TooWeak(ClientError):
    """The server offers or uses only algorithms below the floor."""


class RequestFailed(ClientError):
    """The server answered FAILURE (RFC 8894 §3.3.2.2).

    Attributes:
        fail_info: the server's reason.
        text: failInfoText, for humans; empty when the server gave none.
    """

    def __init__(self, fail_info: FailInfo, text: str) -> None:
        super().__init__(f"The server refused the request: {fail_info.name}{f' ({text})' if text else ''}.")
        self.fail_info = fail_info
        self.text = text


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns whatever a parser raises into BadReply; `what` is the subject of the sentence."""
    try:
        yield
    except PARSER_FAULTS as fault:
        raise BadReply(f"{what} cannot be read; is the URL that of a SCEP server? ({type(fault).__name__})") from fault
