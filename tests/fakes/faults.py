"""What may go wrong between a connector and its backend, and what is to be seen of it. docs/connectors.md is made of this.

TABLE says it cell by cell: the state of the transaction once the device has its first answer; the error that is counted,
if there is one; and the state once the fault is over and some time has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.fakes.faulty import Exchange, Fault

PAGE = b"<html><body><h1>Something went wrong</h1></body></html>"
HTML = {"Content-Type": "text/html"}

REFUSED, UNKNOWN_HOST, UNTRUSTED = "connection refused", "host name unknown", "TLS certificate of another CA"
SILENCE = "no answer in time"
UNREACHED = (REFUSED, UNKNOWN_HOST, UNTRUSTED)
"""Faults of the way there, which no server can play."""

STATUSES = (400, 401, 403, 404, 409, 412, 429, 500, 502, 503)

FLAWS = (
    "another key",
    "another issuer",
    "another subject",
    "another's certificate",
    "a missing name",
    "a name too many",
    "a usage too many",
    "a missing usage",
    "CA:TRUE",
    "expired",
    "valid for too long",
)
"""What the CA certifies wrongly: words that six_cas.FlawedCa knows."""


async def _silence(exchange: Exchange) -> None:
    await exchange.silence()


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _reset_after(exchange: Exchange) -> None:
    await exchange.work()
    exchange.reset()


def _status(status: int) -> Fault:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(status, PAGE, HTML)

    return answer


async def _redirect(exchange: Exchange) -> None:
    await exchange.send(302, b"", {"Location": "http://192.0.2.1/elsewhere"})


async def _cut_off(exchange: Exchange) -> None:
    response = await exchange.work()
    await exchange.relay(response, response.content[:40], length=len(response.content))


async def _half(exchange: Exchange) -> None:
    response = await exchange.work()
    await exchange.relay(response, response.content[: len(response.content) // 2])


async def _empty(exchange: Exchange) -> None:
    await exchange.relay(await exchange.work(), b"")


async def _flood(exchange: Exchange) -> None:
    await exchange.work()
    await exchange.flood(100)


FAULTS: Mapping[str, Fault] = {
    SILENCE: _silence,
    "reset before the CA's work": _reset,
    "reset after the CA's work": _reset_after,
    **{f"status {each}, a proxy's page": _status(each) for each in STATUSES},
    "status 200, a proxy's page": _status(200),
    "a redirect": _redirect,
    "a body that is cut off": _cut_off,
    "half of the answer": _half,
    "an empty body": _empty,
    "a body of 100 MB": _flood,
}

EVERY = (*UNREACHED, *FAULTS, *FLAWS)
CONNECTORS = ("vault", "ejbca", "acme", "step", "cfssl", "est")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is seen of a fault.

    Attributes:
        state: of the transaction, once the device has its first answer.
        error: the type of what the connector has raised; empty where it has not.
        afterwards: the state once the fault is over; `revoked` where the CA has revoked what is quarantined.
    """

    state: str
    error: str
    afterwards: str


_WRITTEN = """
connection refused | authorised BackendUnavailable -> released
host name unknown | authorised BackendUnavailable -> authorised
TLS certificate of another CA | authorised Misconfigured -> authorised
no answer in time | unknown BackendUnavailable -> unknown | ejbca: unknown BackendUnavailable -> released | acme: pending -> released
reset before the CA's work | unknown BackendUnavailable -> unknown | ejbca: unknown BackendUnavailable -> released | acme: pending -> released
reset after the CA's work | unknown BackendUnavailable -> unknown | ejbca: unknown BackendUnavailable -> released | acme: released -> released
status 400, a proxy's page | authorised Misconfigured -> released
status 401, a proxy's page | authorised AuthFailed -> released
status 403, a proxy's page | authorised AuthFailed -> released | step: authorised Misconfigured -> released
status 404, a proxy's page | authorised Misconfigured -> released
status 409, a proxy's page | authorised Misconfigured -> released
status 412, a proxy's page | authorised Misconfigured -> released | vault: authorised BackendUnavailable -> released
status 429, a proxy's page | authorised RateLimited -> released
status 500, a proxy's page | unknown BackendUnavailable -> unknown | ejbca: unknown BackendUnavailable -> released | acme: pending -> released
status 502, a proxy's page | unknown BackendUnavailable -> unknown | ejbca: unknown BackendUnavailable -> released | acme: pending -> released
status 503, a proxy's page | unknown BackendUnavailable -> unknown | ejbca: unknown BackendUnavailable -> released | acme: pending -> released
status 200, a proxy's page | unknown ProtocolViolation -> unknown | ejbca: unknown ProtocolViolation -> released | acme: pending -> released
a redirect | authorised Misconfigured -> released
a body that is cut off | unknown BackendUnavailable -> unknown | ejbca: unknown BackendUnavailable -> released | acme: released -> released
half of the answer | unknown ProtocolViolation -> unknown | ejbca: unknown ProtocolViolation -> released | acme: released -> released
an empty body | unknown ProtocolViolation -> unknown | ejbca: unknown ProtocolViolation -> released | acme: released -> released
a body of 100 MB | unknown ProtocolViolation -> unknown | ejbca: unknown ProtocolViolation -> released | acme: released -> released
another key | quarantined -> revoked | est: quarantined -> quarantined
another issuer | quarantined -> quarantined
another subject | quarantined -> revoked | est: quarantined -> quarantined
another's certificate | quarantined -> quarantined
a missing name | quarantined -> revoked | est: quarantined -> quarantined
a name too many | quarantined -> revoked | est: quarantined -> quarantined
a usage too many | quarantined -> revoked | est: quarantined -> quarantined
a missing usage | quarantined -> revoked | est: quarantined -> quarantined
CA:TRUE | quarantined -> revoked | est: quarantined -> quarantined
expired | quarantined -> revoked | est: quarantined -> quarantined
valid for too long | quarantined -> revoked | est: quarantined -> quarantined
"""


def _seen(cell: str) -> Seen:
    """`STATE ERROR -> STATE`; there may be no error."""
    before, _, afterwards = cell.partition(" -> ")
    state, _, error = before.partition(" ")
    return Seen(state=state, error=error, afterwards=afterwards)


def _row(line: str) -> tuple[str, Mapping[str, Seen]]:
    """`FAULT | CELL | CONNECTOR: CELL | …`: the first cell is that of every connector which has none of its own."""
    fault, usual, *others = line.split(" | ")
    own = dict(each.split(": ") for each in others)
    return fault, {connector: _seen(own.get(connector, usual)) for connector in CONNECTORS}


TABLE: Mapping[str, Mapping[str, Seen]] = dict(map(_row, _WRITTEN.strip().splitlines()))
