"""Who may do what at the simulated Vault: credentials, tokens that run out, wrapping tokens, and the policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from starlette.requests import Request

from ra.simulate.authority import Clock
from ra.simulate.vault.forms import Denied


@dataclass(slots=True)
class Token:
    """`ends_at` is absent for a token without end; `num_uses` is 0 for as many as one likes."""

    ends_at: datetime | None
    lease: timedelta
    longest: datetime
    renewable: bool = True
    num_uses: int = 0


@dataclass(slots=True)
class Credentials:
    """What each method lets in, and what the tokens are like that it hands out."""

    role_id: str
    secret_id: str
    users: dict[str, str] = field(default_factory=dict)
    jwts: set[tuple[str, str]] = field(default_factory=set)
    """Role and JWT, for the methods kubernetes and jwt alike."""
    certificate_roles: set[str] = field(default_factory=set)
    lease: timedelta = timedelta(minutes=20)
    longest: timedelta = timedelta(days=32)
    renewable: bool = True
    num_uses: int = 0


@dataclass(slots=True)
class Tokens:
    """Every token there is.

    Attributes:
        policy: the capabilities that a token has, by path; None: all of them.
        denied: paths that the policy does not allow, beside those it never does.
        wrapped: by wrapping token: where it was made, and what is in it.
    """

    now: Clock
    entropy: Callable[[int], bytes]
    credentials: Credentials
    held: dict[str, Token] = field(default_factory=dict)
    wrapped: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    policy: Mapping[str, frozenset[str]] | None = None
    denied: set[str] = field(default_factory=set)

    def create(self) -> str:
        """A service token, with the lease that is configured."""
        given, now = self.credentials, self.now()
        value = f"hvs.{self.entropy(18).hex()}"
        self.held[value] = Token(
            ends_at=now + given.lease if given.lease else None,
            lease=given.lease,
            longest=now + given.longest,
            renewable=given.renewable,
            num_uses=given.num_uses,
        )
        return value

    def wrap_secret_id(self, creation_path: str = "auth/approle/role/scep-ra/secret-id") -> str:
        """A response-wrapping token around the secret id."""
        value = f"hvs.{self.entropy(18).hex()}"
        content = {"secret_id": self.credentials.secret_id, "secret_id_accessor": self.entropy(8).hex()}
        self.wrapped[value] = creation_path, content
        return value

    def allowed(self, request: Request) -> Token:
        """The token of a request, if its policy allows the path. Raises as `use` does."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        path = request.url.path.removeprefix("/v1/")
        token = self.use(request.headers.get("x-vault-token", bearer), path)
        if self.policy is not None and _capability(request) not in self.policy.get(path, ()):
            raise Denied("permission denied")
        return token

    def use(self, value: str, path: str) -> Token:
        """The token, if it is one and its policy allows the path.

        Raises:
            Denied: it is none, is none any more, or may not.
        """
        token = self.held.get(value)
        if token is None or (token.ends_at is not None and self.now() >= token.ends_at):
            self.held.pop(value, None)
            raise Denied("permission denied", "invalid token")
        if path in self.denied:
            raise Denied("permission denied")
        if token.num_uses == 1:
            del self.held[value]
        token.num_uses = max(0, token.num_uses - 1)
        return token

    def renew(self, token: Token) -> None:
        """Another lease, which never leads beyond the longest life of the token."""
        token.ends_at = min(self.now() + token.lease, token.longest) if token.ends_at else None

    def revoke_all(self) -> None:
        """As when somebody revokes the accessor, or Vault has lost its leases."""
        self.held.clear()


def _capability(request: Request) -> str:
    """What a policy calls what is asked for."""
    if request.query_params.get("list") == "true":
        return "list"
    return "read" if request.method == "GET" else "update"
