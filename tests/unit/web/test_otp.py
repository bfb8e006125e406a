"""`/api/v1/otp` on the admin listener, over a real journal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ra.challenge.one_time import digest_of
from ra.journal.audit import list_events
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.one_time import look_up
from ra.service.mint import Mint, Offer
from ra.web.app import build_admin, build_public
from ra.web.otp import MAX_BODY_BYTES
from tests.fakes.assembled import KEY, URL
from tests.fakes.services import API_KEY, FakeRa, ask

HEADERS = {"Authorization": f"Bearer {API_KEY}"}
OFFERS = (
    Offer(profile="default", method="once", ttl=timedelta(hours=1), length=28),
    Offer(profile="two", method="once", ttl=timedelta(hours=1), length=28),
    Offer(profile="two", method="again", ttl=timedelta(hours=1), length=28),
)

Say = Callable[..., Awaitable[httpx.Response]]


def said(
    directory: Path,
    work: Callable[[Say, Journal], Awaitable[Any]],
    *,
    minters: tuple[str, ...] = ("helpdesk",),
    **ra: Any,
) -> Any:
    """What comes of asking the admin listener."""

    async def run() -> Any:
        Journal.create(URL, directory=directory)
        journal = await Journal.open(URL, directory=directory, companion=Chain())
        fake = FakeRa(**ra)
        mint = Mint(journal=journal, key=KEY, clock=fake.clock, entropy=os.urandom)
        app = build_admin(fake.services(mint=mint, offers=OFFERS, minters=minters))

        async def say(method: str, path: str, **options: Any) -> httpx.Response:
            return await ask(app, method, path, **{"headers": HEADERS, **options})

        try:
            return await work(say, journal)
        finally:
            await journal.aclose()

    return asyncio.run(run())


def once(
    directory: Path, method: str, path: str, *, options: dict[str, Any] | None = None, **ra: Any
) -> httpx.Response:
    async def work(say: Say, _: Journal) -> httpx.Response:
        return await say(method, path, **(options or {}))

    response: httpx.Response = said(directory, work, **ra)
    return response


def test_a_secret_is_shown_once_listed_and_withdrawn(tmp_path: Path) -> None:
    async def work(say: Say, journal: Journal) -> tuple[Any, ...]:
        wish = {"subject": "CN=printer", "san": ["dns:printer.example.org"], "ttl_seconds": 60}
        minted = await say("POST", "/api/v1/otp", json=wish)
        listed = await say("GET", "/api/v1/otp", params={"label": "CN=printer"})
        revoked = await say("POST", "/api/v1/otp/revoke", json={"label": "CN=printer"})
        again = await say("GET", "/api/v1/otp")
        (secret,) = minted.json()["secrets"]
        digest = digest_of(secret["secret"], KEY)
        return minted, listed, revoked, again, await journal.read(lambda c: look_up(c, digest))

    minted, listed, revoked, again, kept = said(tmp_path, work)

    (secret,) = minted.json()["secrets"]
    assert 201 == minted.status_code
    assert ["CN=printer", "dns:printer.example.org"] == secret["names"]
    assert ("once", "default") == (secret["challenge"], secret["profile"])
    assert kept is not None
    assert secret["secret"] not in listed.text
    assert ["unused", "revoked"] == [each.json()["secrets"][0]["state"] for each in (listed, again)]
    assert {"revoked": ["CN=printer"], "spent": 0} == revoked.json()


def test_whoever_mints_is_audited(tmp_path: Path) -> None:
    async def work(say: Say, journal: Journal) -> str:
        await say("POST", "/api/v1/otp", json={"count": 2, "label": "batch"})
        return str(await journal.read(list_events))

    events = said(tmp_path, work)

    assert "API key helpdesk" in events
    assert "batch-2" in events


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/api/v1/otp", {}), ("GET", "/api/v1/otp", None), ("POST", "/api/v1/otp/revoke", {"label": "x"})],
)
def test_only_a_key_that_may_mint_is_let_in(tmp_path: Path, method: str, path: str, body: Any) -> None:
    asked = {"json": body} if body is not None else {}

    statuses = [
        once(tmp_path, method, path, options={**asked, "headers": {}}).status_code,
        once(tmp_path, method, path, options={**asked, "headers": {"X-API-Key": "wrong"}}).status_code,
        once(tmp_path, method, path, options={**asked, "headers": {}}, debug=True).status_code,
        once(tmp_path, method, path, options=asked, minters=()).status_code,
    ]

    assert [401, 401, 401, 403] == statuses


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"profile": "none"}, 409),
        ({"profile": "two"}, 409),
        ({"profile": "two", "challenge": "again"}, 201),
        ({"subject": "printer"}, 400),
        ({"san": ["printer"]}, 400),
        ({"count": 251}, 422),
        ({"ttl_seconds": 0}, 422),
        ({"unknown": 1}, 422),
        ([], 422),
    ],
)
def test_what_cannot_be_minted_is_said(tmp_path: Path, body: Any, status: int) -> None:
    response = once(tmp_path, "POST", "/api/v1/otp", options={"json": body})

    assert status == response.status_code


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("profil", "profil is not a known key; did you mean profile?"),
        ("x", "x is not a known key; known here: profile, "),
    ],
)
def test_an_unknown_key_is_told_with_what_may_be_meant(tmp_path: Path, key: str, said: str) -> None:
    response = once(tmp_path, "POST", "/api/v1/otp", options={"json": {key: 1}})

    assert said in response.text


def test_a_body_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    response = once(tmp_path, "POST", "/api/v1/otp", options={"content": b"x" * (MAX_BODY_BYTES + 1)})

    assert 413 == response.status_code


def test_everything_is_not_withdrawn_by_oversight(tmp_path: Path) -> None:
    assert 400 == once(tmp_path, "POST", "/api/v1/otp/revoke", options={"json": {}}).status_code


def test_it_is_described_and_is_not_on_the_public_listener(tmp_path: Path) -> None:
    described = once(tmp_path, "GET", "/openapi.json").json()["paths"]
    public = asyncio.run(ask(build_public(FakeRa().services()), "POST", "/api/v1/otp", headers=HEADERS, json={}))

    assert {"get", "post"} == described["/api/v1/otp"].keys()
    body = described["/api/v1/otp"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "subject" in body["properties"]
    assert public.status_code in {404, 405}
