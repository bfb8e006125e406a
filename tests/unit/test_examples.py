"""The configurations of config/examples are ones that could be served."""

from __future__ import annotations

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
