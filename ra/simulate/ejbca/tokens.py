"""Who may ask: OAuth bearer tokens, and the small OAuth server that issues them (RFC 6749 §4.4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from ra.simulate.authority import Clock
from ra.simulate.ejbca.forms import Refused, to_json

CLIENT_ID = "scep-ra"


class Tokens:
    """Tokens that are good, and until when.

    Attributes:
        are_needed: whoever brings none is refused; else TLS client certificates are all that is asked for.
        client_secret: of CLIENT_ID.
    """

    def __init__(self, *, now: Clock, entropy: Callable[[int], bytes]) -> None:
        self.are_needed = False
        self.client_secret = entropy(16).hex()
        self.lease = timedelta(minutes=5)
        self.held: dict[str, datetime] = {}
        self._now = now
        self._entropy = entropy

    def create(self) -> str:
        token = self._entropy(24).hex()
        self.held[token] = self._now() + self.lease
        return token

    def check(self, request: Request) -> None:
        """Raises Refused to whom EJBCA does not know."""
        if not self.are_needed:
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            raise Refused(403, "Error no client certificate or OAuth token received for authentication.")
        ends_at = self.held.get(token)
        if ends_at is None:
            raise Refused(403, "Authentication failed using OAuth Bearer Token.")
        if self._now() >= ends_at:
            raise Refused(403, "JWT token has expired.")

    async def issue(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "client_credentials":
            return to_json(400, {"error": "unsupported_grant_type"})
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, self.client_secret):
            return to_json(401, {"error": "invalid_client"})
        lease = int(self.lease.total_seconds())
        return to_json(200, {"access_token": self.create(), "token_type": "Bearer", "expires_in": lease})
