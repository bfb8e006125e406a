"""One-time secrets over the admin listener: minted, listed and withdrawn by callers whose API key may do so."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ra.journal.one_time import SecretState, Selection, state_of
from ra.journal.records import OneTimeSecret
from ra.scep.errors import TooLarge
from ra.service.mint import BadName, Mint, Minted, NotOffered, Terms, Wish, choose, read_names
from ra.web.callers import Callers
from ra.web.edge import log_line
from ra.web.replies import HttpRefusal, HungUp, read_body
from ra.web.services import Services

MAX_COUNT = 250
"""Secrets in one request, which is one commit."""

MAX_LISTED = 1000
MAX_BODY_BYTES = 64 * 1024
_LONGEST_TTL_SECONDS = 366 * 86_400

M = TypeVar("M", bound=BaseModel)

_ERRORS: dict[int | str, dict[str, str]] = {
    401: {"description": "An API key is needed"},
    403: {"description": "The API key may not mint"},
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class WishModel(_Body):
    """Secrets that are wanted. With a name given they are good for requests that ask for just these names."""

    profile: str = "default"
    """The one profile they are good for."""
    challenge: str | None = None
    """Which of the profile's challenges of type `otp`, where it asks several."""
    subject: str | None = Field(default=None, max_length=2000)
    """The subject to ask for: `CN=device,O=Example` (RFC 4514)."""
    san: list[Annotated[str, Field(max_length=2000)]] = Field(default_factory=list, max_length=50)
    """Names to ask for: `dns:`, `email:`, `ip:`, `uri:`, `upn:` or `sid:` and the name."""
    label: str | None = Field(default=None, min_length=1, max_length=200)
    """What lists and audit call them; else the first name."""
    ttl_seconds: int | None = Field(default=None, ge=1, le=_LONGEST_TTL_SECONDS)
    """A request must arrive before that is over; else as configured."""
    count: int = Field(default=1, ge=1, le=MAX_COUNT)
    """How many; the label is numbered where there are several."""


class MintedModel(_Body):
    """A new secret, for the only time that anybody sees it."""

    label: str
    secret: str
    challenge: str
    profile: str
    names: list[str]
    expires_at: str


class MintedList(_Body):
    """In the order in which they were wanted."""

    secrets: list[MintedModel]


class SecretModel(_Body):
    """What was minted, and what became of it. The secret itself is not known any more."""

    label: str
    challenge: str
    profile: str | None
    names: list[str]
    state: SecretState
    transaction: str | None
    created_at: str
    expires_at: str


class SecretList(_Body):
    """The newest first."""

    secrets: list[SecretModel]


class RevocationModel(_Body):
    """Which secrets are withdrawn: those of a label, or all of a challenge."""

    label: str | None = None
    """Every one of that label."""
    challenge: str | None = None
    """Every one of this challenge; with a label, those of both."""


class RevokedModel(_Body):
    """What was withdrawn; the certificates that they have let a device have stay as they are."""

    revoked: list[str]
    spent: int


def otp_router(services: Services, mint: Mint, callers: Callers) -> APIRouter:
    """`/api/v1/otp`."""
    router = APIRouter(tags=["one-time secrets"], responses=_ERRORS)

    def caller(request: Request) -> str:
        line = log_line(request.scope)
        line["operation"] = "otp"
        line["caller"] = callers.require_minter(request.headers)
        return f"API key {line['caller']}"

    @router.post(
        "/api/v1/otp",
        status_code=201,
        responses={409: {"description": "No challenge takes it, or several do"}},
        openapi_extra=_body_of(WishModel),
    )
    async def create(request: Request) -> MintedList:
        """Mints secrets. They are shown this once: the journal keeps a digest."""
        who = caller(request)
        wish = await _read(request, WishModel)
        terms = _terms(services, wish)
        minted = await mint.create(terms, _wishes(wish), who)
        return MintedList(secrets=[_minted(each, terms) for each in minted])

    @router.get("/api/v1/otp")
    async def list_secrets(
        request: Request,
        challenge: str | None = None,
        profile: str | None = None,
        label: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    ) -> SecretList:
        """What was minted, the newest first, and what became of it."""
        caller(request)
        found = await mint.list_secrets(Selection(method=challenge, profile=profile, label=label), limit)
        return SecretList(secrets=[_listed(each, services) for each in found])

    @router.post("/api/v1/otp/revoke", openapi_extra=_body_of(RevocationModel))
    async def revoke(request: Request) -> RevokedModel:
        """Withdraws secrets before their time."""
        who = caller(request)
        which = await _read(request, RevocationModel)
        if which.label is None and which.challenge is None:
            raise HttpRefusal(400, "Name a label, or a challenge, or both.")
        revoked = await mint.revoke(Selection(label=which.label, method=which.challenge), who)
        spent = sum(each.spent_by is not None for each in revoked)
        return RevokedModel(revoked=[each.label for each in revoked], spent=spent)

    return router


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For the OpenAPI description: bodies are read by hand, once it is known who sends them."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


async def _read(request: Request, model: type[M]) -> M:
    """A JSON body of bounded length. The framework itself would read one of any length, and from anybody."""
    try:
        body = await read_body(request.scope, request.receive, MAX_BODY_BYTES)
        return model.model_validate_json(body)
    except TooLarge:
        raise HttpRefusal(413, "The body is larger than this server reads.") from None
    except HungUp:
        raise HttpRefusal(400, "The body has not come whole.") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        if first["type"] == "extra_forbidden":
            raise HttpRefusal(422, f"{where} is not a known key{_instead(where, list(model.model_fields))}.") from None
        raise HttpRefusal(422, f"{where}: {first['msg']}.") from None


def _instead(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"


def _terms(services: Services, wish: WishModel) -> Terms:
    ttl = timedelta(seconds=wish.ttl_seconds) if wish.ttl_seconds is not None else None
    try:
        return choose(services.offers, wish.profile, wish.challenge).terms(ttl)
    except NotOffered as error:
        raise HttpRefusal(409, f"{error}.") from None


def _wishes(wish: WishModel) -> list[Wish]:
    try:
        names = read_names(wish.subject, wish.san)
    except BadName as error:
        raise HttpRefusal(400, f"{error}.") from None
    stem = wish.label or (names[0] if names else "otp")
    labels = [stem] if wish.count == 1 else [f"{stem}-{number}" for number in range(1, wish.count + 1)]
    return [Wish(label=label, names=names) for label in labels]


def _minted(minted: Minted, terms: Terms) -> MintedModel:
    return MintedModel(
        label=minted.label,
        secret=minted.secret.reveal(),
        challenge=terms.method,
        profile=terms.profile or "",
        names=list(minted.names or ()),
        expires_at=minted.expires_at.isoformat(timespec="seconds"),
    )


def _listed(secret: OneTimeSecret, services: Services) -> SecretModel:
    return SecretModel(
        label=secret.label,
        challenge=secret.method,
        profile=secret.profile,
        names=list(secret.names or ()),
        state=state_of(secret, services.clock.now()),
        transaction=str(secret.spent_by) if secret.spent_by else None,
        created_at=secret.created_at.isoformat(timespec="seconds"),
        expires_at=secret.expires_at.isoformat(timespec="seconds"),
    )
