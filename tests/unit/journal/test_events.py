"""The list of events is complete: what the code records is described, and the page says what the list does."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from ra.journal.audit import CLOSED, OPENED
from ra.journal.events import EVENTS, undocumented
from tests.sources import parsed

ROOT = Path(__file__).resolve().parents[3]


def recorded() -> Iterator[tuple[str, list[str]]]:
    """Kind and fields of every event that is written out in the code: dicts whose first key is "event"."""
    for path in (ROOT / "ra").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Dict) and node.keys and isinstance(node.keys[0], ast.Constant):
                first, kind = node.keys[0].value, node.values[0]
                if first == "event" and isinstance(kind, ast.Constant):
                    keys = [each.value for each in node.keys[1:] if isinstance(each, ast.Constant)]
                    yield str(kind.value), [str(each) for each in keys]


def test_every_event_of_the_code_is_described() -> None:
    found = list(recorded())

    assert {"decision", "outcome", "summary"} <= {kind for kind, _ in found}
    assert [] == [each for kind, names in found for each in undocumented({"event": kind} | dict.fromkeys(names))]


@pytest.mark.parametrize("kind", EVENTS)
def test_an_example_has_fields_that_are_described(kind: str) -> None:
    assert [] == undocumented({"event": kind, **EVENTS[kind].example})


def test_what_is_not_described_is_told() -> None:
    assert ["event other"] == undocumented({"event": "other"})
    assert ["colour"] == undocumented({"event": OPENED, "version": "1", "colour": "blue"})
    assert [] == undocumented({"event": CLOSED})


def test_the_page_is_made_of_the_list() -> None:
    page = (ROOT / "docs/audit.md").read_text("utf-8")

    made = runpy.run_path(str(ROOT / "docs/events.py"))["section"]()

    assert made in page
    assert set(EVENTS) == set(re.findall(r"^### `([a-z-]+)`$", page, re.MULTILINE))
