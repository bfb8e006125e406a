"""`scep-ra why`: who was refused is told of in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ra.bootstrap.clock import SystemClock
from ra.bootstrap.journal import opened
from ra.cli.app import run
from ra.journal.records import Refusal
from ra.journal.refusals import RefusalLog
from ra.settings.load import load

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with three refusals, the newest last."""
    directory = tmp_path_factory.mktemp("ra") / "var"
    assert 0 == run(["init", str(directory), "--yes", "--ca-key", "ec:p256", "--json"])
    told = (
        ("default", "CHALLENGE_REFUSED", "the one-time secret 'a' has expired", b"4711"),
        ("default", "KEY_NOT_ALLOWED", "RSA-1024 is too short", b"4712"),
        ("other", "SUBJECT_NOT_ALLOWED", "\x1b[31m", None),
    )
    asyncio.run(_refuse(directory / "ra.toml", told))
    return directory / "ra.toml"


async def _refuse(config: Path, told: Sequence[tuple[str, str, str, bytes | None]]) -> None:
    async with opened(load(config)) as (journal, _):
        now = SystemClock().now
        log = RefusalLog(journal, now)
        for profile, reason, detail, transaction_id in told:
            log.note(Refusal(at=now(), profile=profile, reason=reason, detail=detail, transaction_id=transaction_id))
        await log.flush()


def answer(capsys: Output, *arguments: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert 0 == run(["why", *map(str, arguments), "--json"])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["refusals"]
    return found


def test_the_latest_are_told_of_newest_first(config: Path, capsys: Output) -> None:
    every, one = answer(capsys, "--config", config), answer(capsys, "--config", config, "--count", 1)

    assert ["SUBJECT_NOT_ALLOWED", "KEY_NOT_ALLOWED", "CHALLENGE_REFUSED"] == [each["reason"] for each in every]
    assert every[:1] == one


def test_one_is_found_as_its_device_calls_it(config: Path, capsys: Output) -> None:
    (found,) = answer(capsys, "4711", "--config", config)

    assert "the one-time secret 'a' has expired" == found["detail"]
    assert found["advice"].startswith("Give the device a new challenge.")


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
