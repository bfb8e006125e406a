"""`scep-ra ca`: what a CA publishes, asked for through its connector: its certificates and its CRL, as PEM or DER."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from connectors.api import Capability, Connector, ProtocolViolation
from ra.bootstrap.plugins import Surroundings, connect_connector, naming
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show
from ra.errors import Misconfigured
from ra.settings.load import Configuration, load

T = TypeVar("T")

command = typer.Typer(no_args_is_help=True)

OutFile = Annotated[
    Path | None, typer.Option("--out", help="Write there, in one step: who reads it meanwhile sees the old one.")
]
Which = Annotated[str | None, typer.Option("--connector", help="Which CA, as the configuration calls it.")]
Der = Annotated[bool, typer.Option("--der", help="DER, as devices fetch it, and not PEM.")]

_READABLE = 0o644
"""What a CA publishes is for everybody."""

_SEQUENCE = b"\x30"
"""What DER begins with, and PEM does not."""


@command.callback()
def ca() -> None:
    """What a CA publishes: its certificates, its CRL."""


@command.command()
def crl(
    config: ConfigPath = DEFAULT_CONFIG,
    connector: Which = None,
    out: OutFile = None,
    *,
    der: Der = False,
    as_json: AsJson = False,
) -> None:
    """The CRL as it is now. The internal CA makes a new one when half of the old one's time is over, or on a revocation."""
    content = _ask(config, connector, Capability.CRL, lambda asked: asked.crl())
    try:
        loaded = x509.load_der_x509_crl(content)
    except ValueError as error:
        raise ProtocolViolation(f"what the CA hands out for its CRL is none: {error}") from error
    value = {
        "issuer": loaded.issuer.rfc4514_string(),
        "this_update": loaded.last_update_utc.isoformat(),
        "next_update": loaded.next_update_utc.isoformat() if loaded.next_update_utc else None,
        "revoked": len(loaded),
    }
    text = f"{value['issuer']}: {value['revoked']} revoked, of {value['this_update']}, until {value['next_update']}"
    _hand_out(content if der else loaded.public_bytes(Encoding.PEM), out, value, text, as_json=as_json)


@command.command()
def chain(
    config: ConfigPath = DEFAULT_CONFIG,
    connector: Which = None,
    out: OutFile = None,
    *,
    der: Der = False,
    as_json: AsJson = False,
) -> None:
    """The CA's certificates, the issuing one first; with --der that one alone."""
    certificates = _ask(config, connector, None, lambda asked: asked.ca_chain())
    loaded = [x509.load_der_x509_certificate(each) for each in certificates]
    value = {"subjects": [each.subject.rfc4514_string() for each in loaded]}
    pems = b"".join(each.public_bytes(Encoding.PEM) for each in loaded)
    text = "\n".join(f"{each.subject.rfc4514_string()}, until {each.not_valid_after_utc:%Y-%m-%d}" for each in loaded)
    _hand_out(certificates[0] if der else pems, out, value, text, as_json=as_json)


def _ask(config: Path, name: str | None, capability: Capability | None, ask: Callable[[Connector], Awaitable[T]]) -> T:
    """What the CA answers.

    Raises:
        Misconfigured: it is not clear which CA, or that cannot be asked for this.
    """

    async def run() -> T:
        configuration = load(config)
        chosen = _chosen(configuration, name)
        connector = await connect_connector(configuration, chosen, Surroundings())
        try:
            with naming(f"connectors.{chosen}"):
                if capability is not None and capability not in connector.capabilities:
                    raise Misconfigured(f"this CA cannot be asked for its {capability.value}")
                return await ask(connector)
        finally:
            await connector.aclose()

    return asyncio.run(run())


def _chosen(configuration: Configuration, name: str | None) -> str:
    known = sorted(configuration.settings.connectors)
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        what = "name one" if name is None else f"there is no connector {name}"
        raise Misconfigured(f"--connector: {what}; the configuration has {', '.join(known)}")
    return name


def _hand_out(content: bytes, out: Path | None, value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Writes the file and says what it is; without a file it is the content that is printed."""
    if out is not None:
        _replace(out, content)
        show({**value, "file": str(out)}, text, as_json=as_json)
    elif as_json:
        show({**value, "der" if content[:1] == _SEQUENCE else "pem": _as_text(content)}, text, as_json=True)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _as_text(content: bytes) -> str:
    """PEM as it is, DER in base64."""
    return base64.b64encode(content).decode("ascii") if content[:1] == _SEQUENCE else content.decode("ascii")


def _replace(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fchmod(part.fileno(), _READABLE)
            os.fsync(part.fileno())
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
