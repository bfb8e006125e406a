"""`scep-ra intune …`: take over the settings of another connector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ra.challenge.intune.props import read_props
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show

command = typer.Typer(no_args_is_help=True)


@command.callback()
def intune() -> None:
    """Challenges of type `intune`."""


@command.command("import")
def import_props(
    file: Annotated[Path, typer.Argument(help="com.microsoft.intune.props of the connector that is replaced.")],
    secret: Annotated[Path, typer.Option("--secret", help="New file that the client secret is written to.")] = Path(
        "intune.secret"
    ),
    proxy_secret: Annotated[
        Path, typer.Option("--proxy-secret", help="New file for the proxy's user and password.")
    ] = Path("intune-proxy.secret"),
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    as_json: AsJson = False,
) -> None:
    """Prints the block of ra.toml that says the same, and writes what is secret into files of its own."""
    imported = read_props(file.read_text("utf-8", "replace"))
    block: dict[str, Any] = dict(imported.options)
    _keep(secret, imported.secret)
    block["credential"] = {"method": "secret", "client_secret": f"file:{_beside(config, secret)}"}
    if imported.proxy_credentials is not None:
        _keep(proxy_secret, imported.proxy_credentials)
        block["proxy_credentials"] = f"file:{_beside(config, proxy_secret)}"
    lines = [f"# {each} has no counterpart and is left out." for each in imported.ignored]
    show(
        block,
        "\n".join([*lines, "[challenges.intune]", *(f"{key} = {_value(block[key])}" for key in block)]),
        as_json=as_json,
    )


def _beside(config: Path, path: Path) -> Path:
    """The path as the configuration writes it, which need not lie where the command is run."""
    absolute, here = path.absolute(), config.absolute().parent
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def _keep(path: Path, value: str) -> None:
    """For the owner's eyes alone; never over a file that is there."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(value + "\n", "utf-8")


def _value(value: object) -> str:
    """Strings in TOML are those of JSON, as far as ours go."""
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
