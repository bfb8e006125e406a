"""Whether the listeners can be had, and whether devices would find what listens there."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping
from datetime import datetime

import httpx

from ra.bootstrap.examination import Finding, Verdict
from ra.bootstrap.identities import shown_identities
from ra.client.errors import ClientError, HttpRefused, Unreachable
from ra.client.http import Exchange
from ra.errors import RaError
from ra.settings.load import Configuration
from ra.settings.model import Address

TIMEOUT_SECONDS = 10.0
_OURS = "SCEPStandard"
_PUBLIC_URL = "server.public_url"


async def examine_reach(configuration: Configuration, now: datetime) -> list[Finding]:
    """Looks at both listeners; where somebody listens for devices already, asks at `public_url` as they would."""
    server = configuration.settings.server
    listeners = {"server.listen": server.listen, "server.admin_listen": server.admin_listen}
    findings = [_listener(setting, address) for setting, address in listeners.items()]
    is_served = _fault_of_binding(server.listen) == errno.EADDRINUSE
    if not is_served:
        detail = f"{server.public_url} is not asked while nobody serves"
        return [*findings, Finding(subject=_PUBLIC_URL, verdict=Verdict.OK, detail=detail)]
    own = await _shown(configuration, now)
    return [*findings, await asyncio.to_thread(_public_url, server.public_url, own)]


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


async def _shown(configuration: Configuration, now: datetime) -> dict[str, bytes]:
    """The certificate, DER, that each profile's GetCACert has to show; what cannot be read is a finding of its own."""
    try:
        identities = await shown_identities(configuration, now)
    except RaError:
        return {}
    return {
        profile: identities[endpoint.identities[0]].certificates[0]
        for profile, endpoint in configuration.endpoints.items()
        if endpoint.identities[0] in identities
    }


def _public_url(url: str, own: Mapping[str, bytes]) -> Finding:
    strange = []
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            capabilities = Exchange(f"{url}/api/v1/scep", http).get("GetCACaps").decode("ascii", "replace").split()
            if _OURS in capabilities:
                strange = [profile for profile in own if own[profile] not in _shows(f"{url}/scep/{profile}", http)]
    except ClientError as error:
        verdict = Verdict.UNREACHABLE if isinstance(error, Unreachable) else Verdict.FAILED
        advice = "devices are sent there: see whether DNS, proxy and TLS certificate lead from it to server.listen"
        return _wrong(verdict, f"{url}: {error}", advice)
    if _OURS not in capabilities:
        advice = "it leads to another server: let the proxy hand /api/v1/scep and /scep on to server.listen"
        return _wrong(Verdict.FAILED, f"{url} answers, but not as this server does", advice)
    if strange:
        detail = f"{url} does not show the identity's certificate, for {', '.join(strange)}"
        advice = "another scep-ra answers there, or `serve` has not been told of a new certificate or profile (SIGHUP)"
        return _wrong(Verdict.FAILED, detail, advice)
    return Finding(subject=_PUBLIC_URL, verdict=Verdict.OK, detail=f"{url} answers as this server does")


def _shows(url: str, http: httpx.Client) -> bytes:
    """What GetCACert shows there; nothing where it knows no such profile."""
    try:
        return Exchange(url, http).get("GetCACert")
    except HttpRefused:
        return b""


def _wrong(verdict: Verdict, detail: str, advice: str) -> Finding:
    return Finding(subject=_PUBLIC_URL, verdict=verdict, detail=detail, settings=(_PUBLIC_URL,), advice=advice)
