"""The CAs that a connector is measured against, each in a process of its own: a simulated Vault, CFSSL, step-ca."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import httpx
import uvicorn
from starlette.types import Receive, Scope, Send

from benchmarks.servers import free_port
from ra.simulate.vault import ISSUER, RA_ROLE, ROLE, SimulatedVault
from tests.fakes.cfssl_server import AUTH_KEY, cfssl_server
from tests.fakes.step_ca_server import PASSPHRASE, step_ca_server
from tests.interop.installed import find

ROLE_ID, SECRET_ID = "benchmark", "benchmark-secret"
SLOTS = 16
"""So many signatures at once has the one that takes its time."""

_READY_SECONDS, _PAUSE_SECONDS = 20.0, 0.05
_PAUSES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Ca:
    """A CA that runs.

    Attributes:
        kind, options: of the connector.
        secrets: files that the options name, beside the configuration.
    """

    kind: str
    options: Mapping[str, Any]
    secrets: Mapping[str, str]


Start = Callable[[Path], AbstractContextManager[Ca]]


def available() -> dict[str, Start]:
    """What can be measured here, by its label."""
    found: dict[str, Start] = {
        "Vault, simulated": partial(_vault, delay_seconds=0.0),
        f"Vault, simulated, of 50 to 150 ms, {SLOTS} at once": partial(_vault, delay_seconds=0.1),
        f"Vault, simulated, of 200 to 600 ms, {SLOTS} at once": partial(_vault, delay_seconds=0.4),
    }
    if find("cfssl"):
        found["CFSSL"] = _cfssl
    if find("step-ca-0.29"):
        found["step-ca"] = _step
    return found


@contextmanager
def _vault(_directory: Path, *, delay_seconds: float) -> Iterator[Ca]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = get_context("spawn").Process(target=_serve_vault, args=(port, delay_seconds), daemon=True)
    process.start()
    try:
        _wait(f"{url}/v1/sys/health")
        login = {"method": "approle", "role_id": ROLE_ID, "secret_id": "file:secret-id"}
        options = {"url": url, "issuer": ISSUER, "role": ROLE, "ra_role": RA_ROLE, "login": login}
        yield Ca(kind="vault", options=options, secrets={"secret-id": SECRET_ID})
    finally:
        process.terminate()
        process.join()


@contextmanager
def _cfssl(directory: Path) -> Iterator[Ca]:
    with cfssl_server(directory) as server:
        options = server.options(ra_profile="scep-ra")
        yield Ca(kind="cfssl", options=options, secrets={"auth.key": AUTH_KEY})


@contextmanager
def _step(directory: Path) -> Iterator[Ca]:
    with step_ca_server(directory) as server:
        yield Ca(kind="step", options=server.options(template="scep-ra"), secrets={"passphrase": PASSPHRASE})


def _serve_vault(port: int, delay_seconds: float) -> None:
    vault = SimulatedVault(now=lambda: datetime.now(UTC), entropy=os.urandom)  # noqa: TID251 - a program of its own
    vault.tokens.credentials.role_id, vault.tokens.credentials.secret_id = ROLE_ID, SECRET_ID

    slots, pauses = asyncio.Semaphore(SLOTS), _pauses(delay_seconds)

    async def delayed(scope: Scope, receive: Receive, send: Send) -> None:
        """With a pause before each signature, as a CA has whose key is elsewhere; not with all at the same beat."""
        if delay_seconds and "/sign/" in scope["path"]:
            async with slots:
                await asyncio.sleep(next(pauses))
        await vault.faults(scope, receive, send)

    uvicorn.run(delayed, port=port, ws="none", lifespan="off", log_config=None, access_log=False, loop="uvloop")


def _pauses(mean_seconds: float) -> Iterator[float]:
    """From half the mean to one and a half, all in turn and in no order: a few hundred have the same median every time."""
    pauses = [mean_seconds * (0.5 + each / _PAUSES) for each in range(_PAUSES + 1)]
    Random(1).shuffle(pauses)  # noqa: S311 - nothing secret
    return cycle(pauses)


def _wait(url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    raise RuntimeError(f"{url} did not start")
