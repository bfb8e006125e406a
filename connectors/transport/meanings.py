"""What a status code, or a fault of the network, means in the contract's errors. The only place that says so."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator

import httpx

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    ConnectorError,
    Misconfigured,
    ProtocolViolation,
    RateLimited,
)
from connectors.transport.calls import Answer, Meaning, Meanings, shown

COMMON: Meanings = {
    401: Meaning.NOT_ALLOWED,
    403: Meaning.NOT_ALLOWED,
    407: Meaning.NOT_ALLOWED,
    # RFC 9110 §15.5.9: "did not receive a complete request message within the time that it was prepared to wait"
    408: Meaning.DOWN,
    # RFC 8470 §5.2: "unwilling to risk processing a request that might be replayed"
    425: Meaning.DOWN,
    429: Meaning.WAIT,
    501: Meaning.MISCONFIGURED,
    # A load balancer says 503 for a connection that was reset under the request as well (Envoy does).
    503: Meaning.LOST,
}

DEFAULT_WAIT_SECONDS = 30
"""Told to wait, and not how long."""

_BY_CLASS = {
    1: Meaning.VIOLATION,
    2: Meaning.ANSWER,
    3: Meaning.MISCONFIGURED,
    4: Meaning.MISCONFIGURED,
    5: Meaning.LOST,
}

_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")
"""In the names of the TLS alerts (RFC 8446 §6.2) that servers send for a client certificate that is none of theirs."""


def meaning_of(answer: Answer, *tables: Meanings) -> Meaning:
    """What an answer means, by the first table that knows its status."""
    for table in tables:
        found = table.get(answer.status)
        if found is not None:
            return found if isinstance(found, Meaning) else found(answer)
    return _BY_CLASS.get(answer.status // 100, Meaning.VIOLATION)


def error_of(
    meaning: Meaning,
    answer: Answer,
    detail: str,
    *,
    issues: bool,
    settings: tuple[str, ...] = (),
    credentials: tuple[str, ...] = (),
) -> ConnectorError:
    """The contract's error for an answer that is no ANSWER.

    It names `credentials` where we are not let in, and `settings` where the backend knows no such thing.
    """
    after = answer.retry_after_seconds
    match meaning:
        case Meaning.AGAIN | Meaning.DOWN:
            return BackendUnavailable(detail, maybe_issued=False, retry_after_seconds=after, answered=True)
        case Meaning.LOST:
            return BackendUnavailable(detail, maybe_issued=issues, retry_after_seconds=after, answered=True)
        case Meaning.WAIT:
            return RateLimited(detail, after if after is not None else DEFAULT_WAIT_SECONDS)
        case Meaning.NOT_ALLOWED:
            return AuthFailed(pointing(detail, credentials), settings=credentials)
        case Meaning.MISCONFIGURED:
            return Misconfigured(pointing(detail, settings), settings=settings)
        case _:
            return ProtocolViolation(detail, settings=("url",))


def pointing(detail: str, settings: tuple[str, ...]) -> str:
    """A message that says which settings to look at."""
    return f"{detail} (see {', '.join(settings)})" if settings else detail


def fault_of(fault: Exception, where: str, *, maybe_issued: bool, fit: Callable[[str], str] = shown) -> ConnectorError:
    """The contract's error for what kept an answer from coming; `where` names operation and server.

    `fit` makes what somebody else has said fit to be shown.
    """
    causes = tuple(_causes(fault))
    for each in causes:
        if isinstance(each, ssl.SSLCertVerificationError):
            why = each.verify_message.rstrip(".")
            return Misconfigured(
                f"{where}: the server's certificate does not verify ({why}); set ca_file, or its name in url",
                settings=("ca_file", "url"),
            )
        if isinstance(each, ssl.SSLError) and _is_about_our_certificate(each):
            return AuthFailed(
                f"{where}: the server wants another client_certificate ({each.reason})",
                settings=("client_certificate",),
            )
    # Libraries wrap "Connection refused" into "All connection attempts failed": the last one says why. What is wrong with
    # an answer says the first: those below quote it.
    telling = causes[:1] if isinstance(fault, httpx.RemoteProtocolError) else reversed(causes)
    reason = fit(next(filter(None, map(_reason, telling)), type(fault).__name__))
    match fault:
        case httpx.ProxyError() if reason.startswith("407"):
            detail = f"{where}: the proxy does not accept proxy_credentials: {reason}"
            return AuthFailed(detail, settings=("proxy_credentials",))
        case httpx.ProxyError():
            return BackendUnavailable(
                f"{where}: the proxy cannot be used: {reason}", maybe_issued=False, settings=("proxy", "url")
            )
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return Misconfigured(f"{where}: {reason}", settings=("url",))
        case TimeoutError() | httpx.TimeoutException():
            reason = "no answer in time"
        case _:
            pass
    return BackendUnavailable(f"{where}: {reason}", maybe_issued=maybe_issued, settings=("url",))


def _reason(error: BaseException) -> str:
    if (
        isinstance(error, OSError)
        and not isinstance(error, ssl.SSLError)
        and error.errno is not None
        and error.errno > 0
    ):
        return os.strerror(error.errno)
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return "the server speaks plain HTTP there, and no HTTPS"
    return str(error).rstrip(".")


_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}
"""OpenSSL's words for an answer that is no TLS at all."""


def _is_about_our_certificate(error: ssl.SSLError) -> bool:
    reason = error.reason or ""
    return "ALERT" in reason and any(each in reason for each in _ALERTS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what caused it, outermost first; some raise `from None` and leave the cause as context."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLWantReadError):
        yield cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__
        cause = inner or cause.__context__
