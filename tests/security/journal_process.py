"""A process that writes into a journal, for the tests that race two of them or kill one."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from ra.errors import Refused
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.records import NewTransaction
from ra.journal.transactions import authorise
from tests.fakes.enrolments import NOW, a_secret, a_transaction, an_identity


def contender(name: str, number: int, *, spend: str | None = None) -> NewTransaction:
    """A request that no other process makes, presenting a secret that others present too."""
    key = f"{name} {number}".encode().ljust(32, b".")
    identity = an_identity(signer_key=key, csr_key=key, names=key)
    new = a_transaction(identity, spend=a_secret(spend.encode()) if spend else None)
    return replace(new, id=uuid4(), idempotency_key=uuid4())


async def race(journal: Journal, name: str, secrets: int, contenders: int) -> None:
    """Prints the secrets this process has won."""

    async def present(secret: int, number: int) -> None:
        new = contender(name, secret * contenders + number, spend=f"secret {secret}")
        try:
            await journal.write(lambda c: authorise(c, new, NOW))
        except Refused:
            return
        print(secret, flush=True)  # noqa: T201 - the parent reads it

    await asyncio.gather(*(present(secret, number) for number in range(contenders) for secret in range(secrets)))


async def write_until_killed(journal: Journal, name: str) -> None:
    """Prints the id of every transaction once it is committed."""

    async def enrol(lane: int) -> None:
        number = lane
        while True:
            new = contender(name, number)
            transaction = await journal.write(lambda c: authorise(c, new, NOW))  # noqa: B023 - awaited at once
            print(transaction.id, flush=True)  # noqa: T201 - the parent reads it
            number += 8

    await asyncio.gather(*(enrol(lane) for lane in range(8)))


async def main(url: str, what: str, name: str) -> None:
    journal = await Journal.open(url, directory=Path(), companion=Chain())
    if what == "race":
        await race(journal, name, secrets=50, contenders=8)
        await journal.aclose()
    else:
        await write_until_killed(journal, name)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
