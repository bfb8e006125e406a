"""A real `scep-ra serve` in a process of its own, which a test may stop, and start again over the same directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.running import clean_environment

DEADLINE_SECONDS = 30
PAUSE_SECONDS = 0.02

_STARTED = "Application startup complete."


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A `scep-ra serve` that answers."""

    process: subprocess.Popen[bytes]
    url: str
    admin_url: str
    log: Path

    def wait_for(self, words: str, times: int = 1) -> None:
        self.until(lambda: self.log.read_text("utf-8").count(words) >= times)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Waits for something to come true while the process lives."""
        for _ in range(int(DEADLINE_SECONDS / PAUSE_SECONDS)):
            if is_so():
                return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PAUSE_SECONDS)
                break
        pytest.fail(f"it never came:\n{self.log.read_text('utf-8')}")


def put_into(directory: Path, url: str) -> None:
    """Has the configuration that `init` wrote there keep its journal at that URL."""
    path = directory / "ra.toml"
    text = path.read_text("utf-8")
    assert 'url = "sqlite:///ra.db"' in text
    path.write_text(text.replace('url = "sqlite:///ra.db"', f'url = "{url}"'), "utf-8")


def workers_of(supervisor: int) -> list[int]:
    """The workers that live: children of the supervisor that are no helper of multiprocessing's."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text("ascii").split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def command(directory: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "ra", "serve", "--config", str(directory / "ra.toml"), *options]


@contextmanager
def serving(
    directory: Path,
    ports: tuple[int, int],
    *options: str,
    scheme: str = "http",
    environment: dict[str, str] | None = None,
) -> Iterator[Serving]:
    """Serves until the block is left, then stops it with SIGTERM; `environment` is added to what it inherits."""
    log = directory / "server.log"
    starts = log.read_text("utf-8").count(_STARTED) if log.exists() else 0
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command(directory, *options), stdout=stream, stderr=stream, env=clean_environment() | (environment or {})
        )
    public, admin = (f"{scheme}://127.0.0.1:{port}" for port in ports)
    served = Serving(process=process, url=f"{public}/scep", admin_url=admin, log=log)
    try:
        served.wait_for(_STARTED, starts + 1)
        yield served
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
