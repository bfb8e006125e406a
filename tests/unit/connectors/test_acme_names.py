from __future__ import annotations

from datetime import timedelta

import pytest

from connectors.acme.answers import NotIssuable
from connectors.acme.names import identifiers
from connectors.api import ApprovedContents, KeyUsage, NameAttribute, Rejection, San, SanKind


def contents(*sans: San, common_name: str | None = None, sid: str | None = None) -> ApprovedContents:
    subject = ((NameAttribute("2.5.4.3", common_name),),) if common_name else ()
    return ApprovedContents(
        subject=((NameAttribute("2.5.4.10", "Example"),), *subject),
        subject_alternative_names=sans,
        spki=b"",
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE}),
        extended_key_usage=("1.3.6.1.5.5.7.3.2",),
        validity=timedelta(days=1),
        sid=sid,
    )


def dns(value: str) -> San:
    return San(SanKind.DNS, value)


def test_every_name_is_ordered_once_in_lower_case() -> None:
    wanted = contents(dns("A.example.org"), dns("a.example.org"), San(SanKind.IP, "2001:DB8::1"), common_name="b")

    found = identifiers(wanted, with_common_name=True)

    expected = [
        {"type": "dns", "value": "a.example.org"},
        {"type": "ip", "value": "2001:db8::1"},
        {"type": "dns", "value": "b"},
    ]
    assert expected == found


@pytest.mark.parametrize("common_name", ["SN 42", "device_1", "device@example.org", "-", "a..b", "é.example.org"])
def test_a_common_name_that_is_no_identifier_is_not_ordered(common_name: str) -> None:
    found = identifiers(contents(dns("a.example.org"), common_name=common_name), with_common_name=True)

    assert [{"type": "dns", "value": "a.example.org"}] == found


def test_a_common_name_may_be_an_address() -> None:
    found = identifiers(contents(common_name="192.0.2.1"), with_common_name=True)

    assert [{"type": "ip", "value": "192.0.2.1"}] == found


def test_a_common_name_that_the_server_does_not_count_is_not_ordered() -> None:
    found = identifiers(contents(dns("a.example.org"), common_name="b.example.org"), with_common_name=False)

    assert [{"type": "dns", "value": "a.example.org"}] == found


def test_a_wildcard_is_a_name() -> None:
    found = identifiers(contents(dns("*.example.org")), with_common_name=True)

    assert [{"type": "dns", "value": "*.example.org"}] == found


@pytest.mark.parametrize(
    "wanted",
    [
        contents(San(SanKind.EMAIL, "a@example.org"), dns("a.example.org")),
        contents(San(SanKind.URI, "urn:uuid:1"), dns("a.example.org")),
        contents(San(SanKind.UPN, "a@example.org"), dns("a.example.org")),
        contents(dns("a_b.example.org")),
        contents(dns("a.*.example.org")),
        contents(dns("a" * 64 + ".example.org")),
        contents(dns(".".join(["a" * 60] * 5))),
        contents(San(SanKind.IP, "192.0.2.256")),
        contents(dns("a.example.org"), sid="S-1-5-21-1"),
        contents(common_name="SN 42"),
    ],
)
def test_what_a_server_would_leave_out_or_refuse_is_refused(wanted: ApprovedContents) -> None:
    with pytest.raises(NotIssuable) as raised:
        identifiers(wanted, with_common_name=True)

    assert Rejection.NAME is raised.value.rejection
