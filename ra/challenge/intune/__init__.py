"""Microsoft Intune: whether a challenge is one that Intune has given to this device for this request.

```toml
[challenges.intune]
type = "intune"
tenant = "contoso.example"
client_id = "11111111-2222-3333-4444-555555555555"
credential = { method = "secret", client_secret = "file:intune.secret", expires_at = 2031-07-01T00:00:00Z }
```

Intune is asked once, when the request arrives; from the first commit on the journal answers. It is told what became of
every request that it has let in: with `notify_policy = "strict"`, before the device gets its certificate.

A `code` that is not Success is a no. Whatever else happens (no token, no answer, an answer that cannot be read) is no
verdict: the device is told to come back, never that it was refused.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import structlog

from ra.challenge.api import Accepted, Attempt, Certificates, Deny, Errand, Receipt, Services, Unavailable, Verdict
from ra.challenge.intune.actions import failure, success, validation
from ra.challenge.intune.answers import CodeAnswer
from ra.challenge.intune.codes import PASSWORD_MISSING, SUCCESS, meaning_of, told
from ra.challenge.intune.credentials import Credential, Noted, credential_of, expiry_warning
from ra.challenge.intune.flights import Flights
from ra.challenge.intune.kept import KeptGrants, key_of
from ra.challenge.intune.options import Options
from ra.challenge.intune.revocation import Revoker
from ra.challenge.intune.session import Request, Session
from ra.challenge.intune.validity import wished_validity
from ra.challenge.remote import transport_services
from ra.errors import Unavailable as NotNow
from ra.journal.records import Notice, Occasion
from ra.policy.grant import Grant, Notify

__all__ = ["Intune", "Options", "connect"]


class Intune:
    """Grants what Intune says yes to."""

    def __init__(self, options: Options, credential: Credential, session: Session, services: Services) -> None:
        self._options = options
        self._session = session
        self._services = services
        self._credential = credential
        self._kept = KeptGrants()
        self._flights: Flights[Verdict] = Flights()

    @property
    def demands_challenge_on_renewal(self) -> bool:
        """Intune decides on every certificate of a device anew, and is told of each."""
        return True

    @property
    def notices_at_once(self) -> int:
        return self._options.notices_at_once

    async def check(self, attempt: Attempt) -> Verdict:
        if not attempt.challenge_password:
            return Deny(detail=told(PASSWORD_MISSING))
        kept = self._kept.find(attempt, self._services.now())
        if kept is not None:
            return kept
        key = key_of(attempt.transaction_id, attempt.csr.der)
        return await self._flights.join((attempt.profile, *key), partial(self._validate, attempt))

    async def notify(self, notice: Notice) -> Receipt:
        """Hands over a success or a failure; a code that is not Success is final."""
        self._kept.forget(notice.transaction_id, notice.csr)
        request = success if notice.occasion is Occasion.ISSUED else failure
        answer = await self._ask(request(self._options, notice))
        return Accepted() if answer is None else answer

    async def _validate(self, attempt: Attempt) -> Verdict:
        answer = await self._ask(validation(self._options, attempt.transaction_id, attempt.csr.der))
        if answer is not None:
            return answer
        own = self._options
        notify = Notify(validator="", is_strict=own.notify_policy == "strict", patience=own.patience)
        grant = Grant(
            method=self._services.name,
            label=own.tenant,
            notify=(notify,),
            strips_sid=True,  # Intune compares the names with those of its profile, and this extension with nothing
            validity=wished_validity(attempt.csr.pairs),
        )
        self._kept.keep(attempt, grant, self._services.now())
        return grant

    async def _ask(self, request: Request) -> Deny | Unavailable | None:
        """None: Success."""
        try:
            answer, which = await self._session.ask(request, CodeAnswer)
        except NotNow as error:
            return Unavailable(detail=str(error), retry_after_seconds=error.retry_after_seconds)
        if answer.code == SUCCESS:
            return None
        detail = f"{told(answer.code)} (client-request-id {which})"
        return Deny(detail=detail, alarm=meaning_of(answer.code).is_alarm)

    async def reach(self) -> str:
        places = await self._session.reach()
        return "; ".join(f"{service} is at {url}" for service, url in places.items())

    @property
    def errands(self) -> tuple[Errand, ...]:
        watch = Errand(name="credential", every=timedelta(days=1), run=self._watch_credential)
        own = self._options.revocation
        revoker = Revoker(own, self._session, self._services)
        ask = Errand(name="revocations", every=timedelta(minutes=own.interval_minutes), run=revoker.run)
        return (watch, ask) if own.enabled else (watch,)

    async def _watch_credential(self, _: Certificates) -> None:
        if warning := expiry_warning(self._credential, self._services.now()):
            structlog.get_logger("ra.challenge.intune").warning(warning, validator=self._services.name)

    async def aclose(self) -> None:
        await self._flights.aclose()
        await self._session.aclose()


async def connect(options: Options, services: Services) -> Intune:
    """Reads the credential; nothing is sent before the first check.

    Raises:
        ConnectorError: a file is missing, or does not do.
    """
    own = transport_services(services)
    credential = Noted(credential_of(options.credential, str(options.client_id), own), services.credential_ends)
    if warning := expiry_warning(credential, services.now()):
        services.warn(warning)
    return Intune(options, credential, Session(options, credential, own), services)
