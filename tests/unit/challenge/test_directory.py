from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.responses import JSONResponse, PlainTextResponse

from ra.challenge.api import Deny, Unavailable, Verdict
from ra.challenge.directory import Options, connect
from ra.errors import Misconfigured
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from ra.simulate.jamf import SimulatedJamf
from tests.fakes.challenges import NOW, FakeServices, attempt
from tests.fakes.csrs import csr, san, subject
from tests.fakes.graph import SECRET, FakeGraph
from tests.fakes.simulated import Front, listening_front

CN, SERIAL = "2.5.4.3", "2.5.4.5"
ID = "7f2c1f0e-2a43-4f3e-9d5b-1f5d6a1c7b11"
SID = "S-1-5-21-1-2-3-1104"
IN_ENTRA = {"deviceId": ID, "displayName": "DESKTOP-1", "accountEnabled": True, "isCompliant": True}
IN_INTUNE = {"id": ID, "deviceName": "DESKTOP-1", "complianceState": "compliant", "managementState": "managed"}
MICROSOFT = {"tenant": "example.org", "client_id": "app", "client_secret": "file:secret"}


@dataclass
class Clock:
    moment: datetime = NOW


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as opened:
        yield opened


def asking(name: str) -> Csr:
    return csr(subject=subject((CN, name)))


DEVICE = asking(ID)
Step = tuple[Csr, Callable[[Clock], object]]


def verdicts(options: dict[str, Any], secret: str, *steps: Step) -> list[Verdict]:
    clock = Clock()
    services = replace(
        FakeServices({"file:secret": secret + "\n"}, name="managed").services(), now=lambda: clock.moment
    )

    async def run() -> list[Verdict]:
        validator = await connect(Options.model_validate(options), services)
        answers = []
        for request, before in steps:
            before(clock)
            answers.append(await validator.check(attempt(None, request=request)))
        await validator.aclose()
        return answers

    return asyncio.run(run())


def nothing(_: Clock) -> None:
    """Nothing happens."""


def microsoft(front: Front, kind: str, **source: Any) -> dict[str, Any]:
    return {"kind": kind, "url": front.url, "login_url": front.url, **MICROSOFT, **source}


def in_entra(front: Front, graph: FakeGraph, request: Csr = DEVICE, **options: Any) -> Verdict:
    front.app = graph
    given = {"source": microsoft(front, "entra"), "require": ["enabled", "compliant"], **options}
    return verdicts(given, SECRET, (request, nothing))[0]


def graph(*devices: dict[str, Any]) -> FakeGraph:
    return FakeGraph({f"deviceId eq '{ID}'": list(devices)})


def test_a_device_of_entra_is_granted_with_what_is_known_of_it(front: Front) -> None:
    asked = graph({**IN_ENTRA, "onPremisesSecurityIdentifier": SID})

    answer = in_entra(front, asked)

    known = {"device_id": ID, "device_name": "DESKTOP-1", "sid": SID}
    assert Grant(method="managed", label="entra", attributes=known, sid=SID) == answer
    assert ("client_credentials", f"{front.url}/.default") == (asked.forms[0]["grant_type"], asked.forms[0]["scope"])
    assert "/v1.0/devices" == asked.asked[0][0]


@pytest.mark.parametrize("said", ["", "S-1-5", "S-1-5-21-1-2-3-1104\n", 7, None])
def test_what_is_no_sid_is_none(front: Front, said: object) -> None:
    answer = in_entra(front, graph({**IN_ENTRA, "onPremisesSecurityIdentifier": said}))

    assert isinstance(answer, Grant)
    assert answer.sid is None


@pytest.mark.parametrize(
    "devices",
    [
        [],
        [IN_ENTRA, IN_ENTRA],
        [IN_ENTRA | {"accountEnabled": False}],
        [IN_ENTRA | {"isCompliant": False}],
        [IN_ENTRA | {"isCompliant": None}],
        [{"deviceId": ID}],
    ],
)
def test_one_that_is_not_there_or_not_thought_well_of_is_denied(front: Front, devices: list[dict[str, Any]]) -> None:
    assert isinstance(in_entra(front, graph(*devices)), Deny)


@pytest.mark.parametrize("name", ["x' or deviceId ne '", "", "ü", "a" * 65, "*", '"', "a\n", "a\\"])
def test_a_name_that_could_mean_something_to_the_directory_is_not_looked_up(front: Front, name: str) -> None:
    asked = graph(IN_ENTRA)

    answer = in_entra(front, asked, asking(name))

    assert isinstance(answer, Deny)
    assert not asked.asked


def test_the_name_must_be_asked_for_once(front: Front) -> None:
    twice, never = csr(subject=subject((CN, ID), (CN, ID + "x"))), csr(subject=subject((SERIAL, ID)))

    assert [True, True] == [isinstance(in_entra(front, graph(IN_ENTRA), each), Deny) for each in (twice, never)]


def test_a_part_of_a_name_may_be_looked_up(front: Front) -> None:
    request = csr(subject=subject((CN, "x")), subject_alternative_names=(san("uri", f"urn:device:{ID}"),))
    options = {"name": "uri", "pattern": "urn:device:([0-9a-f-]{36})"}

    granted = in_entra(front, graph(IN_ENTRA), request, **options)
    denied = in_entra(front, graph(IN_ENTRA), DEVICE, pattern="urn:device:([0-9a-f-]{36})")

    assert isinstance(granted, Grant)
    assert isinstance(denied, Deny)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Grant),
        ({"complianceState": "noncompliant"}, Deny),
        ({"managementState": "wipePending"}, Deny),
        ({"managementState": "discovered"}, Deny),
        ({"managementState": None}, Deny),
        ({"managementState": "wipeCanceled"}, Grant),
    ],
)
def test_a_device_of_intune_is_judged(front: Front, changes: dict[str, Any], kind: type) -> None:
    front.app = FakeGraph({"serialNumber eq 'C02X'": [IN_INTUNE | changes]})
    options = {"source": microsoft(front, "intune"), "require": ["enabled", "compliant"]}

    answer = verdicts(options, SECRET, (asking("C02X"), nothing))[0]

    assert isinstance(answer, kind)


def test_one_token_is_had_for_its_lifetime(front: Front) -> None:
    asked = graph(IN_ENTRA)
    front.app = asked

    def later(clock: Clock) -> None:
        clock.moment += timedelta(hours=1)

    verdicts({"source": microsoft(front, "entra")}, SECRET, (DEVICE, nothing), (DEVICE, nothing), (DEVICE, later))

    assert 2 == len(asked.forms)


def test_a_token_that_is_not_accepted_any_more_is_replaced(front: Front) -> None:
    asked = graph(IN_ENTRA)
    front.app = asked

    def revoke(_: Clock) -> None:
        asked.token = "another"

    answers = verdicts(
        {"source": microsoft(front, "entra")}, SECRET, (DEVICE, nothing), (DEVICE, revoke), (DEVICE, nothing)
    )

    assert [Grant, Unavailable, Grant] == [type(each) for each in answers]


def test_a_wrong_secret_lets_nobody_in_and_does_not_show(front: Front) -> None:
    front.app = graph(IN_ENTRA)

    answer = verdicts({"source": microsoft(front, "entra")}, "a wrong secret", (DEVICE, nothing))[0]

    assert isinstance(answer, Unavailable)
    assert "a wrong secret" not in answer.detail


@pytest.mark.parametrize("status", [403, 429, 500])
def test_with_the_directory_away_nobody_is_let_in(front: Front, status: int) -> None:
    asked = graph(IN_ENTRA)
    asked.failure = PlainTextResponse("", status, {"Retry-After": "0"})

    assert isinstance(in_entra(front, asked), Unavailable)


# ---------------------------------------------------------------- Jamf Pro
def in_jamf(front: Front, jamf: SimulatedJamf, *steps: Step, **source: Any) -> list[Verdict]:
    front.app = jamf.faults
    given = {"kind": "jamf", "url": front.url, "client_id": jamf.client_id, "client_secret": "file:secret", **source}
    return verdicts({"source": given}, jamf.client_secret, *steps)


def jamf() -> SimulatedJamf:
    simulated = SimulatedJamf(now=lambda: NOW, entropy=os.urandom)
    simulated.add("C02X")
    simulated.add("C02Y", is_managed=False)
    return simulated


def test_a_computer_that_jamf_manages_is_granted(front: Front) -> None:
    answers = in_jamf(front, jamf(), *((asking(each), nothing) for each in ("C02X", "C02Y", "C02Z")))

    assert [Grant, Deny, Deny] == [type(each) for each in answers]


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_the_version_of_the_inventory_can_be_chosen(front: Front, version: str) -> None:
    simulated = jamf()

    answers = in_jamf(front, simulated, (asking("C02X"), nothing), computers_api=version)

    assert [Grant] == [type(each) for each in answers]
    assert ("GET", f"/api/{version}/computers-inventory") == simulated.requests[-1]


@pytest.mark.parametrize("by", ["hardware.serialNumber", "udid", "general.name"])
def test_a_mobile_device_that_jamf_manages_is_granted(front: Front, by: str) -> None:
    simulated = jamf()
    here, gone = simulated.add_mobile("DMPX"), simulated.add_mobile("DMPY", is_managed=False)
    names = [getattr(each, {"udid": "udid", "general.name": "name"}.get(by, "serial")) for each in (here, gone)]

    answers = in_jamf(
        front, simulated, *((asking(each), nothing) for each in (*names, "C02X")), devices="mobile", by=by
    )

    assert [Grant, Deny, Deny] == [type(each) for each in answers]


@pytest.mark.parametrize(
    ("devices", "device"),
    [
        ("computers", {"id": "1", "general": {"remoteManagement": {"managed": True}}}),
        (
            "computers",
            {"id": "1", "general": {"remoteManagement": {"managed": True}}, "hardware": {"serialNumber": "Y"}},
        ),
        ("mobile", {"mobileDeviceId": "1", "general": {"managed": True}, "hardware": None}),
        ("mobile", {"mobileDeviceId": "1", "general": {"managed": True}, "hardware": {"serialNumber": "Y"}}),
    ],
)
def test_a_device_that_was_not_asked_for_lets_nobody_in(front: Front, devices: str, device: dict[str, Any]) -> None:
    simulated = jamf()
    simulated.faults.at_next("/api/v", JSONResponse({"results": [device]}))

    answers = in_jamf(front, simulated, (asking("C02X"), nothing), devices=devices)

    assert isinstance(answers[0], Unavailable)


def test_a_token_that_jamf_has_forgotten_is_replaced(front: Front) -> None:
    simulated, mac = jamf(), asking("C02X")

    answers = in_jamf(front, simulated, (mac, nothing), (mac, lambda _: simulated.forget_tokens()), (mac, nothing))

    assert [Grant, Unavailable, Grant] == [type(each) for each in answers]
    assert 2 == simulated.requests.count(("POST", "/api/oauth/token"))


def test_another_client_of_jamf_is_refused(front: Front) -> None:
    answers = in_jamf(front, jamf(), (asking("C02X"), nothing), client_id="other")

    assert isinstance(answers[0], Unavailable)


# ---------------------------------------------------------------- the configuration
def test_what_jamf_cannot_say_is_not_required() -> None:
    source = {"kind": "jamf", "url": "https://x.example", "client_id": "x", "client_secret": "file:secret"}

    with pytest.raises(Misconfigured, match="compliant"):
        verdicts({"source": source, "require": ["compliant"]}, SECRET)


@pytest.mark.parametrize("pattern", ["(", "x", "(a)(b)"])
def test_a_pattern_has_one_pair_of_parentheses(pattern: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        Options.model_validate({"source": {"kind": "entra", **MICROSOFT}, "pattern": pattern})
