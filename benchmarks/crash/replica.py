"""The RA on trial: one worker process as `scep-ra serve` runs it, with a fuse in its journal, its connectors and its validator.

Forked from a process that has imported everything, because otherwise a life would be mostly imports.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import MutableSequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from benchmarks.crash.points import Fuse, Plan
from ra.bootstrap import worker
from ra.cli.serve import configure, uvicorn_config

LOG = "replica.log"
NOTICE_SECONDS = 1.5
"""Ten times shorter than in service, so that a notice which a crash cut short is sent again within a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Both listeners. They stay open from one life to the next, as those of `scep-ra serve` do when a worker dies."""

    public: socket.socket
    admin: socket.socket

    @classmethod
    def bind(cls) -> Sockets:
        return cls(public=socket.create_server(("127.0.0.1", 0)), admin=socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://{_address(self.public)}/scep"

    def close(self) -> None:
        self.public.close()
        self.admin.close()


def live(config: Path, sockets: Sockets, plan: Plan, hits: MutableSequence[int]) -> None:
    """One life: serves until SIGTERM, or until the plan ends it."""
    _log_to(config.parent / LOG)
    plug_in(config.parent)
    options = {"--listen": _address(sockets.public), "--admin-listen": _address(sockets.admin)}
    served = uvicorn_config(configure(config, options))
    served.app = partial(worker.application, reached=Fuse(plan, hits), notice_seconds=NOTICE_SECONDS)
    uvicorn.Server(served).run([sockets.public, sockets.admin])


def plug_in(directory: Path) -> None:
    """Lets this process find the harness's connectors, whose entry points lie in that directory."""
    sys.path.append(str(directory))


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"{host}:{port}"


def _log_to(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
