"""`scep-ra explain FILE`: says in words what the bytes of a SCEP message are, and what is odd about them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ra.bootstrap.identities import load_identities, load_kept
from ra.cli.opened import with_journal
from ra.cli.output import AsJson, show
from ra.keyring.files import load_identity
from ra.scep.explain import Explanation, explain
from ra.scep.keys import Identity
from ra.settings.load import Configuration, load
from ra.settings.sources import read_secret


def command(
    file: Annotated[
        Path,
        typer.Argument(help="DER, BER, PEM, base64, or the URL of a GET; - reads standard input.", show_default=False),
    ],
    *,
    config: Annotated[Path | None, typer.Option("--config", help="Open envelopes with its identities.")] = None,
    certificate: Annotated[Path | None, typer.Option("--cert", help="PEM: what the envelope is sealed to.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="PEM: the key of --cert.")] = None,
    key_passphrase: Annotated[str | None, typer.Option("--key-passphrase", help="file:PATH or env:NAME.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say in words what a SCEP message is, and what is odd about it. The challenge is never shown."""
    if (certificate is None) is not (key is None):
        raise typer.BadParameter("give --cert and --key together")
    identities: list[Identity] = []
    if config is not None:
        identities += _identities(load(config))
    if certificate is not None and key is not None:
        passphrase = read_secret(key_passphrase, Path()) if key_passphrase else None
        identities.append(load_identity("given", certificate=certificate, key=key, passphrase=passphrase))
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    explanation = explain(_message_of(data), identities)
    show(_as_value(explanation), "\n".join(_lines(explanation)), as_json=as_json)


def _identities(configuration: Configuration) -> list[Identity]:
    """Those in files, and those that the RA has obtained itself, where there is a journal."""
    found = list(load_identities(configuration).values())
    if any(each.managed is not None for each in configuration.settings.identities.values()):
        found += with_journal(configuration.path, load_kept)
    return found


def _message_of(data: bytes) -> bytes:
    """The message of a GET, where the URL of one is given, as logs of proxies have it."""
    _, found, value = data.partition(b"message=")
    return value.split()[0].partition(b"&")[0] if found and data.isascii() else data


def _lines(explanation: Explanation, depth: int = 0) -> Iterator[str]:
    value = f": {explanation.value}" if explanation.value else ""
    note = f"  ({explanation.note})" if explanation.note else ""
    yield f"{'  ' * depth}{explanation.label}{value}{note}"
    for child in explanation.children:
        yield from _lines(child, depth + 1)


def _as_value(explanation: Explanation) -> dict[str, Any]:
    return {
        "label": explanation.label,
        "value": explanation.value,
        "note": explanation.note,
        "children": [_as_value(each) for each in explanation.children],
    }
