"""A wave: 5,000 devices that Intune manages enrol within a minute, and Intune takes 0.3 s for every answer (`make wave`).

Each device has a challenge of its own, which the simulated Intune has made for its name. They come back as devices do:
after Retry-After when they are told 503, and half a minute later when they are told PENDING. In the end the simulated
Intune is asked what it has heard: every device once, before its challenge was 60 minutes old, one certificate each, and no
more tokens than there are processes and resources.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.crowd import FAILURE, PENDING, SUCCESS
from benchmarks.herd import Herd, Tale, run
from benchmarks.prepared import insist_on_certificates, prepare, subject_of
from benchmarks.servers import free_port
from benchmarks.sites import POSTGRESQL, SQLITE, Site, serving, show, site, watched

DELAY_SECONDS = 0.3
ARRIVAL_SECONDS = 60.0
GIVE_UP_SECONDS = 600.0
CHALLENGE_SECONDS = 3600.0
PROCESSES = 2

_OPENED = 200
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it: what the devices were told, and what Intune has heard."""

    label: str
    tales: Sequence[Tale]
    heard: Counter[str]
    asked_twice: int
    told_twice: int
    tokens: int
    oldest_seconds: float
    resident_mib: float

    @property
    def row(self) -> dict[str, object]:
        served = [each for each in self.tales if each.end == SUCCESS]
        waited = sorted(each.seconds for each in served) or [0.0]
        told = sum((each.told for each in self.tales), Counter[str]())
        return {
            "": self.label,
            "devices": len(self.tales),
            "served": len(served),
            "last served s": round(max((each.finished_at for each in served), default=0.0)),
            "p50 s": round(median(waited), 1),
            "p99 s": round(waited[int(len(waited) * 0.99)], 1),
            "PENDING": told[PENDING],
            "503": told["503"],
            "FAILURE": told[FAILURE],
            "validated": self.heard["validateRequest"],
            "twice": self.asked_twice,
            "notified": self.heard["successNotification"],
            "told twice": self.told_twice,
            "tokens": self.tokens,
            "challenge s": round(self.oldest_seconds),
            "RSS MiB": round(self.resident_mib),
        }

    @property
    def is_good(self) -> bool:
        row, count = self.row, len(self.tales)
        is_complete = (row["served"], row["validated"], row["notified"]) == (count, count, count)
        is_once = not self.asked_twice and not self.told_twice and self.tokens <= 2 * PROCESSES
        return is_complete and is_once and self.oldest_seconds < CHALLENGE_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intune", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=5_000, help="devices (default: 5,000)")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL), action="append", help="only this one")
    options = parser.parse_args()
    results = [_run(name, options.n) for name in options.database or (SQLITE, POSTGRESQL)]
    show([each.row for each in results])
    if not all(each.is_good for each in results):
        sys.exit(
            "missed: every device served, validated and notified once, with one token for each process and resource"
        )


def _run(database: str, count: int) -> Result:
    replicas, workers = (PROCESSES, 1) if database == POSTGRESQL else (1, PROCESSES)
    label = f"{database}, {PROCESSES} {'replicas' if replicas > 1 else 'workers'}"
    print(label, flush=True)
    with site(database) as where, _intune(where) as intune:
        challenges, begun = [_challenge(intune, number) for number in range(count)], time.monotonic()
        with serving(where, workers=workers, replicas=replicas) as served:
            ca = httpx.get(f"{served[0].url}?operation=GetCACert").raise_for_status().content
            devices = prepare(count, ca, challenges)
            herd = Herd(
                ports=tuple(each.port for each in served),
                messages=[(each.pkcs_req, each.cert_poll) for each in devices],
                arrival_seconds=ARRIVAL_SECONDS * count / 5_000,
                give_up_seconds=GIVE_UP_SECONDS,
            )
            tales, mib = watched(served, run, herd)
            oldest = time.monotonic() - begun
        heard: list[dict[str, Any]] = httpx.get(f"{intune.url}/simulator/heard", timeout=60).json()
        tokens: dict[str, int] = httpx.get(f"{intune.url}/simulator/tokens").json()
    happy = [(device, tale.reply) for device, tale in zip(devices, tales, strict=True) if tale.end == SUCCESS]
    insist_on_certificates(happy[:: max(1, len(happy) // _OPENED)], ca)
    return Result(
        label=label,
        tales=tales,
        heard=Counter(each["action"] for each in heard),
        asked_twice=_twice(heard, "validateRequest"),
        told_twice=_twice(heard, "successNotification"),
        tokens=sum(tokens.values()),
        oldest_seconds=oldest,
        resident_mib=mib,
    )


def _twice(heard: Sequence[dict[str, Any]], action: str) -> int:
    """Beyond the first of each transaction."""
    times = Counter(each["transactionId"] for each in heard if each["action"] == action)
    return sum(count - 1 for count in times.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intune:
    url: str
    http: httpx.Client


def _challenge(intune: _Intune, number: int) -> str:
    asked = intune.http.get("/simulator/challenge", params={"subject": subject_of(number)})
    return asked.raise_for_status().text


@contextmanager
def _intune(where: Site) -> Iterator[_Intune]:
    """A simulated Intune, in place of the static challenge."""
    here, port = where.config.parent, free_port()
    options = (f"--listen=127.0.0.1:{port}", f"--secret={here / 'intune.secret'}", f"--delay={DELAY_SECONDS}")
    command = (sys.executable, "-m", "ra", "simulate", "intune", *options, "--json")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            _configure(where.config, json.loads(process.stdout.readline()))
            where.change({'challenge = "shared"': 'challenge = "intune"'})
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url) as http:
                yield _Intune(url=url, http=http)
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)


def _configure(config: Path, block: dict[str, Any]) -> None:
    """Adds the block that the simulator has printed."""
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in block.items())
    with config.open("a", encoding="utf-8") as file:
        file.write(f"\n[challenges.intune]\n{lines}")


def _toml(value: Any) -> str:
    """Strings, numbers and lists in TOML are those of JSON; a table within a line is not."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"


if __name__ == "__main__":
    main()
