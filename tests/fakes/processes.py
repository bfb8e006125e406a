"""A real server as a process on loopback: started, waited for, stopped."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

_READY_SECONDS = 30
_STOP_SECONDS = 10
_PAUSE_SECONDS = 0.05


@contextmanager
def running(command: Sequence[str | Path], directory: Path, is_ready: Callable[[], object]) -> Iterator[None]:
    """Runs it in `directory` until the block ends; `is_ready` asks it something, and raises as long as it is not there.

    Raises:
        RuntimeError: it ends, or does not get ready.
    """
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            _wait_until_ready(process, is_ready, log)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], is_ready: Callable[[], object], log: Path) -> None:
    for _ in range(int(_READY_SECONDS / _PAUSE_SECONDS)):
        try:
            is_ready()
        except (httpx.HTTPError, OSError):
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PAUSE_SECONDS)
                break
        else:
            return
    raise RuntimeError(f"{log.parent} did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
