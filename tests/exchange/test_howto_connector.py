"""docs/howto/write-a-connector.md: what it shows is built, installed and run against a CA that signs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.api import KeyUsage
from connectors.usage import to_x509
from ra.simulate.authority import SimulatedCa, pem
from tests.fakes.configured import with_connector
from tests.fakes.simulated import listening, now
from tests.interop.running import clean_environment

PAGE = Path(__file__).resolve().parents[2] / "docs/howto/write-a-connector.md"
TOKEN = "a token that nobody may see"
_FEWER_THAN = 100


def shown(name: str) -> str:
    """The file of that name, as the page shows it."""
    found = re.search(
        rf"^`{re.escape(name)}`:\n\n(`{{3,4}})\w+\n(.*?)^\1$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"the page shows no {name}"
    return found[2]


@dataclass
class ExampleCa:
    """The CA of the page: `POST /v1/certificates` signs, `GET /v1/ca` shows the chain."""

    ca: SimulatedCa = field(default_factory=lambda: SimulatedCa("Example", now))
    issued: dict[str, str] = field(default_factory=dict)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/ca", self._show), Route("/v1/certificates", self._sign, methods=["POST"])])

    async def _show(self, _request: Request) -> Response:
        return JSONResponse({"chain": [pem(each) for each in self.ca.chain]})

    async def _sign(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "who are you?"}, 401)
        asked = await request.json()
        if asked["profile"] != "devices":
            return JSONResponse({"error": f"no profile {asked['profile']}"}, 404)
        if asked["common_name"] == "forbidden":
            return JSONResponse({"error": "not that name"}, 422)
        key = request.headers["idempotency-key"]
        certificate = self.issued.setdefault(key, pem(self._certificate(asked)))
        return JSONResponse({"certificate": certificate, "chain": [pem(each) for each in self.ca.chain]}, 201)

    def _certificate(self, asked: dict[str, Any]) -> x509.Certificate:
        usages = [x509.ObjectIdentifier(each) for each in asked["extended_key_usage"]]
        names = [x509.DNSName(each) for each in asked["dns_names"]]
        return self.ca.sign(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, asked["common_name"])]),
            x509.load_pem_x509_csr(asked["csr"].encode()).public_key(),
            [
                (x509.SubjectAlternativeName(names), False),
                (to_x509(frozenset(map(KeyUsage, asked["key_usage"]))), True),
                (x509.ExtendedKeyUsage(usages), False),
            ],
            not_before=now() - timedelta(minutes=1),
            not_after=datetime.fromisoformat(asked["not_after"]),
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's package is installed, by pip, from what the page shows."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "example_ca.py", "test_example_ca.py"):
        (source / name).write_text(shown(name), "utf-8")
    target = source / "site"
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run(["pip", "install", *options, "--target", str(target), str(source)])
    (target / "test_example_ca.py").write_text(shown("test_example_ca.py"), "utf-8")
    return target


@pytest.fixture
def url() -> Iterator[str]:
    with listening(ExampleCa().app()) as address:
        yield address


def run(module: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this Python in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *module],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1, 2}, done.stderr
    return done


def test_the_connector_is_short() -> None:
    assert len(shown("example_ca.py").splitlines()) < _FEWER_THAN


def test_the_installed_package_keeps_the_contract(site: Path, url: str) -> None:
    test = ["pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(site / "test_example_ca.py")]

    done = run(test, PYTHONPATH=str(site), EXAMPLE_CA_URL=url)

    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout
    assert passed is not None
    assert int(passed[1]) > 10


def test_the_configuration_finds_it_by_its_type(site: Path, url: str, directory: Path) -> None:
    (directory / "example-ca.token").write_text(TOKEN)
    path = with_connector(directory, "example_ca", {"url": url, "token": "file:example-ca.token"})

    done = run(["ra", "doctor", "--json", "--config", str(path)], PYTHONPATH=str(site))
    without = run(["ra", "doctor", "--json", "--config", str(path)])

    assert "ok" == of_the_ca(done)["verdict"]
    assert "misconfigured" == of_the_ca(without)["verdict"]
    assert 'there is no connector of type "example_ca"' in of_the_ca(without)["detail"]


def test_an_unknown_key_is_an_error_there_as_well(site: Path, url: str, directory: Path) -> None:
    path = with_connector(directory, "example_ca", {"url": url, "token": "env:TOKEN", "profil": "devices"})

    done = run(["ra", "check-config", "--config", str(path)], PYTHONPATH=str(site), TOKEN=TOKEN)

    assert done.returncode == 2
    assert "connectors.lab: profil is not a known key; did you mean profile?" in done.stderr


def of_the_ca(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return next(each for each in findings if each["subject"] == "connectors.lab")
