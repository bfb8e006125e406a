"""`scep-ra check-config`: everything that `serve` would check, without serving."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from ra.bootstrap.checks import check
from ra.bootstrap.examination import Verdict, examine_connectors, worst
from ra.cli.doctor import EXIT_CODES, as_text
from ra.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, complain, show
from ra.settings.load import load
from ra.settings.schema import json_schema


def command(
    config: ConfigPath = DEFAULT_CONFIG,
    *,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the configuration.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read the configuration, its keys and certificates, and ask the CAs; say what is wrong with them."""
    if schema:
        typer.echo(json.dumps(json_schema(), indent=2))
        return

    configuration = load(config)
    findings = asyncio.run(examine_connectors(configuration))
    if (verdict := worst(findings)) in EXIT_CODES:
        wrong = [each for each in findings if each.verdict in EXIT_CODES]
        raise typer.Exit(complain(as_text(wrong), EXIT_CODES[verdict], as_json=as_json))
    warnings = [*check(configuration)]
    warnings += [f"{each.subject}: {each.detail}" for each in findings if each.verdict is Verdict.WARNING]
    profiles = sorted(configuration.endpoints)
    value = {"config": str(configuration.path), "profiles": profiles, "warnings": warnings}
    text = "\n".join([*(f"warning: {each}" for each in warnings), f"{config} is good: {', '.join(profiles)}"])
    show(value, text, as_json=as_json)
