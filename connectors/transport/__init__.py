"""One HTTP client for one connector: addresses, deadlines, retries, sizes and errors, the same for every backend.

    class Options(TransportOptions): ...
    transport = Transport(options, services, statuses={400: Meaning.ANSWER})
    answer = await transport.call(Call(operation="sign", effect=Effect.ISSUES, method="POST", url="/v1/sign", json={…}))
    signed = answer.parse(Signed)

`call` returns an Answer, or raises one of the contract's errors. It tries again what surely was not sent and what is
declared REPEATABLE, within the deadline; nothing else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Self

import httpx

from connectors.api import BackendUnavailable, ConnectorError, Misconfigured, ProtocolViolation, Services
from connectors.transport.calls import Answer, AnswerModel, Call, Effect, Meaning, Meanings, Wire, shown, to_wire
from connectors.transport.carrier import Carrier, Outgoing
from connectors.transport.meanings import COMMON, error_of, fault_of, meaning_of, pointing
from connectors.transport.options import (
    BaseUrl,
    HttpOptions,
    SecretReference,
    TransportOptions,
    open_carrier,
    origin,
    parsed,
    read_secret,
)

__all__ = [
    "Answer",
    "AnswerModel",
    "BaseUrl",
    "Call",
    "Effect",
    "HttpOptions",
    "Meaning",
    "Meanings",
    "SecretReference",
    "Transport",
    "TransportOptions",
    "pointing",
    "read_secret",
    "shown",
]

_ATTEMPTS = 3
_TEMPORARY_REDIRECT = 307
_LONGEST_WAIT_SECONDS = 86400
_PAUSE_SECONDS = 0.1
"""Before the second attempt at most; before each further one, twice as long."""


@dataclass(slots=True)
class _Progress:
    """How far the present attempt has come."""

    sent: bool = False
    undone: bool = False
    """The server said that nothing was done and that the same request may come again at once."""

    def sending(self) -> None:
        """The request goes out now."""
        self.sent = True


class Transport:
    """The way to one backend. Opens no connection before the first call."""

    def __init__(
        self,
        options: TransportOptions,
        services: Services,
        *,
        statuses: Meanings | None = None,
        explain: Callable[[Answer], str] = Answer.first_line,
        credentials: tuple[str, ...] = (),
        carrier: Carrier | None = None,
    ) -> None:
        """Reads the files that the options name.

        Args:
            options: of the connector.
            services: of the connector.
            statuses: what statuses mean to this backend, before the common table.
            explain: what an answer says, for the operator; its secrets are taken out afterwards.
            credentials: keys of the options that say who we are, to be looked at where we are not let in.
            carrier: instead of the network.

        Raises:
            Misconfigured: a file is missing, or they do not go together.
        """
        self._base = options.url.rstrip("/")
        self._origins = frozenset(origin(httpx.URL(each)) for each in (options.url, *options.other_urls))
        self._options = options
        self._services = services
        self._statuses = statuses or {}
        self._explain = explain
        self._credentials = credentials
        self._carrier = carrier or open_carrier(options, services)

    def __repr__(self) -> str:
        return f"Transport({self._base!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes what connections are open; twice does no harm."""
        await self._carrier.aclose()

    def allowed_url(self, url: str) -> str:
        """A URL out of an answer, if it leads where the configuration allows.

        Raises:
            ProtocolViolation: it leads elsewhere, or is none.
        """
        if not self._is_allowed(url):
            raise ProtocolViolation(
                f"{self._services.name} was led to {shown(url)!r}, which neither url nor other_urls names"
            )
        return url

    async def call(self, call: Call) -> Answer:
        """What the backend answers to a call.

        Raises:
            ConnectorError: it does not, or what it says means no answer.
        """
        started = asyncio.get_running_loop().time()
        outcome = "cancelled"
        try:
            answer = await self._within_deadline(call, self.allowed_url(self._absolute(call.url)))
            outcome = str(answer.status)
        except ConnectorError as error:
            outcome = type(error).__name__
            raise
        finally:
            self._services.observe(call.operation, outcome, asyncio.get_running_loop().time() - started)
        return answer

    async def _within_deadline(self, call: Call, url: str) -> Answer:
        progress, wire = _Progress(), to_wire(call)
        try:
            async with asyncio.timeout(self._options.timeout_seconds) as deadline:
                return await self._in_attempts(call, url, wire, progress, deadline)
        except TimeoutError as error:
            raise self._fault(call, url, error, progress, wire) from error

    async def _in_attempts(
        self, call: Call, url: str, wire: Wire, progress: _Progress, deadline: asyncio.Timeout
    ) -> Answer:
        """Between two, as long a pause as the server asked for, else a little, at random; none that the deadline would cut."""
        attempts, longest = 1, _PAUSE_SECONDS
        while True:
            try:
                return await self._attempt(call, url, wire, progress)
            except BackendUnavailable as error:
                asked = error.retry_after_seconds
                pause = random.uniform(0, longest) if asked is None else asked  # noqa: S311 - nothing secret
                left = (deadline.when() or 0) - asyncio.get_running_loop().time()
                if attempts == _ATTEMPTS or pause >= left or not _may_be_repeated(call, progress):
                    raise
            await asyncio.sleep(pause)
            attempts, longest = attempts + 1, 2 * longest

    async def _attempt(self, call: Call, url: str, wire: Wire, progress: _Progress) -> Answer:
        progress.sent = progress.undone = False
        if call.effect is not Effect.REPEATABLE:
            self._services.reached("connector:before-send")
        answer = await self._exchange(call, url, wire, progress)
        if call.follows_307 and answer.status == _TEMPORARY_REDIRECT:
            url = self._redirected(call, answer, wire)
            answer = await self._exchange(call, url, wire, progress)
        if call.effect is not Effect.REPEATABLE:
            self._services.reached("connector:after-answer")
        meaning = meaning_of(answer, call.statuses, self._statuses, COMMON)
        if meaning is Meaning.ANSWER:
            return answer
        progress.undone = meaning is Meaning.AGAIN
        detail = f"{self._where(call, url)} answered {answer.status}: {self._said(answer, wire)}"
        raise error_of(
            meaning,
            answer,
            detail,
            issues=call.effect is Effect.ISSUES,
            settings=call.settings,
            credentials=self._credentials,
        )

    async def _exchange(self, call: Call, url: str, wire: Wire, progress: _Progress) -> Answer:
        """An answer that came whole; of one that is no success, as much of the body as may be read.

        Raises:
            ProtocolViolation: a success is longer than that, or the body is compressed.
        """
        most = self._options.max_response_bytes
        request = Outgoing(
            method=call.method,
            url=str(parsed(url)),
            headers=wire.headers,
            content=wire.content,
            sending=progress.sending,
            most_bytes=most,
        )
        try:
            response = await self._carrier.carry(request)
        except httpx.TransportError as error:
            raise self._fault(call, url, error, progress, wire) from error
        answer = Answer(
            status=response.status,
            headers=response.headers,
            body=response.body,
            url=url,
            retry_after_seconds=_retry_after(response.headers.get("retry-after"), self._services.now()),
        )
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ProtocolViolation(f"{self._where(call, url)} answered compressed, which was not asked for")
        if answer.is_success and len(answer.body) > most:
            raise ProtocolViolation(f"{self._where(call, url)} answered with more than max_response_bytes = {most}")
        return answer

    def _redirected(self, call: Call, answer: Answer, wire: Wire) -> str:
        location = answer.headers.get("location", "")
        try:
            url = str(httpx.URL(answer.url).join(location))
        except (httpx.InvalidURL, ValueError):
            url = ""
        if not location or not self._is_allowed(url):
            led = shown(_without(location, wire.secrets))
            raise Misconfigured(f"{self._where(call, answer.url)} redirects to {led!r}; name that host in other_urls")
        return url

    def _is_allowed(self, url: str) -> bool:
        try:
            asked = parsed(url)
            return origin(asked) in self._origins and not asked.userinfo
        except (httpx.InvalidURL, ValueError):
            return False

    def _absolute(self, url: str) -> str:
        return url if url.startswith(("http://", "https://")) else f"{self._base}/{url.lstrip('/')}"

    def _fault(self, call: Call, url: str, error: Exception, progress: _Progress, wire: Wire) -> ConnectorError:
        maybe_issued = progress.sent and call.effect is Effect.ISSUES
        fit = partial(_fit, secrets=wire.secrets)
        return fault_of(error, self._where(call, url), maybe_issued=maybe_issued, fit=fit)

    def _where(self, call: Call, url: str) -> str:
        return f"{self._services.name}: {call.operation} at {httpx.URL(url).copy_with(query=None)}"

    def _said(self, answer: Answer, wire: Wire) -> str:
        location = answer.headers.get("location")
        # Before anything is cut to a length: of a secret that is longer, the beginning would stay.
        text = self._explain(
            replace(answer, body=_without(answer.body.decode("latin-1"), wire.secrets).encode("latin-1"))
        )
        said = f"{text} (Location: {location})" if location else text
        return _fit(said, wire.secrets)


def _may_be_repeated(call: Call, progress: _Progress) -> bool:
    return call.effect is Effect.REPEATABLE or not progress.sent or progress.undone


def _retry_after(value: str | None, now: datetime) -> int | None:
    """Seconds from either form of Retry-After (RFC 9110 §10.2.3); None where it is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(int(value[:10]), _LONGEST_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    seconds = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return max(0, min(int(seconds), _LONGEST_WAIT_SECONDS))


def _fit(text: str, secrets: Iterable[str]) -> str:
    return shown(_without(text, secrets))


def _without(text: str, secrets: Iterable[str]) -> str:
    """A text in which no secret shows, not even one that the server repeats."""
    for each in sorted(secrets, key=len, reverse=True):
        text = text.replace(each, "***")
    return text
