"""The policy and the roles that the documentation shows: enough for everything that is asked, and no more than that."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors import vault
from connectors.api import AuthFailed, Issued, KeyUsage, RevocationReason
from ra.simulate.vault import MOUNT, RA_ROLE, ROLE, SIGNING_ROLE
from ra.simulate.vault.roles import Role
from tests.fakes import pki
from tests.fakes.simulated import Front, listening_front
from tests.fakes.vaults import Beside, request, vault_beside

ROOT = Path(__file__).resolve().parents[3]
POLICY = ROOT / "config/examples/vault-policy.hcl"
PAGE = ROOT / "docs/connectors/vault.md"
RA_USAGES = ("1.3.6.1.5.5.7.3.1", "1.3.6.1.4.1.311.20.2.1")


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as found:
        yield found


@pytest.fixture
def beside(tmp_path: Path, front: Front) -> Beside:
    """A Vault with the documented policy and the documented roles."""
    made = vault_beside(tmp_path, front)
    made.server.tokens.policy = policy()
    made.server.engine.roles = roles()
    return made


def policy() -> dict[str, frozenset[str]]:
    """What is allowed, by path."""
    rules = re.findall(r'^path "([^"]+)"\s*\{ capabilities = \[([^\]]+)\] \}', POLICY.read_text("utf-8"), re.MULTILINE)
    return {
        path.replace("pki_dev/", f"{MOUNT}/"): frozenset(re.findall(r'"(\w+)"', capabilities))
        for path, capabilities in rules
    }


def roles() -> dict[str, Role]:
    """The roles, as the page has them made."""
    page = PAGE.read_text("utf-8").replace("\\\n", " ")
    found = re.search(r'^common="(.*?)"$', page, re.MULTILINE | re.DOTALL)
    assert found is not None
    commands = re.findall(
        r"^vault write pki_dev/roles/(\S+) (.*)$", page.replace("$common", " ".join(found[1].split())), re.MULTILINE
    )
    return {name: Role(**dict(map(_setting, shlex.split(words)))) for name, words in commands}


def _setting(word: str) -> tuple[str, Any]:
    name, _, value = word.partition("=")
    if name == "generate_lease":  # of Vault's own bookkeeping: the simulator has none
        return "no_store", False
    kind = {each.name: each.type for each in fields(Role)}[name]
    match kind:
        case "bool":
            return name, value == "true"
        case "int":
            return name, int(value)
        case "timedelta":
            return name, timedelta(hours=int(value.removesuffix("h")))
        case "frozenset[str]":
            return name, frozenset(value.split(","))
        case "tuple[str, ...]":
            return name, tuple(value.split(","))
        case _:
            return name, value


async def everything(connector: vault.VaultCa) -> list[object]:
    """All that is asked of a Vault that lists what it has issued."""
    usages: tuple[dict[str, Any], ...] = (
        {},
        {"key_usage": frozenset({KeyUsage.DIGITAL_SIGNATURE})},
        {"extended_key_usage": RA_USAGES},
    )
    await connector.rehearse()
    issued = [await connector.issue(request(pki.rsa_key(), **each)) for each in usages]
    first = issued[0]
    assert isinstance(first, Issued), first
    asked = request(pki.rsa_key())
    assert await connector.find_issued(asked, asked.requested_at - timedelta(hours=1)) is not None
    await connector.revoke(first.certificate, RevocationReason.SUPERSEDED)
    assert (await connector.health()).ready
    return list(issued)


def test_the_policy_is_enough_and_each_rule_is_needed(beside: Beside) -> None:
    answers = beside.run(everything, lists_certificates=True)
    asked = {path.removeprefix("/v1/") for _, path in beside.server.requests}

    assert [Issued] * 3 == [type(each) for each in answers]
    # A token is renewed at two thirds of its life: see test_vault_login.py.
    assert {"auth/token/renew-self"} == set(policy()) - asked


@pytest.mark.parametrize("role", ["no-such-role", f"{ROLE}-other"])
def test_the_policy_lets_nobody_sign_by_another_role(beside: Beside, role: str) -> None:
    beside.server.engine.roles[role] = Role()

    with pytest.raises(AuthFailed, match="permission denied"):
        beside.run(lambda each: each.issue(request()), role=role)


def test_the_policy_names_no_path_by_a_wildcard() -> None:
    assert not [each for each in policy() if "*" in each or "+" in each]
    assert not [each for each in policy() if "sign-verbatim" in each or "/issue/" in each or "/roles/" in each]


def test_the_page_shows_the_policy_of_the_example() -> None:
    assert POLICY.read_text("utf-8").partition("\n\n")[2] in PAGE.read_text("utf-8")


def test_the_roles_of_the_page_are_those_that_the_connector_names() -> None:
    assert {ROLE, SIGNING_ROLE, RA_ROLE} == roles().keys()
    assert not [name for name, role in roles().items() if role.use_csr_common_name or role.use_csr_sans]
    assert replace(roles()[ROLE], key_usage=frozenset({"DigitalSignature"})) == roles()[SIGNING_ROLE]
