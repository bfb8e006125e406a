"""`scep-ra keys`: what it says of identities in files and of managed ones, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.journal import opened
from ra.cli.app import run
from ra.journal import audit, ra_keys
from ra.service.keeper import sealed
from ra.settings.load import load
from tests.fakes import pki

FILES = 'certificate = "ra.pem"\nkey = "ra.key"\nkey_passphrase = "file:ra.passphrase"'
DAY = timedelta(days=1)


class Keys:
    """Runs the commands on a directory, and says what they print."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = directory / "ra.toml"
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        exit_code = run(["keys", *arguments, "--config", str(self.config)])
        said = self._capsys.readouterr()
        return exit_code, said.out, said.err

    def check_config(self) -> tuple[int, str, str]:
        self._capsys.readouterr()
        exit_code = run(["check-config", "--config", str(self.config)])
        said = self._capsys.readouterr()
        return exit_code, said.out, said.err

    def status(self) -> tuple[int, list[dict[str, Any]]]:
        exit_code, out, _ = self.run("status", "--json")
        return exit_code, json.loads(out)["identities"]

    def phases(self) -> list[str]:
        return [each["phase"] for each in self.status()[1]]

    def obtain(self, *, shown: timedelta = timedelta(), lasts: timedelta = DAY) -> x509.Certificate:
        """What a running service does: certifies the key that waits, or one of its own."""

        async def work() -> x509.Certificate:
            now = SystemClock().now()
            certificate = pki.root().issue(pki.rsa_key(10), not_before=now - 2 * DAY, not_after=now + lasts)
            async with opened(load(self.config)) as (journal, key):
                made = sealed(key, "ra", pki.rsa_key(10), now, os.urandom)
                await journal.write(lambda c: ra_keys.make(c, made))
                waiting = [each for each in await journal.read(ra_keys.list_keys) if each.certificate is None]
                await journal.write(
                    lambda c: ra_keys.certify(
                        c,
                        waiting[0],
                        pki.der(certificate),
                        now=now,
                        shown_at=now + shown,
                        forget_at=now + lasts,
                        forget_others_at=now + lasts,
                    )
                )
            return certificate

        return asyncio.run(work())

    def audited(self) -> list[dict[str, Any]]:
        async def work() -> list[dict[str, Any]]:
            async with opened(load(self.config)) as (journal, _):
                return [each.read() for each in await journal.read(audit.list_events)]

        return [each for each in asyncio.run(work()) if each["event"].startswith("ra-")]


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    assert 0 == run(["init", str(tmp_path / "var"), "--yes", "--ca-key", "ec:p256", "--json"])
    return Keys(tmp_path / "var", capsys)


@pytest.fixture
def managed(files: Keys) -> Keys:
    text = files.config.read_text("utf-8")
    assert FILES in text
    files.config.write_text(text.replace(FILES, "managed = {}"), "utf-8")
    return files


def test_of_files_it_says_what_there_is_and_what_to_do_by_hand(files: Keys) -> None:
    exit_code, rows = files.status()

    rotating, _, said = files.run("rotate", "ra")

    assert (0, ["files"], ["shown"]) == (exit_code, [each["kind"] for each in rows], files.phases())
    assert 2 == rotating
    assert "have its certificate issued" in said
    assert "SIGHUP" in said


def test_before_the_first_start_nothing_is_shown_and_the_exit_code_says_so(managed: Keys) -> None:
    assert (1, []) == managed.status()


def test_a_new_key_waits_until_somebody_serves(managed: Keys) -> None:
    exit_code, out, _ = managed.run("rotate", "--json")

    assert (0, "waiting") == (exit_code, json.loads(out)["phase"])
    assert ["waiting"] == managed.phases()
    assert ["ra-key-made"] == [each["event"] for each in managed.audited()]
    assert managed.audited()[0]["who"]


def test_rotating_twice_makes_one_key(managed: Keys) -> None:
    managed.run("rotate")
    managed.run("rotate")

    assert ["waiting"] == managed.phases()


def test_a_rotation_goes_through_its_phases(managed: Keys) -> None:
    managed.obtain()
    first = managed.phases()
    managed.run("rotate")
    rotated = managed.phases()
    managed.obtain(shown=DAY / 2)
    obtained = managed.phases()
    managed.obtain()
    over = managed.phases()

    assert ["shown"] == first
    assert ["shown", "waiting"] == rotated
    assert ["shown", "next"] == obtained
    assert {"previous", "shown", "next"} == set(over)


def test_what_has_run_out_makes_the_exit_code_1(managed: Keys) -> None:
    managed.obtain(lasts=-DAY)

    assert 1 == managed.status()[0]


def test_waiting_ends_after_the_time_given(managed: Keys) -> None:
    exit_code, _, said = managed.run("rotate", "--wait", "1")

    assert 1 == exit_code
    assert "not shown after 1 seconds" in said


def test_a_key_that_somebody_may_have_is_forgotten_but_never_the_one_that_is_shown(managed: Keys) -> None:
    first, second = managed.obtain(), managed.obtain()

    refused, _, said = managed.run("forget", f"{second.serial_number:x}")
    done, _, _ = managed.run("forget", f"{first.serial_number:x}")
    again, _, _ = managed.run("forget", f"{first.serial_number:x}")

    assert (2, 0, 2) == (refused, done, again)
    assert "rotate first" in said
    assert ["shown"] == managed.phases()
    assert managed.audited()[-1]["who"]


def test_a_person_reads_it_as_a_table(managed: Keys) -> None:
    certificate = managed.obtain()

    _, out, _ = managed.run("status")

    assert f"{certificate.serial_number:x}" in out
    assert "managed" in out


def test_check_config_looks_at_what_was_obtained_and_misses_nothing_before(managed: Keys) -> None:
    before = managed.check_config()
    managed.obtain()
    after = managed.check_config()

    assert 0 == before[0]
    assert "identities.ra: it is managed, and is obtained once scep-ra serves" in before[1]
    assert 2 == after[0]
    assert "is not issued by the CA that this profile's connector names" in after[2]
