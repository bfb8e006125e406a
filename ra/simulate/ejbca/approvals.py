"""Requests that wait for somebody's approval, and what `finalize` makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cryptography import x509

from ra.simulate.ejbca.forms import Refused, Waiting
from ra.simulate.ejbca.issuing import GENERATED, EndEntity, Issuing

_SENTENCES = {
    "rejected": "has been rejected",
    "expired": "has expired",
    "failed": "could not be executed",
}


@dataclass(slots=True)
class Request:
    """`polls` counts how often it was asked for."""

    entity: EndEntity
    state: Literal["waiting", "approved", "rejected", "expired", "failed"] = "waiting"
    polls: int = 0


class Approvals:
    """The approvals of one CA.

    Attributes:
        are_needed: the CA's profile has them enabled.
        one_step_waits: the one-step enrolment is put off as well, and not refused.
        approved_after: how often a request is polled until somebody has approved it; nobody ever does where None.
        held: by the number of the request.
    """

    def __init__(self, issuing: Issuing) -> None:
        self.are_needed = False
        self.one_step_waits = False
        self.approved_after: int | None = None
        self.held: dict[int, Request] = {}
        self._issuing = issuing

    def carry_out(self, entity: EndEntity) -> None:
        """Adds or changes an end entity, at once or not.

        Raises:
            Waiting: not.
        """
        if not self.are_needed:
            self._issuing.entities[entity.username] = entity
            return
        number = 123 + len(self.held)
        self.held[number] = Request(entity)
        raise Waiting("The request has been submitted for approval", number)

    def refuse_one_step(self, entity: EndEntity, csr: str) -> None:
        """What becomes of a one-step enrolment where approvals are needed.

        Raises:
            Waiting, Refused: always one of them.
        """
        if self.one_step_waits:
            entity.csr = csr
            self.carry_out(entity)
        raise Refused(
            400,
            "Single transaction enrollment request rejected since approvals are enabled for this CA (12345678) or "
            "Certificate Profile (1).",
        )

    def approve(self, number: int) -> None:
        found = self.held[number]
        found.state = "approved"
        self._issuing.entities[found.entity.username] = found.entity

    def finalize(self, number: int) -> x509.Certificate:
        """Raises Waiting or Refused where there is no certificate to be had."""
        found = self.held.get(number)
        if found is None:
            raise Refused(400, f"Could not find request with Id '{number}'")
        found.polls += 1
        if found.state == "waiting" and found.polls == self.approved_after:
            self.approve(number)
        if found.state == "waiting":
            raise Waiting(f"Request with Id '{number}' is still waiting for approval", number)
        if found.state != "approved":
            raise Refused(400, f"Request with Id '{number}' {_SENTENCES[found.state]}")
        if found.entity.status == GENERATED:
            raise Refused(400, f"Enrollment with Id '{number}' has already been finalized")
        if found.entity.csr is None:
            # An end entity that was made without a CSR is nothing that EJBCA has foreseen here.
            raise Refused(500, "General failure.")
        return self._issuing.sign(found.entity, found.entity.csr)
