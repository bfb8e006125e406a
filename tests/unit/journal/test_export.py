from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ra.errors import Misconfigured
from ra.journal.audit import Event, list_events, microseconds
from ra.journal.checkpoints import Unreadable
from ra.journal.export import (
    read_checkpoint,
    read_public_key,
    stream_sealed,
    write_checkpoint,
    write_json,
    write_syslog,
)
from tests.fakes.audited import SIGNER, AuditedJournal, audited
from tests.fakes.enrolments import NOW

CHAIN = UUID("6a1f2b3c-0000-4000-8000-000000000001")
EVENT = Event(
    chain=CHAIN, number=2, at=NOW, event='{"event":"decision","subject":"CN=]\\"\\\\"}', digest=bytes(range(32))
)


@pytest.fixture
def journal() -> Iterator[AuditedJournal]:
    with audited() as journal:
        chain = journal.process()
        journal.commit(chain, "decision")
        journal.seal()
        journal.commit(chain, "outcome")
        journal.commit(journal.process(), "decision")
        journal.seal()
        journal.commit(chain, "outcome")
        yield journal


def test_a_line_is_one_object_with_the_event_last_and_as_it_is_stored() -> None:
    line = write_json(EVENT)

    assert {
        "chain": str(CHAIN),
        "number": 2,
        "at": "2026-11-23T12:00:00.000000Z",
        "digest": bytes(range(32)).hex(),
        "event": {"event": "decision", "subject": 'CN=]"\\'},
    } == json.loads(line)
    assert line.endswith(f',"event":{EVENT.event}}}')


def test_the_digest_can_be_made_again_from_the_lines(journal: AuditedJournal) -> None:
    previous: dict[str, bytes] = {}
    for event in list_events(journal.connection):
        line = write_json(event)
        value, text = json.loads(line), line.partition(',"event":')[2][:-1]
        encoded = (
            previous.get(value["chain"], bytes(32))
            + UUID(value["chain"]).bytes
            + value["number"].to_bytes(8)
            + microseconds(event.at).to_bytes(8, signed=True)
            + text.encode()
        )
        previous[value["chain"]] = sha256(encoded).digest()

        assert value["digest"] == previous[value["chain"]].hex()


@pytest.mark.parametrize("text", ["no JSON", '{"event":\n"decision"}', '{"event":"é"}', "[1]", '{"event":"decision"}}'])
def test_what_was_changed_is_one_line_all_the_same(text: str) -> None:
    line = write_json(replace(EVENT, event=text))

    assert text == json.loads(line)["event"]
    assert line.isascii()
    assert line.isprintable()


def test_a_syslog_message_is_of_rfc_5424() -> None:
    message = write_syslog(EVENT)

    pattern = (
        r"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (-|[!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128})"
        r" ([!-~]{1,32}) - (.*)"
    )
    match = re.fullmatch(pattern, message)
    assert match is not None
    assert ("110", "2026-11-23T12:00:00.000000Z", "-", "scep-ra", str(CHAIN), "decision") == match.groups()[:6]
    assert json.loads(write_json(EVENT)) == json.loads(match[7])


@pytest.mark.parametrize("text", ['{"event":"a b"}', '{"event":"x\\n<1>1"}', "no JSON", "{}"])
def test_a_kind_that_is_not_known_is_no_msgid(text: str) -> None:
    assert f"{CHAIN} - - {{" in write_syslog(replace(EVENT, event=text))


def test_what_later_checkpoints_seal_is_told_once(journal: AuditedJournal) -> None:
    def told(after: int, last: int) -> list[tuple[int, int]]:
        return sorted((each.chain.int & 0xFF, each.number) for each in stream_sealed(journal.connection, after, last))

    assert [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)] == told(0, 2)
    assert [(1, 1), (1, 2)] == told(0, 1)
    assert [(1, 3), (2, 1), (2, 2)] == told(1, 2)
    assert [] == told(2, 2)


def test_a_checkpoint_that_was_changed_stops_the_export(journal: AuditedJournal) -> None:
    journal.connection.exec_driver_sql("UPDATE audit_checkpoints SET statement = '{}' WHERE number = 2")

    with pytest.raises(Unreadable):
        list(stream_sealed(journal.connection, 0, 2))


def test_a_checkpoint_comes_back_from_its_file(journal: AuditedJournal) -> None:
    newest = journal.newest()

    text = json.dumps(write_checkpoint(newest, SIGNER.public_key()))

    assert newest == read_checkpoint(text)
    assert SIGNER.public_key() == read_public_key(json.loads(text)["public_key"].encode())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"statement":"{}","signature":""}', '{"statement":1,"signature":"00"}']
)
def test_another_file_is_no_checkpoint(text: str) -> None:
    with pytest.raises(Misconfigured):
        read_checkpoint(text)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_another_key_is_no_key_of_checkpoints(pem: bytes) -> None:
    with pytest.raises(Misconfigured):
        read_public_key(pem)
