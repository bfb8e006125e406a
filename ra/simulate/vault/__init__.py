"""A server that answers as the PKI engine of Vault or OpenBao does, with a CA inside.

Bodies have the fields and the order of Go's encoder. What a test wants to break is an attribute, or `faults`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ra.simulate.authority import Clock, SimulatedCa
from ra.simulate.faults import Faults
from ra.simulate.vault.engine import UNSUPPORTED, Engine
from ra.simulate.vault.forms import Denied, NotThere, Refused, errors, identifier, to_json
from ra.simulate.vault.logins import Logins
from ra.simulate.vault.roles import Role
from ra.simulate.vault.tokens import Credentials, Tokens

MOUNT, ISSUER, NEXT_ISSUER = "pki", "scep-issuing", "scep-issuing-next"
ROLE, SIGNING_ROLE, RA_ROLE = "scep-devices", "scep-devices-signing", "scep-ra"
_CERTIFICATE_REQUEST_AGENT = "1.3.6.1.4.1.311.20.2.1"
_UNKNOWN_ISSUER = "could not fetch the CA certificate (was one set?): unable to find PKI issuer for reference: "

Handler = Callable[[Request, Any], dict[str, Any]]


@dataclass(slots=True)
class State:
    """Of the server as a whole."""

    initialized: bool = True
    sealed: bool = False
    standby: bool = False
    namespace: str | None = None


class SimulatedVault:
    """One PKI mount with its roles, and logins.

    Attributes:
        faults: the ASGI application, and what its next requests meet.
        requests: method and path of everything that was asked for, in order.
    """

    def __init__(self, *, now: Clock, entropy: Callable[[int], bytes]) -> None:
        credentials = Credentials(role_id=identifier(entropy), secret_id=identifier(entropy))
        roles = {
            ROLE: Role(),
            SIGNING_ROLE: Role(key_usage=frozenset({"DigitalSignature"})),
            RA_ROLE: Role(server_flag=True, client_flag=False, ext_key_usage_oids=(_CERTIFICATE_REQUEST_AGENT,)),
        }
        issuers = {ISSUER: SimulatedCa("Simulated Vault issuing CA", now)}
        self.state = State()
        self.tokens = Tokens(now=now, entropy=entropy, credentials=credentials)
        self.engine = Engine(now=now, tokens=self.tokens, issuers=issuers, roles=roles)
        self.requests: list[tuple[str, str]] = []
        self._now = now
        self._entropy = entropy
        self._logins = Logins(self.tokens, entropy)
        self.faults = Faults(Starlette(routes=self._routes()))

    def add_next_issuer(self) -> None:
        """The issuer that will follow."""
        self.engine.issuers[NEXT_ISSUER] = SimulatedCa("Simulated Vault next issuing CA", self._now)

    def _routes(self) -> list[Route]:
        mount, engine, logins = f"/v1/{MOUNT}", self.engine, self._logins
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/auth/{mount}/login", logins.log_in),
            ("POST", "/v1/auth/{mount}/login/{user}", logins.log_in),
            ("POST", "/v1/auth/token/renew-self", logins.renew),
            ("GET", "/v1/auth/token/lookup-self", logins.look_up),
            ("POST", "/v1/sys/wrapping/lookup", logins.wrapping),
            ("POST", "/v1/sys/wrapping/unwrap", logins.unwrap),
            ("POST", mount + "/issuer/{issuer}/sign/{role}", engine.sign),
            ("POST", mount + "/sign/{role}", engine.sign),
            ("GET", mount + "/issuer/{issuer}/json", engine.issuer),
            ("GET", mount + "/issuer/{issuer}/crl", engine.crl),
            ("GET", mount + "/cert/{serial}", engine.certificate),
            ("GET", mount + "/certs/detailed", engine.list),
            ("POST", mount + "/revoke", engine.revoke),
        ]
        routes = [Route(path, self._answering(handle), methods=[method]) for method, path, handle in table]
        # What goes wrong inside these is logged alone: the status is one of success, and the body empty.
        raw = [Route(mount + path, _nothing) for path in ("/ca", "/ca/pem", "/ca_chain", "/crl", "/crl/pem")]
        every = ["GET", "POST", "PUT", "DELETE"]
        rest = Route("/{path:path}", self._answering(_no_handler), methods=every)
        return [Route("/v1/sys/health", self._health), *routes, *raw, rest]

    def _answering(self, handle: Handler) -> Callable[[Request], Any]:
        """The endpoint around a handler: what is asked, what goes wrong, and the form of every answer."""

        async def answer(request: Request) -> Response:
            self.requests.append((request.method, request.url.path))
            content = await request.body()
            if self.state.sealed:
                return errors(503, "Vault is sealed")
            try:
                if self.state.namespace and request.headers.get("x-vault-namespace", "") != self.state.namespace:
                    _no_handler(request, None)
                return self._success(**handle(request, json.loads(content or b"{}")))
            except Refused as error:
                return errors(400, str(error))
            except Denied as error:
                return errors(403, str(error))
            except NotThere as error:
                return errors(404, *filter(None, [str(error)]))
            except KeyError as error:  # an issuer that is not there
                return errors(500, f"{_UNKNOWN_ISSUER}{error.args[0]}")
            except json.JSONDecodeError:
                return errors(400, "error parsing JSON")

        return answer

    def _success(self, data: Any = None, warnings: list[str] | None = None, auth: Any = None) -> Response:
        body = {
            "request_id": identifier(self._entropy),
            "lease_id": "",
            "renewable": False,
            "lease_duration": 0,
            "data": data,
            "wrap_info": None,
            "warnings": warnings or None,
            "auth": auth,
        }
        return to_json(200, body)

    async def _health(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        state = self.state
        body = {
            "initialized": state.initialized,
            "sealed": state.sealed,
            "standby": state.standby,
            "performance_standby": False,
            "replication_performance_mode": "disabled",
            "replication_dr_mode": "disabled",
            "server_time_utc": int(self._now().timestamp()),
            "version": "2.2.0" if self.engine.is_openbao else "1.14.8",
            "cluster_name": "simulated",
            "cluster_id": "00000000-0000-4000-8000-000000000000",
        }
        if not state.initialized or state.sealed:
            return to_json(503 if state.initialized else 501, body)
        return to_json(429 if state.standby and "standbyok" not in request.query_params else 200, body)


def _no_handler(request: Request, _body: Any) -> dict[str, Any]:
    route = request.url.path.removeprefix("/v1/")
    if route.startswith(f"{MOUNT}/") and "x-vault-namespace" not in request.headers:
        raise NotThere(UNSUPPORTED)
    raise NotThere(f'no handler for route "{route}". route entry not found.')


async def _nothing(_request: Request) -> Response:
    return Response(status_code=204)
