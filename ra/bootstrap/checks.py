"""What `serve`, `init` and `check-config` find out before anything is served."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import AsyncExitStack

from ra.bootstrap.front import build_front
from ra.bootstrap.journal import check_database, look_at_journal, make_journal
from ra.bootstrap.plugins import Surroundings
from ra.errors import Misconfigured
from ra.settings.load import Configuration
from ra.settings.sources import read_secret
from ra.web.api_keys import ApiKeys


def prepare(configuration: Configuration) -> tuple[str, ...]:
    """Checks everything and makes or upgrades the journal, before anything is served; returns the warnings.

    Raises:
        Misconfigured: with one line for each thing that is wrong.
        Unavailable: a CA or the database cannot be reached.
    """
    warnings = check(configuration)
    make_journal(configuration)
    return warnings


def check(configuration: Configuration) -> tuple[str, ...]:
    """Connects to everything, looks at the keys and certificates, lets go again; returns the warnings.

    Raises:
        Misconfigured: with one line for each thing that is wrong.
        Unavailable: a CA or the database cannot be reached.
    """

    async def build_and_close() -> tuple[str, ...]:
        async with AsyncExitStack() as stack:
            front = await build_front(configuration, stack, Surroundings())
            return front.warnings

    _check_tls(configuration)
    check_database(configuration)
    read_api_keys(configuration)
    warnings = look_at_journal(configuration)
    return warnings + asyncio.run(build_and_close())


def _check_tls(configuration: Configuration) -> None:
    """The workers would find it out one after the other, and be started again for ever."""
    tls, here = configuration.settings.server.tls, configuration.directory
    if tls is None:
        return
    passphrase = read_secret(tls.key_passphrase, here).reveal() if tls.key_passphrase else ""
    for key, path in (("certificate", here / tls.certificate), ("key", here / tls.key)):
        if not os.access(path, os.R_OK):
            raise Misconfigured(f"server.tls.{key}: {path} cannot be read")
    if mode := (here / tls.key).stat().st_mode & 0o007:
        raise Misconfigured(f"server.tls.key: {here / tls.key} is open to everybody (mode …{mode}): chmod o= it")
    try:
        # Without a passphrase OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(here / tls.certificate, here / tls.key, passphrase)
    except ssl.SSLError as error:
        raise Misconfigured(
            f"server.tls: certificate, key and key_passphrase do not go together ({error.reason})"
        ) from None


def read_api_keys(configuration: Configuration) -> ApiKeys:
    """The callers that may read what is not for everybody.

    Raises:
        Misconfigured: the secret that keys them cannot be read.
    """
    server = configuration.settings.server
    reference = server.api_key_secret
    secret = read_secret(reference, configuration.directory).reveal().encode() if reference else b""
    minters = [each.label for each in server.api_keys if each.mints]
    return ApiKeys(secret, {each.label: each.hmac for each in server.api_keys}, minters)
