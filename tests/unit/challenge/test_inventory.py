from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from connectors.api import ProtocolViolation
from ra.challenge.api import Deny, Unavailable, Verdict
from ra.challenge.inventory import Options, connect, read_list
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from tests.fakes.challenges import NOW, FakeServices, attempt
from tests.fakes.csrs import csr, san, subject
from tests.fakes.simulated import Front, listening_front

CN, SERIAL = "2.5.4.3", "2.5.4.5"
LIST = "hostname,serial,state,owner\nprinter,C02X,active,ada\nscanner,C02Y,retired,bob\nPLOTTER,c02z,active,\n,C02Q,active,x\n"
BOTH = {"CN": "hostname", "serialNumber": "serial"}


@dataclass
class Away:
    """Serves the list, or does not."""

    text: str = LIST
    answer: Response | None = None
    authorizations: list[str | None] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.authorizations.append(Request(scope).headers.get("authorization"))
        answer = self.answer or PlainTextResponse(self.text, media_type="text/csv")
        await answer(scope, receive, send)


@dataclass
class Clock:
    moment: datetime = NOW

    def later(self, **distance: float) -> None:
        self.moment += timedelta(**distance)


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as opened:
        yield opened


@pytest.fixture
def server(front: Front) -> Away:
    server = Away()
    front.app = server
    return server


def asking(*attributes: tuple[str, str], dns: str | None = None) -> Csr:
    return csr(subject=subject(*attributes), subject_alternative_names=(san("dns", dns),) if dns else ())


PRINTER = asking((CN, "printer"), (SERIAL, "C02X"))


def verdicts(
    directory: Path, *steps: tuple[Csr, Callable[[Clock], object]], **options: Any
) -> tuple[list[Verdict], list[str]]:
    """What becomes of several requests at one validator, and what it has reported."""
    fakes, clock, reports = FakeServices({"file:token": "t0ken"}, name="inventory"), Clock(), list[str]()
    services = replace(fakes.services(), now=lambda: clock.moment, directory=directory, report=reports.append)
    usual = {"source": {"file": "devices.csv"}, "columns": BOTH}

    async def run() -> list[Verdict]:
        validator = await connect(Options.model_validate({**usual, **options}), services)
        answers = []
        for request, before in steps:
            before(clock)
            answers.append(await validator.check(attempt(None, request=request)))
        await validator.aclose()
        return answers

    return asyncio.run(run()), reports


def nothing(_: Clock) -> None:
    """Nothing happens."""


def asked(directory: Path, request: Csr, text: str = LIST, **options: Any) -> Verdict:
    (directory / "devices.csv").write_text(text, "utf-8")
    return verdicts(directory, (request, nothing), **options)[0][0]


def test_a_device_of_the_list_is_granted(tmp_path: Path) -> None:
    answer = asked(tmp_path, PRINTER, attributes=["owner"])

    assert Grant(method="inventory", label="on the list", attributes={"owner": "ada"}) == answer


@pytest.mark.parametrize(
    "request_",
    [
        asking((CN, "printer"), (SERIAL, "C02Y")),
        asking((CN, "other"), (SERIAL, "C02X")),
        asking((CN, "printer")),
        asking((SERIAL, "C02X")),
        asking((CN, "printer"), (CN, "scanner"), (SERIAL, "C02X")),
        asking((CN, ""), (SERIAL, "C02Q")),
        asking(),
    ],
)
def test_anything_else_is_denied(tmp_path: Path, request_: Csr) -> None:
    assert isinstance(asked(tmp_path, request_), Deny)


def test_only_rows_that_count_count(tmp_path: Path) -> None:
    scanner = asking((CN, "scanner"), (SERIAL, "C02Y"))

    every, active = asked(tmp_path, scanner), asked(tmp_path, scanner, only={"state": "active"})

    assert isinstance(every, Grant)
    assert isinstance(active, Deny)


@pytest.mark.parametrize(("ignore_case", "kind"), [(True, Grant), (False, Deny)])
def test_case_counts_where_it_is_wanted(tmp_path: Path, ignore_case: bool, kind: type) -> None:
    answer = asked(tmp_path, asking((CN, "plotter"), (SERIAL, "C02Z")), ignore_case=ignore_case)

    assert isinstance(answer, kind)


def test_an_alternative_name_can_be_looked_up(tmp_path: Path) -> None:
    answer = asked(tmp_path, asking(dns="printer"), columns={"dns": "hostname"})

    assert isinstance(answer, Grant)


def test_two_names_of_one_column_must_be_the_same(tmp_path: Path) -> None:
    columns = {"CN": "hostname", "dns": "hostname"}

    same = asked(tmp_path, asking((CN, "printer"), dns="printer"), columns=columns)
    different = asked(tmp_path, asking((CN, "printer"), dns="scanner"), columns=columns)

    assert isinstance(same, Grant)
    assert isinstance(different, Deny)


def test_a_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_text(LIST, "utf-8")

    def remove(clock: Clock) -> None:
        (tmp_path / "devices.csv").write_text("hostname,serial\n", "utf-8")
        clock.later(minutes=16)

    answers, _ = verdicts(tmp_path, (PRINTER, nothing), (PRINTER, remove))

    assert [Grant, Deny] == [type(each) for each in answers]


def test_a_list_that_is_gone_is_used_on_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_text(LIST, "utf-8")

    def remove(clock: Clock) -> None:
        (tmp_path / "devices.csv").unlink()
        clock.later(minutes=16)

    answers, reports = verdicts(
        tmp_path, (PRINTER, nothing), (PRINTER, remove), (PRINTER, lambda clock: clock.later(hours=24))
    )

    assert [Grant, Grant, Unavailable] == [type(each) for each in answers]
    assert "although it is old" in reports[0]


@pytest.mark.parametrize(
    "text", ["", "hostname\nprinter\n", 'hostname,serial\n"printer', "\xff", "hostname,serial,x\n"], ids=range(5)
)
def test_a_file_that_is_no_list_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "devices.csv").write_bytes(text.encode("latin-1"))

    with pytest.raises(Misconfigured, match="list of devices"):
        verdicts(tmp_path, attributes=["owner"])


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"devices\.csv"):
        verdicts(tmp_path)


def test_a_list_from_a_url_is_asked_for_with_its_token(front: Front, server: Away, tmp_path: Path) -> None:
    source = {"url": front.url, "token": "file:token"}

    answers, _ = verdicts(tmp_path, (PRINTER, nothing), (PRINTER, nothing), source=source)

    assert [Grant, Grant] == [type(each) for each in answers]
    assert ["Bearer t0ken"] == server.authorizations


def test_a_list_that_cannot_be_had_lets_nobody_in(front: Front, server: Away, tmp_path: Path) -> None:
    server.answer = PlainTextResponse("", 403)

    answers, _ = verdicts(tmp_path, (PRINTER, nothing), source={"url": front.url})

    assert isinstance(answers[0], Unavailable)


def test_more_values_than_columns_are_passed_over() -> None:
    options = Options.model_validate({"source": {"file": "x"}, "columns": {"CN": "a"}})

    devices = read_list("a,b\n1,2,3\n4\n", options)

    assert {"1", "4"} == set(devices.rows)


def test_a_list_with_semicolons_is_told_as_such() -> None:
    options = Options.model_validate({"source": {"file": "x"}, "columns": {"CN": "a"}})

    with pytest.raises(ProtocolViolation, match="no column a: they are separated by semicolons; save it with commas"):
        read_list("a;b\n1;2\n", options)


def test_a_list_without_a_first_line_is_none() -> None:
    with pytest.raises(ProtocolViolation, match="no column a"):
        read_list("", Options.model_validate({"source": {"file": "x"}, "columns": {"CN": "a"}}))
