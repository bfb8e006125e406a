"""`scep-ra check-config`: everything that `serve` would check, without serving."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ra.bootstrap.checks import check
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, show
from ra.settings.load import load
from ra.settings.schema import json_schema


def command(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read the configuration, its keys and certificates; say what is wrong with them."""
    if schema:
        typer.echo(json.dumps(json_schema(), indent=2))
        return

    configuration = load(config)
    warnings = check(configuration)
    profiles = sorted(configuration.endpoints)
    value = {"config": str(configuration.path), "profiles": profiles, "warnings": list(warnings)}
    text = "\n".join([*(f"warning: {each}" for each in warnings), f"{config} is good: {', '.join(profiles)}"])
    show(value, text, as_json=as_json)
