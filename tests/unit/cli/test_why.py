"""`scep-ra why`: who was refused is told of in words."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.journal import opened
from ra.cli.app import run
from ra.journal.records import UNAVAILABLE, Refusal
from ra.journal.refusals import RefusalLog
from ra.settings.load import load

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with three refusals, and before them a request that was put off; the newest last."""
    directory = tmp_path_factory.mktemp("ra") / "var"
    assert 0 == run(["init", str(directory), "--yes", "--ca-key", "ec:p256", "--json"])
    asyncio.run(_refuse(directory / "ra.toml"))
    return directory / "ra.toml"


async def _refuse(config: Path) -> None:
    async with opened(load(config)) as (journal, _):
        now = SystemClock().now
        log, note = RefusalLog(journal, now), partial(Refusal, at=now())
        log.put_off(
            note(profile="default", reason=UNAVAILABLE, detail="intune: no answer in time", transaction_id=b"4710")
        )
        expired = "the one-time secret 'a' has expired"
        log.note(
            note(
                profile="default",
                reason="CHALLENGE_REFUSED",
                detail=expired,
                transaction_id=b"4711",
                asked_for="CN=device-7, dns:device-7.example.org" + 1000 * "x",
            )
        )
        log.note(
            note(profile="default", reason="KEY_NOT_ALLOWED", detail="RSA-1024 is too short", transaction_id=b"4712")
        )
        log.note(note(profile="other", reason="SUBJECT_NOT_ALLOWED", detail="\x1b[31m", asked_for="CN=\x1b[32m\0"))
        await log.flush()


def answer(capsys: Output, *arguments: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert 0 == run(["why", *map(str, arguments), "--json"])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["refusals"]
    return found


def test_the_latest_are_told_of_newest_first(config: Path, capsys: Output) -> None:
    every, one = answer(capsys, "--config", config), answer(capsys, "--config", config, "--count", 1)

    expected = ["SUBJECT_NOT_ALLOWED", "KEY_NOT_ALLOWED", "CHALLENGE_REFUSED", "UNAVAILABLE"]
    assert expected == [each["reason"] for each in every]
    assert every[:1] == one


def test_one_is_found_as_its_device_calls_it(config: Path, capsys: Output) -> None:
    (found,) = answer(capsys, "4711", "--config", config)

    assert "the one-time secret 'a' has expired" == found["detail"]
    assert "Give the device a new challenge" in found["advice"]


def test_the_device_is_named_by_what_it_asked_for(config: Path, capsys: Output) -> None:
    (found,) = answer(capsys, "4711", "--config", config)

    assert found["asked_for"].startswith("CN=device-7, dns:device-7.example.org")
    assert 500 == len(found["asked_for"])


def test_what_was_put_off_is_told_of_and_was_not_refused(config: Path, capsys: Output) -> None:
    (found,) = answer(capsys, "4710", "--config", config)

    assert found["means"].startswith("It was not refused")
    assert "intune: no answer in time" == found["detail"]


def test_a_profile_has_its_own(config: Path, capsys: Output) -> None:
    found = answer(capsys, "--config", config, "--profile", "other")

    assert ["other"] == [each["profile"] for each in found]


def test_a_person_reads_sentences_that_steer_no_terminal(config: Path, capsys: Output) -> None:
    capsys.readouterr()

    assert 0 == run(["why", "--config", str(config)])

    said = capsys.readouterr().out
    assert "The subject that is asked for is outside the profile" in said
    assert "\x1b" not in said


def test_what_nobody_was_refused_for_is_said_to_be_unknown(config: Path, capsys: Output) -> None:
    assert 1 == run(["why", "4799", "--config", str(config)])

    assert "transactions show" in capsys.readouterr().err
