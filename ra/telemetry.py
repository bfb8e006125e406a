"""Logs and metrics: structlog writes one JSON object per line, prometheus-client counts.

METRICS is the one list of what is counted; the documentation prints it. Nothing a device sent is logged unescaped or at
length, and a key that sounds like a secret is not logged at all.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the directory that workers share their numbers in; prometheus-client reads it once, when it is imported."""

MAX_LOGGED_CHARACTERS = 512

_SECRET_WORDS = re.compile(r"challenge|password|passphrase|secret|token|authorization|api_key|private_key|cookie")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

EventDict = MutableMapping[str, Any]


# ---------------------------------------------------------------- metrics
@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the table. A metric with `buckets` (seconds) is a histogram; any other is a counter, or a gauge."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0)

ANSWERED = Metric(
    name="scep_ra_pki_operations_total",
    help="PKIOperations by outcome: success, pending, the name of a refusal's reason, unreadable, unavailable",
    labels=("profile", "message_type", "outcome"),
)
ANSWER_SECONDS = Metric(
    name="scep_ra_pki_operation_seconds",
    help="From a PKIOperation's last byte read to its answer",
    labels=("profile", "message_type"),
    buckets=_SECONDS,
)
HTTP_REQUESTS = Metric(
    name="scep_ra_http_requests_total",
    help="HTTP requests answered, by what was asked and the status of the answer",
    labels=("operation", "status"),
)
ALARMS = Metric(
    name="scep_ra_alarms_total",
    help="What looks like an attack, such as a one-time secret that another key has spent, and QUARANTINED certificates",
    labels=("profile", "reason"),
)
CONNECTOR_FAILURES = Metric(
    name="scep_ra_connector_failures_total",
    help="Requests to a CA without a usable answer, by the type of the error",
    labels=("connector", "kind"),
)
LEGACY = Metric(
    name="scep_ra_legacy_algorithms_total",
    help="Uses of an algorithm that only a profile's `legacy` lets in",
    labels=("profile", "algorithm"),
)
QUIRKS = Metric(
    name="scep_ra_quirks_total",
    help="Oddities seen in messages",
    labels=("profile", "quirk"),
)
NOTIFICATIONS = Metric(
    name="scep_ra_notifications_total",
    help="Attempts to tell a validator of an outcome: accepted, refused, failed (tried again) or dead (given up)",
    labels=("validator", "occasion", "outcome"),
)
CONNECTOR_SECONDS = Metric(
    name="scep_ra_connector_seconds",
    help="What a CA was asked for, how that ended, and how long it took",
    labels=("connector", "operation", "outcome"),
    buckets=_SECONDS,
)
VALIDATOR_SECONDS = Metric(
    name="scep_ra_validator_seconds",
    help="What a challenge validator asked somebody else for, how that ended, and how long it took",
    labels=("validator", "operation", "outcome"),
    buckets=_SECONDS,
)
GATE_IN_USE = Metric(
    name="scep_ra_connector_requests_in_flight", help="Requests that a CA is working on", labels=("connector",)
)
GATE_WAITING = Metric(
    name="scep_ra_connector_requests_waiting", help="Requests that wait for their turn at a CA", labels=("connector",)
)
GATE_OPEN = Metric(
    name="scep_ra_connector_left_alone",
    help="Processes that leave a CA alone for some seconds, because it fails again and again",
    labels=("connector",),
)
CONNECTOR_STOPPED = Metric(
    name="scep_ra_connector_stopped",
    help="Whether a CA is asked for nothing new, because it sent a wrong certificate, until a person says so",
    labels=("connector",),
)
ENROLMENTS_IN_FLIGHT = Metric(
    name="scep_ra_enrolments_in_flight", help="Enrolments that have been let in and are not answered yet"
)
ENROLMENTS_SENT_AWAY = Metric(
    name="scep_ra_enrolments_sent_away_total",
    help="New enrolments answered 503 before they were opened: too many in flight, or the process is late (lag)",
    labels=("profile", "why"),
)
LAG = Metric(name="scep_ra_event_loop_lag_seconds", help="How late a process does what is due; that of the latest one")
IDENTITY_NOT_AFTER = Metric(
    name="scep_ra_identity_not_after_seconds",
    help="When the certificate that an identity of the RA shows ends, in seconds since 1970",
    labels=("identity",),
)
CREDENTIAL_NOT_AFTER = Metric(
    name="scep_ra_credential_not_after_seconds",
    help="When the credential ends by which a challenge validator is let in elsewhere, in seconds since 1970",
    labels=("validator",),
)
FAULTS = Metric(
    name="scep_ra_faults_total",
    help="Requests answered 500: each is a defect of scep-ra, and the log says where",
)
METRICS = (
    ANSWERED,
    ANSWER_SECONDS,
    HTTP_REQUESTS,
    ALARMS,
    CONNECTOR_FAILURES,
    LEGACY,
    QUIRKS,
    NOTIFICATIONS,
    CONNECTOR_SECONDS,
    VALIDATOR_SECONDS,
    GATE_IN_USE,
    GATE_WAITING,
    GATE_OPEN,
    CONNECTOR_STOPPED,
    ENROLMENTS_IN_FLIGHT,
    ENROLMENTS_SENT_AWAY,
    LAG,
    IDENTITY_NOT_AFTER,
    CREDENTIAL_NOT_AFTER,
    FAULTS,
)


class PrometheusMetrics:
    """Counts what services and web report, and renders it. Implements `ra.service.ports.Metrics`.

    `multiprocess_directory` is what MULTIPROCESS_VARIABLE named when the process started: a scrape then sums up what
    all workers wrote there.
    """

    def __init__(self, multiprocess_directory: Path | None = None) -> None:
        self._own = CollectorRegistry()
        self._directory = multiprocess_directory
        if multiprocess_directory is not None:
            _forget_the_dead(multiprocess_directory)
        self._answered = self._counter(ANSWERED)
        self._answer_seconds = self._histogram(ANSWER_SECONDS)
        self._connector_seconds = self._histogram(CONNECTOR_SECONDS)
        self._validator_seconds = self._histogram(VALIDATOR_SECONDS)
        self._http_requests = self._counter(HTTP_REQUESTS)
        self._alarms = self._counter(ALARMS)
        self._connector_failures = self._counter(CONNECTOR_FAILURES)
        self._legacy = self._counter(LEGACY)
        self._quirks = self._counter(QUIRKS)
        self._notifications = self._counter(NOTIFICATIONS)
        self._gate_in_use = self._gauge(GATE_IN_USE)
        self._gate_waiting = self._gauge(GATE_WAITING)
        self._gate_open = self._gauge(GATE_OPEN)
        self._connector_stopped = self._gauge(CONNECTOR_STOPPED, "livemax")
        self._gates: dict[str, tuple[_Level, _Level, _Level]] = {}
        self._enrolments_in_flight = _Level(self._gauge(ENROLMENTS_IN_FLIGHT))
        self._enrolments_sent_away = self._counter(ENROLMENTS_SENT_AWAY)
        self._lag = _Level(self._gauge(LAG, "livemax"))
        self._identity_not_after = self._gauge(IDENTITY_NOT_AFTER, "livemin")
        self._credential_not_after = self._gauge(CREDENTIAL_NOT_AFTER, "livemin")
        self._faults = self._counter(FAULTS)

    def answered(self, profile: str, message_type: str, outcome: str, seconds: float) -> None:
        self._answered.labels(profile, message_type, outcome).inc()
        self._answer_seconds.labels(profile, message_type).observe(seconds)

    def alarmed(self, profile: str, reason: str) -> None:
        self._alarms.labels(profile, reason).inc()

    def connector_failed(self, connector: str, kind: str) -> None:
        self._connector_failures.labels(connector, kind).inc()

    def connector_called(self, connector: str, operation: str, outcome: str, seconds: float) -> None:
        """What `connectors.api.Services.observe` is told; `operation` and `outcome` are from small fixed sets of words."""
        self._connector_seconds.labels(connector, operation, outcome).observe(seconds)

    def validator_called(self, validator: str, operation: str, outcome: str, seconds: float) -> None:
        """What `ra.challenge.api.Services.observe` is told; `operation` and `outcome` are from small fixed sets of words."""
        self._validator_seconds.labels(validator, operation, outcome).observe(seconds)

    def legacy_used(self, profile: str, algorithm: str) -> None:
        self._legacy.labels(profile, algorithm).inc()

    def quirk_seen(self, profile: str, quirk: str) -> None:
        self._quirks.labels(profile, quirk).inc()

    def notified(self, validator: str, occasion: str, outcome: str) -> None:
        self._notifications.labels(validator, occasion, outcome).inc()

    def gate_changed(self, connector: str, *, in_use: int, waiting: int, is_open: bool) -> None:
        levels = self._gates.get(connector)
        if levels is None:
            gauges = (self._gate_in_use, self._gate_waiting, self._gate_open)
            first, second, third = (_Level(gauge.labels(connector)) for gauge in gauges)
            levels = self._gates[connector] = first, second, third
        for level, value in zip(levels, (in_use, waiting, is_open), strict=True):
            level.set(value)

    def connector_stopped(self, connector: str, *, is_stopped: bool) -> None:
        self._connector_stopped.labels(connector).set(is_stopped)

    def enrolments_changed(self, in_flight: int) -> None:
        self._enrolments_in_flight.set(in_flight)

    def sent_away(self, profile: str, why: str) -> None:
        self._enrolments_sent_away.labels(profile, why).inc()

    def lagged(self, seconds: float) -> None:
        self._lag.set(round(seconds, 3))

    def identity_ends(self, identity: str, at: datetime) -> None:
        self._identity_not_after.labels(identity).set(at.timestamp())

    def credential_ends(self, validator: str, at: datetime) -> None:
        self._credential_not_after.labels(validator).set(at.timestamp())

    def http_answered(self, operation: str, status: int) -> None:
        self._http_requests.labels(operation, str(status)).inc()

    def fault(self) -> None:
        self._faults.inc()

    def scrape(self) -> bytes:
        """All metrics in the text exposition format."""
        if self._directory is None:
            return generate_latest(self._own)
        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=str(self._directory))  # type: ignore[no-untyped-call]  # the library's own
        return generate_latest(shared)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self._own)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, registry=self._own, buckets=metric.buckets)

    def _gauge(self, metric: Metric, mode: Literal["livesum", "livemax", "livemin"] = "livesum") -> Gauge:
        """Of the processes that live: summed up, the greatest, or the least."""
        return Gauge(metric.name, metric.help, metric.labels, registry=self._own, multiprocess_mode=mode)


class _Level:
    """A gauge that is written when it changes alone: several are told of every enrolment, and a write costs microseconds."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._value: float = 0

    def set(self, value: float) -> None:
        if value != self._value:
            self._value = value
            self._gauge.set(value)


def _forget_the_dead(directory: Path) -> None:
    """A process that was killed leaves its gauges behind: the next one that starts throws them away."""
    for path in directory.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            path.unlink(missing_ok=True)


# ---------------------------------------------------------------- logs
def configure_logs(*, console: bool = False, level: str = "info", stream: TextIO = sys.stdout) -> None:
    """Sends structlog's events and those of the standard library alike to `stream`.

    `console` means colours and columns for a person, in place of JSON; `level` is debug, info, warning or error.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Callable[[Any, str, EventDict], Any]] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_traceback,
        redact,
        escape,
    ]
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.INFO), force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and a URL may hold a message


def name_traceback(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replaces exception information by type and place: the text of an exception may quote what a device sent."""
    exc_info = event.pop("exc_info", None)
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["where"] = place_of(error)
    return event


def place_of(error: BaseException) -> str:
    """Where an exception came from, innermost first: `decode.py:120 < pki_operation.py:80`."""
    places: list[str] = []
    traceback = error.__traceback__
    while traceback is not None:
        places.append(f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " < ".join(reversed(places[-6:]))


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Hides the value of every key that sounds like a secret."""
    for key in event:
        if _SECRET_WORDS.search(key.lower()):
            event[key] = "***"
    return event


def escape(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Caps text and escapes what could forge a line or steer a terminal; bytes are told by their length alone."""
    for key, value in event.items():
        if isinstance(value, str):
            # A detail of several lines is one of ours, and is read as sentences.
            event[key] = _escaped("; ".join(value.splitlines()) if key == "detail" else value)
        elif isinstance(value, bytes | bytearray):
            event[key] = f"<{len(value)} bytes>"
    return event


def _escaped(text: str) -> str:
    capped = text if len(text) <= MAX_LOGGED_CHARACTERS else text[:MAX_LOGGED_CHARACTERS] + "…"
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", capped)
