"""The configurations of config/examples are ones that could be served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import connectors.registry
from ra.challenge import registry as challenges
from ra.settings.load import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "config").rglob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_holds_no_key_that_nobody_knows(path: Path) -> None:
    settings = load(path).settings

    for connector in settings.connectors.values():
        connectors.registry.load(connector.type).options.model_validate(connector.options)
    for challenge in settings.challenges.values():
        challenges.load(challenge.type).options.model_validate(challenge.options)
    assert settings.profiles


@pytest.mark.parametrize(("page", "example"), [("mdm/jamf.md", "jamf"), ("challenges/ndes.md", "ndes")])
def test_the_commands_of_a_page_do_with_its_example(page: str, example: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    configuration = load(ROOT / "config" / "examples" / f"{example}.toml")
    pattern = configuration.policies["default"].common_name_pattern

    (name,) = re.findall(r"--subject CN=(\S+)", text)
    urls = re.findall(r"--scep-url (\S+)", text)

    assert pattern is not None
    assert re.fullmatch(pattern, name)
    assert set(urls) <= set(configuration.settings.challenges[example].options.get("allowed_scep_urls", ()))
    assert bool(urls) == (example == "jamf")
