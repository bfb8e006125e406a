"""What `scep-ra serve` makes of the configuration for uvicorn; that it serves is shown in tests/exchange."""

from __future__ import annotations

import resource
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from uvicorn.supervisors.multiprocess import SIGNALS, Process

from ra.cli.serve import (
    HEALTH_SECONDS,
    START_SECONDS,
    Ending,
    Supervisor,
    configure,
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
