"""Races for one-time secrets: each presented at once with many keys, in two processes (`python -m benchmarks.race`).

Every contender does what an enrolment does with a secret: the validator looks it up, and what it grants is authorised in
a commit. There is one winner of a secret, or the run fails. The journal itself is counted too, afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier
from pathlib import Path
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection, select

from ra.challenge.api import Attempt, Deny
from ra.challenge.one_time import KeptSecrets
from ra.challenge.otp import OneTime, Options
from ra.errors import Refused
from ra.journal.chain import Chain
from ra.journal.database import Journal
from ra.journal.records import NewTransaction, RequestIdentity
from ra.journal.sealing import JournalKey
from ra.journal.states import State
from ra.journal.tables import spent_secrets, transactions
from ra.journal.transactions import authorise
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from ra.scep.header import CertificateId
from ra.scep.messages import SignerCertificate
from ra.scep.names import Digest
from ra.service.mint import Mint, Terms, Wish
from tests.fakes import postgres

PROCESSES = 2
BATCH = 250
PATIENCE_SECONDS = 60
METHOD, PROFILE = "once", "default"
NOW = datetime(2031, 6, 1, 12, tzinfo=UTC)
MASTER = bytes(range(32))
POSTGRES_SETTINGS = {"listen_addresses": ""}
"""All else as it comes: every commit is durable."""

Outcome = tuple[int, str, UUID]
"""Of one contender: the round, what became of it (`won`, `refused`, `denied`), and the id of its transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What is run: each of `rounds` secrets is presented `ways` times at once."""

    url: str
    directory: Path
    rounds: int
    ways: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What it showed.

    Attributes:
        winners: how many rounds had so many winners.
        refused: contenders that the commit refused.
        denied: contenders that the look-up denied, the secret being spent by then.
        agrees: the journal has the winners' transactions and no others, and each has spent a secret.
    """

    winners: Counter[int]
    refused: int
    denied: int
    agrees: bool
    seconds: float

    def is_fair(self, race: Race) -> bool:
        """Whether every secret had one winner, and the journal says the same."""
        return self.agrees and self.winners == Counter({1: race.rounds})


def run(race: Race) -> Result:
    """Mints the secrets, races for them, and counts."""
    Journal.create(race.url, directory=race.directory)
    secrets = asyncio.run(_mint(race))
    started = time.perf_counter()
    outcomes = _contended(race, secrets)
    seconds = time.perf_counter() - started
    won = Counter(number for number, outcome, _ in outcomes if outcome == "won")
    winners = sorted(which for _, outcome, which in outcomes if outcome == "won")
    kinds = Counter(outcome for _, outcome, _ in outcomes)
    return Result(
        winners=Counter(won[number] for number in range(race.rounds)),
        refused=kinds["refused"],
        denied=kinds["denied"],
        agrees=asyncio.run(_kept(race)) == (winners, winners),
        seconds=seconds,
    )


# ---------------------------------------------------------------- before and after
class _Clock:
    """The time of the race, which stands still."""

    def now(self) -> datetime:
        return NOW

    def monotonic_seconds(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _open(race: Race) -> Journal:
    return await Journal.open(race.url, directory=race.directory, companion=Chain(), patience_seconds=PATIENCE_SECONDS)


async def _mint(race: Race) -> list[str]:
    journal = await _open(race)
    mint = Mint(journal=journal, key=JournalKey(MASTER), clock=_Clock(), entropy=os.urandom)
    terms = Terms(method=METHOD, profile=PROFILE, ttl=timedelta(days=1), length=Options().length)
    secrets: list[str] = []
    for start in range(0, race.rounds, BATCH):
        wishes = [Wish(label=f"secret {number}") for number in range(start, min(start + BATCH, race.rounds))]
        secrets += [each.secret.reveal() for each in await mint.create(terms, wishes, "race")]
    await journal.aclose()
    return secrets


async def _kept(race: Race) -> tuple[list[UUID], list[UUID]]:
    """The transactions that have spent a secret, and those there are."""

    def ids(connection: Connection) -> tuple[list[UUID], list[UUID]]:
        spent = connection.execute(select(spent_secrets.c.transaction)).scalars()
        return sorted(spent), sorted(connection.execute(select(transactions.c.id)).scalars())

    journal = await _open(race)
    kept = await journal.read(ids)
    await journal.aclose()
    return kept


# ---------------------------------------------------------------- the race
def _contended(race: Race, secrets: Sequence[str]) -> list[Outcome]:
    """What became of every contender, in processes that begin each round together."""
    context = get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    outcomes: list[Outcome] = []
    running = []
    for _ in range(PROCESSES):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_process, args=(race, secrets, barrier, sending), daemon=True)
        process.start()
        sending.close()
        running.append((process, receiving))
    for process, receiving in running:
        outcomes += receiving.recv()
        process.join()
    return outcomes


def _process(race: Race, secrets: Sequence[str], barrier: Barrier, sending: Pipe) -> None:
    sending.send(asyncio.run(_contend(race, secrets, barrier)))


async def _contend(race: Race, secrets: Sequence[str], barrier: Barrier) -> list[Outcome]:
    journal = await _open(race)
    kept = KeptSecrets()
    kept.bind(journal, JournalKey(MASTER))
    otp = OneTime(METHOD, kept)
    outcomes: list[Outcome] = []
    for number, secret in enumerate(secrets):
        barrier.wait(PATIENCE_SECONDS)
        ways = range(race.ways // PROCESSES)
        outcomes += await asyncio.gather(*(_present(journal, otp, number, secret) for _ in ways))
    await journal.aclose()
    return outcomes


async def _present(journal: Journal, otp: OneTime, number: int, secret: str) -> Outcome:
    """One device with a key of its own that has got hold of the secret."""
    which = uuid4()
    csr = _csr(secret, which)
    verdict = await otp.check(_attempt(csr))
    if isinstance(verdict, Deny):
        return number, "denied", which
    assert isinstance(verdict, Grant), verdict
    new = _transaction(which, csr, verdict)
    try:
        await journal.write(lambda connection: authorise(connection, new, NOW))
    except Refused:
        return number, "refused", which
    return number, "won", which


@cache
def _public_key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def _csr(secret: str, which: UUID) -> Csr:
    """A request whose key is told from others by the id."""
    return Csr(
        der=which.bytes,
        info=which.bytes,
        subject=(),
        subject_der=b"",
        spki=which.bytes,
        public_key=_public_key(),
        signature_digest=Digest.SHA256,
        challenge_password=secret,
        subject_alternative_names=(),
        key_usage=None,
        extended_key_usage=None,
        basic_constraints_ca=False,
        extensions=(),
        attributes=(),
    )


def _attempt(csr: Csr) -> Attempt:
    named = CertificateId(issuer=b"", serial=1, key_id=None)
    signer = SignerCertificate(der=b"", certificate_id=named, subject=b"", spki=csr.spki, public_key=csr.public_key)
    return Attempt(profile=PROFILE, transaction_id=csr.spki.hex(), csr=csr, signer=signer, arrived_at=NOW)


def _transaction(which: UUID, csr: Csr, grant: Grant) -> NewTransaction:
    key = sha256(csr.spki).digest()
    identity = RequestIdentity(
        profile=PROFILE,
        signer_key=key,
        transaction_id=which.bytes,
        csr_key=key,
        names=key,
        csr_info=key,
        renewal_signer=None,
    )
    return NewTransaction(
        id=which,
        state=State.SUBMITTING,
        idempotency_key=which,
        identity=identity,
        contents=key,
        connector="lab",
        subject="",
        grant=grant,
        request=b"",
        due_at=NOW + timedelta(minutes=1),
        expires_at=NOW + timedelta(days=7),
    )


# ---------------------------------------------------------------- the command
def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--ways", type=int, default=64)
    options = parser.parse_args(arguments)
    print("| database | rounds | ways | one winner | none | several | at the commit | at the look-up | rounds/s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    is_fair = True
    for name, url, directory in _databases():
        race = Race(url=url, directory=directory, rounds=options.rounds, ways=options.ways)
        result = run(race)
        is_fair &= result.is_fair(race)
        print(_row(name, race, result), flush=True)
    return 0 if is_fair else 1


def _databases() -> Iterator[tuple[str, str, Path]]:
    """Name, URL and directory of each that there is, empty, and only until the next is asked for."""
    with tempfile.TemporaryDirectory(prefix="race-") as directory:
        yield "SQLite", "sqlite:///ra.db", Path(directory)
    programs = postgres.installed()
    if programs is None:
        print("PostgreSQL's server is not installed: it was not raced on", file=sys.stderr)
        return
    with postgres.running_postgres(programs, POSTGRES_SETTINGS) as cluster:
        yield "PostgreSQL", cluster.empty(), Path()


def _row(database: str, race: Race, result: Result) -> str:
    one, none = result.winners[1], result.winners[0]
    several = race.rounds - one - none
    rate = race.rounds / result.seconds
    return (
        f"| {database} | {race.rounds} | {race.ways} | {one} | {none} | {several} "
        f"| {result.refused} | {result.denied} | {rate:.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
