"""`scep-ra serve`: checks everything, binds both listeners, and keeps the worker processes running."""

from __future__ import annotations

import os
import resource
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess

from ra.bootstrap.checks import prepare
from ra.bootstrap.worker import FACTORY
from ra.cli.output import DEFAULT_CONFIG, FAILED, AsJson, ConfigPath, show
from ra.errors import Misconfigured
from ra.settings.load import Configuration, load
from ra.settings.model import Address, Server, Tls
from ra.settings.sources import CONFIG_VARIABLE, PREFIX, process_environment, read_secret
from ra.telemetry import MULTIPROCESS_VARIABLE, configure_logs
from ra.web.health import NOT_READY_SIGNAL
from ra.web.receive import ReceiveLimits, http_protocol

BACKLOG = 2048

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than proxies keep theirs (nginx: 60), and than devices pause between polls."""

HEALTH_SECONDS = 20
"""A worker that says nothing for so long is killed and started anew. On a busy machine, one that starts is silent too."""

START_SECONDS = 60
"""For so long a worker that is to take another one's place may start; then that one is kept."""

_TICK_SECONDS = 0.1

_HUGE_PAGES = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"}
"""The heap of a worker by glibc, which asks for huge pages where Python's own allocator does not."""
_GLIBC = (2, 35)
"""Its first version that does."""
_HUGE_PAGES_HERE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def command(
    config: ConfigPath = DEFAULT_CONFIG,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes that answer.", show_default=False)] = None,
    listen: Annotated[str | None, typer.Option("--listen", help="HOST:PORT for devices.", show_default=False)] = None,
    admin_listen: Annotated[
        str | None, typer.Option("--admin-listen", help="HOST:PORT for operators.", show_default=False)
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Serve SCEP until SIGTERM; SIGHUP replaces the workers one by one."""
    options = {"--workers": workers, "--listen": listen, "--admin-listen": admin_listen}
    configuration = configure(config, options)
    prepare(configuration)
    server = configuration.settings.server
    configure_logs(console=server.debug)
    open_as_many_files_as_allowed()
    with (
        tempfile.TemporaryDirectory(prefix="scep-ra-metrics-") as metrics,
        bind("server.listen", server.listen) as public,
        bind("server.admin_listen", server.admin_listen) as admin,
    ):
        _export(memory() | {MULTIPROCESS_VARIABLE: metrics})
        url, admin_url = f"{server.public_url}/scep", f"{_scheme(server)}://{server.admin_listen}"
        value = {"url": url, "listen": str(server.listen), "admin_url": admin_url, "workers": server.workers}
        text = f"Devices enrol at {url} (listening on {server.listen}); operators look at {admin_url}/readyz"
        show(value, text, as_json=as_json)
        supervisor = Supervisor(uvicorn_config(configuration), [public, admin], server.shutdown_notice_seconds)
        supervisor.run()
    if any(each.exitcode == STARTUP_FAILURE for each in supervisor.processes):
        raise typer.Exit(FAILED)


class Ending(threading.Event):
    """Set from when a signal that ends the service has come, so that a start that takes its time is not waited for."""

    def __init__(self, signals: Sequence[int]) -> None:
        super().__init__()
        self._signals = signals

    def is_set(self) -> bool:
        return super().is_set() or not {signal.SIGTERM, signal.SIGINT}.isdisjoint(self._signals)


class Supervisor(Multiprocess):
    """uvicorn's, with a notice before the end. SIGINT, which is sent by hand, and a second SIGTERM cut it short."""

    def __init__(self, config: Config, sockets: list[socket.socket], notice_seconds: int) -> None:
        super().__init__(config, sockets)
        self._notice_seconds = notice_seconds
        self.should_exit = Ending(self.signal_queue)

    def restart_all(self) -> None:
        """Its workers may take longer over their start than over an answer to whether they are well."""
        self.config.timeout_worker_healthcheck = START_SECONDS
        super().restart_all()
        self.config.timeout_worker_healthcheck = HEALTH_SECONDS

    def handle_term(self) -> None:
        if self._notice_seconds:
            for each in self.processes:
                if each.pid is not None and each.exitcode is None:
                    os.kill(each.pid, NOT_READY_SIGNAL)
            for _ in range(int(self._notice_seconds / _TICK_SECONDS)):
                if self.signal_queue or self.should_exit.wait(_TICK_SECONDS):
                    break
        super().handle_term()

    def terminate_all(self) -> None:
        """Nobody is left to take connections: they are refused from now on, and not kept waiting."""
        super().terminate_all()
        for each in self.sockets:
            each.close()


def memory() -> dict[str, str]:
    """What has to be in a worker's environment when it starts, so that its heap lies in huge pages, where there are any.

    An enrolment looks at much of the heap, and at each place once: with small pages a good part of its time goes by in
    finding them. What the operator has set already stays.
    """
    given = process_environment()
    try:
        glibc = tuple(map(int, (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[-1].split(".")))
        has_some = "[never]" not in _HUGE_PAGES_HERE.read_text("ascii")
    except (IndexError, ValueError, OSError):  # another C library, another system
        return {}
    return {} if glibc < _GLIBC or not has_some or _HUGE_PAGES.keys() & given.keys() else _HUGE_PAGES


def open_as_many_files_as_allowed() -> None:
    """Each waiting device is a connection; the limit that shells begin with, 1024, is there for programs that select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bind(key: str, address: Address) -> socket.socket:
    """A listening socket, `key` being its name in the configuration. Idle workers take connections from it in turn.

    Raises:
        Misconfigured: the address is taken, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        option = f"--{key.rpartition('.')[2].replace('_', '-')}"
        raise Misconfigured(
            f"{key}: {address} cannot be listened on: {error.strerror or error}; set another there, or by {option}"
        ) from None
    listener.set_inheritable(True)
    return listener


def uvicorn_config(configuration: Configuration) -> Config:
    """Uvicorn's own settings. [server.tls] holds for both listeners: uvicorn knows one TLS for all of its sockets."""
    server = configuration.settings.server
    return Config(
        FACTORY,
        factory=True,
        workers=server.workers,
        loop="uvloop",
        http=http_protocol(_limits(server)),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_worker_healthcheck=HEALTH_SECONDS,
        timeout_graceful_shutdown=server.shutdown_grace_seconds,
        **(_tls(server.tls, configuration.directory) if server.tls else {}),
    )


def _limits(server: Server) -> ReceiveLimits:
    seconds = server.receive_timeout_seconds
    return ReceiveLimits(head_seconds=min(seconds, ReceiveLimits().head_seconds), request_seconds=seconds)


def _tls(tls: Tls, directory: Path) -> dict[str, Any]:
    """A client certificate is never asked for: macOS answers with the one it renews, without its chain (Q23)."""
    passphrase = read_secret(tls.key_passphrase, directory).reveal() if tls.key_passphrase else None
    return {
        "ssl_cert_reqs": ssl.CERT_NONE,
        "ssl_certfile": directory / tls.certificate,
        "ssl_keyfile": directory / tls.key,
        "ssl_keyfile_password": passphrase,
    }


def configure(path: Path, options: Mapping[str, object]) -> Configuration:
    """Reads the configuration with the command line's options in the environment, where the workers find them too.

    Errors name the option, not the variable.
    """
    given = {_variable(key): str(value) for key, value in options.items() if value is not None}
    _export(given | {CONFIG_VARIABLE: str(path.absolute())})
    try:
        configuration = load(path)
    except Misconfigured as error:
        text = str(error)
        for key in options:
            text = text.replace(f"(from {_variable(key)})", f"(from {key})")
        raise Misconfigured(text) from None
    # What is bound stays bound over SIGHUP, whatever the file says by then: the admin listener is told by its port.
    bound = {key: str(getattr(configuration.settings.server, key)) for key in ("listen", "admin_listen")}
    _export({_variable(f"--{key}"): value for key, value in bound.items()})
    return configuration


def _variable(option: str) -> str:
    return f"{PREFIX}SERVER__{option.removeprefix('--').replace('-', '_').upper()}"


def _export(variables: dict[str, str]) -> None:
    process_environment().update(variables)


def _scheme(server: Server) -> str:
    return "https" if server.tls else "http"
