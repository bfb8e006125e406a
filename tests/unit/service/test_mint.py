from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.api import Secret
from ra.challenge.one_time import KeptSecrets
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.one_time import Selection
from ra.journal.sealing import JournalKey
from ra.service.mint import BadName, Mint, Minted, Terms, Wish, read_names
from tests.fakes.clock import FakeClock
from tests.fakes.enrolments import NOW

KEY, OTHER_KEY = JournalKey(b"1" * 32), JournalKey(b"2" * 32)
TERMS = Terms(method="once", profile="default", ttl=timedelta(hours=1), length=28)

T = TypeVar("T")


def in_journal(url: str, work: Callable[[Journal, Mint], Awaitable[T]]) -> T:
    async def go() -> T:
        journal = await Journal.open(url, directory=Path(), companion=Chain())
        try:
            return await work(journal, Mint(journal=journal, key=KEY, clock=FakeClock(), entropy=os.urandom))
        finally:
            await journal.aclose()

    return asyncio.run(go())


def test_what_was_minted_is_found_by_the_secret_and_the_key_it_was_minted_with(journal_url: str) -> None:
    async def work(journal: Journal, mint: Mint) -> None:
        first, second = await mint.create(TERMS, [Wish(label="first", names=("CN=a",)), Wish(label="second")], "ada")
        kept, other = KeptSecrets(), KeptSecrets()
        kept.bind(journal, KEY)
        other.bind(journal, OTHER_KEY)

        found = await kept.find(first.secret.reveal().lower())

        assert found is not None
        assert ("first", ("CN=a",), "once", "default") == (found.label, found.names, found.method, found.profile)
        assert first.expires_at == found.expires_at == found.created_at + timedelta(hours=1)
        assert await kept.find("anything") is None
        assert await other.find(second.secret.reveal()) is None

    in_journal(journal_url, work)


def test_what_is_listed_and_revoked_is_what_was_minted(journal_url: str) -> None:
    async def work(_: Journal, mint: Mint) -> None:
        minted = await mint.create(TERMS, [Wish(label=f"secret {number}") for number in range(5)], "ada")

        revoked = await mint.revoke(Selection(label="secret 3"), "ada")
        listed = await mint.list_secrets(Selection(method="once"), 10)

        assert ["secret 3"] == [each.label for each in revoked]
        assert [each.label for each in minted] == [each.label for each in listed]
        assert ["secret 3"] == [each.label for each in listed if each.revoked_at]

    in_journal(journal_url, work)


def test_nothing_is_minted_for_nobody(journal_url: str) -> None:
    assert () == in_journal(journal_url, lambda _, mint: mint.create(TERMS, [], "ada"))


def test_a_new_secret_does_not_show() -> None:
    minted = Minted(label="first", secret=Secret("7K3F-QQ2M"), names=None, expires_at=NOW)

    assert "7K3F-QQ2M" not in f"{minted!r} {minted}"


@pytest.mark.parametrize(
    ("subject", "names", "read"),
    [
        (None, (), None),
        ("", (), None),
        ("CN=a", (), ("CN=a",)),
        ("CN=a,O=Ex\\, ample+OU=b", (), ("CN=a", "O=Ex, ample", "OU=b")),
        ("serialNumber=1,SERIALNUMBER=2,2.5.4.5=3", (), ("serialNumber=1", "serialNumber=2", "serialNumber=3")),
        ("E=a@b,emailAddress=c@d", (), ("emailAddress=a@b", "emailAddress=c@d")),
        (None, ("dns:a", "dns:a", "uri:b:c"), ("dns:a", "uri:b:c")),
        (None, ("ip:2001:DB8:0::1", "upn:a@b", "email:a@b"), ("email:a@b", "ip:2001:db8::1", "upn:a@b")),
        (None, ("sid:S-1-5-21-1-2-3",), ("sid:S-1-5-21-1-2-3",)),
    ],
)
def test_names_are_read_as_requests_spell_them(
    subject: str | None, names: tuple[str, ...], read: tuple[str, ...] | None
) -> None:
    assert read == read_names(subject, names)


@given(st.text(), st.lists(st.text(), max_size=3))
def test_a_text_is_names_or_a_bad_name(subject: str, names: list[str]) -> None:
    try:
        read = read_names(subject, names)
    except BadName:
        return

    assert read or not (subject or names)
