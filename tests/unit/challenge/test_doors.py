from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from ra.challenge.api import Services
from ra.challenge.doors import FAILURES, MAX_ADDRESSES, Admitted, Door, DoorOptions, HeaderOptions
from ra.challenge.pages import PageAnswer, PageRequest
from ra.errors import Misconfigured
from tests.fakes import pki
from tests.fakes.challenges import NOW, FakeServices

PASSWORD, KEY = "correct horse battery", "the key of a webhook"
PROXY, STRANGER = "192.0.2.1", "198.51.100.7"
CERTIFICATE = pki.root(name="A management").certificate
DER = CERTIFICATE.public_bytes(Encoding.DER)
PEM = CERTIFICATE.public_bytes(Encoding.PEM)
ACCOUNT = {"label": "mdm", "user": "EXAMPLE\\mdm", "password": "file:mdm"}
HEADER = HeaderOptions(label="fleet", name="X-Api-Key", value="file:key")
BY_CERTIFICATE: dict[str, Any] = {
    "certificates": [{"label": "proxied", "sha256": CERTIFICATE.fingerprint(SHA256()).hex()}],
    "proxies": ["192.0.2.0/28"],
}


@dataclass
class Moving:
    """A clock that a test moves."""

    moment: datetime = NOW

    def services(self, **secrets: str) -> Services:
        given = FakeServices({"file:mdm": PASSWORD + "\n", "file:key": KEY, **secrets}).services()
        return replace(given, now=lambda: self.moment)


def door(*headers: HeaderOptions, clock: Moving | None = None, **options: Any) -> Door:
    given = DoorOptions.model_validate(options or {"accounts": [ACCOUNT]})
    return Door(given, headers, (clock or Moving()).services())


def asking(*headers: tuple[str, str], peer: str = STRANGER) -> PageRequest:
    return PageRequest(method="GET", headers=headers, body=b"", peer=peer, ca_certificate=b"")


def basic(user: str, password: str, scheme: str = "Basic") -> tuple[str, str]:
    return "authorization", f"{scheme} {b64encode(f'{user}:{password}'.encode()).decode()}"


def status(answer: Admitted | PageAnswer) -> int:
    assert isinstance(answer, PageAnswer)
    return answer.status


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_an_account_is_let_in_by_its_password(scheme: str) -> None:
    answer = door().open(asking(basic("EXAMPLE\\mdm", PASSWORD, scheme)))

    assert Admitted(label="mdm") == answer


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (basic("EXAMPLE\\mdm", PASSWORD + "x"),),
        (basic("mdm", PASSWORD),),
        (basic("EXAMPLE\\mdm", ""),),
        (("authorization", f"EXAMPLE\\mdm:{PASSWORD}"),),
        (("authorization", "Basic !"),),
        (("authorization", "Basic"),),
        (("authorization", f"Bearer {PASSWORD}"),),
        (basic("EXAMPLE\\mdm", PASSWORD), basic("EXAMPLE\\mdm", PASSWORD)),
        (("client-cert", b64encode(DER).decode()),),
    ],
)
def test_a_stranger_is_told_how_to_come_in(headers: tuple[tuple[str, str], ...]) -> None:
    answer = door().open(asking(*headers))

    assert isinstance(answer, PageAnswer)
    assert 401 == answer.status
    assert answer.headers[0][1].startswith("Basic ")


def test_an_account_whose_time_is_over_is_barred() -> None:
    clock = Moving()
    shut = door(clock=clock, accounts=[{**ACCOUNT, "not_after": NOW}])

    in_time = shut.open(asking(basic("EXAMPLE\\mdm", PASSWORD)))
    clock.moment += timedelta(seconds=1)
    too_late = shut.open(asking(basic("EXAMPLE\\mdm", PASSWORD)))

    assert [Admitted(label="mdm"), Admitted(label="mdm", barred=True)] == [in_time, too_late]


def test_a_header_lets_in_who_shows_its_value() -> None:
    opened = door(HEADER)

    answers = [opened.open(asking(("x-api-key", value))) for value in (KEY, KEY + "x", "")]

    assert Admitted(label="fleet") == answers[0]
    assert [401, 401] == [status(each) for each in answers[1:]]


@pytest.mark.parametrize(
    "value",
    [f":{b64encode(DER).decode()}:", b64encode(DER).decode(), quote(PEM.decode()), PEM.decode().replace("\n", "\t")],
    ids=["RFC 9440", "base64", "nginx escaped", "nginx"],
)
def test_a_certificate_is_believed_from_the_proxy_alone(value: str) -> None:
    opened = door(**BY_CERTIFICATE)

    by_proxy = opened.open(asking(("client-cert", value), peer=PROXY))
    by_stranger = opened.open(asking(("client-cert", value)))

    assert Admitted(label="proxied") == by_proxy
    assert 401 == status(by_stranger)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("client-cert", ""),),
        (("client-cert", "::"),),
        (("client-cert", "%2D%2D%2D%2D%2DBEGIN"),),
        (("client-cert", b64encode(DER + b"x").decode()),),
        (("client-cert", "A" * 20_000),),
        (("client-cert", b64encode(DER).decode()), ("client-cert", b64encode(DER).decode())),
    ],
)
def test_another_certificate_is_a_stranger_s(headers: tuple[tuple[str, str], ...]) -> None:
    answer = door(**BY_CERTIFICATE).open(asking(*headers, peer=PROXY))

    assert 401 == status(answer)


def test_where_both_are_needed_a_password_alone_gets_nothing() -> None:
    opened = door(**BY_CERTIFICATE, accounts=[ACCOUNT], needs="both")
    password, certificate = basic("EXAMPLE\\mdm", PASSWORD), ("client-cert", b64encode(DER).decode())

    both = opened.open(asking(password, certificate, peer=PROXY))
    password_alone = opened.open(asking(password, peer=PROXY))
    certificate_alone = opened.open(asking(certificate, peer=PROXY))

    assert [Admitted(label="mdm"), Admitted(label="mdm", barred=True)] == [both, password_alone]
    assert 401 == status(certificate_alone)


def test_who_tries_too_often_waits_and_others_do_not() -> None:
    clock = Moving()
    opened = door(clock=clock)
    for _ in range(FAILURES):
        opened.open(asking(basic("EXAMPLE\\mdm", "a guess at the password")))

    with_the_password = opened.open(asking(basic("EXAMPLE\\mdm", PASSWORD)))
    somebody_else = opened.open(asking(basic("EXAMPLE\\mdm", PASSWORD), peer=PROXY))
    clock.moment += timedelta(minutes=1, seconds=1)
    later = opened.open(asking(basic("EXAMPLE\\mdm", PASSWORD)))

    assert 429 == status(with_the_password)
    assert [Admitted(label="mdm")] * 2 == [somebody_else, later]


@pytest.mark.parametrize(
    ("forwarded", "peer", "address"),
    [
        (["203.0.113.9"], PROXY, "203.0.113.9"),
        (["198.51.100.1, 203.0.113.9"], PROXY, "203.0.113.9"),
        (["198.51.100.1", "203.0.113.9, 192.0.2.2"], PROXY, "203.0.113.9"),
        (["2001:DB8::1"], PROXY, "2001:db8::1"),
        (["192.0.2.2"], PROXY, PROXY),
        (["203.0.113.9, nonsense"], PROXY, PROXY),
        ([], PROXY, PROXY),
        (["203.0.113.9"], STRANGER, STRANGER),
    ],
)
def test_behind_known_proxies_an_address_is_that_of_who_asks(forwarded: list[str], peer: str, address: str) -> None:
    headers = [("x-forwarded-for", each) for each in forwarded]
    opened = door(accounts=[ACCOUNT], proxies=["192.0.2.0/28"])

    answer = opened.open(asking(basic("EXAMPLE\\mdm", PASSWORD), *headers, peer=peer))

    assert isinstance(answer, Admitted)
    assert address == answer.address


def test_one_who_guesses_behind_a_known_proxy_does_not_keep_others_out() -> None:
    opened = door(accounts=[ACCOUNT], proxies=["192.0.2.0/28"])
    guess, right = basic("EXAMPLE\\mdm", "a guess at the password"), basic("EXAMPLE\\mdm", PASSWORD)
    for _ in range(FAILURES):
        opened.open(asking(guess, ("x-forwarded-for", "203.0.113.9"), peer=PROXY))

    guesser = opened.open(asking(right, ("x-forwarded-for", "203.0.113.9"), peer=PROXY))
    other = opened.open(asking(right, ("x-forwarded-for", "203.0.113.10"), peer=PROXY))

    assert 429 == status(guesser)
    assert Admitted(label="mdm") == other


def test_a_header_that_nobody_can_send_stops_the_start() -> None:
    with pytest.raises(Misconfigured, match="ASCII"):
        Door(
            DoorOptions.model_validate({"accounts": [ACCOUNT]}),
            (HEADER,),
            Moving().services(**{"file:key": "ключ от двери двери"}),
        )


def test_no_more_addresses_are_remembered_than_fit() -> None:
    opened = door()

    for number in range(MAX_ADDRESSES + 5):
        opened.open(asking(peer=f"peer {number}"))

    assert MAX_ADDRESSES == len(opened._throttle._failures)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "nobody could be let in"),
        ({**BY_CERTIFICATE, "proxies": []}, "certificates need proxies"),
        ({"accounts": [ACCOUNT], "needs": "both"}, "wants accounts and certificates"),
        ({"accounts": [{**ACCOUNT, "user": "a:b"}]}, "user"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        DoorOptions.model_validate(options)


def test_a_short_password_stops_the_start() -> None:
    options = DoorOptions.model_validate({"accounts": [ACCOUNT]})

    with pytest.raises(Misconfigured, match="at least 12"):
        Door(options, (), Moving().services(**{"file:mdm": "short"}))


def test_two_accounts_of_one_label_stop_the_start() -> None:
    with pytest.raises(Misconfigured, match="the same label"):
        door(accounts=[ACCOUNT, {**ACCOUNT, "user": "other"}])
