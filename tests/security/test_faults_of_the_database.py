"""A database that is full, locked, away, removed or damaged: nothing is begun, nothing is lost, and it goes on by itself.

The faults are real ones: limits of the kernel, locks of another process, a server that is stopped.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from connectors.api import Capability
from ra.challenge.api import Verdict
from ra.client import replies
from ra.client.authority import read_ca_certificates
from ra.errors import Unavailable
from ra.journal.states import State
from ra.journal.tables import spent_secrets
from ra.policy.grant import Grant, Spend
from ra.service.endpoint import Directory
from ra.service.health import Health, Status
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, LEASE, URL, Assembled, assembled
from tests.fakes.device import Device
from tests.fakes.issuing import IssuingCa
from tests.fakes.postgres import Cluster
from tests.interop.running import RunningRa, running_ra

pytestmark = pytest.mark.anyio

CA = pki.root()
PATIENCE_SECONDS = 0.6
SECOND = timedelta(seconds=1)
SPEND = Spend(key=b"keyed hash", expires_at=pki.NOW + timedelta(days=30))
TICKET: Verdict = Grant(method="otp", label="ticket", spend=SPEND)
LOCK = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('BEGIN EXCLUSIVE'); print(flush=True); input()"


# ---------------------------------------------------------------- the faults
@contextmanager
def full(directory: Path) -> Iterator[None]:
    """No file of this process may become larger than the write-ahead log is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((directory / "ra.db-wal").stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Another program, which knows nothing of scep-ra, has the database for itself."""
    command = [sys.executable, "-c", LOCK, str(directory / "ra.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        try:
            yield
        finally:
            program.kill()


@contextmanager
def removed(directory: Path) -> Iterator[None]:
    """The file is elsewhere for a while, as by a hand that slipped."""
    there, elsewhere = directory / "ra.db", directory / "elsewhere.db"
    there.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(there)


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    cluster.stop()
    try:
        yield
    finally:
        cluster.start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A database, and what is to happen to it."""

    url: str
    happens: Callable[[], AbstractContextManager[None]]
    can_be_read: bool = True


FILE_FAULTS = {"full": full, "locked": locked, "removed": removed}


@pytest.fixture(params=[*FILE_FAULTS, pytest.param("stopped", marks=pytest.mark.peer)])
def fault(request: pytest.FixtureRequest, tmp_path: Path) -> Fault:
    if request.param == "stopped":
        cluster: Cluster = request.getfixturevalue("postgres")
        return Fault(url=cluster.journal(), happens=lambda: stopped(cluster), can_be_read=False)
    return Fault(url=URL, happens=lambda: FILE_FAULTS[request.param](tmp_path))


# ---------------------------------------------------------------- the RA
@pytest.fixture
async def issuing() -> IssuingCa:
    return IssuingCa(CA, Capability.FIND_ISSUED)


@pytest.fixture
async def ra(tmp_path: Path, fault: Fault, issuing: IssuingCa) -> AsyncIterator[Assembled]:
    async with opened(tmp_path, issuing, fault.url) as registration_authority:
        yield registration_authority


@asynccontextmanager
async def opened(directory: Path, issuing: IssuingCa, url: str = URL) -> AsyncIterator[Assembled]:
    async with assembled(directory, issuing, CA, url=url, patience_seconds=PATIENCE_SECONDS) as ra:
        ra.validator.verdict = TICKET
        yield ra


async def enrol(ra: Assembled, device: Device) -> replies.Result:
    answer = await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE))
    return device.open(answer.body)


async def poll(ra: Assembled, device: Device) -> replies.Result:
    answer = await ra.answer(device.poll_message(ra.ca))
    return device.open(answer.body)


async def is_ready(ra: Assembled) -> bool:
    """What the probes are told of the database."""
    health = Health(directory=Directory({"default": ra.endpoint}), journal=ra.journal, clock=ra.clock)
    return (await health.check()).status is Status.OK


async def spent(ra: Assembled) -> int:
    return len(await ra.journal.read(lambda c: c.execute(spent_secrets.select()).all()))


# ---------------------------------------------------------------- before anything is spent
async def test_nothing_is_spent_and_nobody_asked_while_nothing_can_be_kept(
    ra: Assembled, issuing: IssuingCa, fault: Fault
) -> None:
    with fault.happens():
        with pytest.raises(Unavailable) as caught:
            await enrol(ra, Device())
        ready = await is_ready(ra)

    assert caught.value.retry_after_seconds > 0
    assert not ready
    assert [] == issuing.requests
    assert ([], [], 0) == (await ra.transactions(), await ra.events(), await spent(ra))


async def test_it_goes_on_by_itself_once_it_can(ra: Assembled, issuing: IssuingCa, fault: Fault) -> None:
    device = Device()
    with fault.happens(), pytest.raises(Unavailable):
        await enrol(ra, device)

    ready = await is_ready(ra)
    result = await enrol(ra, device)

    assert ready
    assert isinstance(result, replies.Success)
    assert (1, 1) == (len(issuing.requests), await spent(ra))


# ---------------------------------------------------------------- once the CA was asked
async def test_what_the_ca_answers_meanwhile_is_found_again(ra: Assembled, issuing: IssuingCa, fault: Fault) -> None:
    device = Device()
    issuing.may_answer.clear()
    asking = asyncio.create_task(enrol(ra, device))
    await issuing.asked.wait()

    with fault.happens():
        issuing.may_answer.set()
        meanwhile = await asking
    issuing.keep_issued()
    await ra.sweep(later=LEASE + SECOND)
    after = await enrol(ra, device)

    assert replies.Pending() == meanwhile
    assert isinstance(after, replies.Success)
    assert (1, 1) == (len(issuing.requests), await spent(ra))
    assert [State.RELEASED] == [each.state for each in await ra.transactions()]


async def test_a_poll_is_answered_where_that_needs_no_writing(ra: Assembled, issuing: IssuingCa, fault: Fault) -> None:
    device = Device()
    issuing.answer = ConnectionRefusedError()
    await enrol(ra, device)

    with fault.happens():
        if fault.can_be_read:
            assert replies.Pending() == await poll(ra, device)
        else:
            with pytest.raises(Unavailable):
                await poll(ra, device)


async def test_a_certificate_is_not_handed_out_unless_that_can_be_noted(
    ra: Assembled, issuing: IssuingCa, fault: Fault
) -> None:
    device = Device()
    issuing.answer = ConnectionRefusedError()
    await enrol(ra, device)
    issuing.keep_issued()
    await ra.sweep(later=LEASE + SECOND)

    with fault.happens(), pytest.raises(Unavailable):
        await poll(ra, device)
    after = await poll(ra, device)

    assert isinstance(after, replies.Success)


async def test_the_sweeper_lives_through_it(ra: Assembled, issuing: IssuingCa, fault: Fault) -> None:
    issuing.answer = ConnectionRefusedError()
    await enrol(ra, Device())
    ra.clock.advance(LEASE + SECOND)
    sweeping = asyncio.create_task(ra.work.sweeper.run())

    with fault.happens(), pytest.raises(Unavailable):
        await enrol(ra, Device(subject="CN=another"))
    issuing.keep_issued()
    async with asyncio.timeout(10):
        while [State.RELEASED] != [each.state for each in await ra.transactions()]:
            await asyncio.wait({sweeping}, timeout=0.02)

    sweeping.cancel()
    assert 1 == len(issuing.requests)


# ---------------------------------------------------------------- as devices and probes see it
@contextmanager
def no_room_for(ra: RunningRa) -> Iterator[None]:
    """Who has its write-ahead log open, the worker, may make no file larger than that is."""
    log = ra.directory / "ra.db-wal"
    [worker] = {int(each.parts[2]) for each in Path("/proc").glob("[0-9]*/fd/*") if target_of(each) == log}
    before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (log.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)


def target_of(link: Path) -> Path | None:
    """None: it is gone, as its process is."""
    try:
        return link.readlink()
    except OSError:
        return None


def status_of(url: str, awaited: int) -> int:
    """The status of an answer that is kept for some seconds, once it is the awaited one."""
    status = httpx.get(url).status_code
    for _ in range(100):
        if status == awaited:
            break
        threading.Event().wait(0.1)
        status = httpx.get(url).status_code
    return status


def test_a_full_disk_is_told_to_devices_and_probes_until_there_is_room(tmp_path: Path) -> None:
    with running_ra(tmp_path / "var") as ra:
        ca = read_ca_certificates(httpx.get(f"{ra.url}?operation=GetCACert").content)
        earlier, device = Device(subject="CN=earlier"), Device()

        before = httpx.post(ra.url, content=earlier.enrol_message(ca, challenge=ra.challenge))
        with no_room_for(ra):
            meanwhile = httpx.post(ra.url, content=device.enrol_message(ca, challenge=ra.challenge))
            not_ready = status_of(f"{ra.admin_url}/readyz", 503)
        after = httpx.post(ra.url, content=device.enrol_message(ca, challenge=ra.challenge))
        ready = status_of(f"{ra.admin_url}/readyz", 200)

    assert [200, 503, 200] == [each.status_code for each in (before, meanwhile, after)]
    assert int(meanwhile.headers["Retry-After"]) > 0
    assert (503, 200) == (not_ready, ready)
    assert isinstance(device.open(after.content), replies.Success)


# ---------------------------------------------------------------- a file that is no longer what it was
async def test_a_file_that_was_replaced_is_not_written_to(tmp_path: Path, issuing: IssuingCa) -> None:
    """As by a backup that is put back under a running service: what is written into the old file would be lost."""
    async with opened(tmp_path, issuing) as ra:
        with (
            closing(sqlite3.connect(tmp_path / "ra.db")) as database,
            closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
        ):
            database.backup(backup)
        (tmp_path / "backup.db").replace(tmp_path / "ra.db")

        with pytest.raises(Unavailable, match="removed or replaced"):
            await enrol(ra, Device())
        ready = await is_ready(ra)

    assert not ready
    assert [] == issuing.requests


async def test_a_damaged_file_lets_nobody_in(tmp_path: Path, issuing: IssuingCa) -> None:
    async with opened(tmp_path, issuing) as ra:
        await enrol(ra, Device())
        with closing(sqlite3.connect(tmp_path / "ra.db")) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = (tmp_path / "ra.db").read_bytes()
        (tmp_path / "ra.db").write_bytes(pages[:4096] + b"\xa5" * (len(pages) - 4096))

        with pytest.raises(Unavailable):
            await enrol(ra, Device(subject="CN=another"))
        ready = await is_ready(ra)

    assert not ready
    assert 1 == len(issuing.requests)
