"""Talks to one ACME server as one account: directory, nonces, signatures, and the account itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from connectors.acme.answers import PROBLEMS, Directory, Problem, error_of, problem_of
from connectors.acme.jose import AccountKey, mac_key, obtain_account_key, read_account_key
from connectors.api import BackendUnavailable, Misconfigured, ProtocolViolation, Services
from connectors.transport import Answer, Call, Effect, SecretReference, Transport, TransportOptions, read_secret, shown

_NONCES_TRIED = 10
"""Pebble may be told to refuse three of ten."""
_NONCES_KEPT = 32
_FIRST_PAUSE_SECONDS, _PAUSE_FACTOR = 0.1, 1.5


class AccountOptions(TransportOptions):
    """Whose account orders are placed with."""

    account_key: Path = Path("acme-account.key")
    """PEM, EC P-256, readable by its owner alone; made on first use. Who has it has the account: keep a copy."""
    contact: tuple[Annotated[str, Field(pattern=r"^mailto:\S+@\S+$")], ...] = ()
    """Where the CA writes to, like `mailto:pki@example.org`."""
    terms_of_service_agreed: bool = False
    """Whether you agree to the CA's terms; a CA that has some refuses an account without."""
    eab_key_id: Annotated[str, Field(min_length=1)] | None = None
    """External account binding: the key identifier that the CA has given you. It is used once, for the new account."""
    eab_hmac_key: SecretReference | None = None
    """`file:PATH` or `env:NAME` of its HMAC key, base64url."""

    @model_validator(mode="after")
    def _bound(self) -> Self:
        if (self.eab_key_id is None) != (self.eab_hmac_key is None):
            raise ValueError("eab_key_id and eab_hmac_key belong together: set both or neither")
        return self


class Session:
    """Sends what is signed by the account. Nothing is sent, and no key is made, before the first call."""

    def __init__(self, options: AccountOptions, transport: Transport, services: Services) -> None:
        """Reads the secrets and the key that are there.

        Raises:
            Misconfigured: one of them cannot be read.
        """
        self._options = options
        self._transport = transport
        self._services = services
        self._key_path = services.directory / options.account_key
        self._mac_key = mac_key(read_secret(options.eab_hmac_key, services)) if options.eab_hmac_key else None
        if self._key_path.exists():
            read_account_key(self._key_path)
        self._nonces: list[str] = []
        self._directory: Directory | None = None
        self._account: str | None = None
        self._one_at_a_time = asyncio.Lock()

    @cached_property
    def key(self) -> AccountKey:
        return obtain_account_key(self._key_path)

    async def directory(self) -> Directory:
        """What the server has, asked for once."""
        return self._directory or await self.refresh()

    async def refresh(self) -> Directory:
        """Asks for the directory anew."""
        call = Call(operation="directory", effect=Effect.REPEATABLE, url=self._options.url)
        self._directory = (await self._transport.call(call)).parse(Directory)
        return self._directory

    async def account(self) -> str:
        """The URL of our account, found by its key, or made."""
        async with self._one_at_a_time:
            if self._account is None:
                self._account = await self._found_or_made()
            return self._account

    def allowed_url(self, url: str) -> str:
        """As the transport's."""
        return self._transport.allowed_url(url)

    async def ask(
        self, operation: str, url: str, payload: Mapping[str, Any] | None = None, *, accept: str = "application/json"
    ) -> Answer:
        """Sends a request that may arrive twice; without a payload a POST-as-GET.

        Raises:
            ConnectorError: as the transport does, and for a problem.
        """
        said = await self.send(operation, url, payload, accept=accept)
        if isinstance(said, Problem):
            raise error_of(said, self.where(operation, url))
        return said

    async def send(
        self,
        operation: str,
        url: str,
        payload: Mapping[str, Any] | None,
        *,
        effect: Effect = Effect.REPEATABLE,
        accept: str = "application/json",
    ) -> Answer | Problem:
        """Sends a request, and hands a problem back to whoever can tell what it means.

        Raises:
            ConnectorError: as the transport does.
        """
        account = await self.account()
        said = await self._signed(operation, url, payload, {"kid": account}, effect=effect, accept=accept)
        if isinstance(said, Problem) and said.kind == "accountDoesNotExist":
            if self._account == account:
                self._account = None  # the server has lost it, and done nothing
            account = await self.account()
            said = await self._signed(operation, url, payload, {"kid": account}, effect=effect, accept=accept)
        return said

    def where(self, operation: str, url: str) -> str:
        """For messages."""
        return f"{self._services.name}: {operation} at {shown(url)}"

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _signed(
        self,
        operation: str,
        url: str,
        payload: Mapping[str, Any] | None,
        who: Mapping[str, Any],
        *,
        effect: Effect = Effect.REPEATABLE,
        accept: str = "application/json",
    ) -> Answer | Problem:
        url = self.allowed_url(url)
        for _ in range(_NONCES_TRIED):
            nonce = await self._nonce()
            jws = self.key.sign({"nonce": nonce, "url": url, **who}, payload)
            call = Call(
                operation=operation,
                effect=effect,
                method="POST",
                url=url,
                headers={"Content-Type": "application/jose+json", "Accept": accept},
                json=jws,
                statuses=PROBLEMS,
            )
            answer = await self._transport.call(call)
            self._keep_nonce(answer)
            problem = None if answer.is_success else problem_of(answer)
            if problem is None:
                return answer
            if problem.kind != "badNonce":
                return problem
        raise BackendUnavailable(f"{self.where(operation, url)}: every nonce was refused", maybe_issued=False)

    async def _nonce(self) -> str:
        """One that has never been sent: the last answer's, else a new one (RFC 8555 §7.2)."""
        if not self._nonces:
            url = (await self.directory()).new_nonce
            call = Call(operation="nonce", effect=Effect.REPEATABLE, method="HEAD", url=self.allowed_url(url))
            self._keep_nonce(await self._transport.call(call))
        if not self._nonces:
            raise ProtocolViolation(f"{self._services.name}: newNonce answered without a Replay-Nonce")
        return self._nonces.pop()

    def _keep_nonce(self, answer: Answer) -> None:
        nonce = answer.headers.get("replay-nonce")
        if nonce:
            self._nonces = [*self._nonces[1 - _NONCES_KEPT :], nonce]

    async def _found_or_made(self) -> str:
        directory = await self.directory()
        url, who = directory.new_account, {"jwk": self.key.jwk}
        said = await self._signed("account", url, {"onlyReturnExisting": True}, who)
        if isinstance(said, Problem) and said.kind == "accountDoesNotExist":
            said = await self._signed("account", url, self._new_account(directory), who)
        if isinstance(said, Problem):
            raise error_of(said, self.where("account", url))
        return self.allowed_url(said.headers.get("location", ""))

    def _new_account(self, directory: Directory) -> dict[str, Any]:
        options, terms = self._options, directory.meta.terms_of_service
        if terms and not options.terms_of_service_agreed:
            raise Misconfigured(f"{self._services.name}: read {shown(terms)}, and set terms_of_service_agreed = true")
        account: dict[str, Any] = {"termsOfServiceAgreed": options.terms_of_service_agreed}
        if options.contact:
            account["contact"] = list(options.contact)
        if options.eab_key_id and self._mac_key:
            account["externalAccountBinding"] = self.key.binding(
                options.eab_key_id, self._mac_key, directory.new_account
            )
        return account


class Watched(Protocol):
    """What becomes something by itself."""

    @property
    def is_settled(self) -> bool: ...

    @property
    def retry_after_seconds(self) -> int | None: ...


W = TypeVar("W", bound=Watched)


async def watch(look: Callable[[], Awaitable[W]], seconds: float) -> W:
    """Looks until it is settled, or the next look would come after `seconds`; hands out what was seen last."""
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        seen = await look()
        wait = max(pause, seen.retry_after_seconds or 0)
        if seen.is_settled or loop.time() + wait > until:
            return seen
        await asyncio.sleep(wait)
        pause *= _PAUSE_FACTOR
