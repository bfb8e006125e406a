"""One enrolment endpoint: a profile and everything that serves it, as bootstrap has joined them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ra.challenge.api import Validator
from ra.policy.profile import Profile
from ra.scep.keys import Identity
from ra.service.backend import Backend
from ra.service.ring import Ring


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What answers at one SCEP URL.

    Attributes:
        ca_id: the integer that selects it in `?ca_id=`.
        backend: who issues.
        validator: None only where the profile says that no challenge is required.
        ring: the RA's identities.
    """

    profile: Profile
    ca_id: int | None
    backend: Backend
    validator: Validator | None
    ring: Ring

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The first is shown by GetCACert, all of them decrypt.

        Raises:
            Unavailable: there is none yet.
        """
        return self.ring.identities


class Directory:
    """Finds the endpoint that a request names."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._by_name = dict(endpoints)
        self._by_ca_id = {each.ca_id: each for each in endpoints.values() if each.ca_id is not None}

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_name.values())

    def default(self) -> Endpoint | None:
        """The profile named `default`, or the only one there is."""
        if len(self._by_name) == 1:
            return next(iter(self))
        return self._by_name.get("default")

    def by_name(self, name: str) -> Endpoint | None:
        return self._by_name.get(name)

    def by_ca_id(self, ca_id: int) -> Endpoint | None:
        return self._by_ca_id.get(ca_id)
