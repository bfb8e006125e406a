"""One secret, presented with many keys at once, in two processes: one of them gets in."""

from __future__ import annotations

from pathlib import Path

from benchmarks.race import Race, run

ROUNDS, WAYS = 25, 64


def test_a_one_time_secret_that_is_raced_for_has_one_winner(journal_url: str, tmp_path: Path) -> None:
    race = Race(url=journal_url, directory=tmp_path, rounds=ROUNDS, ways=WAYS)

    result = run(race)

    assert result.is_fair(race), result
    assert ROUNDS * (WAYS - 1) == result.refused + result.denied
    assert result.refused, "the look-up alone has decided; nothing was raced for"
