from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydantic
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.acme import Options
from connectors.acme.jose import AccountKey, mac_key, obtain_account_key
from connectors.api import BackendUnavailable, Misconfigured, ProtocolViolation, RevocationReason, Secret
from connectors.keyfiles import write_private_key
from tests.fakes import pki
from tests.fakes.acme import URL, FakeAcme, connected, instead, problem
from tests.fakes.connecting import Watched

BOUND = {"eab_key_id": "kid-1", "eab_hmac_key": "file:eab"}
RFC_7515_KEY = ec.derive_private_key(
    int.from_bytes(base64.urlsafe_b64decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI=")), ec.SECP256R1()
)
"""RFC 7515 appendix A.3."""


def account(server: FakeAcme, directory: Path, **options: Any) -> str:
    """The URL of the account that a connector, just started, comes to."""

    async def asked() -> str:
        connector = connected(server, directory, Watched(secrets={"file:eab": "c2VjcmV0"}), **options)
        try:
            return await connector._session.account()
        finally:
            await connector.aclose()

    return asyncio.run(asked())


# -------------------------------------------------------------------- the account
def test_the_key_is_made_on_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    connected(FakeAcme(), tmp_path)
    assert not (tmp_path / "acme-account.key").exists()

    account(FakeAcme(), tmp_path)

    assert 0o600 == stat.S_IMODE((tmp_path / "acme-account.key").stat().st_mode)
    assert {"acme-account.key", "acme.db"} == {each.name for each in tmp_path.iterdir()}


def test_whichever_process_is_first_all_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(lambda _: obtain_account_key(tmp_path / "key").thumbprint, range(8)))

    assert 1 == len(set(keys))


def test_an_account_is_made_once_and_then_found_by_its_key(tmp_path: Path) -> None:
    server = FakeAcme()

    first, second = account(server, tmp_path), account(server, tmp_path)

    assert first == second
    assert 1 == len(server.accounts)


def test_a_new_account_is_bound_to_the_external_one(tmp_path: Path) -> None:
    server = FakeAcme()

    account(server, tmp_path, **BOUND, contact=["mailto:pki@example.org"], terms_of_service_agreed=True)

    sent = server.payloads["account"]
    binding = sent.pop("externalAccountBinding")
    protected = json.loads(base64.urlsafe_b64decode(binding["protected"] + "=="))
    bound = json.loads(base64.urlsafe_b64decode(binding["payload"] + "=="))
    assert {"contact": ["mailto:pki@example.org"], "termsOfServiceAgreed": True} == sent
    assert {"alg": "HS256", "kid": "kid-1", "url": f"{URL}/account"} == protected
    assert bound in server.accounts.values()


def test_terms_have_to_be_agreed_to(tmp_path: Path) -> None:
    server = FakeAcme(meta={"termsOfService": "https://acme.example.org/terms"})

    with pytest.raises(Misconfigured, match="terms_of_service_agreed = true"):
        account(server, tmp_path)


def test_an_account_that_the_server_has_lost_is_made_again(tmp_path: Path) -> None:
    server = FakeAcme()

    async def revoked() -> None:
        connector = connected(server, tmp_path)
        await connector.revoke(b"x", RevocationReason.UNSPECIFIED)
        server.accounts.clear()
        await connector.revoke(b"x", RevocationReason.UNSPECIFIED)
        await connector.aclose()

    asyncio.run(revoked())

    assert 3 == server.counted("revoke")
    assert 1 == len(server.accounts)


def test_a_key_of_another_kind_is_refused_at_the_start(tmp_path: Path) -> None:
    write_private_key(tmp_path / "acme-account.key", pki.rsa_key(), None)

    with pytest.raises(Misconfigured, match="no EC P-256 key"):
        connected(FakeAcme(), tmp_path)


def test_a_key_that_others_may_read_is_refused_at_the_start(tmp_path: Path) -> None:
    obtain_account_key(tmp_path / "acme-account.key")
    (tmp_path / "acme-account.key").chmod(0o640)

    with pytest.raises(Misconfigured, match="chmod 600"):
        connected(FakeAcme(), tmp_path)


def test_a_directory_that_cannot_be_written_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be written"):
        obtain_account_key(tmp_path / "missing" / "key")


@pytest.mark.parametrize("half", [{"eab_key_id": "kid-1"}, {"eab_hmac_key": "file:eab"}])
def test_half_a_binding_is_refused(half: dict[str, str]) -> None:
    with pytest.raises(pydantic.ValidationError, match="belong together"):
        Options(url=URL, ca_chain=Path("chain.pem"), **half)


# -------------------------------------------------------------------- nonces
def test_a_refused_nonce_is_replaced_by_the_one_in_the_refusal(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"account": [instead(problem(400, "badNonce"))] * 3})

    account(server, tmp_path)

    assert 1 == server.counted("nonce")
    assert 5 == server.counted("account")


def test_a_server_that_refuses_every_nonce_is_given_up(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"account": [instead(problem(400, "badNonce"))] * 99})

    with pytest.raises(BackendUnavailable, match="every nonce was refused") as raised:
        account(server, tmp_path)

    assert not raised.value.maybe_issued


def test_a_server_without_nonces_breaks_the_protocol(tmp_path: Path) -> None:
    with pytest.raises(ProtocolViolation, match="Replay-Nonce"):
        account(FakeAcme(gives_nonces=False), tmp_path)


# -------------------------------------------------------------------- signatures
def test_the_server_is_shown_the_public_half_of_the_key() -> None:
    assert {"kty", "crv", "x", "y"} == AccountKey(RFC_7515_KEY).jwk.keys()


def test_the_thumbprint_is_made_of_the_members_that_the_rfc_names() -> None:
    key = AccountKey(RFC_7515_KEY)

    x, y = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    digest = base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest())
    assert digest.decode().rstrip("=") == key.thumbprint


@pytest.mark.parametrize("text", ["c2VjcmV0", "c2VjcmV0MQ==", "c2VjcmV0MQ", "-_-_"])
def test_a_mac_key_may_be_padded_or_not(text: str) -> None:
    assert mac_key(Secret(text)) == base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("text", ["", "c2V jcmV0", "not base64!", "c2VjcmV0M", "é"])
def test_a_mac_key_that_is_none_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        mac_key(Secret(text))

    assert not text or text not in str(raised.value)
