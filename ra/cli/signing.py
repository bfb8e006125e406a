"""What `scep-ra otp create --signed` does: challenges for a `signed` challenge, for which no database is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import typer

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.plugins import signed_options
from ra.challenge import signed
from ra.errors import Misconfigured
from ra.service.mint import Minted, Terms, Wish
from ra.settings.load import Configuration
from ra.settings.sources import read_secret

_RANDOM_BYTES = 10


def insist_on_profile(configuration: Configuration, profile: str) -> None:
    """Raises a usage error where there is no such profile."""
    if profile not in configuration.endpoints:
        known = ", ".join(configuration.endpoints)
        raise typer.BadParameter(f"there is no profile {profile!r}: name one of {known}", param_hint="--profile")


def sign_all(
    configuration: Configuration, profile: str, challenge: str | None, ttl: timedelta | None, wishes: Sequence[Wish]
) -> tuple[Terms, list[Minted]]:
    """One challenge for each wish, and what holds for all of them.

    Raises:
        Misconfigured: the profile asks no signed challenge, or several, or this one may not last so long or name nobody.
        TooLong: the names of one do not fit.
    """
    insist_on_profile(configuration, profile)
    name, options = _chosen(configuration, profile, challenge)
    lasts = ttl or timedelta(minutes=options.max_ttl_minutes)
    if lasts > timedelta(minutes=options.max_ttl_minutes):
        raise Misconfigured(f"challenges.{name}.max_ttl_minutes: a challenge for {lasts} would not be accepted")
    if options.names_required and any(each.names is None for each in wishes):
        raise Misconfigured(f"challenges.{name}.names_required: say for which names it is, with --subject and --san")
    key = signed.read_keys(options, partial(read_secret, directory=configuration.directory))[0]
    now = SystemClock().now()
    terms = Terms(method=name, profile=profile, ttl=lasts, length=0)
    minted = [
        Minted(
            label=wish.label,
            secret=signed.sign(
                key, profile=profile, names=wish.names, ttl=lasts, now=now, random=os.urandom(_RANDOM_BYTES)
            ),
            names=wish.names,
            expires_at=now + lasts,
        )
        for wish in wishes
    ]
    return terms, minted


def _chosen(configuration: Configuration, profile: str, challenge: str | None) -> tuple[str, signed.Options]:
    found = [each for each in signed_options(configuration, profile) if challenge in {None, each[0]}]
    if len(found) != 1:
        sentence = "has several: name one with --challenge" if found else 'asks no challenge of type "signed"'
        raise Misconfigured(f"profiles.{profile}.challenge {sentence}{f' named {challenge}' if challenge else ''}")
    return found[0]
