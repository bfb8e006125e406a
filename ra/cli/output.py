"""What commands print, to people and as JSON, and the options that several of them share."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

FAILED = 1
NOT_CONFIGURED = 2
UNREACHABLE = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigPath = Annotated[
    Path, typer.Option("--config", envvar="SCEP_RA_CONFIG", help="The configuration file.", show_envvar=True)
]
DEFAULT_CONFIG = Path("ra.toml")


def show(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Prints a result: `value` as one JSON object, or `text` to a person."""
    typer.echo(json.dumps(value) if as_json else text)


def complain(sentence: str, exit_code: int, *, as_json: bool) -> int:
    """Prints what went wrong on stderr; returns the exit code."""
    typer.echo(json.dumps({"error": sentence}) if as_json else f"scep-ra: {sentence}", file=sys.stderr)
    return exit_code
