from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ra.challenge.api import Deny, Unavailable, Verdict
from ra.challenge.directory import Options, connect
from ra.challenge.directory.ldap.messages import SEQUENCE, tlv
from ra.policy.grant import Grant
from ra.scep.csr import Csr
from tests.fakes.challenges import FakeServices, attempt
from tests.fakes.connecting import TlsFiles
from tests.fakes.csrs import csr, san, subject
from tests.fakes.slapd import BASE, BIND_DN, ELSEWHERE, NARROW_DN, PASSWORD, Slapd, running_slapd
from tests.interop.running import free_ports

pytestmark = pytest.mark.peer

CN = "2.5.4.3"
SID = "S-1-5-21-3734714977-4168152908-3764207930-1104"
BINARY_SID = bytes.fromhex("010500000000000515000000") + b"".join(
    part.to_bytes(4, "little") for part in (3734714977, 4168152908, 3764207930, 1104)
)
ENABLED, DISABLED = "4096", "4098"
ENTRIES: dict[str, dict[str, str | bytes]] = {
    "PC-1": {"dNSHostName": "pc-1.example.org", "userAccountControl": ENABLED, "objectSid": BINARY_SID},
    "PC-2": {"dNSHostName": "pc-2.example.org", "userAccountControl": DISABLED},
    "PC-3": {"dNSHostName": "pc-3.example.org"},
    "TWIN-1": {"dNSHostName": "twin.example.org", "userAccountControl": ENABLED},
    "TWIN-2": {"dNSHostName": "twin.example.org", "userAccountControl": ENABLED},
    "TWIN-3": {"dNSHostName": "twin.example.org", "userAccountControl": ENABLED},
    "TEXT": {"userAccountControl": ENABLED, "objectSid": SID},
    "BROKEN": {"userAccountControl": ENABLED, "objectSid": BINARY_SID[:-1]},
    "WORDS": {"userAccountControl": ENABLED, "description": "Active"},
    "(ODD)*": {"userAccountControl": ENABLED, "userPrincipalName": "odd*@example.org"},
}


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    with running_slapd(ENTRIES) as running:
        yield running


def source(tls: TlsFiles, url: str, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "ldap",
        "urls": [url],
        "ca_file": str(tls.ca),
        "bind_dn": BIND_DN,
        "password": "file:ldap",
        "base_dn": BASE,
        "filter": "(&(objectClass=computer)(cn={value}))",
        **changes,
    }


def verdict(
    given: dict[str, Any], request: Csr, *, password: str = PASSWORD, options: dict[str, Any] | None = None
) -> Verdict:
    services = FakeServices({"file:ldap": password + "\n"}, name="managed").services()

    async def run() -> Verdict:
        validator = await connect(Options.model_validate({"source": given, **(options or {})}), services)
        try:
            return await validator.check(attempt(None, request=request))
        finally:
            await validator.aclose()

    return asyncio.run(run())


def named(name: str) -> Csr:
    return csr(subject=subject((CN, name)))


# ---------------------------------------------------------------- who is found


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_an_enabled_computer_is_granted_with_its_sid(slapd: Slapd, scheme: str) -> None:
    answer = verdict(source(slapd.tls, getattr(slapd, scheme)), named("pc-1"))

    known = {"device_id": f"cn=PC-1,{BASE}", "sid": SID}
    assert Grant(method="managed", label="ldap", attributes=known, sid=SID) == answer


@pytest.mark.parametrize("name", ["PC-2", "PC-3", "PC-4", "*", "PC*", "PC-1)(cn=*", "x)(|(cn=*", "\\2a", "PC-1\0"])
def test_whoever_is_disabled_or_not_there_is_denied_whatever_is_asked_for(slapd: Slapd, name: str) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps), named(name))

    assert isinstance(answer, Deny)


def test_what_means_something_to_a_filter_is_found_by_its_own_name(slapd: Slapd) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps), named("(ODD)*"))

    assert isinstance(answer, Grant)


def test_a_name_of_its_own_kind_is_put_in(slapd: Slapd) -> None:
    names = (san("upn", "odd*@example.org"), san("dns", "pc-1.example.org"))
    request = csr(subject=subject((CN, "x")), subject_alternative_names=names)

    by_upn = verdict(source(slapd.tls, slapd.ldaps, filter="(userPrincipalName={upn})"), request)
    by_both = verdict(source(slapd.tls, slapd.ldaps, filter="(&(cn={value})(dNSHostName={dns}))"), request)
    by_email = verdict(source(slapd.tls, slapd.ldaps, filter="(cn={email})"), request)

    assert [Grant, Deny, Deny] == [type(each) for each in (by_upn, by_both, by_email)]


@pytest.mark.parametrize("bound", [BIND_DN, NARROW_DN])
def test_of_two_that_match_none_is_granted(slapd: Slapd, bound: str) -> None:
    given = source(slapd.tls, slapd.ldaps, filter="(dNSHostName={value})", bind_dn=bound)

    answer = verdict(given, named("twin.example.org"))

    assert isinstance(answer, Deny if bound == BIND_DN else Unavailable)  # the narrow one does not know of the second


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"enabled_values": ["active"], "enabled_attribute": "description"}, Grant),
        ({"enabled_values": ["locked"], "enabled_attribute": "description"}, Deny),
        ({"enabled_attribute": "description"}, Deny),
        ({"enabled_attribute": "userPrincipalName"}, Deny),
        ({"enabled_attribute": "userPrincipalName", "enabled_if_absent": True}, Grant),
        ({"disabled_bits": 0x1000}, Deny),
    ],
)
def test_what_says_that_an_account_is_enabled_can_be_chosen(slapd: Slapd, changes: dict[str, Any], kind: type) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps, **changes), named("WORDS"))

    assert isinstance(answer, kind)


def test_a_sid_may_be_written_as_text(slapd: Slapd) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps), named("TEXT"))

    assert isinstance(answer, Grant)
    assert SID == answer.sid


def test_a_sid_that_does_not_read_lets_nobody_in(slapd: Slapd) -> None:
    broken = verdict(source(slapd.tls, slapd.ldaps), named("BROKEN"))
    unasked = verdict(source(slapd.tls, slapd.ldaps, sid_attribute=None), named("BROKEN"))

    assert [Unavailable, Grant] == [type(each) for each in (broken, unasked)]


# ---------------------------------------------------------------- what goes wrong
def test_a_wrong_password_lets_nobody_in_and_does_not_show(slapd: Slapd) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps), named("PC-1"), password="a wrong password")

    assert isinstance(answer, Unavailable)
    assert "answered the bind with 49" in answer.detail
    assert "a wrong password" not in answer.detail


def test_an_empty_password_is_not_sent(slapd: Slapd) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps), named("PC-1"), password="")

    assert isinstance(answer, Unavailable)
    assert "password: it is empty" == answer.detail


@pytest.mark.parametrize(
    ("base", "code"), [(ELSEWHERE, 10), (f"ou=nowhere,{BASE}", 32), ("dc=other", 32), ("no name", 34)]
)
def test_what_the_server_does_not_have_is_no_answer(slapd: Slapd, base: str, code: int) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps, base_dn=base), named("PC-1"))

    assert isinstance(answer, Unavailable)
    assert f"answered the search with {code} " in answer.detail


def test_a_certificate_of_another_ca_is_not_believed(slapd: Slapd) -> None:
    answers = [verdict(source(slapd.tls, each, ca_file=None), named("PC-1")) for each in (slapd.ldaps, slapd.ldap)]

    assert [Unavailable, Unavailable] == [type(each) for each in answers]
    assert all("CERTIFICATE_VERIFY_FAILED" in each.detail for each in answers if isinstance(each, Unavailable))


def test_a_certificate_of_another_host_is_not_believed(slapd: Slapd) -> None:
    answer = verdict(source(slapd.tls, slapd.ldaps.replace("localhost", "127.0.0.1")), named("PC-1"))

    assert isinstance(answer, Unavailable)
    assert "IP address mismatch" in answer.detail


def test_the_next_server_is_asked_where_one_is_away(slapd: Slapd) -> None:
    away = f"ldaps://localhost:{free_ports(1)[0]}"

    first = verdict(source(slapd.tls, away), named("PC-1"))
    both = verdict(source(slapd.tls, away, urls=[away, slapd.ldaps]), named("PC-1"))

    assert [Unavailable, Grant] == [type(each) for each in (first, both)]


@pytest.mark.parametrize("options", [{"timeout_seconds": 0.2}, {"connect_timeout_seconds": 0.2}])
def test_a_server_that_does_not_answer_is_waited_for_no_longer(slapd: Slapd, options: dict[str, float]) -> None:
    with slapd.frozen():
        answer = verdict(source(slapd.tls, slapd.ldaps, **options), named("PC-1"))

    assert isinstance(answer, Unavailable)
    assert "within 0.2 s" in answer.detail


# ---------------------------------------------------------------- who is no directory
def result(number: int, tag: int, code: int = 0) -> bytes:
    ended = tlv(0x0A, bytes((code,))) + tlv(0x04, b"") + tlv(0x04, b"")
    return tlv(SEQUENCE, tlv(0x02, bytes((number,))) + tlv(tag, ended))


def entry(number: int) -> bytes:
    return tlv(SEQUENCE, tlv(0x02, bytes((number,))) + tlv(0x64, tlv(0x04, b"cn=PC-1") + tlv(SEQUENCE, b"")))


BOUND, DONE = result(1, 0x61), result(2, 0x65)


@contextmanager
def answering(*answers: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that sends an answer for whatever it is sent, and soon hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            plain.settimeout(5)
            try:
                with plain if context is None else context.wrap_socket(plain, server_side=True) as connection:
                    for each in answers:
                        connection.recv(4096)
                        connection.sendall(each)
                    connection.settimeout(0.1)
                    connection.recv(4096)
            except OSError:
                pass  # the client has had enough

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    "answers",
    [
        (BOUND, DONE),
        (BOUND, entry(2) + DONE),
    ],
)
def test_the_server_below_is_understood(slapd: Slapd, answers: tuple[bytes, ...]) -> None:
    with answering(*answers, context=slapd.tls.server()) as port:
        answer = verdict(source(slapd.tls, f"ldaps://localhost:{port}", enabled_if_absent=True), named("PC-1"))

    assert isinstance(answer, Deny if answers[1] == DONE else Grant)


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("does not speak LDAP", (b"HTTP/1.1 400 Bad Request\r\n\r\n",)),
        ("no length that could be", (b"\x30\x85\x01\x01\x01\x01\x01",)),
        ("has 2147483647 bytes", (b"\x30\x84\x7f\xff\xff\xff",)),
        ("no length that could be", (b"\x30\x80\x02\x01\x01\x61\x00\x00\x00",)),
        ("is incomplete", (b"\x30\x05\x02\x01\x01\x61\x00",)),
        ("what was not asked", (result(7, 0x61),)),
        ("it hangs up", (result(0, 0x78, 52),)),
        ("a bind with an entry", (entry(1),)),
        ("broke off", (BOUND,)),
        ("broke off", (BOUND, entry(2))),
        ("with many", (BOUND, entry(2) * 200)),
        ("what was not asked", (BOUND, entry(3) + DONE)),
        ("answered the search with 1 ", (BOUND, entry(2) + result(2, 0x65, 1))),
        ("answered the search with 3 ", (BOUND, entry(2) + result(2, 0x65, 3))),
        ("answered the search with 4 ", (BOUND, entry(2) + result(2, 0x65, 4))),
        ("answered the search with 10 ", (BOUND, entry(2) + result(2, 0x65, 10))),
        ("answered the search with 51 ", (BOUND, entry(2) + result(2, 0x65, 51))),
        ("broke off", (BOUND, entry(2)[:-1])),
        ("does not read", (BOUND, tlv(SEQUENCE, tlv(0x02, b"\x02") + tlv(0x64, b"\x04\x7f")) + DONE)),
    ],
)
def test_an_answer_that_is_none_lets_nobody_in(slapd: Slapd, said: str, answers: tuple[bytes, ...]) -> None:
    with answering(*answers, context=slapd.tls.server()) as port:
        given = source(slapd.tls, f"ldaps://localhost:{port}", enabled_if_absent=True)
        answer = verdict(given, named("PC-1"))

    assert isinstance(answer, Unavailable)
    assert said in answer.detail


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("refuses StartTLS", (result(1, 0x78, 2),)),
        ("refuses StartTLS", (entry(1),)),
        ("no connection", (result(1, 0x78) + BOUND + entry(2) + DONE,)),
        ("no connection", (b"",)),
        ("no connection", (BOUND[:4],)),
    ],
)
def test_without_tls_nothing_is_said_and_nothing_believed(slapd: Slapd, said: str, answers: tuple[bytes, ...]) -> None:
    with answering(*answers) as port:
        answer = verdict(source(slapd.tls, f"ldap://localhost:{port}", enabled_if_absent=True), named("PC-1"))

    assert isinstance(answer, Unavailable)
    assert said in answer.detail
