"""The one table from why a request is refused to what the device sees (design: what the device sees).

A fault that is only found after decryption is answered uniformly: badRequest, no text, not before the time floor,
whatever failed; a challenge that is refused looks the same. Nothing else decides about failInfo or failInfoText.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ra.errors import Reason, Refused
from ra.scep.errors import Answerable, BadAlgorithm, BadInner, BadMessageCheck, BadMessageType, SignerCannotReceive
from ra.scep.messages import Refusal
from ra.scep.names import FailInfo, MessageType


class Text(Enum):
    """Whether failInfoText carries the reason's public sentence."""

    NEVER = "never"
    IF_PROFILE_ALLOWS = "if the profile allows"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reason looks on the wire; `uniform` ones wait for the time floor."""

    fail_info: FailInfo
    text: Text
    uniform: bool = False


OUTCOMES: dict[Reason, Outcome] = {
    Reason.UNREADABLE_REQUEST: Outcome(FailInfo.BAD_REQUEST, Text.NEVER, uniform=True),
    Reason.TRANSACTION_CONFLICT: Outcome(FailInfo.BAD_REQUEST, Text.NEVER, uniform=True),
    Reason.CHALLENGE_REFUSED: Outcome(FailInfo.BAD_REQUEST, Text.IF_PROFILE_ALLOWS, uniform=True),
    Reason.CERTIFICATE_UNKNOWN: Outcome(FailInfo.BAD_CERT_ID, Text.NEVER, uniform=True),
    Reason.BAD_MESSAGE_CHECK: Outcome(FailInfo.BAD_MESSAGE_CHECK, Text.ALWAYS),
    Reason.MESSAGE_TYPE_NOT_SUPPORTED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.ALGORITHM_NOT_ALLOWED: Outcome(FailInfo.BAD_ALG, Text.ALWAYS),
    Reason.SIGNER_CANNOT_RECEIVE: Outcome(FailInfo.BAD_ALG, Text.ALWAYS),
    Reason.TRANSACTION_UNKNOWN: Outcome(FailInfo.BAD_CERT_ID, Text.ALWAYS),
    Reason.TRANSACTION_CLOSED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.SIGNER_KEY_DIFFERS: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.KEY_NOT_ALLOWED: Outcome(FailInfo.BAD_ALG, Text.ALWAYS),
    Reason.SUBJECT_NOT_ALLOWED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.SUBJECT_ALT_NAME_NOT_ALLOWED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.EXTENSION_NOT_ALLOWED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.USAGE_NOT_ALLOWED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.CA_REFUSED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
    Reason.DENIED: Outcome(FailInfo.BAD_REQUEST, Text.ALWAYS),
}


def refusal(reason: Reason, *, challenge_text: bool) -> Refusal:
    """The FAILURE that a reason becomes; `challenge_text` is the profile's leave to name a refused challenge."""
    outcome = OUTCOMES[reason]
    spoken = outcome.text is Text.ALWAYS or (outcome.text is Text.IF_PROFILE_ALLOWS and challenge_text)
    return Refusal(fail_info=outcome.fail_info, text=reason.value if spoken else None)


def refused(error: Answerable | Refused) -> Refused:
    """What the codec found wrong, in our words. GetCert and GetCRL have one failure for all that is inside (§4.5)."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, BadInner) and error.header.message_type in {MessageType.GET_CERT, MessageType.GET_CRL}:
        return Refused(Reason.CERTIFICATE_UNKNOWN, str(error))
    return Refused(_REASONS[type(error)], str(error))


_REASONS: dict[type[Answerable], Reason] = {
    BadMessageCheck: Reason.BAD_MESSAGE_CHECK,
    BadMessageType: Reason.MESSAGE_TYPE_NOT_SUPPORTED,
    BadAlgorithm: Reason.ALGORITHM_NOT_ALLOWED,
    SignerCannotReceive: Reason.SIGNER_CANNOT_RECEIVE,
    BadInner: Reason.UNREADABLE_REQUEST,
}
