"""Requests to Vault, as the transport takes them. Each may be led on once: a standby sends to the active node."""

from __future__ import annotations

from typing import Any

from connectors.transport import Call, Effect, Meanings


def get(
    operation: str,
    url: str,
    *,
    statuses: Meanings | None = None,
    settings: tuple[str, ...] = (),
) -> Call:
    return Call(
        operation=operation,
        effect=Effect.REPEATABLE,
        url=url,
        statuses=statuses or {},
        follows_307=True,
        settings=settings,
    )


def post(
    operation: str,
    url: str,
    body: dict[str, Any] | None = None,
    *,
    effect: Effect = Effect.REPEATABLE,
    statuses: Meanings | None = None,
    settings: tuple[str, ...] = (),
) -> Call:
    return Call(
        operation=operation,
        effect=effect,
        method="POST",
        url=url,
        json=body,
        statuses=statuses or {},
        follows_307=True,
        settings=settings,
    )
