"""One certificate authority that is asked, and how it is dealt with, as bootstrap has joined it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from connectors.api import Capability, Connector
from ra.service.gate import Gate
from ra.service.returned import NONE, Deviations

_LEASE_FACTOR = 1.2
"""An answer that comes in the last moment has still to be committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A connector with what the core keeps for it.

    Attributes:
        name: of the connector in the configuration; transactions name it.
        ca_chain: DER, the issuing certificate first.
        gate: how many may ask it at once, and whether it is to be left alone.
        issue_timeout_seconds: how long it is given to answer.
        resubmit_after: how long after a lost answer a request is sent again blindly, to a CA that can never say what
            it has issued; None: never, a person has to look.
        next_ca: DER, the CA that will follow first, as configured; the connector may know one by itself.
    """

    name: str
    connector: Connector
    ca_chain: tuple[bytes, ...]
    gate: Gate
    issue_timeout_seconds: float
    resubmit_after: timedelta | None = None
    next_ca: tuple[bytes, ...] = ()
    known: Deviations = NONE

    @property
    def lease(self) -> timedelta:
        """For so long whoever asks the CA about a transaction is the only one."""
        return timedelta(seconds=self.issue_timeout_seconds * _LEASE_FACTOR)

    def can(self, capability: Capability) -> bool:
        return capability in self.connector.capabilities
