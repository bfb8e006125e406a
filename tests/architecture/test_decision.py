"""Forgetting to authorise must not be possible: who makes a Decision, and who holds its seal."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.sources import parsed

ROOT = Path(__file__).parents[2]


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in ("ra", "connectors"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), parsed(path)


def name_of(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name
        case _:
            return ""


def callers_of(function: str) -> set[str]:
    return {
        path
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name_of(node.func) == function
    }


def test_decide_alone_makes_a_decision() -> None:
    assert {"ra/policy/decide.py"} == callers_of("Decision")


def test_a_kept_decision_comes_back_where_it_was_sealed_and_nowhere_else() -> None:
    assert {"ra/service/kept.py"} == callers_of("thaw")


def test_nobody_else_names_the_seal() -> None:
    holders = {path for path, tree in sources() for node in ast.walk(tree) if name_of(node) == "_SEAL"}

    assert {"ra/policy/decide.py"} == holders
