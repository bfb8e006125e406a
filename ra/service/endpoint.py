"""One enrolment endpoint: a profile and everything that serves it, as bootstrap has joined them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ra.challenge.api import Validator
from ra.policy.profile import Profile
from ra.scep.keys import Identity
from ra.service.backend import Backend
from ra.service.ring import Ring


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A CA that no connector speaks to, and whose certificates may be renewed all the same.

    Attributes:
        certificate: DER.
        read_crl: its CRL as it is now, DER; it blocks, and raises OSError or ValueError.
    """

    certificate: bytes = field(repr=False)
    read_crl: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What answers at one SCEP URL.

    Attributes:
        ca_id: the integer that selects it in `?ca_id=`.
        backend: who issues.
        validator: None only where the profile says that no challenge is required.
        ring: the RA's identities.
        renews_from: other backends whose certificates, issued under this profile, are renewed here.
        renewal_authorities: CAs whose certificates are renewed here, whether or not the journal knows them.
    """

    profile: Profile
    ca_id: int | None
    backend: Backend
    validator: Validator | None
    ring: Ring
    renews_from: tuple[Backend, ...] = ()
    renewal_authorities: tuple[Authority, ...] = ()

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The first is shown by GetCACert, all of them decrypt.

        Raises:
            Unavailable: there is none yet.
        """
        return self.ring.identities

    @property
    def issuers(self) -> tuple[Backend, ...]:
        """Whose certificates are renewed here."""
        return (self.backend, *self.renews_from)


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
