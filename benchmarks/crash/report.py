"""What was found, as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.crash.devices import End
from benchmarks.crash.points import AT_THE_CA, INSIDE, RANDOM
from benchmarks.crash.trial import Report
from benchmarks.ledger.attended import FORBIDDEN, Kind

PLACES = (RANDOM, *INSIDE, *AT_THE_CA)
_LABEL = 46


def show(reports: Sequence[Report]) -> None:
    """Prints what became of the devices, and how often the RA was killed where."""
    rows = [_numbers(each) for each in reports]
    _table(reports, rows)
    _table(reports, [_ends(each) for each in reports])
    killed = [each for each in reports if each.trial.kills]
    if killed:
        _table(killed, [{place: each.hits[place] for place in PLACES} for each in killed])
    for each in reports:
        for remark in each.verdict.remarks:
            print(f"{each.trial.label}: {remark}")


def write(reports: Sequence[Report], path: Path) -> None:
    """All numbers, as a list of objects."""
    said = [
        {"trial": each.trial.label, **_numbers(each), "hits": dict(each.hits), "ends": dict(each.verdict.ends)}
        for each in reports
    ]
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def faults(reports: Sequence[Report]) -> Iterator[str]:
    """What makes the run fail: anything wrong, or a place where no process was killed in any trial that has it."""
    for each in reports:
        for what, count in each.verdict.wrongs.items():
            if count:
                yield f"{each.trial.label}: {what}: {count}"
    killed = [each for each in reports if each.trial.kills]
    for place in PLACES:
        met = [each for each in killed if place not in AT_THE_CA or each.trial.ca.is_apart]
        if met and not any(each.hits[place] for each in met):
            yield f"no process was killed {place}: more kills are needed"


def _numbers(report: Report) -> dict[str, Any]:
    verdict = report.verdict
    return {
        "kills": report.kills,
        "devices": verdict.devices,
        "certs": verdict.certificates,
        "revoked": verdict.revoked,
        "orphans": verdict.orphans,
        **verdict.wrongs,
        "seconds": round(report.seconds),
    }


def _ends(report: Report) -> dict[str, int]:
    """Of the devices that somebody is told of, or asked about, or that wait too long."""
    ends = report.verdict.ends
    return {
        f"{kind} {end}": ends[f"{kind} {end}"]
        for kind in Kind
        for end in (End.ENROLLED, End.REFUSED)
        if kind is not Kind.PLAIN and (kind is Kind.LATE or (end is End.REFUSED) is (kind in FORBIDDEN))
    }


def _table(reports: Sequence[Report], rows: Sequence[dict[str, Any]]) -> None:
    print("\n" + " " * _LABEL + "  ".join(rows[0]))
    for report, row in zip(reports, rows, strict=True):
        print(report.trial.label.ljust(_LABEL) + "  ".join(f"{value:{len(name)}}" for name, value in row.items()))
