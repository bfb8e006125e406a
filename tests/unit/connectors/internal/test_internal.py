from __future__ import annotations

import asyncio
import stat
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pydantic
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors import internal, keyfiles
from connectors.api import (
    ApprovedContents,
    Issued,
    IssueRequest,
    KeyUsage,
    Misconfigured,
    NameAttribute,
    Rejected,
    Rejection,
    RevocationReason,
    Secret,
    Services,
)
from connectors.internal.creation import create_ca
from tests.fakes import pki
from tests.fakes.clock import FakeClock

PASSPHRASE = Secret("correct horse")


def services(directory: Path, clock: FakeClock | None = None) -> Services:
    return Services(
        name="lab", directory=directory, now=(clock or FakeClock()).now, read_secret=lambda _reference: PASSPHRASE
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    create_ca(tmp_path, key_spec="ec:p256", name="Test CA", passphrase=PASSPHRASE, now=pki.NOW)
    return tmp_path


def connect(directory: Path, clock: FakeClock | None = None, **options: Any) -> internal.InternalCa:
    return asyncio.run(internal.connect(internal.Options(**options), services(directory, clock)))


def request(spki: bytes) -> IssueRequest:
    contents = ApprovedContents(
        subject=((NameAttribute("2.5.4.3", "device-1"),),),
        subject_alternative_names=(),
        spki=spki,
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE}),
        extended_key_usage=("1.3.6.1.5.5.7.3.2",),
        validity=timedelta(days=365),
    )
    return IssueRequest(csr=b"", contents=contents, profile="x", idempotency_key=UUID(int=1), requested_at=pki.NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key_passphrase": "hunter2"},
        {"digest": "sha1"},
        {"crl_urls": ["ca.crl"]},
        {"aia_url": "http://ca.example/a b"},
        {"crl_lifetime_hours": 0},
        {"max_validity_days": 0},
        {"backdate_minutes": -1},
        {"passphrase": "x"},
    ],
)
def test_a_wrong_option_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        internal.Options(**wrong)


@pytest.mark.parametrize("missing", ["ca.pem", "ca.key"])
def test_a_missing_file_stops_the_start(directory: Path, missing: str) -> None:
    (directory / missing).unlink()

    with pytest.raises(Misconfigured, match=f"{missing} cannot be read"):
        connect(directory)


def test_the_state_is_the_owners_alone(directory: Path) -> None:
    connect(directory)

    assert 0o600 == stat.S_IMODE((directory / "ca.db").stat().st_mode)


def test_a_state_that_cannot_be_opened_stops_the_start(directory: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file or directory"):
        connect(directory, state=Path("no/such/folder/ca.db"))


def test_a_rejection_is_a_result_and_not_an_exception(directory: Path) -> None:
    result = asyncio.run(connect(directory).issue(request(b"no key")))

    assert isinstance(result, Rejected)
    assert Rejection.KEY is result.rejection


def test_the_next_ca_is_signed_for_with_the_key_of_the_present_one(directory: Path) -> None:
    ca = connect(directory)

    signed = asyncio.run(ca.sign_next_ca(b"what follows"))

    verify = ["openssl", "cms", "-verify", "-inform", "DER", "-purpose", "any", "-no_check_time"]
    done = subprocess.run([*verify, "-CAfile", directory / "ca.pem"], input=signed, capture_output=True, check=True)
    assert b"what follows" == done.stdout


def test_only_what_it_has_issued_is_revoked(directory: Path) -> None:
    foreign = pki.root(name="Test CA", number=5).issue(pki.key("ec:p256", 1))
    ca = connect(directory)

    for certificate in (pki.der(foreign), b"garbage"):
        with pytest.raises(Misconfigured, match="lab cannot revoke what it has not issued"):
            asyncio.run(ca.revoke(certificate, RevocationReason.UNSPECIFIED))


def test_it_is_not_ready_once_the_ca_has_expired(directory: Path) -> None:
    clock = FakeClock(pki.NOW)
    ca = connect(directory, clock)

    before = asyncio.run(ca.health())
    assert before.ca_not_after is not None
    clock.advance(before.ca_not_after - clock.now())
    after = asyncio.run(ca.health())

    assert [True, False] == [before.ready, after.ready]
    assert "ran out" in after.detail


def test_the_chain_is_handed_on_as_the_file_has_it(directory: Path) -> None:
    root = keyfiles.read_certificates(directory / "ca.pem")[0]
    spki = pki.key("ec:p256", 1).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ca = connect(directory)

    issued = asyncio.run(ca.issue(request(spki)))

    assert isinstance(issued, Issued)
    assert (pki.der(root),) == issued.chain == asyncio.run(ca.ca_chain())
