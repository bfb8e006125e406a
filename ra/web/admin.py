"""What only the admin listener has: metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from ra.web.edge import log_line
from ra.web.services import Services


def metrics_router(services: Services) -> APIRouter:
    """`/metrics` for Prometheus; with several workers one scrape tells of all of them."""
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics", response_class=Response)
    def metrics(request: Request) -> Response:
        """All metrics, in the text exposition format."""
        log_line(request.scope)["operation"] = "metrics"
        return Response(services.metrics.scrape(), media_type="text/plain; version=1.0.0; charset=utf-8")

    return router
