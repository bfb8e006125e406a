"""Why a request was refused, for the administrator: what it means, and what is to be done. The one table.

It holds every Reason, every Rejection of a CA, and the words that stand in a transaction's or a notice's reason beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.api import Rejection
from ra.errors import Reason
from ra.journal.records import UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Meaning:
    """Two sentences; each ends with a full stop."""

    means: str
    advice: str


_REASONS: Mapping[Reason, Meaning] = {
    Reason.UNREADABLE_REQUEST: Meaning(
        "The request could not be opened: it is sealed to another RA certificate, or broken inside.",
        "Have the device fetch GetCACert again; while RA certificates change, keep the old identity beside the new one.",
    ),
    Reason.BAD_MESSAGE_CHECK: Meaning(
        "The signature of the message does not verify: it was changed on its way, or the client is at fault.",
        "Look for a proxy that changes bodies or queries; `scep-ra explain` says what a message is.",
    ),
    Reason.ALGORITHM_NOT_ALLOWED: Meaning(
        "The message uses an algorithm that the profile does not let in; the detail names it.",
        "Set the device to AES and SHA-256; where it cannot, name the word of the detail in the profile's `legacy`. "
        "It may need more words than this one: docs/operations.md has a `preset` for some clients.",
    ),
    Reason.SIGNER_CANNOT_RECEIVE: Meaning(
        "The message is signed by a key to which no reply can be sealed.",
        "Give the device an RSA key; or, where it presents a challenge that cannot be guessed, set `password_recipient`.",
    ),
    Reason.MESSAGE_TYPE_NOT_SUPPORTED: Meaning(
        "The messageType is no request of SCEP.",
        "The client is at fault, or no client at all: `scep-ra explain` says what it sent.",
    ),
    Reason.CHALLENGE_REFUSED: Meaning(
        "The challenge was not accepted: the detail says by whom, and why.",
        "Where the detail says what to do, do that. Give the device a new challenge where it was wrong, missing, expired "
        "or spent. Where the detail names a day from which on it can renew, let it wait until then. Where the names differ, have the management ask for those that the challenge is for. Where a list or a "
        "directory does not know the device, or thinks badly of it, mend that there: no new challenge helps. Where another "
        "key has used it, find out who else has got hold of it.",
    ),
    Reason.SIGNER_KEY_DIFFERS: Meaning(
        'The message is signed by another key than the one to be certified, and the profile says `signer_key = "same"`.',
        'Some Apple devices do that rightly: set `signer_key = "any"` for them.',
    ),
    Reason.KEY_NOT_ALLOWED: Meaning(
        "The key is of a type, size or quality that the profile does not allow; the detail says which.",
        "Set the key size in the device's profile (Apple's default is 1024 bits), or the limits of the profile here.",
    ),
    Reason.SUBJECT_NOT_ALLOWED: Meaning(
        "The subject that is asked for is outside the profile; the detail names the rule and the attribute.",
        "Correct the subject in the management's profile, or `subject_attributes`, `required_subject_attributes` or "
        "`common_name_pattern` here.",
    ),
    Reason.SUBJECT_ALT_NAME_NOT_ALLOWED: Meaning(
        "A subject alternative name that is asked for is outside the profile; the detail names it.",
        "Correct it in the management's profile, or allow it by `subject_alternative_names` or the pattern of its kind.",
    ),
    Reason.EXTENSION_NOT_ALLOWED: Meaning(
        "The request asks for an extension that the profile does not let through; the detail names it.",
        "Take it out of the management's profile, or see `unapproved_extensions` and `privileged_extensions`.",
    ),
    Reason.USAGE_NOT_ALLOWED: Meaning(
        "The key usages that are asked for are of power, or none that is allowed remains of them.",
        "Ask for digital signature, key encipherment and client authentication, or widen the profile's usages.",
    ),
    Reason.TRANSACTION_CONFLICT: Meaning(
        "The transactionID belongs to another request.",
        "The client re-uses transactionIDs, or somebody tries to take over another's: compare the two requests.",
    ),
    Reason.TRANSACTION_UNKNOWN: Meaning(
        "The device polls for something that was never asked here, by this key, at this profile.",
        "Have it enrol anew; with several services, see that they share one database.",
    ),
    Reason.TRANSACTION_CLOSED: Meaning(
        "The transaction has ended without a certificate.",
        "Have the device enrol anew; `scep-ra transactions show` says why it ended.",
    ),
    Reason.CERTIFICATE_UNKNOWN: Meaning(
        "No certificate matches the question, or the question could not be read, or it is not served.",
        "Nothing has to be done, unless devices are to be served such questions.",
    ),
    Reason.CA_REFUSED: Meaning(
        "The CA said no; the detail has its words.",
        "Look at the CA for the rule that refused, and have the device enrol anew once it is corrected.",
    ),
    Reason.DENIED: Meaning(
        "A person said no: an approver, or whoever gave the request up.",
        "See by `scep-ra transactions show` who and why. The device may enrol anew, and is asked about anew.",
    ),
}

_REJECTIONS: Mapping[Rejection, Meaning] = {
    Rejection.POLICY: Meaning(
        "A rule of the CA's own refuses the request.",
        "Look at the CA's profile, role or template; the detail has its words.",
    ),
    Rejection.NAME: Meaning(
        "The CA does not issue for a name that was asked for.",
        "Allow the name at the CA, or refuse it here already by the profile's rules.",
    ),
    Rejection.KEY: Meaning(
        "The CA does not certify a key of this type or size.",
        "Allow it at the CA, or set `min_rsa_bits` and its like here to what the CA takes.",
    ),
    Rejection.CSR: Meaning(
        "The CA could not make anything of the PKCS #10 request.",
        "Compare the request (`scep-ra explain`) with what the CA accepts.",
    ),
    Rejection.VALIDITY: Meaning(
        "The CA does not issue for so long.",
        "Lower `default_validity_days`, or raise the CA's limit.",
    ),
    Rejection.OTHER: Meaning(
        "The CA said no, for a reason of its own.",
        "The detail has its words.",
    ),
}

MEANINGS: Mapping[str, Meaning] = {
    **{reason.name: each for reason, each in _REASONS.items()},
    UNAVAILABLE: Meaning(
        "It was not refused: something that the decision needs could not be asked, and the device was told to come back "
        "(HTTP 503).",
        "Mend what the detail names; `scep-ra doctor` says how it stands. Nothing is lost, and the device may ask again.",
    ),
    **{rejection.value: each for rejection, each in _REJECTIONS.items()},
}
"""By what stands in the journal: Reason.name, UNAVAILABLE, or Rejection's value."""

UNKNOWN = Meaning("It was refused for a reason that this version does not know.", "The detail says more.")


def meaning_of(reason: str) -> Meaning:
    """What a reason in the journal means."""
    return MEANINGS.get(reason, UNKNOWN)
