from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from ra.challenge import registry, static
from ra.errors import Misconfigured


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, registry.GROUP)


def test_a_validator_of_ours_is_found_by_the_name_of_its_module() -> None:
    plugin = registry.load("static")

    assert "static" == plugin.kind
    assert plugin.options is static.Options
    assert plugin.connect is static.connect


def test_what_is_no_validator_is_not_offered() -> None:
    names = {each.name for each in registry.built_in()}

    assert "static" in names
    assert not names & {"api", "combine", "registry"}


def test_an_unknown_type_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Misconfigured, match=r'^there is no challenge of type "statik"; there are: .*\bstatic\b'):
        registry.load("statik")


def test_an_installed_package_brings_a_type_of_its_own() -> None:
    plugin = registry.choose("other", (entry("other", "ra.challenge.static"),))

    assert "other" == plugin.kind


def test_a_type_that_is_claimed_twice_stops_the_start() -> None:
    twice = (*registry.built_in(), entry("static", "somewhere.else"))

    with pytest.raises(
        Misconfigured, match=r'type "static" is claimed more than once: ra\.challenge\.static, somewhere\.else; remove'
    ):
        registry.choose("static", twice)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("no.such.module", "ModuleNotFoundError"),
        ("ra.challenge.api", "AttributeError"),
        ("ra.challenge.api:Nothing", "AttributeError"),
    ],
)
def test_a_module_that_does_not_load_stops_the_start(value: str, cause: str) -> None:
    with pytest.raises(Misconfigured, match=rf'the challenge "broken" \({value}\) does not load: {cause}'):
        registry.choose("broken", (entry("broken", value),))
