"""The simulated Vault's logins, tokens and wrapping tokens: handlers of parsed requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request

from ra.simulate.vault.forms import Denied, NotThere, Refused
from ra.simulate.vault.tokens import Tokens

_SPENT = "wrapping token is not valid or does not exist"


class Logins:
    """Each handler returns the parts of a successful answer: `data`, `warnings`, `auth`."""

    def __init__(self, tokens: Tokens, entropy: Callable[[int], bytes]) -> None:
        self._tokens = tokens
        self._entropy = entropy

    def log_in(self, request: Request, body: Any) -> dict[str, Any]:
        user = request.path_params.get("user")
        self._check_credentials(request.path_params["mount"], user, body, is_tls=request.url.scheme == "https")
        return {"auth": self._auth(self._tokens.create())}

    def _check_credentials(self, mount: str, user: str | None, body: Mapping[str, Any], *, is_tls: bool) -> None:
        known = self._tokens.credentials
        by_jwt = (body.get("role"), body.get("jwt")) in known.jwts
        checks: dict[str, tuple[bool, Exception]] = {
            "approle": (
                (body.get("role_id"), body.get("secret_id")) == (known.role_id, known.secret_id),
                Refused("invalid role or secret ID"),
            ),
            "userpass": (
                user in known.users and known.users[user] == body.get("password"),
                Refused("invalid username or password"),
            ),
            "kubernetes": (by_jwt, Denied("permission denied")),
            "jwt": (by_jwt, Refused("error validating token: no known key successfully validated the token signature")),
            "cert": (
                is_tls and body.get("name") in known.certificate_roles,
                Refused("invalid certificate or no client certificate supplied"),
            ),
        }
        if mount not in checks:
            raise NotThere(f'no handler for route "auth/{mount}/login". route entry not found.')
        is_known, error = checks[mount]
        if not is_known:
            raise error

    def _auth(self, value: str) -> dict[str, Any]:
        token = self._tokens.held[value]
        seconds = int((token.ends_at - self._tokens.now()).total_seconds()) if token.ends_at else 0
        return {
            "client_token": value,
            "accessor": self._entropy(12).hex(),
            "policies": ["default", "scep-ra"],
            "token_policies": ["default", "scep-ra"],
            "metadata": {"role_name": "scep-ra"},
            "lease_duration": seconds,
            "renewable": token.renewable,
            "entity_id": "",
            "token_type": "service",
            "orphan": True,
            "mfa_requirement": None,
            "num_uses": token.num_uses,
        }

    def renew(self, request: Request, _body: Any) -> dict[str, Any]:
        token = self._tokens.allowed(request)
        if not token.renewable:
            raise Refused("lease is not renewable")
        self._tokens.renew(token)
        return {"auth": self._auth(request.headers["x-vault-token"])}

    def look_up(self, request: Request, _body: Any) -> dict[str, Any]:
        token = self._tokens.allowed(request)
        ttl = int((token.ends_at - self._tokens.now()).total_seconds()) if token.ends_at else 0
        data = {
            "num_uses": token.num_uses,
            "policies": ["default", "scep-ra"],
            "renewable": token.renewable,
            "ttl": ttl,
        }
        return {"data": data}

    def wrapping(self, _request: Request, body: Any) -> dict[str, Any]:
        creation_path, _ = self._wrapped(body.get("token", ""))
        return {"data": {"creation_path": creation_path, "creation_ttl": 300}}

    def unwrap(self, request: Request, body: Any) -> dict[str, Any]:
        value = request.headers.get("x-vault-token", "")
        _, content = self._wrapped(value)
        del self._tokens.wrapped[value]
        if body:  # the token in header and body at once is revoked before it is read
            raise Refused(_SPENT)
        return {"data": content}

    def _wrapped(self, value: str) -> tuple[str, dict[str, str]]:
        if value not in self._tokens.wrapped:
            raise Refused(_SPENT)
        return self._tokens.wrapped[value]
