"""What a connector asks of its backend, and what it gets back: values, and how they become bytes. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, ValidationError

from connectors.api import Misconfigured, ProtocolViolation, Secret

M = TypeVar("M", bound=BaseModel)
_SHOWN_CHARACTERS = 300


class AnswerModel(BaseModel):
    """What is read of a JSON answer; more in it is ignored, because servers learn new fields."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Effect(Enum):
    """What happens when a call arrives twice."""

    REPEATABLE = "repeatable"
    """Nothing worse than once: it is tried again within the deadline."""
    ONCE = "once"
    """It must not, though nothing is issued by it: tried again only when it surely was not sent."""
    ISSUES = "issues"
    """A second certificate: as ONCE, and a lost answer is told as maybe_issued."""


class Meaning(Enum):
    """What a status says."""

    ANSWER = "answer"
    """The connector reads the answer itself."""
    AGAIN = "again"
    """Nothing was done, and the same request may be sent at once."""
    DOWN = "down"
    """Nothing was done, and nothing can be for the moment."""
    LOST = "lost"
    """It may have been done: BackendUnavailable, for a call that issues with maybe_issued."""
    WAIT = "wait"
    """Nothing was done: too many requests."""
    NOT_ALLOWED = "not allowed"
    """Our credentials are not accepted."""
    MISCONFIGURED = "misconfigured"
    """Nothing was done, and nothing will be as configured."""
    VIOLATION = "violation"
    """No server of this protocol says that."""


Meanings = Mapping[int, "Meaning | Callable[[Answer], Meaning]"]
"""By status; where the status alone does not say it, a function of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request.

    A Secret as the value of a header, or anywhere in `json` or `form`, is revealed on the wire alone and taken out of
    every text that the server sends back.

    Attributes:
        operation: one of few words, for metrics and messages.
        url: a path below the configured url, or an absolute URL that the configuration allows.
        json, form, content: the body; at most one of the three.
        statuses: what statuses mean to this call, before the connector's own and the common table.
        follows_307: one redirect of status 307, to a host that the configuration names.
        settings: keys of the options to look at where the backend says that there is no such thing.
    """

    operation: str
    effect: Effect
    url: str
    method: str = "GET"
    headers: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    json: Any | None = field(default=None, repr=False)
    form: Mapping[str, str | Secret] | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    statuses: Meanings = field(default_factory=dict, repr=False)
    follows_307: bool = False
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A call's headers and body as they are sent, and the secrets in them."""

    headers: dict[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def to_wire(call: Call) -> Wire:
    """What goes out for a call; an answer may not be compressed, so that its size is what it seems.

    Raises:
        Misconfigured: a header's value, which most often is a secret out of a file, cannot stand in one.
    """
    secrets: list[str] = []

    def reveal(value: object) -> str:
        if not isinstance(value, Secret):
            raise TypeError(f"{type(value).__name__} is no JSON")
        # Of a header like "Bearer TOKEN" a server may repeat the token alone.
        secrets.extend((value.reveal(), value.reveal().removeprefix("Bearer ")))
        return value.reveal()

    def plain(values: Mapping[str, str | Secret]) -> dict[str, str]:
        return {name: each if isinstance(each, str) else reveal(each) for name, each in values.items()}

    headers = {"Accept-Encoding": "identity", **plain(call.headers)}
    for name, value in headers.items():
        if not (name.isascii() and value.isascii() and value.isprintable()):
            raise Misconfigured(f"the header {name} cannot have such a name or value: look for line breaks and umlauts")
    content = call.content
    if call.json is not None:
        content = json.dumps(call.json, default=reveal).encode()
        headers.setdefault("Content-Type", "application/json")
    elif call.form is not None:
        content = urlencode(plain(call.form)).encode()
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    return Wire(headers=headers, content=content, secrets=tuple(each for each in secrets if each))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the backend said.

    Attributes:
        headers: names in lower case.
        body: not compressed, within the configured size.
        url: where the answer came from.
        retry_after_seconds: of the header Retry-After, in whichever of its two forms.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str
    retry_after_seconds: int | None = None

    @property
    def is_success(self) -> bool:
        return self.status // 100 == 2  # noqa: PLR2004 - RFC 9110 §15.3

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def parse(self, model: type[M]) -> M:
        """The JSON body.

        Raises:
            ProtocolViolation: it is something else; what it says is not repeated, because it may be secret.
        """
        try:
            return model.model_validate_json(self.body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            kind = self.media_type or "no Content-Type"
            what = f"{where}: {first['msg']}" if where else "the body is no JSON"
            raise ProtocolViolation(
                f"{self.url} answered {self.status} ({kind}) with what it should not: {what}"
            ) from None

    def first_line(self) -> str:
        """The first line of the body as far as it can be shown: no control characters, and not long."""
        return shown(self.body)


def shown(said: str | bytes) -> str:
    """The first line of what somebody else said, fit for a message."""
    text = said if isinstance(said, str) else said[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")
    line = " ".join(text.strip().splitlines()[:1])
    return "".join(each for each in line[:_SHOWN_CHARACTERS] if each.isprintable()) or "nothing"
