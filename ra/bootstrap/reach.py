"""Whether the listeners can be had, and whether devices would find what listens there."""

from __future__ import annotations

import errno
import os
import socket

import httpx

from ra.bootstrap.examination import Finding, Verdict
from ra.client.errors import ClientError, Unreachable
from ra.client.http import Exchange
from ra.settings.load import Configuration
from ra.settings.model import Address

TIMEOUT_SECONDS = 10.0
_OURS = "SCEPStandard"


def examine_reach(configuration: Configuration) -> list[Finding]:
    """Looks at both listeners; where somebody listens for devices already, asks at `public_url` as they would."""
    server = configuration.settings.server
    listeners = {"server.listen": server.listen, "server.admin_listen": server.admin_listen}
    findings = [_listener(setting, address) for setting, address in listeners.items()]
    is_served = _fault_of_binding(server.listen) == errno.EADDRINUSE
    return [*findings, _public_url(server.public_url, is_served=is_served)]


def _listener(setting: str, address: Address) -> Finding:
    fault = _fault_of_binding(address)
    if fault == 0:
        return Finding(subject=setting, verdict=Verdict.OK, detail=f"{address} is free: nobody serves there yet")
    if fault == errno.EADDRINUSE:
        return Finding(
            subject=setting, verdict=Verdict.OK, detail=f"somebody listens on {address}: `serve`, if it runs"
        )
    detail = f"{address} cannot be listened on: {os.strerror(fault)}"
    advice = "name an address of this machine, and a port that its user may have"
    return Finding(subject=setting, verdict=Verdict.MISCONFIGURED, detail=detail, settings=(setting,), advice=advice)


def _fault_of_binding(address: Address) -> int:
    """The errno that keeps a listener away from there; 0 where nothing does."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            return error.errno or errno.EADDRNOTAVAIL
    return 0


def _public_url(url: str, *, is_served: bool) -> Finding:
    subject = "server.public_url"
    if not is_served:
        return Finding(subject=subject, verdict=Verdict.OK, detail=f"{url} is not asked while nobody serves")
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            capabilities = Exchange(f"{url}/api/v1/scep", http).get("GetCACaps")
    except ClientError as error:
        verdict = Verdict.UNREACHABLE if isinstance(error, Unreachable) else Verdict.FAILED
        advice = "devices are sent there: see whether DNS, proxy and TLS certificate lead from it to server.listen"
        return Finding(subject=subject, verdict=verdict, detail=f"{url}: {error}", settings=(subject,), advice=advice)
    if _OURS not in capabilities.decode("ascii", "replace").split():
        advice = "it leads to another server: let the proxy hand /api/v1/scep and /scep on to server.listen"
        detail = f"{url} answers, but not as this server does"
        return Finding(subject=subject, verdict=Verdict.FAILED, detail=detail, settings=(subject,), advice=advice)
    return Finding(subject=subject, verdict=Verdict.OK, detail=f"{url} answers as this server does")
