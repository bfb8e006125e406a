from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.schema import CreateTable

from ra.journal.tables import DerSequence, Instant, NotifyList, metadata, split_der
from ra.policy.grant import Notify

SQLITE = SQLiteDialect()
POSTGRESQL = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy does not annotate it
OFFSETS = st.builds(timezone, st.timedeltas(timedelta(hours=-14), timedelta(hours=14)))
PATIENCE = st.integers(0, 10**9).map(lambda seconds: timedelta(seconds=seconds))
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=OFFSETS)  # noqa: DTZ001 - bounds are naive


def der(content: bytes) -> bytes:
    """An OCTET STRING in its shortest form."""
    size = len(content)
    if size < 0x80:
        return bytes([0x04, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x04, 0x80 | len(octets)]) + octets + content


@given(st.lists(st.integers(0, 70_000).map(bytes), max_size=4))
def test_der_values_that_were_joined_are_split_again(contents: list[bytes]) -> None:
    values = tuple(der(each) for each in contents)

    assert values == split_der(b"".join(values))


def test_no_chain_reads_as_an_empty_one() -> None:
    assert () == DerSequence().process_result_value(None, SQLITE)


@given(TIMES)
def test_a_time_survives_to_the_microsecond(time: datetime) -> None:
    stored = Instant().process_bind_param(time, SQLITE)

    assert time == Instant().process_result_value(stored, SQLITE)


def test_a_time_is_stored_as_microseconds_of_utc() -> None:
    paris = timezone(timedelta(hours=1))

    assert 3_600_000_001 == Instant().process_bind_param(datetime(1970, 1, 1, 2, 0, 0, 1, tzinfo=paris), SQLITE)
    assert datetime(1970, 1, 1, tzinfo=UTC) == Instant().process_result_value(0, SQLITE)


@given(st.lists(st.builds(Notify, validator=st.text(), is_strict=st.booleans(), patience=PATIENCE)))
def test_whom_to_tell_survives(told: list[Notify]) -> None:
    stored = NotifyList().process_bind_param(tuple(told), SQLITE)

    assert tuple(told) == NotifyList().process_result_value(json.loads(json.dumps(stored)), SQLITE)


def test_every_table_can_be_made_on_postgresql() -> None:
    made = [str(CreateTable(table).compile(dialect=POSTGRESQL)) for table in metadata.sorted_tables]

    assert len(metadata.tables) == len(made)
    assert not [each for each in made if "AUTOINCREMENT" in each]
