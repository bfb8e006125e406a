from __future__ import annotations

import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from connectors.api import AuthFailed, BackendUnavailable, ConnectorError, Issued
from connectors.vault import VaultCa
from tests.fakes.connecting import tls_files
from tests.fakes.simulated import Front, listening_front
from tests.fakes.vaults import Beside, request, vault_beside

APPROLE = "/v1/auth/approle/login"
ALARM = "somebody else has it"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as found:
        yield found


@pytest.fixture
def beside(tmp_path: Path, front: Front) -> Beside:
    return vault_beside(tmp_path, front)


def failed(beside: Beside, **options: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        beside.run(lambda each: each.issue(request()), **options)
    return caught.value


def issuing_after(beside: Beside, *moments: timedelta) -> None:
    """Issues, lets time pass, issues again …, with one connector."""

    async def use(connector: VaultCa) -> None:
        assert isinstance(await connector.issue(request()), Issued)
        for each in moments:
            beside.watched.moment += each
            assert isinstance(await connector.issue(request()), Issued)

    beside.run(use)


def minutes(*values: float) -> list[timedelta]:
    return [timedelta(minutes=each) for each in values]


# ---------------------------------------------------------------- methods


def test_a_userpass_login(beside: Beside) -> None:
    beside.server.tokens.credentials.users["ra"] = "correct horse"
    beside.watched.secrets = {"file:password": "correct horse"}
    login = {"method": "userpass", "user": "ra", "password": "file:password"}

    assert isinstance(beside.run(lambda each: each.issue(request()), login=login), Issued)
    assert 1 == beside.asked("/v1/auth/userpass/login/ra")


@pytest.mark.parametrize("method", ["kubernetes", "jwt"])
def test_a_login_by_jwt_reads_it_anew_each_time(beside: Beside, method: str) -> None:
    known = beside.server.tokens.credentials.jwts
    known.add(("scep-ra", "first"))
    beside.watched.secrets = {"file:jwt": "first"}

    async def use(connector: VaultCa) -> None:
        await connector.issue(request())
        known.clear()
        known.add(("scep-ra", "second"))
        beside.watched.secrets = {"file:jwt": "second"}
        beside.server.tokens.revoke_all()
        assert isinstance(await connector.issue(request()), Issued)

    beside.run(use, login={"method": method, "role": "scep-ra", "jwt": "file:jwt"})


def test_a_login_by_client_certificate(tmp_path: Path) -> None:
    files = tls_files(tmp_path / "tls", datetime.now(UTC))  # noqa: TID251 - OpenSSL checks against its own clock
    mine = {"ca_file": files.ca, "client_certificate": files.certificate, "client_key": files.key}

    with listening_front(files) as front:
        beside = vault_beside(tmp_path, front)
        beside.server.tokens.credentials.certificate_roles.add("scep-ra")
        login = {"method": "cert", "role": "scep-ra"}
        result = beside.run(lambda each: each.issue(request()), login=login, **mine)

    assert isinstance(result, Issued)


def test_a_token_that_is_replaced_in_its_file_is_read_again(beside: Beside) -> None:
    first, second = beside.server.tokens.create(), beside.server.tokens.create()
    beside.watched.secrets = {"file:token": first}

    async def use(connector: VaultCa) -> None:
        await connector.issue(request())
        del beside.server.tokens.held[first]
        beside.watched.secrets = {"file:token": second}
        assert isinstance(await connector.issue(request()), Issued)

    beside.run(use, login={"method": "token", "token": "file:token"})


@pytest.mark.parametrize(
    "login",
    [
        {"method": "approle", "role_id": "another", "secret_id": "file:secret-id"},
        {"method": "userpass", "user": "nobody", "password": "file:secret-id"},
        {"method": "kubernetes", "role": "scep-ra", "jwt": "file:secret-id"},
        {"method": "jwt", "role": "scep-ra", "jwt": "file:secret-id"},
        {"method": "token", "token": "file:secret-id"},
    ],
)
def test_wrong_credentials_are_the_operators_to_mend(beside: Beside, login: dict[str, str]) -> None:
    fault = failed(beside, login=login)

    assert isinstance(fault, AuthFailed)
    assert beside.server.tokens.credentials.secret_id not in "".join(traceback.format_exception(fault))
    assert 0 == beside.asked("/sign/")


# ---------------------------------------------------------------- the life of a token


def test_one_login_lasts(beside: Beside) -> None:
    issuing_after(beside, *minutes(1, 1, 1))

    assert 1 == beside.asked(APPROLE)
    assert 0 == beside.asked("renew-self")


def test_a_token_is_renewed_at_two_thirds_of_its_life(beside: Beside) -> None:
    issuing_after(beside, *minutes(13, 1, 14, 14))

    assert 1 == beside.asked(APPROLE)
    assert 3 == beside.asked("renew-self")


def test_a_token_that_has_run_out_is_replaced(beside: Beside) -> None:
    issuing_after(beside, *minutes(21))

    assert 2 == beside.asked(APPROLE)
    assert 0 == beside.asked("renew-self")


def test_a_token_that_is_not_renewable_is_replaced_at_two_thirds(beside: Beside) -> None:
    beside.server.tokens.credentials.renewable = False

    issuing_after(beside, *minutes(14))

    assert 2 == beside.asked(APPROLE)
    assert 0 == beside.asked("renew-self")


def test_a_token_near_its_longest_life_is_replaced(beside: Beside) -> None:
    beside.server.tokens.credentials.longest = timedelta(minutes=21)

    issuing_after(beside, *minutes(14))

    assert 1 == beside.asked("renew-self")
    assert 2 == beside.asked(APPROLE)


def test_a_token_without_end_is_never_renewed(beside: Beside) -> None:
    beside.server.tokens.credentials.lease = timedelta(0)

    issuing_after(beside, timedelta(days=400))

    assert 1 == beside.asked(APPROLE)


def test_while_vault_renews_nothing_the_old_token_does(beside: Beside) -> None:
    async def use(connector: VaultCa) -> None:
        await connector.issue(request())
        beside.pass_time(minutes=14)
        for _ in range(3):
            beside.server.faults.at_next("renew-self", Response("", 502))
        assert isinstance(await connector.issue(request()), Issued)
        assert isinstance(await connector.issue(request()), Issued)
        beside.pass_time(minutes=4)
        assert isinstance(await connector.issue(request()), Issued)

    beside.run(use)

    assert 1 == beside.asked(APPROLE)
    assert 1 == beside.asked("renew-self")


def test_a_refused_token_is_replaced_once_and_the_request_sent_again(beside: Beside) -> None:
    async def use(connector: VaultCa) -> None:
        await connector.issue(request())
        beside.server.tokens.revoke_all()
        assert isinstance(await connector.issue(request()), Issued)

    beside.run(use)

    assert 2 == beside.asked(APPROLE)


def test_tokens_for_few_uses_are_replaced_as_they_run_out(beside: Beside) -> None:
    beside.server.tokens.credentials.num_uses = 1

    issuing_after(beside, *minutes(1, 1))

    assert 3 == beside.asked(APPROLE)


def test_what_the_policy_denies_stays_denied(beside: Beside) -> None:
    beside.server.tokens.denied.add("pki/issuer/scep-issuing/sign/scep-devices")

    fault = failed(beside)

    assert isinstance(fault, AuthFailed)
    assert "permission denied" in str(fault)
    assert 2 == beside.asked("/sign/")
    assert 2 == beside.asked(APPROLE)


def test_a_login_that_gets_no_answer_has_issued_nothing(beside: Beside) -> None:
    beside.server.faults.at_next(APPROLE, after_work=True)

    fault = failed(beside, timeout_seconds=0.3)

    assert isinstance(fault, BackendUnavailable)
    assert not fault.maybe_issued


def test_while_vault_is_sealed_nobody_logs_in(beside: Beside) -> None:
    beside.server.state.sealed = True

    fault = failed(beside)

    assert isinstance(fault, BackendUnavailable)
    assert not fault.maybe_issued
    assert "sealed" in str(fault)


# ---------------------------------------------------------------- wrapped secret ids


def wrapped(beside: Beside, token: str) -> dict[str, Any]:
    beside.watched.secrets = {"file:wrapping-token": token}
    role_id = beside.server.tokens.credentials.role_id
    login = {"method": "approle", "role_id": role_id, "secret_id": "file:wrapping-token"}
    return {"login": {**login, "secret_id_is_wrapped": True}}


def test_a_wrapped_secret_id_is_unwrapped_once_and_kept(beside: Beside) -> None:
    async def use(connector: VaultCa) -> None:
        await connector.issue(request())
        beside.server.tokens.revoke_all()
        assert isinstance(await connector.issue(request()), Issued)

    beside.run(use, **wrapped(beside, beside.server.tokens.wrap_secret_id()))

    assert 2 == beside.asked(APPROLE)
    assert 1 == beside.asked("wrapping/unwrap")


def test_a_new_wrapping_token_is_unwrapped(beside: Beside) -> None:
    async def use(connector: VaultCa) -> None:
        await connector.issue(request())
        beside.server.tokens.revoke_all()
        beside.watched.secrets = {"file:wrapping-token": beside.server.tokens.wrap_secret_id()}
        assert isinstance(await connector.issue(request()), Issued)

    beside.run(use, **wrapped(beside, beside.server.tokens.wrap_secret_id()))

    assert 2 == beside.asked("wrapping/unwrap")


def test_a_wrapping_token_that_is_spent_is_an_alarm(beside: Beside) -> None:
    fault = failed(beside, **wrapped(beside, "hvs.spent"))

    assert isinstance(fault, AuthFailed)
    assert ALARM in str(fault)
    assert "hvs.spent" not in "".join(traceback.format_exception(fault))


def test_a_wrapping_token_of_another_origin_is_not_unwrapped(beside: Beside) -> None:
    token = beside.server.tokens.wrap_secret_id("cubbyhole/response")

    fault = failed(beside, **wrapped(beside, token))

    assert isinstance(fault, AuthFailed)
    assert ALARM in str(fault)
    assert 0 == beside.asked("wrapping/unwrap")
