"""The pages for operators name what the code has, all of it and nothing else."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from ra.errors import Reason
from ra.scep.names import Legacy
from ra.telemetry import METRICS
from tests.sources import collector_waiting

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
TROUBLESHOOTING = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
CONFORMANCE = runpy.run_path(str(ROOT / "docs/conformance.py"))
with collector_waiting():
    SHOWN = CONFORMANCE["shown_by"](ROOT / "tests")
PAGES = sorted(ROOT.glob("docs/**/*.md"))


def rows(page: str) -> dict[str, str]:
    """The rows of a page's tables, by the code in their first cell."""
    return dict(re.findall(r"^\| `([^`]+)` \|(.*)\|$", page, re.MULTILINE))


def test_every_metric_is_explained_with_its_labels() -> None:
    explained = {name: row for name, row in rows(OPERATIONS).items() if name.startswith("scep_ra_")}

    assert {metric.name for metric in METRICS} == explained.keys()
    for metric in METRICS:
        assert set(metric.labels) == set(re.findall("`([a-z_]+)`", explained[metric.name].split("|")[0]))


def test_every_reason_of_a_refusal_is_explained() -> None:
    explained = {name for name in rows(TROUBLESHOOTING) if name.isupper()}

    assert set(Reason.__members__) == explained


def test_every_legacy_algorithm_is_explained() -> None:
    assert set(Legacy) <= rows(OPERATIONS).keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8"))

    assert [] == [each for each in targets if "://" not in each and not (page.parent / each).exists()]


def test_every_mark_of_a_test_names_a_requirement_of_the_rfc() -> None:
    known = {each.key for each in CONFORMANCE["REQUIREMENTS"]}

    assert set() == SHOWN.keys() - known


def test_every_requirement_of_the_rfc_is_shown_by_a_test_and_stands_on_the_page() -> None:
    assert set() == CONFORMANCE["unshown"](SHOWN)
    assert CONFORMANCE["page"](SHOWN) == (ROOT / "docs/conformance.md").read_text("utf-8")
