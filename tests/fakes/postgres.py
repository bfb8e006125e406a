"""A PostgreSQL server of the tests' own: on a Unix socket in a temporary directory, run by nobody's account but its own.

PostgreSQL refuses to run as root; the system user `postgres`, which its package brings, runs it then.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psycopg
import pytest

from ra.journal.database import Journal

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian keeps the server's programs, by version; they are on nobody's $PATH."""

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)]
"""What a fixture is parametrised with whose tests hold for every database."""

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "deadlock_timeout": "50ms",
    "shared_buffers": "32MB",
    # Nobody pulls the plug in a test; what a killed *client* was told is durable, with or without these.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}


def installed() -> Path | None:
    """Where the server's programs are, the newest version of them."""
    found = shutil.which("initdb")
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else Path(found).resolve().parent if found else None


class Cluster:
    """A running server."""

    def __init__(self, programs: Path, directory: Path, settings: dict[str, str]) -> None:
        self._programs = programs
        self._directory = directory
        self._options = [
            f"-c{name}={value}" for name, value in ({"unix_socket_directories": directory} | settings).items()
        ]
        self._server: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def make(self) -> None:
        data = str(self._data)
        initdb = [str(self._programs / "initdb"), "--auth=trust", "--username=ra", "--no-sync", "--encoding=UTF8", data]
        subprocess.run([*_as_nobody_special(), *initdb], check=True, stdout=subprocess.DEVNULL, cwd=self._directory)

    def start(self) -> None:
        """Starts it, and returns once it takes connections."""
        command = [*_as_nobody_special(), str(self._programs / "postgres"), "-D", str(self._data), *self._options]
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory)
        is_ready = [str(self._programs / "pg_isready"), "--host", str(self._directory), "--quiet"]
        while subprocess.run(is_ready, check=False).returncode:
            if self._server.poll() is not None:
                raise RuntimeError((self._directory / "log").read_text("utf-8"))
            time.sleep(0.01)

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """For as long as the block lasts, no process of the server does anything: connections stay, unanswered."""
        server = self._server.pid if self._server else 0
        if not server:
            raise RuntimeError("it does not run")
        frozen: list[int] = []
        try:
            # The server itself first, so that it starts no other meanwhile.
            for process in _with_descendants(server):
                os.kill(process, signal.SIGSTOP)
                frozen.append(process)
            yield
        finally:
            for process in frozen:
                os.kill(process, signal.SIGCONT)

    def stop(self, *, how: str = "fast") -> None:
        """Ends it: `fast` breaks off what is running, `immediate` is a crash."""
        command = [str(self._programs / "pg_ctl"), "stop", "-D", str(self._data), "-m", how, "--silent"]
        subprocess.run([*_as_nobody_special(), *command], check=True, cwd=self._directory)
        if self._server is not None:
            self._server.wait()

    def url(self, name: str) -> str:
        return f"postgresql://ra@/{name}?host={self._directory}"

    def execute(self, statement: str, name: str = "postgres") -> None:
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(statement.encode())

    def empty(self) -> str:
        """URL of a database of its own with nothing in it."""
        name = f"empty_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def journal(self) -> str:
        """URL of a database of its own with a journal in it."""
        name = f"journal_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY file_copy")
        return self.url(name)

    @cached_property
    def _template(self) -> str:
        self.execute("CREATE DATABASE journal TEMPLATE template0")
        Journal.create(self.url("journal"), directory=self._directory)
        return "journal"

    @property
    def _data(self) -> Path:
        return self._directory / "data"


@contextmanager
def running_postgres(programs: Path, settings: dict[str, str] | None = None) -> Iterator[Cluster]:
    """A server for as long as the block lasts; `settings` instead of the tests' fast ones."""
    # Not pytest's own directory: that one is closed to the server's user.
    with tempfile.TemporaryDirectory(prefix="scep-ra-postgres-") as name:
        directory = Path(name)
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        cluster = Cluster(programs, directory, _SETTINGS if settings is None else settings)
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop(how="immediate")


def _with_descendants(process: int) -> Iterator[int]:
    """The process, then those that it has started."""
    yield process
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text("ascii").split():
            yield from _with_descendants(int(child))


def _as_nobody_special() -> list[str]:
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
