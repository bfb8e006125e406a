"""Every connector in connectors/ must have its contract run: tests/contract/test_connector_<kind>.py."""

from __future__ import annotations

import importlib

import pytest

from connectors import registry
from connectors.testing import ConnectorContract

KINDS = [each.name for each in registry.built_in()]


def test_there_are_connectors() -> None:
    assert "internal" in KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_connector_has_a_contract_test(kind: str) -> None:
    module = importlib.import_module(f"tests.contract.test_connector_{kind}")

    contracts = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, ConnectorContract) and each is not ConnectorContract
    ]

    assert {kind} == {each.kind for each in contracts}
