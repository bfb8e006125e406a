"""`scep-ra simulate …`: servers that behave like the products scep-ra talks to, to try a set-up without them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from starlette.types import ASGIApp

from ra.bootstrap.clock import SystemClock
from ra.cli.output import AsJson, show
from ra.cli.serve import bind
from ra.errors import Misconfigured
from ra.settings.model import Address, read_address
from ra.simulate.vault import ISSUER, MOUNT, RA_ROLE, ROLE, SIGNING_ROLE, SimulatedVault

command = typer.Typer(no_args_is_help=True)


@command.callback()
def simulate() -> None:
    """Each has a CA of its own, holds everything in memory, and forgets it when it stops. Never for production."""


@command.command()
def vault(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT.")] = "127.0.0.1:8200",
    secret_id: Annotated[Path, typer.Option("--secret-id", help="File that the secret id is written to.")] = Path(
        "vault.secret-id"
    ),
    *,
    as_json: AsJson = False,
) -> None:
    """Vault's PKI engine, with an AppRole login."""
    simulated = SimulatedVault(now=SystemClock().now, entropy=secrets.token_bytes)
    credentials = simulated.tokens.credentials
    with bind("listen", _address(listen)) as listener:
        _keep(secret_id, credentials.secret_id)
        login = {"method": "approle", "role_id": credentials.role_id, "secret_id": f"file:{secret_id.absolute()}"}
        roles = {"role": ROLE, "signing_role": SIGNING_ROLE, "ra_role": RA_ROLE}
        block = {"type": "vault", "url": f"http://{listen}", "mount": MOUNT, "issuer": ISSUER, **roles, "login": login}
        show(block, _toml("vault", block), as_json=as_json)
        uvicorn.Server(_config(simulated.faults)).run(sockets=[listener])


def _toml(name: str, block: Mapping[str, object]) -> str:
    """A connector's block, for people to copy. Strings in TOML are those of JSON, as far as ours go."""
    lines = [f"[connectors.{name}]"]
    for key, value in block.items():
        inner = value.items() if isinstance(value, dict) else ()
        text = ", ".join(f"{each} = {json.dumps(one)}" for each, one in inner)
        lines.append(f"{key} = {{ {text} }}" if text else f"{key} = {json.dumps(value)}")
    return "\n".join(["# Serving until it is interrupted. For ra.toml:", "", *lines, ""])


def _keep(path: Path, secret: str) -> None:
    """Writes a secret for the owner's eyes alone; over what an earlier run has left there."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secret + "\n", "utf-8")


def _address(listen: str) -> Address:
    try:
        return read_address(listen)
    except ValueError as error:
        raise Misconfigured(f"--listen {listen}: {error}") from None


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False)
