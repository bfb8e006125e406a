"""Writes the table of faults into docs/connectors.md (`make schema`), from what the tests of the fault matrix hold to be true."""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- faults: made by docs/connectors_table.py -->\n", "<!-- end of faults -->\n"


def main() -> None:
    page = ROOT / "docs/connectors.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    page.write_text(before + section() + rest.partition(END)[2], "utf-8")


def section() -> str:
    """With the marks around it."""
    return BEGIN + "\n" + "\n".join(_table()) + "\n\n" + END


def _table() -> Iterator[str]:
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))  # the tests are no installed package
    from tests.fakes.faults import CONNECTORS, TABLE, Seen  # noqa: PLC0415

    def cell(seen: Seen) -> str:
        error = f" ({seen.error})" if seen.error else ""
        return f"`{seen.state}`{error}" + (f", then `{seen.afterwards}`" if seen.afterwards != seen.state else "")

    yield "| fault | " + " | ".join(CONNECTORS) + " |"
    yield "|---|" + "---|" * len(CONNECTORS)
    for fault, row in TABLE.items():
        yield f"| {fault} | " + " | ".join(cell(row[each]) for each in CONNECTORS) + " |"


if __name__ == "__main__":
    main()
