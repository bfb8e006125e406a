"""What scep-ra adds to a CA: each connector alone against its CA, and devices that enrol through the whole RA, in one run.

Both ask with the same requests, from one process, and take turns; the median of the rounds counts. The aim, with
sixteen at a time: at most 5 ms (median) more, and at least 95 % of the rate. Sixty-four at a time show what is kept of
the rate that the CA can sustain when devices wait for it. Where the CA shares the machine's cores with the RA and its devices, the
rate is also what the cores can do: `cpu ms` says how much of it each enrolment takes.
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
CONNECTIONS, CROWD, WARM_UP = 16, 64, 64
"""At once: where time is measured, and where the rate is."""
VALIDITY = timedelta(days=30)
SUBJECT = "CN=device-{index:06d}"
"""Vault takes no more of a subject from a request."""

AIM_MILLISECONDS, AIM_SHARE = 5.0, 0.95

_CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
_RA = (sys.executable, "-m", "ra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Certificates a second, and of one the median time and the processor time, with so many under way."""

    rate: float
    milliseconds: float
    cpu_milliseconds: float


@dataclass(slots=True)
class Result:
    """What the rounds with one CA showed: its connector alone, and through the RA; the time of one, and of a crowd."""

    label: str
    alone: list[Measured] = field(default_factory=list)
    crowd_alone: list[Measured] = field(default_factory=list)
    through: list[Measured] = field(default_factory=list)
    crowd_through: list[Measured] = field(default_factory=list)

    @property
    def added(self) -> float:
        """Milliseconds, of the medians."""
        return _median(self.through, "milliseconds") - _median(self.alone, "milliseconds")

    @property
    def kept(self) -> float:
        """Of the rate, with as many at once as where time is measured."""
        return _median(self.through, "rate") / _median(self.alone, "rate")

    @property
    def crowd_kept(self) -> float:
        """Of the rate of a crowd."""
        return _median(self.crowd_through, "rate") / _median(self.crowd_alone, "rate")


def _median(measured: Sequence[Measured], what: str) -> float:
    found: float = median(getattr(each, what) for each in measured)
    return found


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
            ask = partial(_ask, ca.kind, dict(ca.options), server.template, csrs, spkis)
            result.alone.append(_in_own_process(partial(ask, at_once=CONNECTIONS)))
            result.through.append(_enrol(server, keys, CONNECTIONS))
            result.crowd_alone.append(_in_own_process(partial(ask, at_once=CROWD)))
            result.crowd_through.append(_enrol(server, keys, CROWD))
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
def _ask(
    kind: str, options: dict[str, Any], directory: Path, csrs: Sequence[bytes], spkis: Sequence[bytes], *, at_once: int
) -> Measured:
    """As many at once as there will be devices, on the event loop that the RA uses."""
    requests = list(map(_request, range(len(csrs)), csrs, spkis))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_ask_all(kind, options, directory, requests, at_once))


async def _ask_all(
    kind: str, options: dict[str, Any], directory: Path, requests: Sequence[IssueRequest], at_once: int
) -> Measured:
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
        await asyncio.gather(*(ask(waiting) for _ in range(at_once)))
        return time.perf_counter() - start

    try:
        await ask_all(requests[:WARM_UP])
        seconds.clear()
        cpu = time.process_time()
        elapsed = await ask_all(requests[WARM_UP:])
        cpu = time.process_time() - cpu
    finally:
        await connector.aclose()
    return Measured(
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
def _enrol(server: Server, keys: Sequence[rsa.RSAPrivateKey], at_once: int) -> Measured:
    with running(server) as listeners:
        where = site(server)
        requests = prepare(keys, where, SUBJECT)
        messages = tuple(each.message for each in requests)
        job = Job(
            listeners=listeners,
            path=server.path,
            workers=server.workers,
            connections=at_once,
            warm_up=messages[:WARM_UP],
            bodies=messages[WARM_UP:],
        )
        load = _in_own_process(partial(run, job))
    issued = serials(requests[WARM_UP:], map(body_of, load.replies), where)
    if None in issued:
        sys.exit(f"{server.label}: {issued.count(None)} devices were refused")
    return Measured(
        rate=len(load.replies) / load.elapsed_seconds,
        milliseconds=median(load.latencies_seconds) * 1000,
        cpu_milliseconds=load.server_cpu_seconds / len(load.replies) * 1000,
    )


def _in_own_process(work: partial[Any]) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a program of its own, not the service


def _show(results: Sequence[Result], count: int, rounds: int, workers: int) -> None:
    print(f"\n{count} devices, --workers {workers}, {rounds} rounds (median), {os.cpu_count()} cores\n")
    print(f"| | alone p50 ms | RA p50 ms | added ms | RA cpu ms | kept | {CROWD}: alone /s | RA /s | kept |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for each in results:
        times = (_median(each.alone, "milliseconds"), _median(each.through, "milliseconds"), each.added)
        cpu = _median(each.through, "cpu_milliseconds")
        rates = (_median(each.crowd_alone, "rate"), _median(each.crowd_through, "rate"))
        cells = [*(f"{time:.1f}" for time in times), f"{cpu:.2f}", f"{each.kept:.0%}"]
        cells += [*(f"{rate:.0f}" for rate in rates), f"{each.crowd_kept:.0%}"]
        print(f"| {each.label} | {' | '.join(cells)} |")
    if missed := [each.label for each in results if each.added > AIM_MILLISECONDS or each.kept < AIM_SHARE]:
        print(f"\nmiss the aim: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
