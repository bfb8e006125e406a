from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest

from connectors.acme.challenges import Dns01, Hook
from connectors.api import BackendUnavailable, Issued, IssueRequest, Misconfigured, Rejected, Rejection
from tests.fakes.acme import FakeAcme, connected, instead, lost_before
from tests.unit.connectors.test_acme import REQUEST

LOG = "import sys; print(*sys.argv[1:], file=open('log', 'a'))"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def issue(server: FakeAcme, directory: Path, code: str = LOG, request: IssueRequest = REQUEST, **limits: Any) -> Any:
    server.new_order = "pending"

    async def issued() -> Any:
        connector = connected(server, directory, dns01={"command": python(code), **limits})
        try:
            return await connector.issue(request)
        finally:
            await connector.aclose()

    return asyncio.run(issued())


def logged(directory: Path) -> list[list[str]]:
    return [line.split(" ") for line in (directory / "log").read_text().splitlines()]


def test_the_record_is_set_before_and_removed_after_the_server_looks(tmp_path: Path) -> None:
    server = FakeAcme()

    result = issue(server, tmp_path)

    (present, cleanup) = logged(tmp_path)
    assert isinstance(result, Issued)
    assert ["present", "_acme-challenge.device.example.org"] == present[:2]
    assert ["cleanup", *present[1:]] == cleanup
    assert 43 == len(present[2])
    assert ["authorization", "challenge", "authorization", "order", "finalize", "certificate"] == server.seen[-6:]


def test_the_command_is_read_by_no_shell(tmp_path: Path) -> None:
    hook = Hook(Dns01(command=(*python(LOG), "$HOME; `true` *")), tmp_path)

    asyncio.run(hook.run("present", "_acme-challenge.example.org", "-value"))

    assert "$HOME; `true` * present _acme-challenge.example.org -value\n" == (tmp_path / "log").read_text()


def test_a_command_that_fails_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"ended with status 3: no such zone"):
        issue(FakeAcme(), tmp_path, "import sys; print('no such zone', file=sys.stderr); sys.exit(3)")


def test_a_command_that_is_not_there_is_the_operators_to_mend(tmp_path: Path) -> None:
    hook = Hook(Dns01(command=("/no/such/command",)), tmp_path)

    with pytest.raises(Misconfigured, match="cannot be run: No such file"):
        asyncio.run(hook.run("present", "name", "value"))


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    hook = Hook(Dns01(command=tuple(python(code)), command_timeout_seconds=0.5), tmp_path)

    async def run() -> float:
        started = asyncio.get_running_loop().time()
        with pytest.raises(Misconfigured, match=r"was not done after 0\.5 s"):
            await hook.run("present", "name", "value")
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(run()) < 30


def test_a_command_is_killed_with_the_request_that_waits_for_it(tmp_path: Path) -> None:
    hook = Hook(Dns01(command=tuple(python("import time; time.sleep(60)"))), tmp_path)

    async def run() -> float:
        started = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await hook.run("present", "name", "value")
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(run()) < 30


def test_the_record_is_removed_whatever_the_server_says(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"challenge": [lost_before] * 3})

    with pytest.raises(BackendUnavailable):
        issue(server, tmp_path)

    assert ["present", "cleanup"] == [line[0] for line in logged(tmp_path)]


def test_a_server_that_does_not_look_is_no_refusal(tmp_path: Path) -> None:
    server = FakeAcme(scripts={"challenge": [instead(httpx.Response(200, json={}))]})

    with pytest.raises(BackendUnavailable, match="has not looked for the record") as raised:
        issue(server, tmp_path, validation_timeout_seconds=0.01)

    assert not raised.value.maybe_issued


@pytest.mark.parametrize("status", ["invalid", "expired", "revoked", "deactivated"])
def test_a_name_that_is_not_proved_is_no_refusal(status: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"device\.example\.org is not proved to be ours"):
        issue(FakeAcme(authorization=status), tmp_path)


def test_a_name_that_must_not_be_certified_is_a_refusal(tmp_path: Path) -> None:
    challenge = {"type": "dns-01", "url": "x", "status": "invalid", "token": "t"}
    problem = {"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden"}
    body = {
        "identifier": {"type": "dns", "value": "device.example.org"},
        "status": "invalid",
        "challenges": [{**challenge, "error": problem}],
    }

    result = issue(FakeAcme(scripts={"authorization": [instead(httpx.Response(200, json=body))]}), tmp_path)

    assert Rejected(rejection=Rejection.NAME, detail="caa: forbidden") == result


def test_other_challenges_are_not_ours_to_answer(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="to be proved"):
        issue(FakeAcme(challenge_type="http-01"), tmp_path)


def test_a_name_that_is_authorised_already_needs_no_record(tmp_path: Path) -> None:
    server = FakeAcme(authorization="valid")

    issue(server, tmp_path)

    assert not (tmp_path / "log").exists()
    assert not server.counted("challenge")


def test_a_command_that_is_a_line_for_a_shell_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError):
        Dns01(command="dns-record --zone example.org")
