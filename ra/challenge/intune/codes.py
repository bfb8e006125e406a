"""Intune's words for why not, in ours: what each means, and what the administrator should do. Values only.

A code that is not in the table is a no like the others: Intune may learn new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SUCCESS = "Success"

PASSWORD_MISSING = "ChallengePasswordMissing"  # noqa: S105 - a word of Intune's

_MAX_QUOTED = 80


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means; `is_alarm`: it looks like an attack."""

    meaning: str
    advice: str
    is_alarm: bool = False


_PROFILE = (
    "Compare the request (`scep-ra explain`) with the SCEP profile in Intune; a common name with a comma, plus, semicolon or "
    "equals sign must be quoted there, and nothing on the way may change the request."
)
_FOREIGN = "The device was given this URL with another challenge: look at the URL in the profile, and at `tenant`."
_TAMPERED = "Somebody may have put a challenge together by hand: look at the device."
_REGISTRATION = "Have the device registered with Entra again."

CODES: Mapping[str, Code] = {
    "Unknown": Code(
        "Intune gives no reason", "Look into Intune's device configuration report; Microsoft can say more."
    ),
    "CertificateRequestDecodingFailed": Code(
        "Intune could not read the request", "That is a defect of scep-ra, or of a proxy between."
    ),
    PASSWORD_MISSING: Code(
        "the request holds no challenge",
        "Only devices that Intune manages can enrol here; they bring a challenge for renewals, too.",
    ),
    "ChallengeDeserializationError": Code("the challenge is none of Intune's", _FOREIGN),
    "ChallengeDecryptionError": Code("the challenge is none of Intune's, or of another tenant", _FOREIGN),
    "ChallengeDecodingError": Code("the challenge is none of Intune's", _FOREIGN),
    "ChallengeInvalidTimestamp": Code("the challenge has a time that cannot be", "Look at the clock of the device."),
    "ChallengeExpired": Code(
        "the challenge was older than 60 minutes when it came to Intune",
        "Intune gives the device a new one at its next sync. If it happens to many, they wait too long before they get "
        "here, or here: roll out in smaller waves.",
    ),
    "SubjectNameMissing": Code("the request has no subject, and the profile wants one", _PROFILE),
    "SubjectNameMismatch": Code("the subject is not that of the profile", _PROFILE),
    "SubjectAltNameMissing": Code("the request has no alternative name, and the profile wants one", _PROFILE),
    "SubjectAltNameMismatch": Code("the alternative names are not those of the profile", _PROFILE),
    "KeyUsageMismatch": Code("the key usage is not that of the profile", _PROFILE),
    "KeyLengthMismatch": Code("the key is not as long as the profile says", _PROFILE),
    "EnhancedKeyUsageMissing": Code("the request has no extended key usage, and the profile wants one", _PROFILE),
    "EnhancedKeyUsageMismatch": Code("the extended key usages are not those of the profile", _PROFILE),
    "AadKeyIdentifierListMissing": Code("Windows did not name the key it is registered with", _REGISTRATION),
    "RegisteredKeyMismatch": Code("the device is registered with another key", _REGISTRATION),
    "SigningCertThumbprintMismatch": Code("the request is signed by another device's certificate", _REGISTRATION),
    "ScepProfileNoLongerTargetedToTheClient": Code(
        "the profile is not assigned to the device or user any more", "Nothing, if that is meant; else assign it again."
    ),
    "SignatureValidationFailed": Code("the challenge was changed on its way", _TAMPERED, is_alarm=True),
    "BadCertificateRequestIdInChallenge": Code("the challenge names no request", _TAMPERED, is_alarm=True),
    "BadDeviceIdInChallenge": Code("the challenge names no device", _TAMPERED, is_alarm=True),
    "BadUserIdInChallenge": Code("the challenge names no user", _TAMPERED, is_alarm=True),
}
"""Every `code` of Intune's answers but Success."""

NOT_KNOWN = Code("scep-ra does not know this code", "Look into Intune's device configuration report.")


def meaning_of(code: str) -> Code:
    return CODES.get(code, NOT_KNOWN)


def told(code: str) -> str:
    """A code, what it means and what to do, in a line; a code that is not known is quoted as it came, cut."""
    known = meaning_of(code)
    word = code if code in CODES else ascii(code[:_MAX_QUOTED])
    return f"{word}: {known.meaning}. {known.advice}"


_RANGE = 0xA0CE0000

FAILURES: Mapping[str, int] = {
    "OTHER": 1,
    "CA_REFUSED": 2,
    "EXPIRED": 3,
    "DENIED": 4,
    "SIGNER_KEY_DIFFERS": 10,
    "KEY_NOT_ALLOWED": 11,
    "SUBJECT_NOT_ALLOWED": 12,
    "SUBJECT_ALT_NAME_NOT_ALLOWED": 13,
    "EXTENSION_NOT_ALLOWED": 14,
    "USAGE_NOT_ALLOWED": 15,
    "ALGORITHM_NOT_ALLOWED": 16,
    "CHALLENGE_REFUSED": 17,
    "TRANSACTION_CONFLICT": 18,
    "policy": 30,
    "name": 31,
    "key": 32,
    "csr": 33,
    "validity": 34,
    "other": 35,
}
"""The numbers of a failure's hResult, by the reason of a Notice. A number is never given to another reason."""


def result_of(reason: str | None) -> int:
    """The hResult that Intune's console shows: an error (severity 1) of a vendor's own (customer bit set)."""
    return _RANGE | FAILURES.get(reason or "OTHER", FAILURES["OTHER"])
