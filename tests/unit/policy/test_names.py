from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.api import SanKind
from ra.errors import Reason, Refused
from ra.policy.names import approved_kind, check_subject, check_subject_alternative_names
from ra.policy.profile import Profile
from ra.scep.csr import GeneralName, GeneralNameKind, SubjectAttribute
from tests.fakes.csrs import common_name, csr, san, subject

EMAIL_ADDRESS = "1.2.840.113549.1.9.1"
SID_URI = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"


def profile(**options: Any) -> Profile:
    return Profile(name="default", **options)


def subject_refusal(attributes: tuple[tuple[SubjectAttribute, ...], ...], **options: Any) -> str:
    with pytest.raises(Refused) as refusal:
        check_subject(csr(subject=attributes), profile(**options))
    assert Reason.SUBJECT_NOT_ALLOWED is refusal.value.reason
    return refusal.value.detail


def san_refusal(*names: GeneralName, **options: Any) -> str:
    with pytest.raises(Refused) as refusal:
        check_subject_alternative_names(names, profile(**options))
    assert Reason.SUBJECT_ALT_NAME_NOT_ALLOWED is refusal.value.reason
    return refusal.value.detail


# ---------------------------------------------------------------- subject


@pytest.mark.parametrize(
    "attributes",
    [
        common_name("device"),
        common_name("Jürgen Müller"),
        common_name("日本語"),
        common_name("x" * 64),
        subject(("2.5.4.6", "DE"), ("2.5.4.10", "Example"), ("2.5.4.3", "router-1")),
        subject(("1.2.840.113549.1.9.2", "router.example.org"), ("2.5.4.5", "FTX1840AJ1F")),  # Cisco IOS
        subject(("0.9.2342.19200300.100.1.25", "example"), ("0.9.2342.19200300.100.1.25", "org"), ("2.5.4.3", "x")),
    ],
)
def test_a_usual_subject_is_allowed(attributes: tuple[tuple[SubjectAttribute, ...], ...]) -> None:
    check_subject(csr(subject=attributes), profile())


def test_an_empty_subject_is_allowed_beside_an_alternative_name() -> None:
    check_subject(csr(subject=(), subject_alternative_names=(san("dns", "device.example.org"),)), profile())


@pytest.mark.rfc8894("request-contents")
def test_an_empty_subject_alone_is_refused() -> None:
    detail = subject_refusal(())

    assert "the request has neither a subject nor a subject alternative name" == detail


@pytest.mark.parametrize(
    ("attributes", "detail"),
    [
        (subject(("1.2.3.4", "x")), "attribute 1.2.3.4 is not in subject_attributes"),
        (common_name(""), "attribute 2.5.4.3 has 0 characters"),
        (common_name("x" * 65), "attribute 2.5.4.3 has 65 characters"),
        (((SubjectAttribute("2.5.4.3", "x", 0x04),),), "attribute 2.5.4.3 is no string (tag 0x4)"),
        (common_name("a") + common_name("b"), "2 commonNames are more than max_common_names"),
        (((*common_name("a")[0], *common_name("b")[0]),), "2 commonNames are more than max_common_names"),
        (subject(("2.5.4.6", "Germany")), "'Germany' is no two-letter countryName"),
        (subject(*[("2.5.4.11", "x")] * 17), "17 attributes are more than max_subject_attributes"),
    ],
)
def test_a_subject_that_does_not_do_is_refused(
    attributes: tuple[tuple[SubjectAttribute, ...], ...], detail: str
) -> None:
    assert detail == subject_refusal(attributes)


@pytest.mark.parametrize(
    "character", ["\x00", "\n", "\r", "\x1b", "\x7f", "\x85", "\xad", "\u200b", "\u202e", "\u2066", "\ufeff", "\ud800"]
)
def test_characters_that_cannot_be_seen_are_refused_and_shown_escaped(character: str) -> None:
    detail = subject_refusal(common_name(f"ali{character}ce"))

    assert detail.startswith("attribute 2.5.4.3 has characters that cannot be seen: 'ali\\")
    assert character not in detail


def test_several_common_names_are_allowed_where_the_profile_says_so() -> None:
    check_subject(csr(subject=common_name("a") + common_name("b")), profile(max_common_names=2))


def test_a_required_attribute_that_is_missing_is_refused() -> None:
    detail = subject_refusal(common_name("device"), required_subject_attributes=frozenset({"2.5.4.3", "2.5.4.5"}))

    assert "required attributes are missing: 2.5.4.5" == detail


def test_a_pattern_holds_for_the_whole_common_name() -> None:
    options = {"common_name_pattern": "device-[0-9]+"}

    check_subject(csr(subject=common_name("device-7")), profile(**options))

    assert "'device-7x' does not match common_name_pattern" == subject_refusal(common_name("device-7x"), **options)
    assert "'x-device-7' does not match common_name_pattern" == subject_refusal(common_name("x-device-7"), **options)


def test_an_address_outside_the_patterns_does_not_come_in_by_the_subject() -> None:
    patterns = {SanKind.EMAIL: (r".*@example\.org",)}

    detail = subject_refusal(subject((EMAIL_ADDRESS, "a@evil.example")), subject_alternative_name_patterns=patterns)

    assert "'a@evil.example' as emailAddress matches none of the patterns for email" == detail


@given(st.text(max_size=80))
def test_no_value_makes_the_subject_check_raise_anything_but_a_refusal(value: str) -> None:
    try:
        check_subject(csr(subject=common_name(value)), profile())
    except Refused as refusal:
        assert refusal.detail.isascii()  # noqa: PT017 - either outcome is right


# ---------------------------------------------------------------- subject alternative names


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dns", "device.example.org"),
        ("dns", "DESKTOP-7"),
        ("dns", "xn--mller-kva.example"),
        ("dns", "1and1.example.2go"),
        ("dns", "a" * 63 + ".example"),
        ("email", "first.last+tag@example.org"),
        ("uri", "https://example.org/device?id=1#x"),
        ("uri", "IntuneDeviceId://0a1b2c3d-0000-1111-2222-333344445555"),  # Intune's device correlation
        ("uri", "spiffe://example.org/ns/default"),
        ("uri", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("ip", "192.0.2.1"),
        ("ip", "2001:db8::1"),
    ],
)
def test_a_usual_name_is_allowed(kind: str, value: str) -> None:
    check_subject_alternative_names([san(kind, value)], profile())


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dns", ""),
        ("dns", "."),
        ("dns", "example.org."),
        ("dns", ".example.org"),
        ("dns", "a..b"),
        ("dns", "-a.example"),
        ("dns", "a-.example"),
        ("dns", "a" * 64 + ".example"),
        ("dns", "a." * 126 + "example"),
        ("dns", "under_score.example"),
        ("dns", "192.0.2.1"),
        ("dns", "müller.example"),
        ("dns", "a b.example"),
        ("dns", "a.example\n"),
        ("dns", "*"),
        ("dns", "a.*.example"),
        ("email", "nobody"),
        ("email", "a@b@c.example"),
        ("email", "Name <a@example.org>"),
        ("email", "a@example.org\r\nBcc: b@example.org"),
        ("uri", "no scheme"),
        ("uri", "//example.org"),
        ("uri", "https://example.org/\x00"),
        ("uri", "https://exämple.org/"),
        ("uri", "x:" + "a" * 1023),
        ("ip", "192.0.2.0/24"),
        ("ip", "999.0.2.1"),
        ("ip", "localhost"),
        ("ip", "::ffff:192.0.2.1"),
    ],
)
def test_a_name_that_is_none_of_its_kind_is_refused(kind: str, value: str) -> None:
    detail = san_refusal(san(kind, value), allow_wildcard_dns=True)

    assert detail.startswith(f"{kind} ")


@pytest.mark.parametrize("kind", ["upn", "directory", "registered-id", "other"])
def test_a_kind_that_is_not_let_through_is_refused(kind: str) -> None:
    detail = san_refusal(san(kind, "user@example.org"))

    assert detail == f"a name of kind {kind} is not in subject_alternative_names"


@pytest.mark.parametrize("kind", ["directory", "registered-id", "other"])
def test_a_kind_that_no_certificate_may_have_has_no_approved_counterpart(kind: str) -> None:
    assert approved_kind(GeneralNameKind(kind)) is None


def test_a_upn_is_allowed_where_the_profile_lets_it_through() -> None:
    options = {"subject_alternative_names": frozenset({SanKind.UPN})}

    check_subject_alternative_names([san("upn", "jürgen@example.org")], profile(**options))

    assert "upn 'nobody' is no user principal name" == san_refusal(san("upn", "nobody"), **options)
    assert "more than 127 octets" in (san_refusal(san("upn", "ü" * 60 + "@example"), **options) or "")


def test_a_wildcard_is_refused_unless_the_profile_allows_it() -> None:
    check_subject_alternative_names([san("dns", "*.example.org")], profile(allow_wildcard_dns=True))

    detail = san_refusal(san("dns", "*.example.org"))

    assert "dns '*.example.org' is a wildcard, and allow_wildcard_dns is off" == detail


def test_a_sid_uri_is_refused_unless_the_profile_allows_it() -> None:
    check_subject_alternative_names([san("uri", SID_URI)], profile(allow_sid_uri=True))

    detail = san_refusal(san("uri", SID_URI))

    assert detail.endswith("is a Microsoft SID, and allow_sid_uri is off or it does not read")


@pytest.mark.parametrize("uri", [SID_URI.upper(), SID_URI.replace("S-1", "%53-1"), SID_URI + "x"])
def test_a_sid_uri_that_is_spelled_otherwise_is_refused_even_where_one_is_allowed(uri: str) -> None:
    detail = san_refusal(san("uri", uri), allow_sid_uri=True)

    assert detail.endswith("is a Microsoft SID, and allow_sid_uri is off or it does not read")


def test_more_names_than_the_profile_allows_are_refused() -> None:
    detail = san_refusal(*[san("dns", f"host-{each}.example") for each in range(17)])

    assert "17 names are more than max_subject_alternative_names" == detail


def test_a_name_must_match_one_of_the_patterns_of_its_kind_as_a_whole() -> None:
    patterns = {"subject_alternative_name_patterns": {SanKind.DNS: (r".*\.example\.org", r".*\.example\.com")}}

    check_subject_alternative_names([san("dns", "a.example.com"), san("ip", "192.0.2.1")], profile(**patterns))
    detail = san_refusal(san("dns", "a.example.org.evil.example"), **patterns)

    assert "dns 'a.example.org.evil.example' matches none of the patterns for dns" == detail


def test_an_empty_list_of_patterns_lets_no_name_of_the_kind_through() -> None:
    detail = san_refusal(san("ip", "192.0.2.1"), subject_alternative_name_patterns={SanKind.IP: ()})

    assert "ip '192.0.2.1' matches none of the patterns for ip" == detail


@given(st.sampled_from(["dns", "email", "uri", "ip", "upn"]), st.text(max_size=300))
def test_no_value_makes_the_name_check_raise_anything_but_a_refusal(kind: str, value: str) -> None:
    try:
        check_subject_alternative_names([san(kind, value)], profile(subject_alternative_names=frozenset(SanKind)))
    except Refused as refusal:
        assert refusal.detail.isascii()  # noqa: PT017 - either outcome is right
