from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ra.challenge.api import Deny
from ra.challenge.ndes import Ndes, Options, connect, thumbprint
from ra.challenge.pages import PageAnswer, PageRequest
from ra.errors import Unavailable as NotNow
from ra.policy.grant import Grant
from ra.scep.x509 import is_printable
from tests.fakes.challenges import NOW, FakeServices, attempt
from tests.fakes.ndes_clients import BARRED, FULL, READERS, NoPassword, read_as_fleet
from tests.fakes.one_time import FakeSecrets

PASSWORD = "correct horse battery"
ACCOUNT = {"label": "mdm", "user": "mdm", "password": "file:mdm"}
CA = b"a certificate, DER"


def ndes(secrets: FakeSecrets, **options: Any) -> Ndes:
    services = FakeServices({"file:mdm": PASSWORD}, name="ndes").services()
    given = Options.model_validate({"accounts": [ACCOUNT], **options})
    return asyncio.run(connect(given, replace(services, one_time=secrets)))


def page(validator: Ndes, password: str = PASSWORD) -> PageAnswer:
    credentials = ("authorization", f"Basic {b64encode(f'mdm:{password}'.encode()).decode()}")
    asked = PageRequest(method="GET", headers=(credentials,), body=b"", peer="192.0.2.9", ca_certificate=CA)
    return asyncio.run(validator._answer(asked))


@pytest.mark.parametrize("length", [16, 32])
@pytest.mark.parametrize("read", READERS[:-1])
def test_every_management_reads_the_password(read: Callable[[bytes], str], length: int) -> None:
    secrets = FakeSecrets()

    answer = page(ndes(secrets, length=length))

    (minted,) = secrets.kept
    assert (200, "text/html", "minted", "mdm") == (answer.status, answer.media_type, answer.outcome, answer.caller)
    assert minted == read(answer.body)
    assert length == len(minted)
    assert is_printable(minted)


def test_the_thumbprint_is_not_taken_for_the_password() -> None:
    secrets = FakeSecrets()

    answer = page(ndes(secrets))

    assert list(secrets.kept) == [READERS[-1](answer.body)]
    assert thumbprint(CA) in answer.body.decode("utf-16")
    assert hashlib.md5(CA, usedforsecurity=False).hexdigest().upper() == thumbprint(CA).replace(" ", "")


def test_the_page_begins_with_a_mark_unless_it_is_switched_off() -> None:
    with_mark, without = page(ndes(FakeSecrets())), page(ndes(FakeSecrets(), bom=False))

    assert with_mark.body.startswith(b"\xff\xfe<\x00H\x00")
    assert without.body.startswith(b"<\x00H\x00")
    assert read_as_fleet(without.body)


@pytest.mark.parametrize("read", READERS)
def test_a_full_cache_is_said_on_the_page(read: Callable[[bytes], str]) -> None:
    answer = page(ndes(FakeSecrets({"A": NotNow("")}), max_outstanding=1))

    assert (200, "full") == (answer.status, answer.outcome)
    assert FULL in answer.body.decode("utf-16")
    with pytest.raises(NoPassword):
        read(answer.body)


def test_an_account_whose_time_is_over_reads_that_it_may_not() -> None:
    secrets = FakeSecrets()
    over = {**ACCOUNT, "not_after": NOW - timedelta(seconds=1)}

    answer = page(ndes(secrets, accounts=[over]))

    assert (200, "barred") == (answer.status, answer.outcome)
    with pytest.raises(NoPassword, match=BARRED):
        read_as_fleet(answer.body)
    assert not secrets.kept


def test_a_stranger_gets_no_password() -> None:
    secrets = FakeSecrets()

    answer = page(ndes(secrets), password="a wrong password")

    assert 401 == answer.status
    assert not secrets.kept


def test_a_password_of_the_page_is_granted_to_its_own_challenge_alone() -> None:
    secrets = FakeSecrets()
    validator, other = ndes(secrets), replace(ndes(secrets).one_time, name="other")
    password = read_as_fleet(page(validator).body)

    granted = asyncio.run(validator.check(attempt(password)))
    denied = asyncio.run(other.check(attempt(password)))

    assert isinstance(granted, Grant)
    assert ("ndes", "mdm") == (granted.method, granted.label)
    assert granted.spend is not None
    assert isinstance(denied, Deny)


def test_a_password_is_in_time_for_an_hour() -> None:
    secrets = FakeSecrets()
    validator = ndes(secrets)
    password = read_as_fleet(page(validator).body)

    in_time = asyncio.run(validator.check(attempt(password, arrived_at=NOW + timedelta(hours=1))))
    too_late = asyncio.run(validator.check(attempt(password, arrived_at=NOW + timedelta(hours=1, seconds=1))))

    assert isinstance(in_time, Grant)
    assert isinstance(too_late, Deny)


def test_whoever_asked_is_audited() -> None:
    secrets = FakeSecrets()

    page(ndes(secrets))

    assert ["mdm at 192.0.2.9"] == secrets.minted


def test_with_the_database_away_there_is_no_page() -> None:
    secrets = FakeSecrets(failure=NotNow("the database is away"))

    with pytest.raises(NotNow):
        page(ndes(secrets))


@pytest.mark.parametrize("path", ["certsrv", "/scep/x", "/api/v1/x", "/certsrv/mscep/x", "/a//b", "/{a}", "/a b", "/"])
def test_a_path_that_is_taken_or_none_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="path"):
        Options.model_validate({"accounts": [ACCOUNT], "path": path})
