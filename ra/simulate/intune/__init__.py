"""A server that answers as Entra, Microsoft Graph and Intune do to a registration authority, on one address.

Bodies are those of the originals, errors included. What a test wants to break is an attribute, or `faults`; what an
administrator wants to try is below `/simulator`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ra.simulate.authority import Clock
from ra.simulate.faults import Faults
from ra.simulate.intune.challenges import Challenges, Denied, Expected, is_name
from ra.simulate.intune.entra import CLIENT_ID, TENANT, Entra
from ra.simulate.intune.forms import GraphRefused, action_answer, graph_error, to_json
from ra.simulate.intune.revocations import Revocations

__all__ = ["CLIENT_ID", "TENANT", "Expected", "SimulatedIntune"]

INTUNE_APP_ID = "0000000a-0000-0000-c000-000000000000"
_MOST_DIGITS = 6
VALIDATE, SUCCESS, FAILURE = "validateRequest", "successNotification", "failureNotification"

SCEP_PATH = "/RACerts/ScepRequestValidationFEService/Gateway/StatelessScepRequestValidationService"
PKI_PATH = "/RACerts/StatelessPkiConnectorService/Gateway/StatelessPkiConnectorService"

_SCEP_VERSION, _PKI_VERSION = "2018-02-20", "5019-05-05"
_MEMBERS = {
    VALIDATE: ("request", ("transactionId", "certificateRequest", "callerInfo")),
    SUCCESS: (
        "notification",
        (
            "transactionId",
            "certificateRequest",
            "certificateThumbprint",
            "certificateSerialNumber",
            "certificateExpirationDateUtc",
            "issuingCertificateAuthority",
            "callerInfo",
        ),
    ),
    FAILURE: ("notification", ("transactionId", "certificateRequest", "hResult", "errorDescription", "callerInfo")),
}

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FORMS = {
    "certificateRequest": re.compile(r"[A-Za-z0-9+/]+={0,2}"),
    "certificateThumbprint": re.compile(r"[0-9A-Fa-f]{40}"),
    "certificateSerialNumber": re.compile(r"([0-9A-F]{2})+"),
    "certificateExpirationDateUtc": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    "hResult": re.compile(r"\d{1,10}"),
    "errorDescription": re.compile(r".{0,255}", re.DOTALL),
}
"""How the members of a notification are written."""


class SimulatedIntune:
    """One tenant.

    Attributes:
        faults: the ASGI application, and what its next requests meet.
        heard: action and body of every notification and validation, in order.
        codes: by action, what is answered next in place of what is true.
        delay_seconds: before every answer of Intune's.
        has_role: whether the application has Intune's role; without it, the service is not found.
        places: by provider name, an address in place of its own.
        asked: method and path of everything that was asked for, in order.
    """

    def __init__(self, *, now: Clock, entropy: Callable[[int], bytes]) -> None:
        self._now = now
        self.entra = Entra(now=now, entropy=entropy)
        self.challenges = Challenges(now=now, entropy=entropy)
        self.revocations = Revocations(entropy)
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.codes: dict[str, deque[str]] = {VALIDATE: deque(), SUCCESS: deque(), FAILURE: deque()}
        self.delay_seconds = 0.0
        self.has_role = True
        self.places: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.faults = Faults(Starlette(routes=self._routes()))

    def told(self, action: str) -> list[dict[str, Any]]:
        """The bodies of one action, in order."""
        return [body for name, body in self.heard if name == action]

    def _routes(self) -> list[Route]:
        actions = [
            Route(f"{SCEP_PATH}/ScepActions/{name}", self._answering(self._action), methods=["POST"])
            for name in _MEMBERS
        ]
        requests = PKI_PATH + "/CertificateAuthorityRequests"
        return [
            Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/v1.0/servicePrincipals/appId={app}/endpoints", self._answering(self._endpoints)),
            *actions,
            Route(f"{requests}/downloadRevocationRequests", self._answering(self._download), methods=["POST"]),
            Route(f"{requests}/uploadRevocationResults", self._answering(self._upload), methods=["POST"]),
            Route("/simulator/challenge", self._mint),
            Route("/simulator/revoke", self._want_revoked, methods=["POST"]),
            Route("/simulator/code", self._set_code, methods=["POST"]),
            Route("/simulator/heard", self._show_heard),
            Route("/simulator/revocations", self._show_revocations),
            Route("/simulator/tokens", self._show_tokens),
        ]

    def _answering(self, handle: Callable[[Request, Any], Response]) -> Callable[[Request], Any]:
        """The endpoint around a handler: how long it takes, what is asked, and the form of every error."""

        async def answer(request: Request) -> Response:
            self.asked.append((request.method, request.url.path))
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            try:
                return handle(request, json.loads(await request.body() or b"{}"))
            except GraphRefused as refused:
                return graph_error(refused)
            except ClientDisconnect:
                return Response(status_code=400)  # nobody waits for it any more
            except (json.JSONDecodeError, KeyError, TypeError):
                return graph_error(GraphRefused(400, "BadRequest", "The request body is not valid."))

        return answer

    async def _token(self, request: Request) -> Response:
        self.asked.append((request.method, request.url.path))
        return await self.entra.issue(request)

    def _endpoints(self, request: Request, _body: Any) -> Response:
        if not self.entra.check(request, "graph"):
            text = "Insufficient privileges to complete the operation."
            raise GraphRefused(403, "Authorization_RequestDenied", text)
        if request.path_params["app"] != INTUNE_APP_ID:
            raise GraphRefused(404, "Request_ResourceNotFound", "Resource does not exist.")
        paths = {"PkiConnectorFEService": PKI_PATH}
        if self.has_role:
            paths["ScepRequestValidationFEService"] = SCEP_PATH
        base = str(request.base_url).rstrip("/")
        value = [
            {
                "id": f"{number:08d}-0000-4000-8000-000000000000",
                "capability": name,
                "providerId": None,
                "providerName": name,
                "providerResourceId": None,
                "uri": self.places.get(name, base + path),
            }
            for number, (name, path) in enumerate(paths.items())
        ]
        return to_json(200, {"@odata.context": f"{base}/v1.0/$metadata#servicePrincipals/endpoints", "value": value})

    def _action(self, request: Request, body: Any) -> Response:
        self._check_call(request, _SCEP_VERSION)
        action = request.url.path.rpartition("/")[2]
        member, names = _MEMBERS[action]
        said = body[member]
        if missing := [each for each in names if each not in said]:
            raise GraphRefused(400, "BadRequest", f"Missing: {', '.join(missing)}")
        if wrong := [name for name, form in _FORMS.items() if name in said and not form.fullmatch(str(said[name]))]:
            raise GraphRefused(400, "BadRequest", f"Not valid: {', '.join(wrong)}")
        self.heard.append((action, said))
        return action_answer(str(request.base_url), action, self._code(action, said))

    def _code(self, action: str, said: dict[str, Any]) -> str:
        if self.codes[action]:
            return self.codes[action].popleft()
        if action != VALIDATE:
            return "Success"
        try:
            self.challenges.check(said["certificateRequest"])
        except Denied as denied:
            return str(denied)
        return "Success"

    def _download(self, request: Request, body: Any) -> Response:
        self._check_call(request, _PKI_VERSION)
        context = "RACerts/StatelessPkiConnectorService/$metadata#Collection(microsoft.management.services.api.caRevocationRequest)"
        return to_json(
            200, {"@odata.context": f"{request.base_url}{context}", "value": self.revocations.download(body)}
        )

    def _upload(self, request: Request, body: Any) -> Response:
        self._check_call(request, _PKI_VERSION)
        context = "RACerts/StatelessPkiConnectorService/$metadata#Edm.Boolean"
        return to_json(200, {"@odata.context": f"{request.base_url}{context}", "value": self.revocations.upload(body)})

    def _check_call(self, request: Request, version: str) -> None:
        if not self.entra.check(request, "intune"):
            raise GraphRefused(403, "Forbidden", "The application lacks the role scep_challenge_provider.")
        which = request.headers.get("client-request-id", "")
        if request.headers.get("api-version") != version or not _GUID.fullmatch(which):
            raise GraphRefused(400, "BadRequest", "The headers api-version and client-request-id are required.")

    async def _mint(self, request: Request) -> Response:
        """A challenge for `?subject=CN=…&san=dns:…`, made `age` minutes ago."""
        wanted = request.query_params
        sans, subject, minutes = tuple(wanted.getlist("san")) or None, wanted.get("subject"), wanted.get("age", "0")
        if subject is not None and not is_name(subject):
            return PlainTextResponse("subject is no name of RFC 4514: write ?subject=CN=device-7\n", 400)
        if not (minutes.isascii() and minutes.isdigit() and len(minutes) <= _MOST_DIGITS):
            return PlainTextResponse("age is a number of minutes, such as 61\n", 400)
        made_at = self._now() - timedelta(minutes=int(minutes))
        return PlainTextResponse(self.challenges.mint(Expected(subject=subject, sans=sans), made_at=made_at))

    async def _want_revoked(self, request: Request) -> Response:
        serial = request.query_params.get("serial", "")
        if not serial:
            return PlainTextResponse("name the certificate: POST /simulator/revoke?serial=1A2B3C\n", 400)
        said = [each for each in self.told(SUCCESS) if each["certificateSerialNumber"].lower() == serial.lower()]
        echoed = (said[-1]["issuingCertificateAuthority"], said[-1].get("caConfiguration", "")) if said else ()
        return to_json(200, {"requestContext": self.revocations.ask_for(serial, *echoed)})

    async def _set_code(self, request: Request) -> Response:
        """What `?action=validateRequest&code=ChallengeExpired` says is answered next."""
        wanted = request.query_params
        if wanted.get("action") not in self.codes or not wanted.get("code"):
            return PlainTextResponse(f"action is one of {', '.join(self.codes)}, code one of Intune's\n", 400)
        self.codes[wanted["action"]].append(wanted["code"])
        return Response(status_code=204)

    async def _show_heard(self, _request: Request) -> Response:
        return to_json(200, [{"action": action, **body} for action, body in self.heard])

    async def _show_tokens(self, _request: Request) -> Response:
        return to_json(200, self.entra.issued)

    async def _show_revocations(self, _request: Request) -> Response:
        waiting, results = list(self.revocations.waiting.values()), self.revocations.results
        return to_json(200, {"waiting": waiting, "results": results})
