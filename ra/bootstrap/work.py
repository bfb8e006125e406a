"""What carries enrolments out, over an open journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ra.challenge.combine import Checked
from ra.journal.database import Journal
from ra.journal.records import Transaction
from ra.journal.refusals import RefusalLog
from ra.journal.sealing import JournalKey
from ra.service.admission import Admission
from ra.service.backend import Backend
from ra.service.background import Background
from ra.service.crls import Crls
from ra.service.deliver import CALL_SECONDS, Deliveries
from ra.service.endpoint import Directory
from ra.service.enrol import Enrolments
from ra.service.issue import Issuing
from ra.service.notices import Notices
from ra.service.pki_operation import PkiOperation
from ra.service.poll import Polls
from ra.service.ports import Clock, Entropy, Metrics
from ra.service.renew import Renewals
from ra.service.retrieve import Retrieval
from ra.service.strays import Strays
from ra.service.submit import Submissions
from ra.service.sweep import Sweeper


@dataclass(frozen=True, slots=True)
class Work:
    """What answers a PKIOperation, and what goes on without one; `background` is what both have begun."""

    operation: PkiOperation
    admission: Admission
    background: Background[Transaction]
    sweeper: Sweeper
    deliveries: Deliveries
    strays: Strays
    refusals: RefusalLog


def build_work(
    journal: Journal,
    key: JournalKey,
    *,
    endpoints: Directory,
    backends: Mapping[str, Backend],
    validators: Mapping[str, Checked],
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
    failure_floor_seconds: float,
    max_enrolments_in_flight: int,
    notice_seconds: float = CALL_SECONDS,
) -> Work:
    """Joins the services, bottom to top."""
    background, notices = Background[Transaction](), Notices(key, entropy)
    issuing, deliveries = _outgoing(
        journal,
        notices,
        endpoints=endpoints,
        validators=validators,
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        notice_seconds=notice_seconds,
    )
    operation, admission, refusals = _incoming(
        journal,
        key,
        notices,
        outgoing=(issuing, deliveries),
        background=background,
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        failure_floor_seconds=failure_floor_seconds,
        max_enrolments_in_flight=max_enrolments_in_flight,
    )
    sweeper, strays = _sweeping(
        journal,
        key,
        notices,
        backends=backends,
        outgoing=(issuing, deliveries),
        background=background,
        clock=clock,
        entropy=entropy,
        metrics=metrics,
    )
    return Work(operation, admission, background, sweeper, deliveries, strays, refusals)


def _sweeping(
    journal: Journal,
    key: JournalKey,
    notices: Notices,
    *,
    backends: Mapping[str, Backend],
    outgoing: tuple[Issuing, Deliveries],
    background: Background[Transaction],
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
) -> tuple[Sweeper, Strays]:
    """What goes on without a request."""
    issuing, deliveries = outgoing
    sweeper = Sweeper(
        journal=journal,
        key=key,
        backends=backends,
        issuing=issuing,
        deliveries=deliveries,
        notices=notices,
        background=background,
        clock=clock,
        metrics=metrics,
    )
    strays = Strays(journal=journal, backends=backends, issuing=issuing, clock=clock, entropy=entropy, metrics=metrics)
    return sweeper, strays


def _incoming(
    journal: Journal,
    key: JournalKey,
    notices: Notices,
    *,
    outgoing: tuple[Issuing, Deliveries],
    background: Background[Transaction],
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
    failure_floor_seconds: float,
    max_enrolments_in_flight: int,
) -> tuple[PkiOperation, Admission, RefusalLog]:
    """What answers devices, who of them is let in, and what is noted of the others."""
    (issuing, deliveries), refusals = outgoing, RefusalLog(journal, clock.now)
    submissions = Submissions(
        journal=journal,
        key=key,
        issuing=issuing,
        deliveries=deliveries,
        background=background,
        clock=clock,
        entropy=entropy,
    )
    crls = Crls(clock=clock, metrics=metrics)
    renewals = Renewals(journal=journal, crls=crls, metrics=metrics)
    enrolments = Enrolments(journal=journal, renewals=renewals, submissions=submissions, notices=notices, clock=clock)
    admission = Admission(
        max_in_flight=max_enrolments_in_flight, journal=journal, clock=clock, entropy=entropy, metrics=metrics
    )
    operation = PkiOperation(
        admission=admission,
        enrolments=enrolments,
        polls=Polls(journal=journal, key=key, clock=clock),
        retrieval=Retrieval(journal=journal, crls=crls, clock=clock, metrics=metrics),
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        refusals=refusals,
        failure_floor_seconds=failure_floor_seconds,
    )
    return operation, admission, refusals


def _outgoing(
    journal: Journal,
    notices: Notices,
    *,
    endpoints: Directory,
    validators: Mapping[str, Checked],
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
    notice_seconds: float,
) -> tuple[Issuing, Deliveries]:
    """What talks to CAs, and what talks to validators afterwards."""
    issuing = Issuing(
        journal=journal,
        endpoints=endpoints,
        notices=notices,
        clock=clock,
        entropy=entropy,
        metrics=metrics,
    )
    deliveries = Deliveries(
        journal=journal,
        notices=notices,
        validators=validators,
        undelivered_until=issuing.undelivered_until,
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        call_seconds=notice_seconds,
    )
    return issuing, deliveries
