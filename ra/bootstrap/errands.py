"""What validators do beside the requests, joined to the housekeeping that has one process do it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from uuid import uuid4

from ra.challenge.combine import Checked
from ra.journal.database import Journal
from ra.service.housekeeping import Chore, Housekeeping
from ra.service.ports import Clock
from ra.service.revocations import Revocations


def errands_of(validators: Mapping[str, Checked], journal: Journal, clock: Clock) -> Housekeeping:
    """A housekeeping of their own: they wait for servers of others, and the audit is sealed meanwhile."""
    chores = tuple(
        Chore(
            name=f"{name}: {errand.name}",
            every=errand.every,
            do=partial(errand.run, Revocations(journal=journal, validator=name, clock=clock)),
        )
        for name, validator in validators.items()
        for errand in validator.errands
    )
    return Housekeeping(journal=journal, chores=chores, holder=uuid4(), clock=clock)
