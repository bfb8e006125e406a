"""Writes Intune's codes, and scep-ra's own, into docs/challenges/intune.md (`make schema`), from where the code has them."""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ra.challenge.intune.codes import CODES, FAILURES, NOT_KNOWN, Code, result_of

BEGIN, END = "<!-- codes: made by docs/intune.py -->\n", "<!-- end of codes -->\n"

REFUSED = "FAILURE badRequest · nothing · none"
REFUSED_AFTER = "FAILURE badRequest, with text · success · revoked"


def main() -> None:
    page = Path(__file__).parent / "challenges/intune.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    page.write_text(before + section() + rest.partition(END)[2], "utf-8")


def section() -> str:
    """With the marks around it."""
    return BEGIN + "\n" + "\n".join([*_codes(), "", *_failures()]) + "\n\n" + END


def _codes() -> Iterator[str]:
    yield "## What Intune may answer\n"
    yield "| `code` | to validateRequest | to successNotification | what it means | what to do |\n|---|---|---|---|---|"
    yield from (_row(f"`{code}`", known) for code, known in CODES.items())
    yield _row("any other", NOT_KNOWN)


def _row(code: str, known: Code) -> str:
    return f"| {code} | {REFUSED} | {REFUSED_AFTER} | {known.meaning} | {known.advice} |"


def _failures() -> Iterator[str]:
    yield "## What Intune is told of a failure\n"
    yield "`hResult`, as Intune's console shows it, and the reason that stands in `errorDescription`:\n"
    yield "| hResult | reason |\n|---|---|"
    yield from (f"| 0x{result_of(reason):08X} | `{reason}` |" for reason in FAILURES)


if __name__ == "__main__":
    main()
