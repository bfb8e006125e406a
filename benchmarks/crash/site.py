"""What a trial stands on: keys and certificates, the configuration, the CA's process, and the harness's connectors."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.crash.replica import plug_in
from benchmarks.ledger.ca import BOOK
from benchmarks.ledger.declared import declare
from benchmarks.servers import free_port
from ra.bootstrap.checks import prepare
from ra.settings.load import load

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
CONFIG = "ra.toml"

_SHOWN_CHARACTERS = 2000

_NOT_OURS = ("ra.toml", "ra.db*", "ca.db*")
_CONFIGURATION = """\
[database]
url = "{database}"

[connectors.ca]
{connector}
issue_timeout_seconds = 1.5

[challenges.once]
type = "attended"
book = "{book}"

[identities.ra]
certificate = "ra.pem"
key = "ra.key"
key_passphrase = "file:ra.passphrase"

[profiles.default]
ca_id = 1
connector = "ca"
challenge = "once"
challenge_password_required = true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ca:
    """A CA, and what may be asked of it.

    Attributes:
        connector: its table of the configuration; `{url}` is that of the ledger CA.
        may_orphan: it can never say what it has issued, so that what a crash cut short may be issued twice.
    """

    label: str
    connector: str
    may_orphan: bool = False

    @property
    def is_apart(self) -> bool:
        """Whether it is a process of its own."""
        return "{url}" in self.connector


INTERNAL = Ca(label="internal", connector=f'type = "recorded"\nkey_passphrase = "file:ca.passphrase"\nbook = "{BOOK}"')
LEDGER = Ca(label="ledger", connector='type = "ledger"\nurl = "{url}"')
BLIND = Ca(
    label="ledger that cannot find",
    connector='type = "ledger"\nurl = "{url}"\ncan_find = false\non_unknown = "resubmit_after 2s"',
    may_orphan=True,
)


def template(directory: Path) -> Path:
    """Keys and certificates that every trial starts from; the CA's are cheap to use."""
    options = ("--ca-key=ec:p256", "--ra-key=rsa:2048", "--yes", "--json")
    subprocess.run(
        [sys.executable, "-m", "ra", "init", str(directory), *options], check=True, stdout=subprocess.DEVNULL
    )
    return directory


@contextmanager
def laid_out(origin: Path, directory: Path, ca: Ca, database: str) -> Iterator[tuple[Path, str | None]]:
    """The configuration of a trial, its database made and its CA running; beside it the URL of a CA that is apart."""
    shutil.copytree(origin, directory, ignore=shutil.ignore_patterns(*_NOT_OURS))
    declare(directory)
    with _running(directory) if ca.is_apart else _absent() as url:
        config = directory / CONFIG
        text = _CONFIGURATION.format(database=database, book=BOOK, connector=ca.connector.replace("{url}", url or ""))
        config.write_text(text, "utf-8")
        plug_in(directory)
        try:
            prepare(load(config))
        finally:
            sys.path.remove(str(directory))
        yield config, url


@contextmanager
def _running(directory: Path) -> Iterator[str | None]:
    port = free_port()
    path = directory / "ca.log"
    with path.open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.ledger.ca", str(directory), str(port)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/fired", path)
        yield url
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


@contextmanager
def _absent() -> Iterator[str | None]:
    yield None


def wait_for(url: str, log: Path) -> bytes:
    """The body of the first good answer.

    Raises:
        TimeoutError: there is none for too long; it says how the log of who should answer ends.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            response = httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if response.is_success:
            return response.content
        time.sleep(0.05)
    raise TimeoutError(f"{url} does not answer:\n{log.read_text('utf-8')[-_SHOWN_CHARACTERS:]}")
