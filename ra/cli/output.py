"""What commands print, to people and as JSON, and the options that several of them share."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
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


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows for a person: on a terminal they fit it, elsewhere a column is as wide as what stands in it.

    What a terminal would not print is a question mark.
    """
    cells = [columns, *([_cell(row[name]) for name in columns] for row in rows)]
    if sys.stdout.isatty():
        return _fitted(cells)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def printable(text: str) -> str:
    """What somebody else has said, so that it steers no terminal: what cannot be seen is a question mark."""
    return "".join(each if each.isprintable() else "?" for each in text)


def counted(number: int, one: str, several: str) -> str:
    """A number and what is counted."""
    return f"{number} {one if number == 1 else several}"


def _fitted(cells: Sequence[Sequence[str]]) -> str:
    # Only who looks at a terminal waits for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    fitted = Table(*cells[0], box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in cells[1:]:
        fitted.add_row(*map(Text, row))  # as text: a device may have written [bold]
    console = Console()
    with console.capture() as captured:
        console.print(fitted)
    return captured.get().rstrip("\n")


def _cell(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return printable(text) if value not in (None, []) else "-"


def complain(sentence: str, exit_code: int, *, as_json: bool) -> int:
    """Prints what went wrong on stderr; returns the exit code."""
    typer.echo(json.dumps({"error": sentence}) if as_json else f"scep-ra: {sentence}", file=sys.stderr)
    return exit_code
