"""Writes the events into docs/audit.md (`make schema`), from where the code describes them."""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ra.journal.events import EVENTS, Kind

BEGIN, END = "<!-- events: made by docs/events.py -->\n", "<!-- end of events -->\n"


def main() -> None:
    page = Path(__file__).with_name("audit.md")
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    page.write_text(before + section() + rest.partition(END)[2], "utf-8")


def section() -> str:
    """With the marks around it."""
    return BEGIN + "\n".join(line for name, kind in EVENTS.items() for line in _lines(name, kind)) + "\n" + END


def _lines(name: str, kind: Kind) -> Iterator[str]:
    yield f"\n### `{name}`\n\n{kind.meaning}\n"
    if kind.fields:
        yield "| field | what it says |\n|---|---|"
        yield from (f"| `{field}` | {meaning} |" for field, meaning in kind.fields.items())
        yield ""
    yield f"```json\n{json.dumps({'event': name, **kind.example})}\n```"


if __name__ == "__main__":
    main()
