"""`make crash N=2000`: every database with every CA, killed so often; one table, and exit code 1 where anything is wrong."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.crash.databases import DATABASES, Databases
from benchmarks.crash.report import faults, show, write
from benchmarks.crash.site import BLIND, INTERNAL, LEDGER, template
from benchmarks.crash.trial import Trial, run

_SHARES = {"internal": (INTERNAL, 0.4), "ledger": (LEDGER, 0.45), "blind": (BLIND, 0.15)}
"""The CAs, and their part of the kills of one database."""

_FEWEST_DEVICES = 20
_TOLD_EVERY = 50


def main() -> None:
    options = _options()
    directory = Path(tempfile.mkdtemp(prefix="scep-ra-crash-"))
    reports = []
    try:
        origin = template(directory / "template")
        with Databases() as databases:
            for number, trial in enumerate(_trials(options)):
                place, url = directory / f"trial-{number}", databases.fresh(trial.database)
                reports.append(run(trial, origin, place, url, _progress(trial)))
    finally:
        if options.keep:
            print(f"kept in {directory}")
        else:
            shutil.rmtree(directory)
    show(reports)
    if options.json is not None:
        write(reports, options.json)
    if found := list(faults(reports)):
        sys.exit("\n".join(["", *found]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=200, metavar="N", help="kills in all (default: 200)")
    parser.add_argument("--database", choices=DATABASES, action="append", help="only this one")
    parser.add_argument("--ca", choices=_SHARES, action="append", help="only this one")
    parser.add_argument("--lost-replies", action="store_true", help="no kills: every reply is lost once, nothing else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there as well")
    parser.add_argument("--keep", action="store_true", help="leave journals, ledgers and logs where they are")
    return parser.parse_args()


def _trials(options: argparse.Namespace) -> Iterator[Trial]:
    """First the kills, then, without any, the lost replies."""
    databases = options.database or DATABASES
    cas = [_SHARES[each] for each in options.ca or _SHARES]
    whole = sum(share for _, share in cas) * len(databases)
    for name in databases:
        for ca, share in () if options.lost_replies else cas:
            yield Trial(database=name, ca=ca, kills=max(1, round(options.n * share / whole)), devices=0)
        for ca, share in cas:
            if not ca.may_orphan:
                devices = max(_FEWEST_DEVICES, round(options.n * share / whole))
                yield Trial(database=name, ca=ca, kills=0, devices=devices)


def _progress(trial: Trial) -> Callable[[int], None]:
    print(trial.label, flush=True)
    told = 0

    def tell(kills: int) -> None:
        nonlocal told
        if kills >= told + _TOLD_EVERY:
            told = kills
            print(f"  {kills} of {trial.kills} kills", flush=True)

    return tell


if __name__ == "__main__":
    main()
