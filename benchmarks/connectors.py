"""What scep-ra adds to a CA: each connector alone against its CA, and devices that enrol through the whole RA, in one run.

Both ask with the same requests, sixteen at a time, from one process, and take turns; the median of the rounds counts.
The aim: at most 5 ms (median) more, and at least 95 % of the rate. Where the CA shares the machine's cores with the RA
and its devices, the rate is also what the cores can do: `cpu ms` says how much of it each enrolment takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.cas import Ca, Start, available
from benchmarks.devices import load_keys, prepare, serials
from benchmarks.load import Job, body_of, run
from benchmarks.servers import Server, free_port, running, site
from connectors import registry
from connectors.api import ApprovedContents, Connector, Issued, IssueRequest, KeyUsage, NameAttribute, Services
from ra.client.csr import read_subject, write_csr
from ra.service.identity import Wish, obtain
from ra.settings.sources import read_secret
from tests.fakes.configured import with_connector

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"
CONNECTIONS, WARM_UP = 16, 32
VALIDITY = timedelta(days=30)
SUBJECT = "CN=device-{index:06d}"
"""Vault takes no more of a subject from a request."""

AIM_MILLISECONDS, AIM_SHARE = 5.0, 0.95

_CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
_RA = (sys.executable, "-m", "ra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A connector that is asked without an RA around it. `milliseconds` is the median."""

    rate: float
    milliseconds: float
    cpu_milliseconds: float


@dataclass(slots=True)
class Result:
    """What the rounds with one CA showed."""

    label: str
    alone_rates: list[float] = field(default_factory=list)
    alone_milliseconds: list[float] = field(default_factory=list)
    alone_cpu_milliseconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    cpu_milliseconds: list[float] = field(default_factory=list)

    @property
    def added(self) -> float:
        """Milliseconds, of the medians."""
        return median(self.milliseconds) - median(self.alone_milliseconds)

    @property
    def kept(self) -> float:
        """Of the rate."""
        return median(self.rates) / median(self.alone_rates)


def main() -> None:
    options = _options()
    count, rounds = (200, 1) if options.quick else (options.n, options.rounds)
    keys = load_keys(CACHE / "rsa-2048.keys", WARM_UP + count)
    results = []
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as directory:
        for number, (label, start) in enumerate(available().items()):
            print(label, flush=True)
            results.append(
                _measured(label, start, Path(directory) / str(number), keys, rounds=rounds, workers=options.workers)
            )
    _show(results, count, rounds, options.workers)
    if options.json is not None:
        options.json.write_text(json.dumps(list(map(asdict, results)), indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=600, help="devices per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the RA (default: one for each core)")
    parser.add_argument("--quick", action="store_true", help="one round of 200 devices: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there as well")
    return parser.parse_args()


def _measured(
    label: str, start: Start, directory: Path, keys: Sequence[rsa.RSAPrivateKey], *, rounds: int, workers: int
) -> Result:
    directory.mkdir()
    result = Result(label)
    (directory / "ca").mkdir()
    with start(directory / "ca") as ca:
        server = _set_up(directory, label, ca, workers)
        csrs = [write_csr(key, read_subject(SUBJECT.format(index=index))) for index, key in enumerate(keys)]
        spkis = [key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys]
        for _ in range(rounds):
            alone = _in_own_process(partial(_ask, ca.kind, dict(ca.options), server.template, csrs, spkis))
            result.alone_rates.append(alone.rate)
            result.alone_milliseconds.append(alone.milliseconds)
            result.alone_cpu_milliseconds.append(alone.cpu_milliseconds)
            _enrol(server, keys, result)
    return result


def _set_up(directory: Path, label: str, ca: Ca, workers: int) -> Server:
    """An RA before that CA, with an identity from it."""
    template, port = directory / "ra", free_port()
    listen = (f"--listen=127.0.0.1:{port}", f"--admin-listen=127.0.0.1:{free_port()}")
    done = subprocess.run(
        [*_RA, "init", str(template), "--yes", "--json", "--ca-key=ec:p256", *listen],
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout)
    for name, value in ca.secrets.items():
        (template / name).write_text(value, "utf-8")
        (template / name).chmod(0o600)
    path = with_connector(template, ca.kind, ca.options)
    text = path.read_text("utf-8").replace("default_validity_days = 365", f"default_validity_days = {VALIDITY.days}")
    path.write_text(text, "utf-8")
    for name in ("ra.pem", "ra.key"):
        (template / name).unlink()
    asyncio.run(_obtain_identity(ca, template))
    return Server(
        label=label,
        template=template,
        commands=((*_RA, "serve", "--config", "ra.toml", "--workers", str(workers)),),
        urls=(said["url"],),
        challenge=said["challenge"],
        workers=workers,
        ca_key_bits=0,
    )


async def _obtain_identity(ca: Ca, directory: Path) -> None:
    connector = await _connect(ca.kind, dict(ca.options), directory)
    wish = Wish(name="ra", profile="default", validity=VALIDITY if ca.kind == "step" else timedelta(days=730))
    passphrase = read_secret("file:ra.passphrase", directory)
    try:
        await obtain(connector, wish, directory, passphrase=passphrase, now=_now(), entropy=secrets.token_bytes)
    finally:
        await connector.aclose()


# ---------------------------------------------------------------- the connector alone
def _ask(kind: str, options: dict[str, Any], directory: Path, csrs: Sequence[bytes], spkis: Sequence[bytes]) -> Alone:
    """As many at once as there will be devices, on the event loop that the RA uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_ask_all(kind, options, directory, list(map(_request, range(len(csrs)), csrs, spkis))))


async def _ask_all(kind: str, options: dict[str, Any], directory: Path, requests: Sequence[IssueRequest]) -> Alone:
    connector = await _connect(kind, options, directory)
    seconds: list[float] = []

    async def ask(waiting: list[IssueRequest]) -> None:
        while waiting:
            request = waiting.pop()
            start = time.perf_counter()
            answer = await connector.issue(request)
            seconds.append(time.perf_counter() - start)
            assert isinstance(answer, Issued), answer

    async def ask_all(asked: Sequence[IssueRequest]) -> float:
        waiting, start = list(asked), time.perf_counter()
        await asyncio.gather(*(ask(waiting) for _ in range(CONNECTIONS)))
        return time.perf_counter() - start

    try:
        await ask_all(requests[:WARM_UP])
        seconds.clear()
        cpu = time.process_time()
        elapsed = await ask_all(requests[WARM_UP:])
        cpu = time.process_time() - cpu
    finally:
        await connector.aclose()
    return Alone(
        rate=len(seconds) / elapsed,
        milliseconds=median(seconds) * 1000,
        cpu_milliseconds=cpu / len(seconds) * 1000,
    )


async def _connect(kind: str, options: dict[str, Any], directory: Path) -> Connector:
    plugin = registry.load(kind)
    services = Services(
        name="lab", directory=directory, now=_now, read_secret=partial(read_secret, directory=directory)
    )
    connector: Connector = await plugin.connect(plugin.options.model_validate(options), services)
    return connector


def _request(index: int, csr: bytes, spki: bytes) -> IssueRequest:
    common_name = SUBJECT.format(index=index).removeprefix("CN=")
    contents = ApprovedContents(
        subject=((NameAttribute("2.5.4.3", common_name),),),
        subject_alternative_names=(),
        spki=spki,
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}),
        extended_key_usage=(_CLIENT_AUTH,),
        validity=VALIDITY,
    )
    return IssueRequest(csr=csr, contents=contents, profile="default", idempotency_key=uuid4(), requested_at=_now())


# ---------------------------------------------------------------- through the RA
def _enrol(server: Server, keys: Sequence[rsa.RSAPrivateKey], result: Result) -> None:
    with running(server) as listeners:
        where = site(server)
        requests = prepare(keys, where, SUBJECT)
        messages = tuple(each.message for each in requests)
        job = Job(
            listeners=listeners,
            path=server.path,
            workers=server.workers,
            connections=CONNECTIONS,
            warm_up=messages[:WARM_UP],
            bodies=messages[WARM_UP:],
        )
        load = _in_own_process(partial(run, job))
    issued = serials(requests[WARM_UP:], map(body_of, load.replies), where)
    if None in issued:
        sys.exit(f"{server.label}: {issued.count(None)} devices were refused")
    result.rates.append(len(load.replies) / load.elapsed_seconds)
    result.milliseconds.append(median(load.latencies_seconds) * 1000)
    result.cpu_milliseconds.append(load.server_cpu_seconds / len(load.replies) * 1000)


def _in_own_process(work: partial[Any]) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a program of its own, not the service


def _show(results: Sequence[Result], count: int, rounds: int, workers: int) -> None:
    said = f"{CONNECTIONS} at once, --workers {workers}, {rounds} rounds (median), {os.cpu_count()} cores"
    print(f"\n{count} devices, {said}\n")
    print(f"{'':36}{'':7}alone{'':17}through the RA")
    print(
        f"{'':36}{'/s':>6}  {'p50 ms':>6}  {'cpu ms':>6}    {'/s':>6}  {'p50 ms':>6}  {'cpu ms':>6}   added ms   kept"
    )
    for each in results:
        alone = _columns(each.alone_rates, each.alone_milliseconds, each.alone_cpu_milliseconds)
        through = _columns(each.rates, each.milliseconds, each.cpu_milliseconds)
        verdict = "" if each.added <= AIM_MILLISECONDS and each.kept >= AIM_SHARE else "  misses the aim"
        print(f"{each.label:36}{alone}    {through}   {each.added:8.1f}  {each.kept:5.0%}{verdict}")


def _columns(rates: Sequence[float], milliseconds: Sequence[float], cpu: Sequence[float]) -> str:
    return f"{median(rates):6.0f}  {median(milliseconds):6.1f}  {median(cpu):6.2f}"


if __name__ == "__main__":
    main()
