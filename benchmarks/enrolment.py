"""How many enrolments per second: scep-ra, Debian's scepserver and the crypto floor, measured in one run (`make bench`).

scep-ra is measured on SQLite, and on a PostgreSQL that the run starts for itself, with every commit on disk in both.

Every device has an RSA-2048 key of its own, and its request is sealed before the clock starts. One load client serves
all servers. Rounds take turns, each server starts each round from a fresh copy, and the median of the rounds counts.
Every reply is opened after the clock has stopped. A FAILURE counts in the rate and is listed: scepserver
loses the race for its own serial number file now and then, or gives one number twice. Of scep-ra none is accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks import floor
from benchmarks.devices import CORES, Site, load_keys, prepare, serials
from benchmarks.load import Job, Run, body_of, run
from benchmarks.servers import Server, replicated, resident_mib, running, scep_ra, scepserver, site
from ra.client.requests import Request
from tests.fakes.postgres import installed, running_postgres

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
POSTGRES = {"listen_addresses": "", "shared_buffers": "128MB"}
"""As Debian's package sets it up: every commit waits for the disk."""

CONNECTIONS = 16
WARM_UP = 64
LONE = 64


@dataclass(frozen=True, slots=True)
class Devices:
    """The prepared requests of one server set-up."""

    site: Site
    warm_up: list[Request]
    lone: list[Request]
    load: list[Request]


@dataclass(slots=True)
class Result:
    """What the rounds of one server showed."""

    label: str
    ca_key_bits: int
    rates: list[float] = field(default_factory=list)
    p50_milliseconds: list[float] = field(default_factory=list)
    p99_milliseconds: list[float] = field(default_factory=list)
    lone_milliseconds: list[float] = field(default_factory=list)
    worker_mib: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    duplicate_serials: list[int] = field(default_factory=list)
    cpu_milliseconds: list[float] = field(default_factory=list)
    client_cpu_share: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(self.rates)


@dataclass(slots=True)
class Floor:
    """What the private keys alone allow, in so many processes at once."""

    processes: int
    ca_key_bits: int
    rates: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"crypto floor, {self.processes} process{'es' * (self.processes > 1)}, CA rsa:{self.ca_key_bits}"


def main() -> None:
    options = _options()
    count, rounds = (300, 1) if options.quick else (options.n, options.rounds)
    keys = load_keys(CACHE / "rsa-2048.keys", WARM_UP + LONE + count)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=CACHE)))
        servers = _set_up(directory, stack)
        results = [Result(each.label, each.ca_key_bits) for each in servers]
        floors = [Floor(processes, bits) for bits in (2048, 3072) for processes in (1, 2)]
        prepared: dict[Path, Devices] = {}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for server, result in zip(servers, results, strict=True):
                _round(server, keys, prepared, result)
            for each in floors:
                each.rates.append(floor.rate(processes=each.processes, ca_key_bits=each.ca_key_bits))
    _show(results, floors, count, rounds)
    if options.json is not None:
        report = {
            "devices": count,
            "rounds": rounds,
            "servers": list(map(asdict, results)),
            "floors": list(map(asdict, floors)),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if any(sum(each.refused) or sum(each.duplicate_serials) for each in results if each.label.startswith("scep-ra")):
        sys.exit("scep-ra refused a device or gave a serial number twice")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=2000, help="devices per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of 300 devices: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there as well")
    return parser.parse_args()


def _set_up(directory: Path, stack: ExitStack) -> list[Server]:
    servers = scep_ra(directory, ca_key_bits=2048, workers=(1, 2))
    programs = installed()
    if programs is None:
        print("PostgreSQL is not installed: scep-ra is measured on SQLite alone")
    else:
        cluster = stack.enter_context(running_postgres(programs, POSTGRES))
        servers.append(replicated(servers[0], 2, cluster.empty))
    program = shutil.which("scepserver")
    if program is None:
        print("scepserver is not installed: scep-ra is measured alone")
    else:
        servers.append(scepserver(directory, program))
    return servers + scep_ra(directory, ca_key_bits=3072, workers=(2,))


def _round(server: Server, keys: Sequence[rsa.RSAPrivateKey], prepared: dict[Path, Devices], result: Result) -> None:
    with running(server) as listeners:
        devices = prepared.get(server.template) or prepared.setdefault(server.template, _devices(server, keys))
        job = Job(
            listeners=listeners,
            path=server.path,
            workers=server.workers,
            connections=CONNECTIONS,
            warm_up=_messages(devices.warm_up),
            bodies=_messages(devices.load),
        )
        load = _in_own_process(job)
        alone = replace(
            job, listeners=listeners[:1], connections=1, workers=1, warm_up=(), bodies=_messages(devices.lone)
        )
        lone = _in_own_process(alone)
        result.worker_mib.append(max(resident_mib(worker) for worker in load.workers))
    _note(result, devices, load, lone)


def _devices(server: Server, keys: Sequence[rsa.RSAPrivateKey]) -> Devices:
    where = site(server)
    requests = prepare(keys, where)
    return Devices(where, requests[:WARM_UP], requests[WARM_UP : WARM_UP + LONE], requests[WARM_UP + LONE :])


def _note(result: Result, devices: Devices, load: Run, lone: Run) -> None:
    """Opens every reply, then keeps the numbers of the round."""
    answered = serials(devices.load, map(body_of, load.replies), devices.site)
    answered += serials(devices.lone, map(body_of, lone.replies), devices.site)
    latencies = sorted(load.latencies_seconds)
    result.rates.append(len(load.replies) / load.elapsed_seconds)
    result.p50_milliseconds.append(median(latencies) * 1000)
    result.p99_milliseconds.append(latencies[int(len(latencies) * 0.99)] * 1000)
    result.lone_milliseconds.append(median(lone.latencies_seconds) * 1000)
    issued = [serial for serial in answered if serial is not None]
    result.refused.append(len(answered) - len(issued))
    result.duplicate_serials.append(len(issued) - len(set(issued)))
    result.cpu_milliseconds.append(load.server_cpu_seconds / len(load.replies) * 1000)
    result.client_cpu_share.append(load.client_cpu_seconds / load.elapsed_seconds)


def _in_own_process(job: Job) -> Run:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, job).result()


def _messages(requests: list[Request]) -> tuple[bytes, ...]:
    return tuple(request.message for request in requests)


def _show(results: list[Result], floors: list[Floor], count: int, rounds: int) -> None:
    ceiling = {each.ca_key_bits: median(each.rates) for each in floors if each.processes == CORES}
    print(f"\n{count} devices, {CONNECTIONS} connections, {rounds} rounds (median), {os.cpu_count()} cores\n")
    print(
        f"{'':38}  enrol/s   cpu ms   p50 ms   p99 ms  lone ms   MiB/worker  refused  same serial  of floor  client cpu"
    )
    for each in results:
        of_floor = each.rate / ceiling[each.ca_key_bits]
        print(
            f"{each.label:38}  {each.rate:7.0f}  {median(each.cpu_milliseconds):7.2f}  {median(each.p50_milliseconds):7.1f}  "
            f"{median(each.p99_milliseconds):7.1f}  {median(each.lone_milliseconds):7.2f}  "
            f"{max(each.worker_mib):11.0f}  {sum(each.refused):7d}  {sum(each.duplicate_serials):11d}  {of_floor:8.0%}  "
            f"{median(each.client_cpu_share):10.0%}"
        )
    for alone in floors:
        print(f"{alone.label:38}  {median(alone.rates):7.0f}")


if __name__ == "__main__":
    main()
