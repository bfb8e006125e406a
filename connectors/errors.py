"""What a connector may raise; anything else is a fault of the connector.

    ConnectorError
    ├── BackendUnavailable    not reached, or no usable answer; maybe_issued says whether the request went out
    │   └── RateLimited       reached, and told to wait
    ├── AuthFailed            our credentials are not accepted: the operator's to mend
    ├── Misconfigured         the backend says the request can never succeed as configured: the operator's to mend
    └── ProtocolViolation     the answer cannot be understood or breaks the protocol

The first is over by itself one day; AuthFailed and Misconfigured are over when `settings` are mended, or the backend.
"""

from __future__ import annotations


class ConnectorError(Exception):
    """Root of the errors a connector may raise; anything else is a fault of the connector.

    Attributes:
        settings: keys of the connector's options that are to be looked at first.
    """

    def __init__(self, detail: str, *, settings: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.settings = settings


class BackendUnavailable(ConnectorError):
    """No usable answer.

    Attributes:
        retry_after_seconds: what the backend asked for, if it did.
        maybe_issued: True once the request may have reached the backend.
        answered: it can be reached, and says itself that it is out of order.
    """

    def __init__(
        self,
        detail: str,
        *,
        maybe_issued: bool,
        retry_after_seconds: int | None = None,
        settings: tuple[str, ...] = (),
        answered: bool = False,
    ) -> None:
        super().__init__(detail, settings=settings)
        self.answered = answered
        self.maybe_issued = maybe_issued
        self.retry_after_seconds = retry_after_seconds


class RateLimited(BackendUnavailable):
    """The backend told us to wait; nothing was issued."""

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail, maybe_issued=False, retry_after_seconds=retry_after_seconds)


class AuthFailed(ConnectorError):
    """The backend does not accept our credentials."""


class Misconfigured(ConnectorError):
    """The request can never succeed as configured; the message says what to change."""


class ProtocolViolation(ConnectorError):
    """The backend's answer breaks its protocol."""
