"""No module over 400 lines, no function over 50, every file opens with what may live in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import parsed

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("ra", "connectors", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 400, 50


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_its_budget(path: Path) -> None:
    too_long = [each.name for each in functions(path) if (each.end_lineno or 0) - each.lineno + 1 > FUNCTION_LINES]

    assert [] == too_long
    assert len(path.read_text("utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_may_live_in_it(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


def test_the_declared_asn1_is_seen_by_one_module() -> None:
    importers = [str(path.relative_to(ROOT)) for path in SOURCES if "hazmat.asn1" in path.read_text("utf-8")]

    assert ["ra/scep/asn1.py"] == importers
