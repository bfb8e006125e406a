"""How a validator asks somebody over HTTP: a transport of its own, and what its errors mean for a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from connectors.api import BackendUnavailable, ConnectorError
from connectors.api import Services as TransportServices
from connectors.transport import Transport, TransportOptions
from ra.challenge.api import Services, Unavailable

LONGEST_RETRY_SECONDS = 3600
"""Whatever a server asks for, a device is told to come back no later."""


def open_transport(options: TransportOptions, services: Services, **how: Any) -> Transport:
    """A transport for one validator, which closes it; `how` is what Transport takes beside. Sends nothing yet.

    Raises:
        connectors.api.Misconfigured: a file is missing, or they do not go together.
    """
    return Transport(options, transport_services(services), **how)


def transport_services(services: Services) -> TransportServices:
    """What a transport is given on behalf of a validator."""
    return TransportServices(
        name=services.name,
        directory=services.directory,
        now=services.now,
        read_secret=services.read_secret,
        observe=services.observe,
    )


@contextmanager
def below(section: str) -> Iterator[None]:
    """Settings that an error names are keys of a section of the options.

    Raises:
        ConnectorError: what is raised inside.
    """
    try:
        yield
    except ConnectorError as error:
        error.settings = tuple(f"{section}.{each}" for each in error.settings)
        raise


def unavailable(error: ConnectorError, otherwise_seconds: int = 30) -> Unavailable:
    """Whatever keeps an answer from coming: nobody is let in by it, and nobody is refused for good.

    `otherwise_seconds` is the pause where the server has asked for none.
    """
    asked = error.retry_after_seconds if isinstance(error, BackendUnavailable) else None
    seconds = otherwise_seconds if asked is None else min(asked, LONGEST_RETRY_SECONDS)
    return Unavailable(detail=str(error), retry_after_seconds=seconds)
