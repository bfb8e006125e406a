"""Draws the states into docs/journal.md (`make schema`), from the table that the journal keeps to."""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ra.journal.states import FINAL, FIRST, TRANSITIONS, State

BEGIN, END = "<!-- states: made by docs/states.py -->\n", "<!-- end of states -->\n"


def main() -> None:
    page = Path(__file__).with_name("journal.md")
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    page.write_text(before + section() + rest.partition(END)[2], "utf-8")


def section() -> str:
    """With the marks around it."""
    return BEGIN + "\n```mermaid\nstateDiagram-v2\n" + "".join(f"    {each}\n" for each in _arrows()) + "```\n\n" + END


def _arrows() -> Iterator[str]:
    """In the order of the states, so that the picture is the same every time."""
    yield from (f"[*] --> {state.name}" for state in State if state in FIRST)
    for before in State:
        yield from (f"{before.name} --> {after.name}" for after in State if after in TRANSITIONS[before])
    yield from (f"{state.name} --> [*]" for state in State if state in FINAL)


if __name__ == "__main__":
    main()
