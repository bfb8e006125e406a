"""What `scep-ra serve` makes of the configuration for uvicorn; that it serves is shown in tests/exchange."""

from __future__ import annotations

import os
import resource
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from uvicorn.supervisors.multiprocess import SIGNALS, Process

from ra.cli import serve
from ra.cli.serve import (
    HEALTH_SECONDS,
    START_SECONDS,
    Ending,
    Supervisor,
    configure,
    memory,
    open_as_many_files_as_allowed,
    uvicorn_config,
)
from ra.errors import Misconfigured
from ra.settings.load import load
from ra.settings.model import Address
from ra.settings.sources import process_environment

EXAMPLES = Path(__file__).resolve().parents[3] / "config/examples"


@pytest.fixture
def environment_is_restored() -> Iterator[None]:
    environment = process_environment()
    before = dict(environment)
    yield
    environment.clear()
    environment.update(before)


@pytest.fixture
def signals_are_restored() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def test_a_client_certificate_is_never_asked_for() -> None:
    """A Mac sends the one it renews, without its chain, and the handshake would fail (Q23)."""
    config = uvicorn_config(load(EXAMPLES / "https.toml", {}))

    assert config.is_ssl
    assert ssl.CERT_NONE is config.ssl_cert_reqs


@pytest.mark.usefixtures("environment_is_restored")
def test_what_is_bound_stays_bound_whatever_the_file_says_later(tmp_path: Path) -> None:
    path = tmp_path / "ra.toml"
    path.write_text((EXAMPLES / "lan.toml").read_text("utf-8"), "utf-8")
    bound = configure(path, {"--listen": "127.0.0.1:9000", "--workers": None}).settings.server
    path.write_text(path.read_text("utf-8").replace("127.0.0.1:8081", "127.0.0.1:9000"), "utf-8")

    reloaded = load(path).settings.server

    assert bound.admin_listen == reloaded.admin_listen
    assert Address("127.0.0.1", 9000) == reloaded.listen


@pytest.mark.usefixtures("environment_is_restored")
def test_an_option_that_does_not_do_is_named_as_it_was_given() -> None:
    with pytest.raises(Misconfigured) as caught:
        configure(EXAMPLES / "lan.toml", {"--listen": "8080"})

    assert str(caught.value).startswith("server.listen (from --listen): write host and port")


@pytest.mark.usefixtures("environment_is_restored")
def test_a_process_that_starts_as_a_worker_does_has_its_heap_in_huge_pages() -> None:
    environment = memory()
    if not environment:
        pytest.skip("no huge pages here")
    process_environment().update(environment)
    fill = "kept = [object() for _ in range(1_000_000)]; print(open('/proc/self/smaps_rollup').read())"

    shown = subprocess.run([sys.executable, "-c", fill], check=True, capture_output=True, text=True).stdout

    [kib] = (int(line.split()[1]) for line in shown.splitlines() if line.startswith("AnonHugePages:"))
    assert kib > 0


@pytest.mark.usefixtures("environment_is_restored")
@pytest.mark.parametrize(
    ("enabled", "given", "expected"),
    [
        ("always [madvise] never", ("glibc 2.36", {}), True),
        ("[always] madvise never", ("glibc 2.35", {}), True),
        ("always madvise [never]", ("glibc 2.36", {}), False),
        (None, ("glibc 2.36", {}), False),
        ("always [madvise] never", ("glibc 2.34", {}), False),
        ("always [madvise] never", (None, {}), False),
        ("always [madvise] never", ("glibc 2.36", {"PYTHONMALLOC": "debug"}), False),
        ("always [madvise] never", ("glibc 2.36", {"GLIBC_TUNABLES": "glibc.malloc.check=3"}), False),
    ],
)
def test_huge_pages_are_asked_for_where_there_are_some_and_nobody_has_set_anything_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    enabled: str | None,
    given: tuple[str | None, dict[str, str]],
    expected: bool,
) -> None:
    library, variables = given
    monkeypatch.setattr(os, "confstr", lambda _: library)
    if enabled is not None:
        (tmp_path / "enabled").write_text(enabled, "ascii")
    monkeypatch.setattr(serve, "_HUGE_PAGES_HERE", tmp_path / "enabled")
    process_environment().update(variables)

    assert expected == ("GLIBC_TUNABLES" in memory())


def test_what_a_proxy_claims_of_a_client_is_not_believed() -> None:
    config = uvicorn_config(load(EXAMPLES / "lan.toml", {}))

    assert not config.is_ssl
    assert not config.proxy_headers


def test_idle_connections_are_kept_for_longer_than_a_proxy_keeps_them() -> None:
    config = uvicorn_config(load(EXAMPLES / "lan.toml", {}))

    assert config.timeout_keep_alive > 60


def test_as_many_files_are_opened_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))

    open_as_many_files_as_allowed()

    assert (hard, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_start_that_takes_its_time_is_not_waited_for_once_the_service_is_to_end() -> None:
    signals = [signal.SIGHUP]
    ending = Ending(signals)

    before = ending.is_set()
    signals.append(signal.SIGTERM)

    assert (False, True) == (before, ending.is_set())


@pytest.mark.usefixtures("signals_are_restored")
def test_a_worker_may_take_longer_over_its_start_than_over_an_answer() -> None:
    config = uvicorn_config(load(EXAMPLES / "lan.toml", {}))
    supervisor = Supervisor(config, [], 0)
    given: list[int] = []

    class Processes(list[Process]):
        def __iter__(self) -> Iterator[Process]:
            given.append(config.timeout_worker_healthcheck)
            return iter(())

    supervisor.processes = Processes()
    supervisor.restart_all()

    assert [START_SECONDS] == given
    assert HEALTH_SECONDS == config.timeout_worker_healthcheck
