"""The RA killed again and again while devices enrol; and whether the judge of that sees what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.crash.databases import POSTGRESQL
from benchmarks.crash.devices import Device, End, Habit
from benchmarks.crash.judge import Account, Verdict, weigh
from benchmarks.ledger.book import Entry
from tests.fakes.postgres import DATABASES, installed
from tests.peers import missing

ROOT = Path(__file__).parents[2]
KILLS = 20


@pytest.mark.parametrize("database", DATABASES)
def test_nothing_is_lost_or_issued_twice_however_often_it_is_killed(database: str, tmp_path: Path) -> None:
    if database == POSTGRESQL and installed() is None:
        missing("PostgreSQL's server is missing: it comes from the system's package postgresql (listed in .ci/run)")
    numbers = tmp_path / "numbers.json"
    which = ("--database", database, "--ca", "ledger", "-n", str(KILLS), "--json", str(numbers))

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.crash", *which], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)
    killed, undisturbed = json.loads(numbers.read_text("utf-8"))
    assert KILLS <= killed["kills"]
    assert 0 == undisturbed["kills"]
    assert 20 <= undisturbed["devices"]


def device(name: str, *, secret: str | None = None, has_rival: bool = False) -> Device:
    """A device that is enrolled, under a serial number that is its name's."""
    made = Device(
        name=name, secret=secret or name, habit=Habit.ANEW, polls=True, loses=0, has_rival=has_rival, end=End.ENROLLED
    )
    made.serial = serial_of(made)
    return made


def serial_of(each: Device, number: int = 1) -> str:
    return f"{each.name} {number}"


def entry(of: Device, number: int = 1) -> Entry:
    return Entry(reference="", key=of.key_digest, serial=serial_of(of, number), subject=of.name, certificate=b"")


def account(*devices: Device, orphans: int = 0, breaks: tuple[str, ...] = ()) -> Account:
    keys = tuple(each.key_digest for each in devices)
    return Account(authorised=keys, spent=keys, orphans=orphans, states={}, breaks=breaks)


def wrong(verdict: Verdict) -> dict[str, int]:
    return {what: count for what, count in verdict.wrongs.items() if count}


def test_the_judge_finds_nothing_wrong_where_every_device_holds_its_certificate() -> None:
    one, other = device("one"), device("other")

    verdict = weigh([one, other], [entry(one), entry(other)], account(one, other), [])

    assert {} == wrong(verdict)
    assert (2, 2) == (verdict.devices, verdict.certificates)


def test_the_judge_finds_a_device_that_was_authorised_and_has_no_certificate() -> None:
    one = device("one")
    one.end, one.serial = End.UNFINISHED, None

    verdict = weigh([one], [entry(one)], account(one), [])

    assert {"lost": 1, "burnt": 1, "unfinished": 1} == wrong(verdict)


def test_the_judge_does_not_count_a_certificate_that_the_ca_does_not_know() -> None:
    one = device("one")

    verdict = weigh([one], [], account(one), [])

    assert {"lost": 1, "burnt": 1} == wrong(verdict)


def test_the_judge_finds_a_certificate_that_was_revoked_in_the_hands_of_a_device() -> None:
    one = device("one")

    verdict = weigh([one], [replace(entry(one), is_revoked=True)], account(one), [])

    assert {"lost": 1, "burnt": 1} == wrong(verdict)


def test_the_judge_finds_a_second_certificate_for_a_key() -> None:
    one = device("one")

    verdict = weigh([one], [entry(one), entry(one, 2)], account(one), [])

    assert {"duplicate": 1} == wrong(verdict)


def test_the_judge_counts_one_certificate_that_was_issued_twice_once() -> None:
    one = device("one")

    verdict = weigh([one], [entry(one), entry(one)], account(one), [])

    assert {} == wrong(verdict)


def test_the_judge_lets_a_second_certificate_pass_that_is_revoked_or_listed_as_an_orphan() -> None:
    one, other = device("one"), device("other")
    ledger = [entry(one), replace(entry(one, 2), is_revoked=True), entry(other), entry(other, 2)]

    verdict = weigh([one, other], ledger, account(one, other, orphans=1), [])

    assert {} == wrong(verdict)
    assert 1 == verdict.orphans


def test_the_judge_finds_a_secret_that_let_two_keys_in() -> None:
    one, other = device("one", secret="shared", has_rival=True), device("other", secret="shared", has_rival=True)

    verdict = weigh([one, other], [entry(one), entry(other)], account(one, other), [])

    assert {"double-spent": 1} == wrong(verdict)


def test_the_judge_expects_one_of_two_rivals_to_be_refused() -> None:
    one, other = device("one", secret="shared", has_rival=True), device("other", secret="shared", has_rival=True)
    other.end, other.serial = End.REFUSED, None

    verdict = weigh([one, other], [entry(one)], account(one), [])

    assert {} == wrong(verdict)


def test_the_judge_finds_a_device_that_was_refused_with_a_secret_of_its_own() -> None:
    one = device("one")
    one.end, one.serial = End.REFUSED, None

    verdict = weigh([one], [], account(), [])

    assert {"refused": 1} == wrong(verdict)


def test_the_judge_counts_breaks_of_the_audit_and_processes_that_fell() -> None:
    one = device("one")

    verdict = weigh([one], [entry(one)], account(one, breaks=("event 3 is missing",)), ["exit code 1"])

    assert {"audit": 1, "fallen": 1} == wrong(verdict)
    assert ["audit: event 3 is missing", "fallen: exit code 1"] == verdict.remarks
