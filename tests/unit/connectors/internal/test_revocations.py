from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from connectors.api import BackendUnavailable, RevocationReason
from connectors.internal.authority import EXPIRED_LISTED, Authority, Rules
from connectors.internal.revocations import Revocations
from tests.fakes import pki

LIFETIME = timedelta(hours=168)
CA = pki.root()
LEAF = CA.issue(pki.key("ec:p256", 1))
RULES = Rules(
    digest=None, max_validity=timedelta(days=1), backdate=timedelta(), aia_url=None, ocsp_url=None, crl_urls=()
)
AUTHORITY = Authority(CA.certificate, CA.key, RULES)


@pytest.fixture
def revocations(tmp_path: Path) -> Revocations:
    state = Revocations(path=tmp_path / "ca.db", lifetime=LIFETIME)
    state.prepare()
    return state


def crl(revocations: Revocations, now: datetime = pki.NOW) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(revocations.crl(AUTHORITY.sign_crl, now))


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_crl_is_signed_and_says_how_long_it_lasts(revocations: Revocations) -> None:
    signed = crl(revocations)

    assert signed.is_signature_valid(CA.key.public_key())
    assert CA.certificate.subject == signed.issuer
    assert pki.NOW == signed.last_update_utc
    assert pki.NOW + LIFETIME == signed.next_update_utc
    assert [] == list(signed)


def test_a_revoked_certificate_is_listed_with_its_reason_and_time(revocations: Revocations) -> None:
    revocations.add(LEAF, RevocationReason.KEY_COMPROMISE, pki.NOW)

    (entry,) = crl(revocations)

    assert LEAF.serial_number == entry.serial_number
    assert pki.NOW == entry.revocation_date_utc
    assert x509.ReasonFlags.key_compromise is entry.extensions.get_extension_for_class(x509.CRLReason).value.reason


def test_no_reason_is_given_where_it_is_unspecified(revocations: Revocations) -> None:
    revocations.add(LEAF, RevocationReason.UNSPECIFIED, pki.NOW)

    (entry,) = crl(revocations)

    assert [] == list(entry.extensions)


@pytest.mark.parametrize("reason", RevocationReason)
def test_every_reason_can_be_written(revocations: Revocations, reason: RevocationReason) -> None:
    revocations.add(LEAF, reason, pki.NOW)

    assert 1 == len(crl(revocations))


def test_revoking_again_changes_nothing(revocations: Revocations) -> None:
    revocations.add(LEAF, RevocationReason.SUPERSEDED, pki.NOW)
    revocations.add(LEAF, RevocationReason.KEY_COMPROMISE, pki.NOW + timedelta(days=1))

    (entry,) = crl(revocations, pki.NOW + timedelta(days=1))

    assert pki.NOW == entry.revocation_date_utc
    assert x509.ReasonFlags.superseded is entry.extensions.get_extension_for_class(x509.CRLReason).value.reason


def test_a_crl_is_kept_until_half_of_its_time_has_passed(revocations: Revocations) -> None:
    first = crl(revocations)

    kept = crl(revocations, pki.NOW + LIFETIME / 2 - timedelta(seconds=1))
    renewed = crl(revocations, pki.NOW + LIFETIME / 2)

    assert first == kept
    assert pki.NOW + LIFETIME / 2 == renewed.last_update_utc
    assert [1, 2] == [number(first), number(renewed)]


def test_a_revocation_makes_a_new_crl_at_once(revocations: Revocations) -> None:
    first = crl(revocations)
    revocations.add(LEAF, RevocationReason.UNSPECIFIED, pki.NOW)
    second = crl(revocations)

    assert [0, 1] == [len(first), len(second)]
    assert [1, 2] == [number(first), number(second)]


def test_numbers_and_revocations_survive_the_process(revocations: Revocations) -> None:
    revocations.add(LEAF, RevocationReason.UNSPECIFIED, pki.NOW)
    crl(revocations)

    reopened = Revocations(path=revocations.path, lifetime=LIFETIME)
    reopened.prepare()
    later = crl(reopened, pki.NOW + LIFETIME)

    assert 2 == number(later)
    assert 1 == len(later)


def test_an_expired_certificate_stays_on_the_crl_as_long_as_the_crl_says(revocations: Revocations) -> None:
    leaf = CA.issue(pki.key("ec:p256", 1), not_after=pki.NOW + timedelta(days=1))
    revocations.add(leaf, RevocationReason.UNSPECIFIED, pki.NOW)

    last = pki.NOW + timedelta(days=1) + EXPIRED_LISTED
    expired = crl(revocations, last)
    gone = crl(revocations, last + LIFETIME * 2)

    assert [1, 0] == [len(expired), len(gone)]
    covered = expired.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.5.29.60")).value
    assert (last - EXPIRED_LISTED).strftime("%Y%m%d%H%M%SZ").encode() == covered.public_bytes()[2:]


def _revoke_some(path: Path, start: int) -> None:
    state = Revocations(path=path, lifetime=LIFETIME)
    state.prepare()
    for serial in range(start, start + 20):
        state.add(_leaf(serial), RevocationReason.UNSPECIFIED, pki.NOW)
        state.crl(AUTHORITY.sign_crl, pki.NOW)


def _leaf(serial: int) -> x509.Certificate:
    key = pki.key("ec:p256", 1)
    builder = x509.CertificateBuilder(CA.certificate.subject, CA.certificate.subject, key.public_key(), serial)
    builder = builder.not_valid_before(pki.NOW).not_valid_after(pki.NOW + timedelta(days=1))
    return builder.sign(CA.key, hashes.SHA256())


def test_several_processes_share_one_state(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_revoke_some, args=(tmp_path / "ca.db", start)) for start in (1, 101, 201)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()

    listed = crl(Revocations(path=tmp_path / "ca.db", lifetime=LIFETIME))

    assert [0, 0, 0] == [each.exitcode for each in workers]
    assert 60 == len(listed)
    assert 60 >= number(listed) > 0


def test_a_state_that_cannot_be_used_means_unavailable_and_nothing_issued(revocations: Revocations) -> None:
    with closing(sqlite3.connect(revocations.path)) as db:
        db.execute("DROP TABLE revocations")

    with pytest.raises(BackendUnavailable, match="no such table") as failure:
        revocations.add(LEAF, RevocationReason.UNSPECIFIED, pki.NOW)

    assert not failure.value.maybe_issued
