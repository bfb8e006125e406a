"""`scep-ra doctor`: asks everything that an enrolment will need, and says what is wrong, where, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import typer

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.examination import Finding, Verdict, examine_all, worst
from ra.bootstrap.reach import examine_reach
from ra.cli.output import DEFAULT_CONFIG, FAILED, NOT_CONFIGURED, UNREACHABLE, AsJson, ConfigPath, printable, show
from ra.settings.load import Configuration, load

EXIT_CODES = {Verdict.MISCONFIGURED: NOT_CONFIGURED, Verdict.UNREACHABLE: UNREACHABLE, Verdict.FAILED: FAILED}


def command(config: ConfigPath = DEFAULT_CONFIG, *, as_json: AsJson = False) -> None:
    """Ask database, CAs and validators, look at identities and listeners; say what is wrong and what to do."""
    configuration = load(config)
    findings = asyncio.run(_examine(configuration))
    show(as_value(configuration, findings), as_text(findings), as_json=as_json)
    raise typer.Exit(EXIT_CODES.get(worst(findings), 0))


async def _examine(configuration: Configuration) -> list[Finding]:
    return [*await examine_all(configuration), *await examine_reach(configuration, SystemClock().now())]


def as_value(configuration: Configuration, findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings as JSON."""
    told = [
        {
            "subject": each.subject,
            "verdict": each.verdict.value,
            "detail": each.detail,
            "settings": list(each.settings),
            "advice": each.advice,
        }
        for each in findings
    ]
    return {"config": str(configuration.path), "verdict": worst(findings).value, "findings": told}


def as_text(findings: Sequence[Finding]) -> str:
    """Findings for a person: a line for each, and below it where to look and what to do."""
    lines: list[str] = []
    for each in findings:
        # A server's own words are in it.
        lines += [printable(f"{each.verdict.value:<13} {each.subject}: {line}") for line in each.detail.splitlines()]
        if each.settings:
            lines.append(f"{'':<13} setting: {', '.join(each.settings)}")
        if each.advice:
            lines.append(f"{'':<13} to do: {each.advice}")
    return "\n".join(lines)
