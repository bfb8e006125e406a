"""The two tables of docs/challenges/intune.md: every cell is what is seen, told and done, against the simulated Intune."""

from __future__ import annotations

import itertools
import re
import runpy
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse, Response

from connectors.api import Capability, Pending, Rejection
from ra.challenge.intune.codes import CODES, FAILURES
from ra.client import replies
from ra.client.names import FailInfo
from ra.errors import Reason, Unavailable
from ra.journal.states import State
from ra.service.operate import DENIED
from ra.simulate.intune import FAILURE, SUCCESS, VALIDATE, SimulatedIntune
from ra.simulate.intune.forms import GraphRefused, graph_error, internal_error
from tests.fakes import pki
from tests.fakes.device import Device
from tests.fakes.intunes import Managed, managed
from tests.fakes.issuing import IssuingCa
from tests.fakes.simulated import Front, listening_front

pytestmark = pytest.mark.anyio

CA = pki.root()
ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/challenges/intune.md").read_text("utf-8")
LATER = timedelta(hours=2)
"""The CA decides then: no token, and no place that was found, is good any more."""

TOKEN, ENDPOINTS, ACTIONS = "oauth2/v2.0/token", "/endpoints", "ScepActions"
Fault = Callable[[SimulatedIntune], None]
_NUMBERS = itertools.count(1)


def table(title: str) -> dict[str, list[str]]:
    """The rows below a heading of the page: the first cell, and the others."""
    body = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [[each.strip() for each in line.strip("|").split(" | ")] for line in body.splitlines() if line[:1] == "|"]
    return {re.sub("^`([^`]+)`$", r"\1", row[0]): row[1:] for row in rows[2:]}


def always(path: str, answer: Response | None = None) -> Fault:
    return lambda intune: intune.faults.always(path, answer)


def refused(path: str, status: int, headers: dict[str, str] | None = None) -> Fault:
    answer = graph_error(GraphRefused(status, "Error", "What it says."))
    answer.headers.update(headers or {})
    return always(path, answer)


def without_secret(intune: SimulatedIntune) -> None:
    intune.entra.client_secret = "another"


def with_expired_secret(intune: SimulatedIntune) -> None:
    intune.entra.secret_ends_at = pki.NOW


def without_consent(intune: SimulatedIntune) -> None:
    intune.entra.consented = False


def without_role(intune: SimulatedIntune) -> None:
    intune.has_role = False


def at(url: str) -> Fault:
    return lambda intune: intune.places.update(ScepRequestValidationFEService=url)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


NONSENSE = PlainTextResponse("<html>Sign in to the network</html>")

FAULTS: dict[str, Fault] = {
    "token: the client secret is wrong": without_secret,
    "token: the client secret has expired": with_expired_secret,
    "token: HTTP 400": refused(TOKEN, 400),
    "token: HTTP 403": refused(TOKEN, 403),
    "token: HTTP 429": refused(TOKEN, 429, {"Retry-After": "30"}),
    "token: HTTP 500": refused(TOKEN, 500),
    "token: no answer": always(TOKEN),
    "token: an answer that is none": always(TOKEN, NONSENSE),
    "discovery: HTTP 401": refused(ENDPOINTS, 401),
    "discovery: HTTP 403, no admin consent": without_consent,
    "discovery: HTTP 404": refused(ENDPOINTS, 404),
    "discovery: HTTP 429": refused(ENDPOINTS, 429, {"Retry-After": "30"}),
    "discovery: HTTP 500": refused(ENDPOINTS, 500),
    "discovery: no answer": always(ENDPOINTS),
    "discovery: an answer that is none": always(ENDPOINTS, NONSENSE),
    "discovery: the service is not named": without_role,
    "discovery: an address outside `allowed_hosts`": at("https://intune.example.org/RACerts"),
    "service: nobody listens": at(f"http://127.0.0.1:{closed_port()}"),
    "service: HTTP 400": refused(ACTIONS, 400),
    "service: HTTP 401": refused(ACTIONS, 401),
    "service: HTTP 403": refused(ACTIONS, 403),
    "service: HTTP 404": refused(ACTIONS, 404),
    "service: HTTP 410": refused(ACTIONS, 410),
    "service: HTTP 429": refused(ACTIONS, 429, {"Retry-After": "30"}),
    "service: HTTP 500": always(ACTIONS, internal_error("id")),
    "service: HTTP 503": refused(ACTIONS, 503, {"Retry-After": "30"}),
    "service: no answer": always(ACTIONS),
    "service: an answer that is none": always(ACTIONS, NONSENSE),
    "service: an answer without `code`": always(ACTIONS, PlainTextResponse('{"value": true}')),
}
"""By the first cell of the table."""

BY_FAULT = table("When Intune cannot be asked")
BY_CODE = table("What Intune may answer")


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as listening:
        yield listening


@pytest.fixture
async def issuing() -> IssuingCa:
    ca = IssuingCa(CA, Capability.IDEMPOTENT, Capability.NOT_AFTER, Capability.POLL, Capability.REVOKE)
    ca.answer = Pending(reference="order 1", retry_after_seconds=int(LATER.total_seconds()))
    return ca


@pytest.fixture
async def here(
    tmp_path: Path, front: Front, issuing: IssuingCa, request: pytest.FixtureRequest
) -> AsyncIterator[Managed]:
    """What never answers is waited for half a second only; what does has all the time that a busy machine takes."""
    patience = {"timeout_seconds": 0.5 if "no answer" in request.node.name else 10}
    async with managed(tmp_path, front, issuing, CA, options=patience) as registration_authority:
        yield registration_authority


class Story:
    """One device's enrolment, and how it stands: what the device sees, Intune was told, became of the certificate."""

    def __init__(self, here: Managed, issuing: IssuingCa) -> None:
        self._here = here
        self._issuing = issuing
        self._device = Device(subject=f"CN=device {next(_NUMBERS)}")
        self._name = f"{next(_NUMBERS):032x}"

    async def begin(self) -> str:
        """A request; how it stands."""
        challenge = self._here.challenge()
        message = self._device.enrol_message(self._here.ra.ca, challenge=challenge, transaction_id=self._name)
        return await self._standing(message)

    async def issue(self) -> str:
        """The CA has issued, and the device polls; how it stands."""
        await self._here.ra.sweep(LATER)
        return await self.poll()

    async def poll(self) -> str:
        return await self._standing(self._device.poll_message(self._here.ra.ca, transaction_id=self._name))

    async def pass_by(self, time: timedelta) -> None:
        """Time passes, and what is due is done."""
        for _ in range(5):
            await self._here.ra.sweep(time / 5)
            await self._here.deliver()
        await self._here.ra.sweep()

    async def _standing(self, message: bytes) -> str:
        return f"{await self._seen(message)} · {self._told()} · {await self._became()}"

    async def _seen(self, message: bytes) -> str:
        try:
            answer = await self._here.ra.answer(message)
        except Unavailable:
            return "HTTP 503"
        match self._device.open(answer.body):
            case replies.Success():
                return "SUCCESS"
            case replies.Pending():
                return "PENDING"
            case replies.Failure(fail_info=why, text=text):
                return f"FAILURE {'badRequest' if why is FailInfo.BAD_REQUEST else why}" + (
                    ", with text" if text else ""
                )

    def _told(self) -> str:
        kinds = [
            name for name, action in (("success", SUCCESS), ("failure", FAILURE)) if self._here.intune.told(action)
        ]
        return " and ".join(kinds) or "nothing"

    async def _became(self) -> str:
        rows = [row for row in await self._here.ra.transactions() if row.transaction_id == self._name.encode()]
        state = rows[0].state if rows else None
        if state is State.REVOKED:
            assert rows[0].certificate in [each for each, _ in self._issuing.revoked]
            return "revoked"
        return {None: "none", State.PENDING: "none", State.ISSUED: "held back", State.RELEASED: "released"}.get(
            state, str(state)
        )


def test_the_tables_name_all_there_is() -> None:
    assert FAULTS.keys() == BY_FAULT.keys()
    assert {*CODES, "any other"} == BY_CODE.keys()


@pytest.mark.parametrize("name", FAULTS)
async def test_what_a_fault_does_before_and_after_the_ca_has_issued(
    name: str, here: Managed, issuing: IssuingCa
) -> None:
    before, after, over, never = BY_FAULT[name]
    first, second, third = (Story(here, issuing) for _ in range(3))

    FAULTS[name](here.intune)
    assert before == await first.begin()

    mend(here)
    here.ra.clock.advance(timedelta(minutes=2))
    await second.begin()
    FAULTS[name](here.intune)
    assert after == await second.issue()
    await second.pass_by(timedelta(minutes=75))
    assert never == await second.poll()

    mend(here)
    await third.begin()
    FAULTS[name](here.intune)
    assert after == await third.issue()
    mend(here)
    await third.pass_by(timedelta(minutes=25))
    assert over == await third.poll()


def mend(here: Managed) -> None:
    """All is well again."""
    intune = here.intune
    intune.faults.end()
    intune.entra.client_secret = here.beside.secrets["file:intune.secret"]
    intune.entra.secret_ends_at = None
    intune.entra.consented = intune.has_role = True
    intune.places.clear()


async def test_what_a_code_to_the_validation_does(here: Managed, issuing: IssuingCa) -> None:
    seen = {}
    for code in BY_CODE:
        here.intune.codes[VALIDATE].append(code if code in CODES else "CodeOfTomorrow")
        seen[code] = await Story(here, issuing).begin()

    assert {code: cells[0] for code, cells in BY_CODE.items()} == seen


async def test_what_a_code_to_the_notification_does(here: Managed, issuing: IssuingCa) -> None:
    seen = {}
    for code in BY_CODE:
        story = Story(here, issuing)
        await story.begin()
        here.intune.codes[SUCCESS].append(code if code in CODES else "CodeOfTomorrow")
        await story.issue()
        await here.ra.sweep()
        seen[code] = await story.poll()

    assert {code: cells[1] for code, cells in BY_CODE.items()} == seen


@pytest.mark.parametrize("name", ["token: HTTP 500", "discovery: the service is not named", "service: HTTP 503"])
async def test_with_async_the_device_is_served_all_the_same(
    name: str, tmp_path: Path, front: Front, issuing: IssuingCa
) -> None:
    async with managed(tmp_path, front, issuing, CA, options={"notify_policy": "async"}) as here:
        story = Story(here, issuing)
        await story.begin()
        FAULTS[name](here.intune)
        seen = await story.issue()
        await story.pass_by(timedelta(hours=5))
        mend(here)
        await story.pass_by(timedelta(hours=1))

        assert "SUCCESS · nothing · released" == seen
        assert "SUCCESS · success · released" == await story.poll()


def test_every_reason_of_a_failure_has_a_number_of_its_own() -> None:
    reasons = [*Rejection, "EXPIRED", DENIED, *(each.name for each in Reason if each.name.endswith("_NOT_ALLOWED"))]

    assert set(reasons) <= FAILURES.keys()
    assert len(FAILURES) == len(set(FAILURES.values()))


def test_the_page_has_the_codes_of_the_code() -> None:
    assert runpy.run_path(str(ROOT / "docs/intune.py"))["section"]() in PAGE


def test_a_page_says_what_every_code_means() -> None:
    for code, known in CODES.items():
        meaning, advice = BY_CODE[code][2:]
        assert re.sub(r"\s+", " ", known.meaning) == meaning
        assert known.advice == advice
