"""PostgreSQL whose disk is full, for real: a tablespace on a file system of a few megabytes. Mounting that takes root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from connectors.api import Capability
from ra.client import replies
from ra.errors import Unavailable
from ra.journal.database import Journal
from ra.journal.states import State
from ra.journal.tables import spent_secrets
from ra.policy.grant import Grant, Spend
from ra.service.endpoint import Directory
from ra.service.health import Health, Status
from tests.fakes import pki
from tests.fakes.assembled import CHALLENGE, LEASE, Assembled, assembled
from tests.fakes.device import Device, pooled_key
from tests.fakes.issuing import IssuingCa
from tests.fakes.notes import NOWHERE
from tests.fakes.postgres import Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.peer]

CA = pki.root()
MEGABYTES = 24
MOST = 40
SECOND = timedelta(seconds=1)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="scep-ra-small-") as name:
        options = f"size={MEGABYTES}m,mode=0755"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", name], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


@pytest.fixture
def url(small_disk: Path, postgres: Cluster) -> Iterator[str]:
    """Of a journal that lies on the small disk."""
    place = small_disk / "tablespace"
    place.mkdir()
    shutil.chown(place, "postgres", "postgres")
    postgres.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
    postgres.execute("CREATE DATABASE on_small TEMPLATE template0 TABLESPACE small")
    try:
        Journal.create(postgres.url("on_small"), directory=NOWHERE)
        yield postgres.url("on_small")
    finally:
        postgres.execute("DROP DATABASE on_small WITH (FORCE)")
        postgres.execute("DROP TABLESPACE small")


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Somebody else's file takes what is left."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass
    except OSError:
        pass
    try:
        yield
    finally:
        ballast.unlink()


async def enrol(ra: Assembled, number: int) -> replies.Result:
    """With a key and a one-time secret of its own."""
    device = Device(subject=f"CN=device-{number}", key=pooled_key(number))
    spend = Spend(key=b"secret %d" % number, expires_at=pki.NOW + timedelta(days=30))
    ra.validator.verdict = Grant(method="otp", label="ticket", spend=spend)
    answer = await ra.answer(device.enrol_message(ra.ca, challenge=CHALLENGE, transaction_id=device.subject))
    return device.open(answer.body)


async def is_ready(ra: Assembled) -> bool:
    health = Health(directory=Directory({"default": ra.endpoint}), journal=ra.journal, clock=ra.clock)
    return (await health.check()).status is Status.OK


async def spent(ra: Assembled) -> int:
    return len(await ra.journal.read(lambda c: c.execute(spent_secrets.select()).all()))


async def enrol_until_away(ra: Assembled) -> tuple[int, str]:
    """The number of the first device that is told to come back, and why."""
    for number in range(MOST):
        try:
            await enrol(ra, number)
        except Unavailable as away:
            return number, str(away)
    pytest.fail("the disk never was full")


async def test_nothing_is_spent_or_asked_for_where_nothing_can_be_kept_and_it_goes_on_by_itself(
    tmp_path: Path, small_disk: Path, url: str
) -> None:
    issuing = IssuingCa(CA, Capability.FIND_ISSUED)
    async with assembled(tmp_path, issuing, CA, url=url) as ra:
        await enrol(ra, MOST)
        ready = [await is_ready(ra)]
        with full(small_disk):
            number, why = await enrol_until_away(ra)
            ready += [await is_ready(ra)]
            meanwhile = (len(issuing.requests), len(await ra.transactions()), await spent(ra))
        issuing.keep_issued()
        await ra.sweep(later=LEASE + SECOND)
        after = await enrol(ra, number)
        settled = {each.state for each in await ra.transactions()}

    assert "No space left on device" in why
    assert [True, False] == ready
    begun = number + 1
    assert (begun, begun, begun) == meanwhile
    assert isinstance(after, replies.Success)
    assert {State.RELEASED} == settled
    assert begun + 1 == len(issuing.requests)
