"""Certificates that Intune wants revoked: asked for now and then, matched by serial number, and reported when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from ra.challenge.api import Certificates, Revocation, Services
from ra.challenge.intune.answers import RecordedAnswer, RevocationAnswer, RevocationsAnswer
from ra.challenge.intune.discovery import Service
from ra.challenge.intune.options import MOST_REQUESTS, RevocationOptions
from ra.challenge.intune.session import Request, Session

API_VERSION = "5019-05-05"

_PAGES = 20
"""How often Intune is asked for more at once."""

_LOOKS_SECONDS = (2.0, 3.0, 5.0, 10.0)
"""How long the CA is given, from one look to the next; what it has not confirmed then is reported the next time."""

_REMEMBERED = 10_000
"""Serial numbers, before some are told of again."""

_WHY = "Intune wants it revoked"


@dataclass(frozen=True, slots=True)
class Revoker:
    """Carries out what Intune asks for. What another connector may have issued is left to that one."""

    options: RevocationOptions
    session: Session
    services: Services
    told: set[str] = field(default_factory=set, repr=False)
    """Serial numbers of others that the log has named: Intune repeats them at every poll."""

    async def run(self, certificates: Certificates) -> None:
        """One round: until Intune names no more that can be done something about.

        Raises:
            Unavailable: Intune or the journal cannot be asked.
        """
        most = self.options.max_requests
        for _ in range(_PAGES):
            asked = await self._download(most)
            results = await self._carry_out(asked, certificates)
            if results and not await self._upload(results):
                self._log("Intune has not recorded what was revoked, and will ask again", count=len(results))
                return
            if len(asked) < most or (not results and most == MOST_REQUESTS):
                return
            if not results:  # what is left to others stays in front of what is ours
                most = MOST_REQUESTS

    async def _download(self, most: int) -> tuple[RevocationAnswer, ...]:
        # The filter by issuer is applied after the list is cut, and to another member than its name says: no use.
        wanted = {"downloadParameters": {"maxRequests": most, "issuerName": None}}
        answer, _ = await self.session.ask(
            _request("revocations", "downloadRevocationRequests", wanted), RevocationsAnswer
        )
        return answer.value

    async def _upload(self, results: Sequence[dict[str, Any]]) -> bool:
        body = {"results": list(results)}
        answer, _ = await self.session.ask(_request("revoked", "uploadRevocationResults", body), RecordedAnswer)
        return answer.is_recorded

    async def _carry_out(self, asked: Sequence[RevocationAnswer], certificates: Certificates) -> list[dict[str, Any]]:
        """What can be reported of them by now."""
        standing = {each.request_context: await _revoke(certificates, each) for each in asked}
        for seconds in _LOOKS_SECONDS:
            waiting = [each for each in asked if standing[each.request_context] is Revocation.UNDER_WAY]
            if not waiting:
                break
            await self.services.sleep(seconds)
            standing |= {each.request_context: await _revoke(certificates, each) for each in waiting}
        foreign = [each.serial_number for each in asked if standing[each.request_context] is Revocation.NOT_OURS]
        self._tell(foreign)
        return [result for each in asked if (result := self._result(each, standing[each.request_context]))]

    def _tell(self, foreign: Sequence[str]) -> None:
        """Each once, as far as they can be remembered."""
        new = [each for each in dict.fromkeys(foreign) if each not in self.told]
        if not new:
            return
        if len(self.told) > _REMEMBERED:
            self.told.clear()
        self.told.update(new)
        self._log("Intune asks for certificates that are not of this challenge", serials=new[:20], count=len(new))

    def _result(self, asked: RevocationAnswer, standing: Revocation) -> dict[str, Any] | None:
        if standing is Revocation.DONE:
            return _said(asked, succeeded=True, code="None")
        if standing is Revocation.NOT_OURS and self.options.unknown == "report":
            return _said(asked, succeeded=False, code="CertificateNotFoundError", message="not issued here")
        return None

    def _log(self, event: str, **values: Any) -> None:
        structlog.get_logger("ra.challenge.intune").warning(event, validator=self.services.name, **values)


async def _revoke(certificates: Certificates, asked: RevocationAnswer) -> Revocation:
    return await certificates.revoke(asked.serial_number, _WHY, asked.issuer_name)


def _said(asked: RevocationAnswer, *, succeeded: bool, code: str, message: str | None = None) -> dict[str, Any]:
    return {
        "requestContext": asked.request_context,
        "succeeded": succeeded,
        "errorCode": code,
        "errorMessage": message,
    }


def _request(operation: str, action: str, body: dict[str, Any]) -> Request:
    path = f"CertificateAuthorityRequests/{action}"
    return Request(operation=operation, service=Service.REVOCATION, path=path, api_version=API_VERSION, body=body)
