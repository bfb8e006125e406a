from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.api import ApprovedContents, KeyUsage, NameAttribute, San, SanKind
from ra.errors import Reason, Refused
from ra.policy.decide import Decision, decide, freeze, requested_names_digest, thaw
from ra.policy.grant import Grant
from ra.policy.profile import EXTENDED_KEY_USAGES, Profile
from ra.policy.sid import SID_EXTENSION
from ra.scep.csr import RequestedExtension, SubjectAttribute
from tests.fakes.csrs import common_name, csr, ec_key, enrolment, extension, rsa_key, san, spki, subject

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
GRANT = Grant(method="shared", label="first")
RENEWAL = Grant(method="renewal", label="serial 1")
NOBODY = Grant(method="none", label="no challenge is required")
CLIENT = EXTENDED_KEY_USAGES["clientAuth"]
SID = "S-1-5-21-3734714977-4168152908-3764207930-1104"
SID_VALUE = bytes.fromhex("3040a03e060a2b060104018237190201a030042e") + SID.encode()


def profile(**options: Any) -> Profile:
    return Profile(name="default", **options)


def decided(*, options: dict[str, Any] | None = None, **changes: Any) -> Decision:
    return decide(enrolment(csr(**changes)), GRANT, profile(**(options or {})), NOW)


# ---------------------------------------------------------------- the seal


def test_nobody_else_makes_a_decision() -> None:
    decision = decided()

    with pytest.raises(TypeError, match=r"made by ra\.policy\.decide\.decide alone"):
        Decision(
            csr=decision.csr,
            grant=decision.grant,
            profile=decision.profile,
            contents=decision.contents,
            decided_at=NOW,
            seal=object(),
        )


def test_a_decision_is_not_changed_into_another() -> None:
    decision = decided()
    other = replace(decision.contents, validity=timedelta(days=9999))

    with pytest.raises(FrozenInstanceError):
        decision.contents = other  # type: ignore[misc]  # what mypy forbids must fail at run time as well
    with pytest.raises(TypeError):
        replace(decision, contents=other, seal=None)


def test_the_copy_of_a_decision_says_the_same() -> None:
    decision = decided()

    copied = copy.copy(decision)

    assert decision == copied


# ---------------------------------------------------------------- contents


def test_the_contents_are_the_names_and_the_key_asked_for_and_the_profile_says_the_rest() -> None:
    request = csr(subject=subject(("2.5.4.10", "Example"), ("2.5.4.3", "device")))

    decision = decide(enrolment(request), GRANT, profile(default_validity_days=90), NOW)

    expected = ApprovedContents(
        subject=((NameAttribute("2.5.4.10", "Example"),), (NameAttribute("2.5.4.3", "device"),)),
        subject_alternative_names=(),
        spki=request.spki,
        key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}),
        extended_key_usage=(CLIENT,),
        validity=timedelta(days=90),
    )
    assert expected == decision.contents
    assert NOW == decision.decided_at


def test_names_keep_their_order_and_come_once() -> None:
    names = (san("dns", "b.example"), san("ip", "192.0.2.1"), san("dns", "a.example"), san("dns", "b.example"))

    decision = decided(subject_alternative_names=names)

    expected = (San(SanKind.DNS, "b.example"), San(SanKind.IP, "192.0.2.1"), San(SanKind.DNS, "a.example"))
    assert expected == decision.contents.subject_alternative_names


def test_a_sid_stands_in_the_contents_where_the_profile_lets_it_through() -> None:
    extensions = (extension(SID_EXTENSION, SID_VALUE),)

    granted = decided(extensions=extensions, options={"allow_sid_extension": True})
    stripped = decided(extensions=extensions, options={"privileged_extensions": "strip"})

    assert SID == granted.contents.sid
    assert stripped.contents.sid is None


OTHER_SID = SID[:-4] + "1105"
ASKED = extension(SID_EXTENSION, SID_VALUE)
FOUND, OTHER = replace(GRANT, sid=SID), replace(GRANT, sid=OTHER_SID)
NAMING: dict[str, Any] = {"sid_from_challenge": True}


def test_a_sid_that_the_challenge_has_found_goes_in_where_the_profile_says_so() -> None:
    on, off = (decide(enrolment(), FOUND, profile(**options), NOW).contents.sid for options in (NAMING, {}))
    unknown = decide(enrolment(), GRANT, profile(**NAMING), NOW).contents.sid

    assert (SID, None, None) == (on, off, unknown)


@pytest.mark.parametrize("explicit", [True, False])
def test_who_asks_for_the_sid_that_was_found_gets_it(explicit: bool) -> None:
    request = enrolment(csr(extensions=(ASKED,)))

    decision = decide(request, FOUND, profile(**NAMING), NOW, explicit_contents=explicit)

    assert SID == decision.contents.sid


@pytest.mark.parametrize(
    "options",
    [
        {},
        NAMING,
        {"privileged_extensions": "strip"},
        {"allow_sid_extension": True},
        {"allow_sid_uri": True},
        {**NAMING, "allow_sid_extension": True, "allow_sid_uri": True, "privileged_extensions": "strip"},
    ],
)
def test_another_sid_than_the_challenge_has_found_is_refused_whatever_the_profile_says(options: dict[str, Any]) -> None:
    name = san("uri", f"tag:microsoft.com,2022-09-14:sid:{SID}")

    for request in (csr(extensions=(ASKED,)), csr(subject_alternative_names=(name,))):
        with pytest.raises(Refused) as refusal:
            decide(enrolment(request), OTHER, profile(**options), NOW)
        assert Reason.EXTENSION_NOT_ALLOWED is refusal.value.reason


def test_beside_a_sid_that_was_found_an_unreadable_one_is_refused() -> None:
    request = enrolment(csr(extensions=(extension(SID_EXTENSION, b"S-1-5-18"),)))

    with pytest.raises(Refused, match="does not read"):
        decide(request, FOUND, profile(privileged_extensions="strip", **NAMING), NOW)


@pytest.mark.parametrize("sid", ["", "S-1-5-21-1\n", "S-1-5-21-1-2-3-4-5-6-7-8-9", "x"])
def test_what_is_no_sid_goes_into_no_certificate(sid: str) -> None:
    with pytest.raises(Refused, match="no SID"):
        decide(enrolment(), replace(GRANT, sid=sid), profile(**NAMING), NOW)


def test_a_connector_that_copies_cannot_add_a_sid() -> None:
    with pytest.raises(Refused, match="copies from the request"):
        decide(enrolment(), FOUND, profile(**NAMING), NOW, explicit_contents=False)


@given(st.sampled_from([SID, OTHER_SID, None]), st.booleans(), st.booleans(), st.booleans())
def test_a_certificate_never_has_another_sid_than_the_one_found(
    found: str | None, asks: bool, naming: bool, allowing: bool
) -> None:
    request = enrolment(csr(extensions=(ASKED,) if asks else ()))
    options = profile(sid_from_challenge=naming, allow_sid_extension=allowing, privileged_extensions="strip")

    try:
        sid = decide(request, replace(GRANT, sid=found), options, NOW).contents.sid
    except Refused:
        assert asks
        assert found == OTHER_SID
        return

    let_through = SID if asks and allowing else None
    assert (found if found and naming else let_through) == sid


UNREADABLE = (extension(SID_EXTENSION, b"\x05\x00"),)


@pytest.mark.parametrize("extensions", [(extension(SID_EXTENSION, SID_VALUE),), UNREADABLE], ids=["readable", "not"])
@pytest.mark.parametrize("options", [{}, {"allow_sid_extension": True}], ids=["usual", "allowed"])
def test_a_sid_that_nobody_has_looked_at_is_left_out_where_the_grant_says_so(
    extensions: tuple[RequestedExtension, ...], options: dict[str, Any]
) -> None:
    request, grant = enrolment(csr(extensions=extensions)), replace(GRANT, strips_sid=True)

    decision = decide(request, grant, profile(**options), NOW)
    with pytest.raises(Refused) as refusal:
        decide(request, grant, profile(**options), NOW, explicit_contents=False)

    assert decision.contents.sid is None
    assert Reason.EXTENSION_NOT_ALLOWED is refusal.value.reason  # such a connector would copy it


def test_the_sid_that_was_found_stands_in_place_of_the_one_that_is_left_out() -> None:
    decision = decide(enrolment(csr(extensions=(ASKED,))), replace(OTHER, strips_sid=True), profile(**NAMING), NOW)

    assert OTHER_SID == decision.contents.sid


def test_no_other_wish_for_power_is_left_out_with_a_sid() -> None:
    request = enrolment(csr(extensions=(extension(SID_EXTENSION, SID_VALUE),), basic_constraints_ca=True))

    with pytest.raises(Refused) as refusal:
        decide(request, replace(GRANT, strips_sid=True), profile(), NOW)

    assert "CA:TRUE" in str(refusal.value.detail)


def test_what_a_connector_would_copy_and_we_would_leave_out_is_refused() -> None:
    request = enrolment(csr(extensions=(extension("1.3.6.1.4.1.311.20.2"),)))

    decide(request, GRANT, profile(), NOW)
    with pytest.raises(Refused) as refusal:
        decide(request, GRANT, profile(), NOW, explicit_contents=False)

    assert Reason.EXTENSION_NOT_ALLOWED is refusal.value.reason


def test_a_plain_request_passes_for_a_connector_that_copies() -> None:
    request = enrolment()

    decision = decide(request, GRANT, profile(), NOW, explicit_contents=False)

    assert (request.csr.der, profile().name) == (decision.csr, decision.profile)


# ---------------------------------------------------------------- kept


def test_a_decision_comes_out_of_its_bytes_as_it_went_in() -> None:
    names = (san("dns", "b.example"), san("ip", "192.0.2.1"))
    decision = decided(
        subject=subject(("2.5.4.10", "Exämple"), ("2.5.4.3", "device")),
        subject_alternative_names=names,
        extensions=(extension(SID_EXTENSION, SID_VALUE),),
        options={"allow_sid_extension": True},
    )

    assert decision == thaw(freeze(decision), GRANT)


def test_a_sid_that_was_found_is_kept_with_the_decision() -> None:
    decision = decide(enrolment(), FOUND, profile(**NAMING), NOW)

    assert SID == thaw(freeze(decision), GRANT).contents.sid


@given(st.binary(max_size=300))
def test_whatever_bytes_a_csr_has_it_keeps_them(der: bytes) -> None:
    head, _, _ = freeze(decided()).partition(b"\0")

    assert der == thaw(head + b"\0" + der, GRANT).csr


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ((), ""),
        (subject(("2.5.4.10", "Example, Inc."), ("2.5.4.3", "device")), "O=Example\\, Inc.,CN=device"),
        ((common_name("a")[0] + (SubjectAttribute("2.5.4.5", "7", 0x13),),), "CN=a+serialNumber=7"),
        (subject(("1.2.840.113549.1.9.2", "router"), ("2.5.4.4", "x")), "unstructuredName=router,2.5.4.4=x"),
        (common_name("a=b"), "CN=a\\=b"),
    ],
)
def test_the_subject_reads_as_text(attributes: Any, text: str) -> None:
    decision = decided(subject=attributes, subject_alternative_names=(san("dns", "device.example"),))

    assert text == decision.subject_text


# ---------------------------------------------------------------- the grant


def test_a_request_that_a_certificate_let_in_is_a_renewal() -> None:
    kinds = [decide(enrolment(), grant, profile(), NOW).kind for grant in (GRANT, RENEWAL)]

    assert ["enrolment", "renewal"] == kinds


@pytest.mark.rfc8894("self-signed-proves-nothing")
def test_a_request_that_nothing_granted_is_refused_where_a_challenge_is_required() -> None:
    decide(enrolment(), NOBODY, profile(challenge_password_required=False), NOW)
    with pytest.raises(Refused) as refusal:
        decide(enrolment(), NOBODY, profile(), NOW)

    assert Reason.CHALLENGE_REFUSED is refusal.value.reason


@pytest.mark.rfc8894("subject-and-key-of-the-signer")
def test_another_key_than_the_one_to_be_certified_may_sign_unless_the_profile_forbids_it() -> None:
    """Some Apple devices sign the message with another key."""
    request = enrolment(signer_key=rsa_key(3072))

    decide(request, GRANT, profile(), NOW)
    with pytest.raises(Refused) as refusal:
        decide(request, GRANT, profile(signer_key="same"), NOW)

    assert Reason.SIGNER_KEY_DIFFERS is refusal.value.reason


def test_a_renewal_is_signed_by_the_old_key_even_where_the_keys_must_be_the_same() -> None:
    decision = decide(enrolment(signer_key=rsa_key(3072)), RENEWAL, profile(signer_key="same"), NOW)

    assert "renewal" == decision.kind


# ---------------------------------------------------------------- the digest of names


@pytest.mark.parametrize(
    "changes",
    [
        {"public_key": ec_key()},
        {"spki": spki(ec_key())},
        {"challenge_password": "another"},
        {"key_usage": frozenset({"digitalSignature"})},
        {"subject": ((SubjectAttribute("2.5.4.3", "device", 0x13),),)},
        {"subject_alternative_names": (san("ip", "192.0.2.1"), san("dns", "device.example"))},
        {"subject_alternative_names": (san("dns", "device.example"), *[san("ip", "192.0.2.1")] * 2)},
    ],
)
def test_what_is_no_name_does_not_change_the_digest(changes: dict[str, Any]) -> None:
    names = (san("dns", "device.example"), san("ip", "192.0.2.1"))

    plain = requested_names_digest(csr(subject_alternative_names=names))
    changed = requested_names_digest(csr(**{"subject_alternative_names": names, **changes}))

    assert plain == changed


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": ()},
        {"subject": common_name("Device")},
        {"subject": subject(("2.5.4.5", "device"))},
        {"subject": common_name("device") + subject(("2.5.4.11", "x"))},
        {"subject": subject(("2.5.4.11", "x")) + common_name("device")},
        {"subject": ((*common_name("device")[0], *subject(("2.5.4.11", "x"))[0]),)},
        {"subject_alternative_names": ()},
        {"subject_alternative_names": (san("uri", "device.example"),)},
        {"subject_alternative_names": (san("dns", "device.example"), san("ip", "192.0.2.1"))},
        {"extensions": (extension(SID_EXTENSION, SID_VALUE),)},
    ],
)
def test_every_difference_of_names_changes_the_digest(changes: dict[str, Any]) -> None:
    names = (san("dns", "device.example"),)

    plain = requested_names_digest(csr(subject_alternative_names=names))
    changed = requested_names_digest(csr(**{"subject_alternative_names": names, **changes}))

    assert plain != changed


# ---------------------------------------------------------------- how long it is wanted to be valid


@pytest.mark.parametrize(
    ("wish", "days"), [(None, 90), (timedelta(days=30), 30), (timedelta(days=90), 90), (timedelta(days=400), 90)]
)
def test_a_wish_shortens_and_never_lengthens(wish: timedelta | None, days: int) -> None:
    decision = decide(enrolment(), replace(GRANT, validity=wish), profile(default_validity_days=90), NOW)

    assert timedelta(days=days) == decision.contents.validity


def test_a_wish_counts_for_nothing_where_the_ca_decides() -> None:
    wished = replace(GRANT, validity=timedelta(days=30))

    decision = decide(enrolment(), wished, profile(default_validity_days=90), NOW, explicit_validity=False)

    assert timedelta(days=90) == decision.contents.validity
