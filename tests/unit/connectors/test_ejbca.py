from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address
from operator import methodcaller
from pathlib import Path
from typing import Any
from uuid import uuid4

import pydantic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.responses import Response

from connectors import ejbca
from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    Capability,
    ConnectorError,
    Issued,
    IssueResult,
    KeyUsage,
    Misconfigured,
    NameAttribute,
    Pending,
    ProtocolViolation,
    Rejected,
    Rejection,
    RevocationReason,
    SanKind,
    Secret,
)
from connectors.ejbca.answers import binary
from connectors.ejbca.contents import NotSayable, alternative_names, check_names, distinguished_name
from connectors.ejbca.requests import EndEntity, enroll
from connectors.keyfiles import make_key
from ra.simulate.ejbca import AUTHORITY, NEXT_AUTHORITY, PROFILE, RA_PROFILE, SIGNING_PROFILE
from ra.simulate.ejbca.forms import read_dn
from ra.simulate.ejbca.issuing import CertificateProfile
from ra.simulate.ejbca.tokens import CLIENT_ID
from tests.fakes import pki
from tests.fakes.ejbcas import Beside, ejbca_beside, names, subject
from tests.fakes.simulated import Front, listening_front
from tests.fakes.vaults import request

COMMON_NAME, SERIAL_NUMBER, ORGANIZATION = "2.5.4.3", "2.5.4.5", "2.5.4.10"
END_ENTITY = {"enrolment": "end-entity"}
ENROLL = "pkcs10enroll"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with listening_front() as found:
        yield found


@pytest.fixture
def beside(tmp_path: Path, front: Front) -> Beside:
    return ejbca_beside(tmp_path, front)


def error(status: int, message: str) -> Response:
    return Response(f'{{"error_code":{status},"error_message":"{message}"}}', status, media_type="application/json")


def html(status: int) -> Response:
    return Response("<html><body>nginx</body></html>", status, media_type="text/html")


def result(beside: Beside, **options: Any) -> IssueResult:
    return beside.run(lambda each: each.issue(request()), **options)


def issued(beside: Beside, **options: Any) -> Issued:
    found = result(beside, **options)
    assert isinstance(found, Issued), found
    return found


def failed(beside: Beside, **options: Any) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        result(beside, **options)
    return caught.value


def loaded(found: Issued) -> x509.Certificate:
    return x509.load_der_x509_certificate(found.certificate)


# ---------------------------------------------------------------- what is asked for


def test_one_step_enrolment_sends_nothing_that_would_take_the_place_of_a_profile(beside: Beside) -> None:
    issued(beside)

    body = beside.sent(ENROLL)

    assert str(body.pop("certificate_request")).startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert str(body.pop("username")).startswith("scep-")
    assert 32 == len(body.pop("password"))
    assert {
        "certificate_profile_name": PROFILE,
        "end_entity_profile_name": "SCEP_EEP",
        "certificate_authority_name": AUTHORITY,
        "include_chain": True,
    } == body


def test_the_end_time_is_sent_in_the_one_form_that_ejbca_reads(beside: Beside) -> None:
    beside.server.issuing.certificate_profiles[PROFILE] = CertificateProfile(allows_validity_override=True)

    certificate = loaded(issued(beside, sends_end_time=True))

    wanted = pki.NOW + timedelta(days=30)
    assert f"{wanted:%Y-%m-%d %H:%M:%S}" == beside.sent(ENROLL)["end_time"]
    assert wanted.replace(microsecond=0) == certificate.not_valid_after_utc


def test_an_end_entity_is_made_with_the_names_that_were_approved(beside: Beside) -> None:
    approved = {
        **subject((COMMON_NAME, 'a,"b"'), (SERIAL_NUMBER, "SN42"), (ORGANIZATION, "Example")),
        **names((SanKind.DNS, "dev.example.org"), (SanKind.IP, "10.0.0.7"), (SanKind.UPN, "dev@corp")),
    }

    found = beside.run(lambda each: each.issue(request(**approved)), **END_ENTITY)

    body = beside.sent("endentity")
    assert isinstance(found, Issued)
    assert 'CN=a\\,\\"b\\",SN=SN42,O=Example' == body["subject_dn"]
    assert "dNSName=dev.example.org,iPAddress=10.0.0.7,upn=dev@corp" == body["subject_alt_name"]
    assert ("USERGENERATED", AUTHORITY) == (body["token"], body["ca_name"])
    assert {'a,"b"', "SN42", "Example"} == {str(each.value) for each in loaded(found).subject}


@pytest.mark.parametrize("text", ["plain", " inner  space", "a,b", 'q"', "back\\slash", "a+b=c;<d>#", "ü日"])
def test_a_distinguished_name_says_what_was_approved(text: str) -> None:
    value = text.strip()

    written = distinguished_name(((NameAttribute(COMMON_NAME, value),), (NameAttribute(ORGANIZATION, "O"),)))

    assert [value, "O"] == [str(each.value) for each in read_dn(written)]


@pytest.mark.parametrize(
    "rdns",
    [
        ((NameAttribute("1.2.3", "x"),),),
        ((NameAttribute(COMMON_NAME, "a"), NameAttribute(ORGANIZATION, "b")),),
        ((NameAttribute(COMMON_NAME, " a"),),),
        ((NameAttribute(COMMON_NAME, "a\nb"),),),
        ((NameAttribute(COMMON_NAME, ""),),),
    ],
)
def test_a_subject_that_ejbca_would_change_is_refused(rdns: Any) -> None:
    with pytest.raises(NotSayable) as caught:
        distinguished_name(rdns)

    assert Rejection.NAME is caught.value.rejection


@pytest.mark.parametrize("mode", [{}, END_ENTITY])
@pytest.mark.parametrize(
    "approved",
    [
        subject((COMMON_NAME, "device;1")),
        subject((COMMON_NAME, "device-1 ")),
        names((SanKind.URI, "https://device-1.example.org/?a")),
    ],
)
def test_a_name_that_ejbca_would_change_is_refused_before_anything_is_sent(
    beside: Beside, approved: dict[str, Any], mode: dict[str, str]
) -> None:
    found = beside.run(lambda each: each.issue(request(**approved)), **mode)

    assert isinstance(found, Rejected)
    assert "EJBCA would" in found.detail
    assert [] == beside.server.requests


def test_ejbca_changes_what_it_is_not_to_be_asked_for(beside: Beside) -> None:
    approved = subject((COMMON_NAME, "device;1"))

    found = beside.run(lambda each: each.issue(request(**approved)), forbidden_characters="", **END_ENTITY)

    assert isinstance(found, Issued)
    assert ["device/1"] == [str(each.value) for each in loaded(found).subject]


@pytest.mark.parametrize("value", ["a.example.org,upn=admin@corp", "a\\", " a", ""])
def test_an_alternative_name_that_ejbca_would_split_is_refused(value: str) -> None:
    with pytest.raises(NotSayable):
        alternative_names(names((SanKind.URI, value))["subject_alternative_names"])


@pytest.mark.parametrize(
    "contents",
    [
        subject((COMMON_NAME, "another")),
        subject((COMMON_NAME, "device-1"), (ORGANIZATION, "Example")),
        names((SanKind.DNS, "device-1.example.org")),
        {"sid": "S-1-5-21-1"},
    ],
)
def test_names_that_the_csr_does_not_have_are_refused_before_anything_is_sent(
    beside: Beside, contents: dict[str, Any]
) -> None:
    found = beside.run(lambda each: each.issue(request(**contents)))

    assert isinstance(found, Rejected)
    assert Rejection.NAME is found.rejection
    assert [] == beside.server.requests


def test_every_kind_of_alternative_name_is_found_again_in_the_csr() -> None:
    given = (
        (SanKind.DNS, "a.example.org"),
        (SanKind.EMAIL, "a@example.org"),
        (SanKind.URI, "urn:a"),
        (SanKind.IP, "::1"),
        (SanKind.UPN, "a@corp"),
    )
    upn = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x06a@corp")
    general = [x509.DNSName("a.example.org"), x509.RFC822Name("a@example.org"), upn]
    general += [x509.UniformResourceIdentifier("urn:a"), x509.IPAddress(ip_address("::1"))]
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    csr = builder.sign(pki.rsa_key(), hashes.SHA256()).public_bytes(Encoding.DER)
    approved = request(subject=(), **names(*given)).contents

    check_names(csr, approved)

    with pytest.raises(NotSayable):
        check_names(csr, request(subject=(), **names(*given[1:])).contents)


def test_a_csr_that_cannot_be_read_is_refused(beside: Beside) -> None:
    found = beside.run(lambda each: each.issue(replace(request(), csr=b"none")))

    assert isinstance(found, Rejected)
    assert Rejection.CSR is found.rejection


@pytest.mark.parametrize(
    ("usage", "extended", "expected"),
    [
        ({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT}, ("1.3.6.1.5.5.7.3.2",), PROFILE),
        ({KeyUsage.DIGITAL_SIGNATURE}, ("1.3.6.1.5.5.7.3.2",), SIGNING_PROFILE),
        ({KeyUsage.KEY_ENCIPHERMENT}, ("1.3.6.1.5.5.7.3.2",), "ENCRYPT"),
        ({KeyUsage.DIGITAL_SIGNATURE}, ("1.3.6.1.5.5.7.3.1", "1.3.6.1.4.1.311.20.2.1"), RA_PROFILE),
    ],
)
def test_the_usages_decide_on_the_certificate_profile(
    beside: Beside, usage: set[KeyUsage], extended: tuple[str, ...], expected: str
) -> None:
    beside.server.issuing.certificate_profiles["ENCRYPT"] = CertificateProfile()
    asked = request(key_usage=frozenset(usage), extended_key_usage=extended)

    beside.run(lambda each: each.issue(asked), encryption_certificate_profile="ENCRYPT")

    assert expected == beside.sent(ENROLL)["certificate_profile_name"]


# ---------------------------------------------------------------- end entities


@pytest.mark.parametrize("mode", [{}, END_ENTITY])
def test_a_device_that_renews_with_a_new_key_comes_to_its_own_end_entity(beside: Beside, mode: dict[str, str]) -> None:
    """The CA enforces unique subjects: another end entity with the same one would be refused."""
    first = beside.run(lambda each: each.issue(request()), **mode)
    second = beside.run(lambda each: each.issue(request(make_key("ec:p256"))), **mode)

    assert isinstance(first, Issued)
    assert isinstance(second, Issued)
    assert 1 == len(beside.server.issuing.entities)
    assert 2 == len(beside.server.issuing.owners)


def test_two_devices_are_two_end_entities(beside: Beside) -> None:
    beside.run(lambda each: each.issue(request()))
    beside.run(lambda each: each.issue(request(make_key("ec:p256"), common_name="device-2")))

    assert 2 == len(beside.server.issuing.entities)


def test_the_enrolment_code_is_the_same_on_every_attempt_and_another_for_every_request(beside: Beside) -> None:
    asked = request()
    codes = []

    for each in (asked, asked, replace(asked, idempotency_key=uuid4())):
        beside.run(methodcaller("issue", each))
        codes.append(beside.sent(ENROLL)["password"])

    assert codes[0] == codes[1]
    assert codes[0] != codes[2]


def test_a_key_of_another_device_is_refused(beside: Beside) -> None:
    issued(beside)

    found = beside.run(lambda each: each.issue(request(common_name="device-2")))

    assert isinstance(found, Rejected)
    assert Rejection.KEY is found.rejection
    assert "same key as another user" in found.detail


# ---------------------------------------------------------------- approvals


def pending(beside: Beside, **options: Any) -> Pending:
    beside.server.approvals.are_needed = True
    found = result(beside, **options)
    assert isinstance(found, Pending), found
    return found


def poll(beside: Beside, found: Pending, **options: Any) -> IssueResult:
    return beside.run(lambda each: each.poll(found.reference, request()), **options)


@pytest.mark.parametrize("one_step", [True, False])
def test_a_request_waits_until_somebody_has_approved_it(beside: Beside, one_step: bool) -> None:
    mode = {} if one_step else END_ENTITY
    beside.server.approvals.one_step_waits = one_step
    asked = request()
    beside.server.approvals.are_needed = True

    first = beside.run(lambda each: each.issue(asked), approval_poll_seconds=7, **mode)
    assert isinstance(first, Pending)
    second = beside.run(lambda each: each.poll(first.reference, asked), **mode)
    beside.server.approvals.approve(int(first.reference))
    third = beside.run(lambda each: each.poll(first.reference, asked), **mode)
    fourth = beside.run(lambda each: each.poll(first.reference, asked), **mode)

    assert ("123", 7) == (first.reference, first.retry_after_seconds)
    assert isinstance(second, Pending)
    assert isinstance(third, Issued)
    assert third == fourth
    assert 1 == len(beside.server.issuing.owners)


@pytest.mark.parametrize("state", ["rejected", "expired"])
def test_a_request_that_is_not_approved_is_refused(beside: Beside, state: Any) -> None:
    found = pending(beside, **END_ENTITY)
    beside.server.approvals.held[123].state = state

    after = poll(beside, found, **END_ENTITY)

    assert isinstance(after, Rejected)
    assert Rejection.POLICY is after.rejection


@pytest.mark.parametrize(("reference", "part"), [("124", "Could not find request"), ("x1", "no number")])
def test_a_request_that_ejbca_does_not_know_is_the_operators(beside: Beside, reference: str, part: str) -> None:
    with pytest.raises(Misconfigured, match=part):
        poll(beside, Pending(reference=reference, retry_after_seconds=1), **END_ENTITY)


def test_a_request_that_could_not_be_carried_out_is_the_operators(beside: Beside) -> None:
    found = pending(beside, **END_ENTITY)
    beside.server.approvals.held[123].state = "failed"

    with pytest.raises(Misconfigured, match="could not be executed"):
        poll(beside, found, **END_ENTITY)


def test_what_was_issued_under_a_lost_answer_is_polled_all_the_same(beside: Beside) -> None:
    asked = request()
    beside.server.approvals.are_needed = True
    beside.run(lambda each: each.issue(asked), **END_ENTITY)
    beside.server.approvals.approve(123)
    beside.server.faults.at_next("certificaterequest", html(502), after_work=True)

    with pytest.raises(BackendUnavailable) as caught:
        beside.run(lambda each: each.poll("123", asked), **END_ENTITY)
    after = beside.run(lambda each: each.poll("123", asked), **END_ENTITY)

    assert caught.value.maybe_issued
    assert isinstance(after, Issued)
    assert 1 == len(beside.server.issuing.owners)


def test_approvals_and_one_step_enrolment_do_not_go_together_and_the_message_says_what_does(beside: Beside) -> None:
    beside.server.approvals.are_needed = True

    found = failed(beside)

    assert isinstance(found, Misconfigured)
    assert 'enrolment = "end-entity"' in str(found)


def test_a_202_without_a_number_breaks_the_protocol(beside: Beside) -> None:
    beside.server.faults.at_next("endentity", error(202, "waits"))

    assert isinstance(failed(beside, **END_ENTITY), ProtocolViolation)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("User 'x' is not allowed to use same key as another user is using.", Rejection.KEY),
        ("User 'x' is not allowed to use same subject DN as the user(s) 'y' is/are using.", Rejection.NAME),
        ("Wrong number of OU fields in Subject DN.", Rejection.NAME),
        ("Field COMMONNAME data didn't match requirement of end entity profile.", Rejection.NAME),
        ("An incorrect certificate request has been passed.", Rejection.CSR),
        ("POPO verification failed.", Rejection.CSR),
        ("Illegal key length 1024.", Rejection.KEY),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_sentence_about_the_request_is_a_final_no(
    beside: Beside, status: int, message: str, expected: Rejection
) -> None:
    beside.server.faults.at_next(ENROLL, error(status, message))

    found = result(beside)

    assert Rejected(rejection=expected, detail=message) == found


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(400, "CA with name X doesn't exist."), Misconfigured),
        (error(400, "End entity profile X does not exist."), Misconfigured),
        (error(400, "Invalid request, unknown certificate profile."), Misconfigured),
        (error(400, "The CA certificate has expired."), Misconfigured),
        (error(400, "nobody has ever seen this"), Misconfigured),
        (html(400), Misconfigured),
        (html(404), Misconfigured),
        (error(404, "HTTP 404 Not Found"), Misconfigured),
        (error(403, "Administrator is not authorized to resource /administrator. Msg: ."), AuthFailed),
        (html(302), Misconfigured),
        (html(200), ProtocolViolation),
        (Response('{"certificate":"AAAA","certificate_chain":["AAAA"]}', 201), ProtocolViolation),
        (Response('{"certificate":"%%","certificate_chain":["%%"]}', 201), ProtocolViolation),
        (Response('{"certificate":"MAA="}', 201), ProtocolViolation),
    ],
)
def test_what_is_no_fault_of_the_device_is_no_refusal(
    beside: Beside, answer: Response, expected: type[ConnectorError]
) -> None:
    beside.server.faults.at_next(ENROLL, answer)

    assert isinstance(failed(beside), expected)


@pytest.mark.parametrize(
    "answer",
    [
        error(400, "CA Issuing is offline."),
        error(400, "CryptoToken (id 1) is not active."),
        error(400, "CA is not active"),
        error(400, "Device was unavailable."),
        error(503, "Device was unavailable."),
    ],
)
def test_a_ca_that_is_offline_has_issued_nothing_whatever_the_status_says(beside: Beside, answer: Response) -> None:
    beside.server.faults.at_next(ENROLL, answer)

    found = failed(beside)

    assert isinstance(found, BackendUnavailable)
    assert not found.maybe_issued
    assert 0 == beside.asked(ENROLL)


@pytest.mark.parametrize("answer", [error(500, "General failure."), html(500), html(503), html(504), None])
def test_an_answer_that_is_lost_is_found_again(beside: Beside, answer: Response | None) -> None:
    beside.server.faults.at_next(ENROLL, answer, after_work=True)
    asked = request()

    with pytest.raises(BackendUnavailable) as caught:
        beside.run(lambda each: each.issue(asked), timeout_seconds=0.5)
    found = beside.run(lambda each: each.find_issued(asked, asked.requested_at))

    assert caught.value.maybe_issued
    assert 1 == beside.asked(ENROLL)
    assert found is not None
    assert [f"{each:X}" for each in beside.server.issuing.owners] == [found.reference]


# ---------------------------------------------------------------- finding again


def test_of_several_certificates_the_latest_with_the_same_key_is_found(beside: Beside) -> None:
    asked = request()
    beside.run(lambda each: each.issue(asked))
    beside.pass_time(days=2)
    second = beside.run(lambda each: each.issue(asked))
    beside.run(lambda each: each.issue(request(make_key("ec:p256"))))

    found = beside.run(lambda each: each.find_issued(asked, pki.NOW))

    assert second == found


def test_the_certificates_of_other_requests_do_not_hide_the_one_that_is_looked_for(beside: Beside) -> None:
    asked = request()
    ours = beside.run(lambda each: each.issue(asked))
    beside.pass_time(days=2)
    other = beside.run(lambda each: each.issue(asked))
    assert isinstance(ours, Issued)
    assert isinstance(other, Issued)
    put_aside = frozenset({int(other.reference, 16)})

    found = beside.run(lambda each: each.find_issued(asked, pki.NOW, put_aside))
    nothing = beside.run(lambda each: each.find_issued(asked, pki.NOW, put_aside | {int(ours.reference, 16)}))

    assert ours == found
    assert nothing is None


def test_what_was_issued_before_is_not_found(beside: Beside) -> None:
    asked = request()
    beside.run(lambda each: each.issue(asked))
    beside.pass_time(days=2)

    assert beside.run(lambda each: each.find_issued(asked, beside.watched.moment)) is None


def test_what_was_revoked_is_not_found(beside: Beside) -> None:
    asked, found = request(), issued(beside)

    beside.run(lambda each: each.revoke(found.certificate, RevocationReason.SUPERSEDED))

    assert beside.run(lambda each: each.find_issued(asked, pki.NOW)) is None


def test_a_search_goes_on_to_the_last_page(beside: Beside) -> None:
    asked = request()
    beside.run(lambda each: each.issue(asked))
    [(serial, owner)] = beside.server.issuing.owners.items()
    ours = beside.server.issuing.ca.issued[serial]
    others = beside.server.issuing.ca.issued
    filler = x509.load_der_x509_certificate(issued_to_another(beside))
    beside.server.issuing.owners = {10**6 + each: owner for each in range(150)} | {serial: owner}
    others |= dict.fromkeys(range(10**6, 10**6 + 150), filler)

    found = beside.run(lambda each: each.find_issued(asked, pki.NOW))

    assert found is not None
    assert ours.public_bytes(Encoding.DER) == found.certificate
    assert 2 == beside.asked("search")


def issued_to_another(beside: Beside) -> bytes:
    found = beside.run(lambda each: each.issue(request(make_key("ec:p256"), common_name="device-2")))
    assert isinstance(found, Issued)
    return found.certificate


def test_without_a_search_nothing_is_promised(beside: Beside) -> None:
    with pytest.raises(Misconfigured):
        beside.run(lambda each: each.find_issued(request(), pki.NOW), searches=False)


# ---------------------------------------------------------------- afterwards


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (RevocationReason.KEY_COMPROMISE, x509.ReasonFlags.key_compromise),
        (RevocationReason.PRIVILEGE_WITHDRAWN, x509.ReasonFlags.privilege_withdrawn),
        (RevocationReason.UNSPECIFIED, x509.ReasonFlags.unspecified),
    ],
)
def test_a_certificate_is_revoked_with_its_reason(
    beside: Beside, reason: RevocationReason, expected: x509.ReasonFlags
) -> None:
    found = issued(beside)

    beside.run(lambda each: each.revoke(found.certificate, reason))
    state = beside.run(lambda each: each.get_certificate(int(found.reference, 16)))

    assert [expected] == [each.reason for each in beside.server.issuing.ca.revoked.values()]
    assert state is not None
    assert pki.NOW.replace(microsecond=0) == state.revoked_at


@pytest.mark.parametrize(
    "answer",
    [
        Response('{"status_code":202,"info_message":"waits","request_id":7,"link":"x"}', 202),
        error(400, "There already exists an approval request for this action."),
        error(400, "CA is offline"),
    ],
)
def test_a_revocation_that_waits_is_asked_for_again_later(beside: Beside, answer: Response) -> None:
    found = issued(beside)
    for _ in range(3):
        beside.server.faults.at_next("/revoke", answer)

    with pytest.raises(BackendUnavailable):
        beside.run(lambda each: each.revoke(found.certificate, RevocationReason.SUPERSEDED))


def test_a_certificate_of_another_ca_cannot_be_revoked(beside: Beside) -> None:
    other = pki.root().certificate

    with pytest.raises(Misconfigured, match="was not found"):
        beside.run(lambda each: each.revoke(other.public_bytes(Encoding.DER), RevocationReason.SUPERSEDED))


def test_the_chain_ends_in_the_root(beside: Beside) -> None:
    expected = tuple(each.public_bytes(Encoding.DER) for each in beside.server.issuing.ca.chain)

    assert expected == beside.run(lambda each: each.ca_chain())
    assert expected == issued(beside).chain


def test_the_ca_that_follows_is_shown_once_it_is_there(beside: Beside) -> None:
    following = {"next_certificate_authority": NEXT_AUTHORITY}

    before = beside.run(lambda each: each.next_ca(), **following)
    beside.server.add_next_authority()
    after = beside.run(lambda each: each.next_ca(), **following)

    assert () == before
    assert 2 == len(after)


def test_a_ca_without_a_crl_is_the_operators(beside: Beside) -> None:
    beside.server.has_crl = False

    with pytest.raises(Misconfigured, match="no CRL"):
        beside.run(lambda each: each.crl())


def test_a_ca_that_is_not_shown_to_us_is_named_beside_those_that_are(beside: Beside) -> None:
    with pytest.raises(Misconfigured, match=f'no CA named "Other", but "{AUTHORITY}"'):
        beside.run(lambda each: each.ca_chain(), certificate_authority="Other")


def test_a_serial_number_of_an_unknown_ca_is_no_certain_no(beside: Beside) -> None:
    beside.server.faults.at_next("revocationstatus", error(404, "CA 'CN=x' does not exist."))

    with pytest.raises(Misconfigured):
        beside.run(lambda each: each.get_certificate(1))


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (Response('{"status":"DOWN"}'), "DOWN"),
        (html(200), "ProtocolViolation"),
        (html(503), "BackendUnavailable"),
    ],
)
def test_health_says_what_is_wrong(beside: Beside, answer: Response, detail: str) -> None:
    for _ in range(3):
        beside.server.faults.at_next("certificate/status", answer)

    health = beside.run(lambda each: each.health())

    assert not health.ready
    assert detail in health.detail


def test_health_tells_a_ca_that_has_run_out(beside: Beside) -> None:
    beside.server.tokens.lease = timedelta(days=9999)
    beside.watched.secrets = {"file:token": beside.server.tokens.create()}
    beside.pass_time(days=3651)

    health = beside.run(lambda each: each.health())

    assert not health.ready
    assert "ran out" in health.detail


# ---------------------------------------------------------------- who we are


def oauth(beside: Beside, **changes: Any) -> dict[str, Any]:
    url = f"{str(beside.options['url']).partition('/ejbca')[0]}/oauth/token"
    login = {"method": "client-credentials", "token_url": url, "client_id": CLIENT_ID, "client_secret": "file:oauth"}
    return {"login": {**login, **changes}}


def test_a_token_is_held_until_two_thirds_of_its_life_are_over(beside: Beside) -> None:
    lease = beside.server.tokens.lease = timedelta(minutes=3)
    before = len(beside.server.tokens.held)

    async def three_times(connector: ejbca.EjbcaCa) -> None:
        await connector.ca_chain()
        await connector.ca_chain()
        beside.watched.moment += lease * 2 / 3
        await connector.ca_chain()

    beside.run(three_times, **oauth(beside, scope="ejbca", audience="ejbca"))

    assert 2 == len(beside.server.tokens.held) - before


def test_a_token_that_ejbca_refuses_is_replaced_once(beside: Beside) -> None:
    async def twice(connector: ejbca.EjbcaCa) -> IssueResult:
        await connector.ca_chain()
        beside.server.tokens.held.clear()
        return await connector.issue(request())

    found = beside.run(twice, **oauth(beside))

    assert isinstance(found, Issued)
    assert 1 == len(beside.server.issuing.owners)


def test_credentials_that_are_wrong_are_the_operators(beside: Beside) -> None:
    assert isinstance(failed(beside, **oauth(beside, client_id="other")), AuthFailed)


def test_a_token_from_a_file_is_read_anew_for_every_request(beside: Beside) -> None:
    async def twice(connector: ejbca.EjbcaCa) -> IssueResult:
        await connector.ca_chain()
        beside.server.tokens.held.clear()
        beside.watched.secrets = {"file:token": beside.server.tokens.create()}
        return await connector.issue(request())

    assert isinstance(beside.run(twice), Issued)


def test_a_token_that_the_server_repeats_is_not_shown(beside: Beside) -> None:
    token = beside.watched.secrets["file:token"]
    beside.server.faults.at_next(ENROLL, error(403, f"no such token: {token}"))

    found = failed(beside)

    assert "no such token: ***" in str(found)


def test_a_secret_that_is_empty_stops_the_start(beside: Beside) -> None:
    beside.watched.secrets = {"file:token": ""}

    with pytest.raises(Misconfigured, match="empty"):
        beside.run(lambda each: each.ca_chain())


@pytest.mark.parametrize(
    "changes",
    [
        {"login": None},
        {"sends_end_time": True, "enrolment": "end-entity"},
        {"username_prefix": "a/b"},
        {"login": {"method": "token", "token": "in clear"}},
        {"certificate_authority": ""},
    ],
)
def test_options_that_do_not_go_together_are_refused(beside: Beside, changes: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        ejbca.Options(**{**beside.options, **changes})


def test_the_client_secret_is_not_sent_in_clear_to_another_machine(beside: Beside) -> None:
    login = oauth(beside, token_url="http://idp.example.org/token")

    with pytest.raises(pydantic.ValidationError, match="allow_http"):
        ejbca.Options(**{**beside.options, **login})


def test_the_name_of_an_end_entity_stays_what_it_is(beside: Beside) -> None:
    """Changed, every device would meet the end entity of its own older name, whose subject it may not use."""
    issued(beside)
    one_step = beside.sent(ENROLL)["username"]
    beside.server.issuing.owners.clear()
    issued(beside, enrolment="end-entity", username_prefix="ra-")
    with_names = beside.sent("endentity")["username"]

    assert ("scep-ee48c8ccad81ac9f821a96466d7a6943", "ra-bed10a179712068ddd470ce17ea91a59") == (one_step, with_names)


def test_capabilities_follow_from_the_options(beside: Beside) -> None:
    async def capabilities(connector: ejbca.EjbcaCa) -> frozenset[Capability]:
        return connector.capabilities

    always = {Capability.POLL, Capability.REVOKE, Capability.CRL, Capability.GET_CERTIFICATE}
    assert always == beside.run(capabilities, searches=False, ra_certificate_profile=None)
    assert Capability.EXPLICIT_CONTENTS in beside.run(capabilities, **END_ENTITY)
    assert Capability.NOT_AFTER in beside.run(capabilities, sends_end_time=True)


@pytest.mark.parametrize("text", ["", "%%%", "AAAA", "QUFBQQ==", "LS0tLS1CRUdJTg=="])
def test_a_field_without_a_certificate_breaks_the_protocol(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        binary(text)


def test_an_end_time_is_written_in_utc() -> None:
    moment = datetime(2027, 1, 31, 1, 0, tzinfo=UTC)
    entity = EndEntity(
        username="u",
        code=Secret("code"),
        csr="",
        authority="a",
        certificate_profile="c",
        end_entity_profile="e",
    )

    call = enroll(entity, moment.astimezone(timezone(timedelta(hours=9))))

    assert call.json is not None
    assert "2027-01-31 01:00:00" == call.json["end_time"]
