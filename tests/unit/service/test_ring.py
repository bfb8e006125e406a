"""What the metrics are told of the RA's certificates."""

from __future__ import annotations

import asyncio

import pytest

from ra.service.ring import Holding, report_ends
from tests.fakes import pki
from tests.fakes.assembled import Counts, identity
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.anyio

CA = pki.root()


class YieldingClock(FakeClock):
    """Time passes, and others have their turn."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0)


async def test_the_metrics_are_told_when_what_is_shown_ends_also_when_another_one_is() -> None:
    clock, counts = YieldingClock(pki.NOW), Counts()
    held, empty = Holding(name="ra", identities=(identity(CA),)), Holding(name="next")
    reporting = asyncio.create_task(report_ends((held, empty), counts, clock))
    await asyncio.sleep(0)
    first = dict(counts.ends)
    held.identities, empty.identities = (), (identity(CA),)

    for _ in range(3):
        await asyncio.sleep(0)
    reporting.cancel()

    assert ["ra"] == [*first]
    assert pki.NOW < first["ra"] == counts.ends["next"]
