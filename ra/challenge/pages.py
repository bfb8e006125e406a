"""HTTP pages that a validator has beside its check, as values: what is asked, and what is answered. No framework.

A page stands on the public listener only because the configuration has a validator with one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Protocol, runtime_checkable

from pydantic import AfterValidator


class Listener(StrEnum):
    """Where a page is served."""

    PUBLIC = "public"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """One request for a page.

    Attributes:
        headers: names in lower case, in the order they came; some may come twice.
        peer: the address that the connection comes from.
        ca_certificate: of the CA behind the validator's first profile, DER.
    """

    method: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    peer: str
    ca_certificate: bytes

    def header(self, name: str) -> str | None:
        """The value of the one header of that name; None where there is none, or more than one."""
        values = [value for each, value in self.headers if each == name]
        return values[0] if len(values) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAnswer:
    """What is sent back.

    Attributes:
        body: it may hold a secret.
        outcome: for the log and the metrics, from a small fixed set of words.
        caller: for the log: the account that was let in.
    """

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    media_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()
    outcome: str
    caller: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page and where it is served.

    Attributes:
        path: without a slash at its end; upper and lower case, and such a slash, do not count.
        methods: what is answered; others get 405.
    """

    path: str
    listener: Listener
    methods: tuple[str, ...]
    answer: Callable[[PageRequest], Awaitable[PageAnswer]] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedPage:
    """A page, and the certificate of the CA (DER) whose devices are handed what it gives."""

    page: Page
    ca_certificate: bytes


@runtime_checkable
class Paged(Protocol):
    """What a Validator is beside, when it has a page."""

    @property
    def page(self) -> Page: ...


def say(status: int, sentence: str, outcome: str, *headers: tuple[str, str]) -> PageAnswer:
    """One sentence as plain text."""
    return PageAnswer(status=status, body=f"{sentence}\n".encode(), headers=headers, outcome=outcome)


def _page_path(value: str) -> str:
    path = value.rstrip("/")
    taken = ("/api/", "/scep", "/cgi-bin", "/certsrv/mscep/", "/livez", "/readyz", "/metrics", "/ops")
    if not path.startswith("/") or "//" in path or not path.isascii() or set(path) & set("{}?# %"):
        raise ValueError('write a path like "/certsrv/mscep_admin"')
    if f"{path.lower()}/".startswith(taken):
        raise ValueError("something else is served there; write another path")
    return path


PagePath = Annotated[str, AfterValidator(_page_path)]
