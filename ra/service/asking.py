"""How a connector is asked: in time, and whatever becomes of it is told to the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ra.service.backend import Backend
from ra.service.gate import Permit
from ra.service.ports import Metrics

T = TypeVar("T")


async def ask(
    backend: Backend, permit: Permit, asking: Awaitable[T], metrics: Metrics, timeout_seconds: float | None = None
) -> T | Exception:
    """What a connector answers in time, or what it raises instead; the permit is given back.

    `timeout_seconds` is given where it is less than what the backend has to issue.
    """
    with permit:
        try:
            async with asyncio.timeout(timeout_seconds or backend.issue_timeout_seconds):
                answer = await asking
        except Exception as error:  # noqa: BLE001 - the edge of a plugin: whatever it raises, its caller goes on
            metrics.connector_failed(backend.name, type(error).__name__)
            permit.failed(error)
            return error
        permit.succeeded()
        return answer
