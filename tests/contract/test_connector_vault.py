"""The contract against the simulated Vault, and against a real one: TEST_VAULT_ADDR and its companions say where.

The real one needs the roles of docs/connectors/vault.md, and a token for them in TEST_VAULT_TOKEN. pytest lets tests
reach this machine alone: for a server elsewhere add `--allow-hosts=127.0.0.1,localhost,ADDRESS`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.testing import ConnectorContract
from ra.simulate.vault import ISSUER, NEXT_ISSUER, RA_ROLE, ROLE
from tests.fakes.simulated import listening, simulated_vault

LIVE = {name: value for name, value in os.environ.items() if name.startswith("TEST_VAULT_")}  # noqa: TID251 - of the test run


class TestSimulatedVault(ConnectorContract):
    kind = "vault"
    block: ClassVar[dict[str, Any]]
    secret_id: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls) -> Iterator[None]:
        vault = simulated_vault()
        vault.add_next_issuer()
        credentials = vault.tokens.credentials
        cls.secret_id = credentials.secret_id
        cls.secrets = (credentials.secret_id,)
        login = {"method": "approle", "role_id": credentials.role_id, "secret_id": "file:vault.secret-id"}
        cls.block = {"issuer": ISSUER, "next_issuer": NEXT_ISSUER, "role": ROLE, "ra_role": RA_ROLE, "login": login}
        with listening(vault.faults) as url:
            cls.block |= {"url": url, "lists_certificates": True}
            yield

    def options(self, directory: Path) -> dict[str, Any]:
        (directory / "vault.secret-id").write_text(self.secret_id)
        return dict(self.block)


@pytest.mark.skipif("TEST_VAULT_ADDR" not in LIVE, reason="TEST_VAULT_ADDR names no Vault")
class TestLiveVault(ConnectorContract):
    kind = "vault"
    secrets = (LIVE.get("TEST_VAULT_TOKEN", "no token"),)

    def options(self, directory: Path) -> dict[str, Any]:
        (directory / "vault.token").write_text(LIVE["TEST_VAULT_TOKEN"])
        named = {
            "mount": LIVE.get("TEST_VAULT_MOUNT"),
            "issuer": LIVE.get("TEST_VAULT_ISSUER"),
            "namespace": LIVE.get("TEST_VAULT_NAMESPACE"),
            "ca_file": LIVE.get("TEST_VAULT_CACERT"),
            "ra_role": LIVE.get("TEST_VAULT_RA_ROLE"),
        }
        return {
            "url": LIVE["TEST_VAULT_ADDR"],
            "role": LIVE.get("TEST_VAULT_ROLE", ROLE),
            "login": {"method": "token", "token": "file:vault.token"},
            **{name: value for name, value in named.items() if value is not None},
        }
