"""Whether the service can work, for people (`/api/v1/scep/health`) and for probes (`/livez`, `/readyz`)."""

from __future__ import annotations

import signal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ra.service.health import Component, HealthReport, Status
from ra.web.callers import Callers
from ra.web.edge import log_line
from ra.web.recent import Recent
from ra.web.services import Services

KEEP_SECONDS = 2.0

NOT_READY_SIGNAL = signal.SIGUSR1
"""Tells a worker that it will be stopped soon: `/readyz` says so from then on, and all else is answered as before."""

_STOPPING = HealthReport(
    status=Status.FAILED, components={"process": Component(status=Status.FAILED, detail="it will be stopped soon")}
)


class ComponentModel(BaseModel):
    """One part of the service; the detail, as the parts' own names, is for known callers."""

    status: Status
    detail: str | None = None


class HealthModel(BaseModel):
    """`failed` when the database or a key fails; `degraded` while a CA is away."""

    status: Status
    components: dict[str, ComponentModel]


def recent_health(services: Services) -> Recent[HealthReport]:
    return Recent(services.check_health, services.clock, KEEP_SECONDS)


def health_router(reports: Recent[HealthReport], callers: Callers) -> APIRouter:
    """The public health page."""
    router = APIRouter(tags=["service"])

    @router.get("/api/v1/scep/health", responses={503: {"model": HealthModel}}, response_model_exclude_none=True)
    async def health(request: Request, response: Response) -> HealthModel:
        """State of the database, the keys and the connectors; each by its name to known callers."""
        log_line(request.scope)["operation"] = "health"
        report = await reports.get()
        response.status_code = http_status(report)
        if callers.label_of(request.headers) is None:
            return HealthModel(status=report.status, components=_by_kind(report))
        return HealthModel.model_validate(report, from_attributes=True)

    return router


def _by_kind(report: HealthReport) -> dict[str, ComponentModel]:
    """For strangers, by the first word of a name: how many connectors there are, and what they are called, is not for them."""
    kinds: dict[str, list[Status]] = {}
    for name, each in report.components.items():
        kinds.setdefault(name.partition(" ")[0], []).append(each.status)
    return {kind: ComponentModel(status=max(states, key=list(Status).index)) for kind, states in kinds.items()}


def probe_router(services: Services, reports: Recent[HealthReport]) -> APIRouter:
    """The probes of the admin listener."""
    router = APIRouter(tags=["probes"])

    @router.get("/livez")
    async def livez(request: Request) -> dict[str, Status]:
        """Whether the process answers at all."""
        log_line(request.scope)["operation"] = "livez"
        return {"status": Status.OK}

    @router.get("/readyz", responses={503: {"model": HealthModel}})
    async def readyz(request: Request, response: Response) -> HealthModel:
        """Whether devices should be sent here: a CA that is away does not matter, as requests wait for it."""
        log_line(request.scope)["operation"] = "readyz"
        report = _STOPPING if services.is_stopping() else await reports.get()
        response.status_code = http_status(report)
        return HealthModel.model_validate(report, from_attributes=True)

    return router


def http_status(report: HealthReport) -> int:
    return 503 if report.status is Status.FAILED else 200
