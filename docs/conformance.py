"""Writes docs/conformance.md (`make schema`): what RFC 8894 asks of a server, and the tests that show it.

A test names what it shows, `@pytest.mark.rfc8894("caps-case")`; the marks are read from the sources of the tests, so that a test
that goes, or is renamed, goes from the page. What nobody shows is an error.
"""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

import ast
import runpy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/conformance.md"
MARK = "rfc8894"
REQUIREMENTS = runpy.run_path(str(ROOT / "docs/rfc8894.py"))["REQUIREMENTS"]


def main() -> None:
    PAGE.write_text(page(shown_by(ROOT / "tests")), "utf-8")


def shown_by(tests: Path) -> dict[str, list[str]]:
    """The tests by what they are marked to show, `FILE::NAME` from the root of the source tree."""
    shown = defaultdict[str, list[str]](list)
    for path in sorted(tests.rglob("test_*.py")):
        for function, key in _marks(ast.parse(path.read_text("utf-8"))):
            shown[key].append(f"{path.relative_to(tests.parent).as_posix()}::{function}")
    return dict(shown)


def _marks(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for each in node.decorator_list:
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr == MARK:
                yield from ((node.name, str(ast.literal_eval(argument))) for argument in each.args)


def unshown(shown: Mapping[str, list[str]]) -> set[str]:
    """What is asked and no test shows."""
    return {each.key for each in REQUIREMENTS} - shown.keys()


def page(shown: Mapping[str, list[str]]) -> str:
    lines = [
        "# Conformance",
        "",
        "<!-- made by docs/conformance.py from the marks of the tests -->",
        "",
        "What [RFC 8894](https://www.rfc-editor.org/rfc/rfc8894) asks of a server, each with the code that does it and the tests",
        "that show it; below, every point in which scep-ra differs, with the reason. A dash stands where the RFC describes and uses",
        "none of its capital words. What it asks of clients alone is left out.",
        "",
        "| § | | what | code | shown by |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(each, shown[each.key]) for each in REQUIREMENTS]
    lines += [
        "",
        "## Deviations, and what is stricter or laxer than the letter",
        "",
        "| § | what | how, and why |",
        "|---|---|---|",
    ]
    lines += [f"| {each.section} | {each.says} | {each.deviation} |" for each in REQUIREMENTS if each.deviation]
    return "\n".join(lines) + "\n"


def _row(requirement: Any, tests: list[str]) -> str:
    shown = ", ".join(f"[{_words(each)}](../{each.partition('::')[0]})" for each in tests)
    code = f"[{requirement.code}](../{requirement.code})"
    return f"| {requirement.section} | {requirement.level} | {requirement.says} | {code} | {shown} |"


def _words(test: str) -> str:
    return test.partition("::test_")[2].replace("_", " ")


if __name__ == "__main__":
    main()
