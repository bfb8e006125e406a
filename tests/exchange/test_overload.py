"""More than one process can do: what is new is sent away before it costs anything, what is under way is answered."""

from __future__ import annotations

from pathlib import Path

import httpx

from ra.client.replies import Pending
from ra.service.admission import RETRY_SECONDS
from tests.fakes.held_ca import asked, configure
from tests.fakes.herd import Herd, post
from tests.fakes.serving import serving
from tests.interop.running import faulty_lines


def test_what_is_new_is_sent_away_while_repeats_and_polls_are_answered(directory: Path, ports: tuple[int, int]) -> None:
    environment = configure(directory, "max_enrolments_in_flight = 2")

    with serving(directory, ports, "--json", environment=environment) as served, Herd.of(served.url, directory) as herd:
        (first, message), (second, other), (poller, _) = herd.device(0), herd.device(1), herd.device(0)
        third, late = herd.device(2)
        answers = [herd.send(message), herd.send(other)]
        served.until(lambda: len(asked(directory)) == 2)
        sent_away = post(served.url, late)
        repeated = herd.send(message)
        poll = poller.open(post(served.url, poller.poll_message(herd.ca)).content)
        in_flight = metric(served.admin_url, "scep_ra_enrolments_in_flight")
        (directory / "ca.open").touch()
        certificates = [
            each.obtain(answer.result().content) for each, answer in zip((first, second), answers, strict=True)
        ]
        again = repeated.result()
        come_back = third.obtain(post(served.url, late).content)
        counted = metric(served.admin_url, 'scep_ra_enrolments_sent_away_total{profile="default",why="in-flight"}')

    assert 503 == sent_away.status_code
    assert int(sent_away.headers["retry-after"]) in RETRY_SECONDS
    assert isinstance(poll, Pending)
    assert in_flight in {"2.0", "3.0"}
    assert "1.0" == counted
    assert again.status_code == 200
    assert 3 == len({each.serial_number for each in (*certificates, come_back)})
    assert 3 == len(asked(directory))
    assert faulty_lines(served.log.read_text("utf-8")) == []


def metric(admin_url: str, name: str) -> str:
    """The value of the first series whose name and labels are, or begin with, these."""
    lines = httpx.get(f"{admin_url}/metrics").text.splitlines()
    return next(line.rpartition(" ")[2] for line in lines if line.startswith(name))
