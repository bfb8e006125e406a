from __future__ import annotations

import pytest

from ra.errors import Reason
from ra.scep.errors import Answerable, BadAlgorithm, BadInner, BadMessageCheck, BadMessageType, SignerCannotReceive
from ra.scep.header import Header, TransactionId
from ra.scep.messages import Refusal
from ra.scep.names import Digest, FailInfo, MessageType
from ra.service.outcome import OUTCOMES, refusal, refused


def header(message_type: MessageType = MessageType.PKCS_REQ) -> Header:
    return Header(
        message_type=message_type, transaction_id=TransactionId(b"t"), sender_nonce=b"n" * 16, digest=Digest.SHA256
    )


@pytest.mark.rfc8894("reason-is-defined")
def test_every_reason_has_an_outcome() -> None:
    assert set(Reason) == set(OUTCOMES)


@pytest.mark.parametrize(
    "reason", [Reason.UNREADABLE_REQUEST, Reason.CHALLENGE_REFUSED, Reason.TRANSACTION_CONFLICT], ids=lambda r: r.name
)
def test_what_is_found_before_authentication_looks_the_same(reason: Reason) -> None:
    reply = refusal(reason, challenge_text=False)

    assert Refusal(fail_info=FailInfo.BAD_REQUEST, text=None) == reply
    assert OUTCOMES[reason].uniform


def test_a_refused_challenge_is_named_only_where_the_profile_allows() -> None:
    reply = refusal(Reason.CHALLENGE_REFUSED, challenge_text=True)

    assert Reason.CHALLENGE_REFUSED.value == reply.text


@pytest.mark.parametrize("reason", [Reason.UNREADABLE_REQUEST, Reason.CERTIFICATE_UNKNOWN], ids=lambda r: r.name)
def test_leave_to_name_a_challenge_names_nothing_else(reason: Reason) -> None:
    reply = refusal(reason, challenge_text=True)

    assert reply.text is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BadMessageCheck, FailInfo.BAD_MESSAGE_CHECK),
        (BadMessageType, FailInfo.BAD_REQUEST),
        (BadAlgorithm, FailInfo.BAD_ALG),
        (SignerCannotReceive, FailInfo.BAD_ALG),
        (BadInner, FailInfo.BAD_REQUEST),
    ],
)
def test_what_the_codec_finds_becomes_fail_info(error: type[Answerable], expected: FailInfo) -> None:
    reason = refused(error("the operator's text", header())).reason

    assert expected == refusal(reason, challenge_text=False).fail_info


@pytest.mark.parametrize("message_type", [MessageType.GET_CERT, MessageType.GET_CRL])
def test_a_query_has_one_failure_for_all_that_is_inside(message_type: MessageType) -> None:
    error = refused(BadInner("whatever", header(message_type)))

    assert Refusal(fail_info=FailInfo.BAD_CERT_ID) == refusal(error.reason, challenge_text=False)


@pytest.mark.rfc8894("text-is-for-people")
def test_the_operators_text_is_never_what_the_device_reads() -> None:
    error = refused(BadMessageCheck("messageDigest differs", header()))

    reply = refusal(error.reason, challenge_text=True)

    assert error.detail == "messageDigest differs"
    assert reply.text == Reason.BAD_MESSAGE_CHECK.value
