"""Runs Pebble, Let's Encrypt's ACME test server, and its DNS server for challenges, as Debian packages them."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from connectors.api import KeyUsage
from connectors.testing import SERVER_AUTH
from tests import peers
from tests.fakes.connecting import TlsFiles, tls_files
from tests.interop.running import free_ports

KEY_ID, MAC_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
BLOCKED_DOMAIN = "blocked-domain.example"
COMMON_NAME = "2.5.4.3"
CA_ADDS = frozenset({KeyUsage.KEY_ENCIPHERMENT.value, SERVER_AUTH, COMMON_NAME})
MAY_DROP = frozenset({COMMON_NAME})
"""What Pebble does with any request, and has to be declared."""
_READY_SECONDS = 20
_PAUSE_SECONDS = 0.02

_HOOK = """
import json, sys, urllib.request
url, log, action, name, value = sys.argv[1:]
with open(log, "a") as file:
    print(action, name, file=file)
path, body = {
    "present": ("set-txt", {"host": name + ".", "value": value}),
    "cleanup": ("clear-txt", {"host": name + "."}),
}[action]
urllib.request.urlopen(f"{url}/{path}", json.dumps(body).encode())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How Pebble is to behave, where by default it throws dice.

    Attributes:
        nonce_reject_percent: of good nonces that are refused.
        authorization_reuse_percent: how often a name that has been authorised once needs no proof again.
        is_always_valid: every proof is believed.
        alternate_roots: how many other chains each certificate has.
    """

    nonce_reject_percent: int = 0
    authorization_reuse_percent: int = 0
    is_always_valid: bool = False
    alternate_roots: int = 0

    @property
    def environment(self) -> dict[str, str]:
        always = {"PEBBLE_VA_ALWAYS_VALID": "1"} if self.is_always_valid else {}
        return {
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": str(self.nonce_reject_percent),
            "PEBBLE_AUTHZREUSE": str(self.authorization_reuse_percent),
            "PEBBLE_ALTERNATE_ROOTS": str(self.alternate_roots),
            **always,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pebble:
    """One running server. Its CA is a new one, and it knows nobody.

    Attributes:
        url: of the directory.
        management: base URL of what hands out roots and says what became of certificates.
        dns_management: base URL of what is told the DNS records that Pebble finds.
    """

    url: str
    management: str
    dns_management: str
    tls: TlsFiles

    def options(self, directory: Path) -> dict[str, Any]:
        """The connector's block; the files that it names are put into `directory`."""
        (directory / "acme-chain.pem").write_bytes(self.chain())
        (directory / "acme.eab").write_text(MAC_KEY + "\n")
        return {
            "url": self.url,
            "ca_file": str(self.tls.ca),
            "ca_chain": "acme-chain.pem",
            "contact": ["mailto:pki@example.org"],
            "terms_of_service_agreed": True,
            "eab_key_id": KEY_ID,
            "eab_hmac_key": "file:acme.eab",
            "common_name_is_identifier": False,
            "sends_not_after": True,
        }

    def hook(self, directory: Path) -> list[str]:
        """A command that sets DNS records, and writes down what it was called for in `directory`/hook.log."""
        script = directory / "hook.py"
        script.write_text(_HOOK)
        return [sys.executable, str(script), self.dns_management, str(directory / "hook.log")]

    def chain(self, number: int = 0) -> bytes:
        """The issuing certificate and the root above it, PEM; another number, another root."""
        return self._get(f"intermediates/{number}") + self._get(f"roots/{number}")

    def status(self, serial: int) -> dict[str, Any]:
        """`Status`, and `Reason` where the certificate is revoked."""
        found: dict[str, Any] = json.loads(self._get(f"cert-status-by-serial/{serial:x}"))
        return found

    def _get(self, path: str) -> bytes:
        return httpx.get(f"{self.management}/{path}", verify=_context(self.tls)).raise_for_status().content


@contextmanager
def running_pebble(directory: Path, behaviour: Behaviour) -> Iterator[Pebble]:
    """Starts both servers on free loopback ports, and ends them; skips the test where they are not installed."""
    programs = [peers.require(name) for name in ("pebble", "pebble-challtestsrv")]
    port, management, dns, dns_management, *unused = free_ports(6)
    tls = tls_files(directory, datetime.now(UTC))  # noqa: TID251 - a real server checks it by the real time
    pebble = Pebble(
        url=f"https://localhost:{port}/dir",
        management=f"https://localhost:{management}",
        dns_management=f"http://127.0.0.1:{dns_management}",
        tls=tls,
    )
    configuration = directory / "pebble.json"
    configuration.write_text(json.dumps({"pebble": _configuration(tls, port, management, unused)}))
    dns_address, own_address = f"127.0.0.1:{dns}", f"127.0.0.1:{dns_management}"
    none = ["-http01", "", "-https01", "", "-tlsalpn01", ""]
    with ExitStack() as servers:
        dns_server = [programs[1], "-dns01", dns_address, "-management", own_address, *none]
        servers.enter_context(_running(dns_server, {}, directory / "challtestsrv.log"))
        server = [programs[0], "-config", str(configuration), "-dnsserver", dns_address, "-strict"]
        process = servers.enter_context(_running(server, behaviour.environment, directory / "pebble.log"))
        _wait(process, lambda: httpx.get(pebble.url, verify=_context(tls)), directory / "pebble.log")
        _wait(process, lambda: httpx.get(pebble.dns_management), directory / "challtestsrv.log")
        yield pebble


def _configuration(tls: TlsFiles, port: int, management: int, unused: Sequence[int]) -> dict[str, Any]:
    return {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(tls.certificate),
        "privateKey": str(tls.key),
        "httpPort": unused[0],
        "tlsPort": unused[1],
        "ocspResponderURL": "",
        "externalAccountBindingRequired": True,
        "externalAccountMACKeys": {KEY_ID: MAC_KEY},
        "domainBlocklist": [BLOCKED_DOMAIN],
        "certificateValidityPeriod": 7776000,
    }


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], ask: Any, log: Path) -> None:
    until = time.monotonic() + _READY_SECONDS
    while True:
        try:
            ask()
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text()) from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _context(tls: TlsFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=tls.ca)
