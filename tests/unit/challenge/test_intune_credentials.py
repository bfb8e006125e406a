"""How the app registration proves itself, and when the operator is told that it will soon be unable to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.api import Misconfigured
from connectors.keyfiles import write_private_key
from ra.challenge.api import Unavailable
from ra.policy.grant import Grant
from tests.fakes import pki
from tests.fakes.challenges import attempt
from tests.fakes.clock import FakeClock
from tests.fakes.intunes import SECRET, Beside, intune_beside
from tests.fakes.simulated import Front, listening_front

pytestmark = pytest.mark.anyio

CA = pki.root()
BY_CERTIFICATE = {"method": "certificate", "certificate": "app.pem", "key": "app.key"}
BY_FEDERATION = {"method": "federated", "token": "file:token"}


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as listening:
        yield listening


@pytest.fixture
async def beside(tmp_path: Path, front: Front) -> Beside:
    made = intune_beside(tmp_path, front, FakeClock(pki.NOW))
    made.server.codes["validateRequest"].extend(["Success"] * 3)
    write_private_key(tmp_path / "app.key", pki.rsa_key(), None)
    certificate = CA.issue(pki.rsa_key())
    (tmp_path / "app.pem").write_bytes(pki.pem(certificate))
    made.server.entra.certificate = certificate
    return made


async def verdict(beside: Beside, **options: Any) -> object:
    validator = await beside.validator(**options)
    try:
        return await validator.check(attempt("the challenge"))
    finally:
        await validator.aclose()


async def test_a_certificate_signs_what_entra_accepts(beside: Beside) -> None:
    beside.secrets.clear()

    assert isinstance(await verdict(beside, credential=BY_CERTIFICATE), Grant)


async def test_a_certificate_that_was_not_uploaded_is_said_to_be_so(beside: Beside) -> None:
    beside.server.entra.certificate = CA.issue(pki.rsa_key())

    answer = await verdict(beside, credential=BY_CERTIFICATE)

    assert isinstance(answer, Unavailable)
    assert "upload it there" in answer.detail


async def test_a_token_of_another_identity_provider_is_handed_on_and_read_anew(beside: Beside) -> None:
    beside.secrets["file:token"] = "first"
    beside.server.entra.federated = {"second"}
    beside.server.entra.certificate = None
    validator = await beside.validator(credential=BY_FEDERATION)

    first = await validator.check(attempt("the challenge"))
    beside.secrets["file:token"] = "second"
    second = await validator.check(attempt("the challenge"))

    assert isinstance(first, Unavailable)
    assert isinstance(second, Grant)
    await validator.aclose()


async def test_a_secret_is_replaced_while_we_run(beside: Beside) -> None:
    beside.server.entra.client_secret = "replaced"
    validator = await beside.validator()

    before = await validator.check(attempt("the challenge"))
    beside.secrets[SECRET] = "replaced"
    after = await validator.check(attempt("the challenge"))

    assert isinstance(before, Unavailable)
    assert "AADSTS7000215" in before.detail
    assert "write its value, not its id" in before.detail
    assert isinstance(after, Grant)
    await validator.aclose()


async def test_no_secret_shows_in_a_verdict(beside: Beside) -> None:
    beside.secrets[SECRET] = "the secret that is wrong"

    answer = await verdict(beside)

    assert "the secret that is wrong" not in repr(answer)


async def test_a_key_that_entra_would_not_take_stops_the_start(beside: Beside) -> None:
    write_private_key(beside.directory / "ec.key", ec.generate_private_key(ec.SECP256R1()), None)

    with pytest.raises(Misconfigured, match="no RSA key"):
        await beside.validator(credential={**BY_CERTIFICATE, "key": "ec.key"})


async def test_the_key_of_another_certificate_stops_the_start(beside: Beside) -> None:
    write_private_key(beside.directory / "other.key", pki.rsa_key(1), None)

    with pytest.raises(Misconfigured, match="is not the key of"):
        await beside.validator(credential={**BY_CERTIFICATE, "key": "other.key"})


@pytest.mark.parametrize(("days", "warns"), [(31, False), (29, True), (0, True), (-1, True)])
async def test_the_operator_is_told_a_month_before_a_secret_expires(beside: Beside, days: int, warns: bool) -> None:
    expires_at = pki.NOW + timedelta(days=days)

    await (
        await beside.validator(credential={"method": "secret", "client_secret": SECRET, "expires_at": expires_at})
    ).aclose()

    assert warns is bool(beside.warnings)
    assert [expires_at] == beside.credentials_end


async def test_a_certificate_says_itself_when_it_expires(beside: Beside) -> None:
    beside.clock.advance(timedelta(days=5000))

    await (await beside.validator(credential=BY_CERTIFICATE)).aclose()

    assert "has expired" in beside.warnings[0]
    [ends_at] = beside.credentials_end
    assert ends_at < beside.clock.now()


async def test_a_certificate_that_was_replaced_says_its_own_end(beside: Beside) -> None:
    validator = await beside.validator(credential=BY_CERTIFICATE)
    replaced = CA.issue(pki.rsa_key(), not_after=pki.NOW + timedelta(days=700))
    (beside.directory / "app.pem").write_bytes(pki.pem(replaced))
    beside.server.entra.certificate = replaced

    try:
        assert isinstance(await validator.check(attempt("the challenge")), Grant)
    finally:
        await validator.aclose()

    assert replaced.not_valid_after_utc == beside.credentials_end[-1]
    assert replaced.not_valid_after_utc != beside.credentials_end[0]
