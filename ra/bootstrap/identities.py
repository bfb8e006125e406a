"""The RA's identities, as the configuration has them: loaded from files, or kept by the RA itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from connectors.api import Capability
from ra.bootstrap.journal import has_journal, opened
from ra.bootstrap.plugins import naming
from ra.errors import Misconfigured
from ra.journal import ra_keys
from ra.journal.database import Journal
from ra.journal.sealing import JournalKey
from ra.keyring.files import load_identity
from ra.scep.keys import Identity
from ra.service.backend import Backend
from ra.service.certification import Managed, open_identity
from ra.service.identity import Wish
from ra.service.keeper import shown
from ra.settings.identities import IdentitySettings, ManagedSettings, TokenSettings
from ra.settings.load import Configuration
from ra.settings.sources import read_secret


def load_identities(configuration: Configuration) -> dict[str, Identity]:
    """Those in files and tokens by name, not yet looked at.

    Raises:
        Misconfigured: a key or certificate cannot be read, or a token does not let us in.
        Unavailable: a token is not there.
    """
    settings = configuration.settings.identities
    tokens: dict[tuple[Path, str | int], Any] = {}
    return {name: _load(configuration, name, each, tokens) for name, each in settings.items() if each.managed is None}


def _load(
    configuration: Configuration, name: str, settings: IdentitySettings, tokens: dict[tuple[Path, str | int], Any]
) -> Identity:
    here = configuration.directory
    if settings.pkcs11 is not None and settings.certificate is not None:
        with naming(f"identities.{name}"):
            return _load_from_token(here, name, settings, settings.pkcs11, tokens)
    if settings.certificate is None or settings.key is None:
        raise Misconfigured(f"identities.{name}: write certificate and key")
    return load_identity(
        name,
        certificate=here / settings.certificate,
        key=here / settings.key,
        passphrase=read_secret(settings.key_passphrase, here) if settings.key_passphrase else None,
        decryption_certificate=here / settings.decryption_certificate if settings.decryption_certificate else None,
        decryption_key=here / settings.decryption_key if settings.decryption_key else None,
    )


def _load_from_token(
    here: Path,
    name: str,
    settings: IdentitySettings,
    options: TokenSettings,
    tokens: dict[tuple[Path, str | int], Any],
) -> Identity:
    """One token serves all identities in it: a process is logged in to it once."""
    try:
        # Only who has a token needs its library.
        from ra.keyring import pkcs11  # noqa: PLC0415
    except ImportError:
        raise Misconfigured("keys in a token need another package: pip install scep-ra[pkcs11]") from None
    module, place = here / options.module, options.slot if options.slot is not None else options.token or ""
    if (module, place) not in tokens:
        tokens[module, place] = pkcs11.Token(
            pkcs11.module(module), pin=read_secret(options.pin, here), label=options.token, slot=options.slot
        )
    return pkcs11.load_identity(
        name,
        tokens[module, place],
        certificate=here / (settings.certificate or ""),
        key=options.key,
        decryption_certificate=here / settings.decryption_certificate if settings.decryption_certificate else None,
        decryption_key=options.decryption_key,
    )


async def load_kept(journal: Journal, key: JournalKey) -> tuple[Identity, ...]:
    """Those that the RA has obtained itself, the newest first."""
    kept = await journal.read(ra_keys.list_keys)
    return tuple(open_identity(key, each, each.certificate) for each in reversed(kept) if each.certificate is not None)


async def shown_identities(configuration: Configuration, now: datetime) -> dict[str, Identity]:
    """Those in files, and of those that the RA manages itself what it shows; by name, not yet looked at.

    Raises:
        Misconfigured: a key or certificate cannot be read, or the journal cannot be opened.
        Unavailable: the database is away.
    """
    found = load_identities(configuration)
    managed = [name for name, each in configuration.settings.identities.items() if each.managed is not None]
    if bool(managed) and await asyncio.to_thread(has_journal, configuration):
        async with opened(configuration) as (journal, key):
            kept = await journal.read(ra_keys.list_keys)
            for name in managed:
                first = shown([each for each in kept if each.identity == name], now)
                if first is not None and first.certificate is not None:
                    found[name] = open_identity(key, first, first.certificate)
    return found


def managed_identities(configuration: Configuration, backends: Mapping[str, Backend]) -> tuple[Managed, ...]:
    """Those that the RA keeps itself, each with the CA of the profiles that name it.

    Raises:
        Misconfigured: the CA cannot issue it.
    """
    found = []
    for name, settings in configuration.settings.identities.items():
        users = {profile: each for profile, each in configuration.endpoints.items() if name in each.identities}
        if settings.managed is None or not users:
            continue
        profile, endpoint = next(iter(users.items()))
        is_alone = all(len(each.identities) == 1 for each in users.values())
        with naming(f"identities.{name}"):
            backend = backends[endpoint.connector]
            found.append(_managed(name, settings.managed, backend, profile, is_alone=is_alone))
    return tuple(found)


def _managed(name: str, settings: ManagedSettings, backend: Backend, profile: str, *, is_alone: bool) -> Managed:
    if not backend.can(Capability.RA_CERTIFICATE):
        raise Misconfigured(
            f"connectors.{backend.name} cannot issue the RA's own certificate as it is configured: see whether its type "
            "has a role or profile for that, or obtain a certificate by hand and name its files here"
        )
    return Managed(
        wish=Wish(name=name, profile=profile, key_spec=settings.key, validity=timedelta(days=settings.validity_days)),
        backend=backend,
        renew_before=timedelta(days=settings.renew_before_days),
        show_after=timedelta(seconds=settings.show_after_seconds),
        overlap=None if settings.overlap_days is None else timedelta(days=settings.overlap_days),
        is_alone=is_alone,
    )
