"""Every kind of audit event there is, with its fields: docs/audit.md is made of it, and tests hold the code to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ra.journal.audit import CLOSED, OPENED, Value

_TRANSACTION = "its id in the journal"
_PROFILE = "the profile that was asked"
_DETAIL = "the same in words, for the operator; a device is never told"
_WHO = "the person, by the name the system knows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What one kind of event tells.

    Attributes:
        meaning: one sentence.
        fields: what each says, in the order they are written; the kind itself, `event`, is left out.
        example: of the fields.
    """

    meaning: str
    fields: Mapping[str, str]
    example: Mapping[str, Value]


_DECISION = Kind(
    meaning="A request whose sender is known was decided about: the one event of every enrolment decision.",
    fields={
        "outcome": "`authorised`, `awaiting-approval` of a person, or `refused` by policy or for a spent one-time secret",
        "transaction": f"{_TRANSACTION}, which its outcome names too; a refusal has none",
        "profile": _PROFILE,
        "transaction_id": "as the device calls it",
        "signer_key": "SHA-256 of the public key that signed the message, hex",
        "renewal_of": "SHA-256 of the certificate that signed it, where that is one of ours, hex",
        "csr_key": "SHA-256 of the public key to be certified, hex",
        "subject": "the approved subject",
        "grant_method": "the challenge validator that let it in",
        "grant_label": "which of its secrets or rules did",
        "grant_attributes": "what it knows of the device",
        "connector": "the CA that is asked",
        "reason": "the rule that refused, a name of docs/troubleshooting.md",
        "detail": _DETAIL,
    },
    example={
        "outcome": "authorised",
        "transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11",
        "profile": "default",
        "transaction_id": "7XXEY-ERLPU",
        "signer_key": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        "renewal_of": None,
        "csr_key": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        "subject": "CN=printer-17",
        "grant_method": "shared",
        "grant_label": "first",
        "grant_attributes": {},
        "connector": "lab",
    },
)
_OUTCOME = Kind(
    meaning="A transaction came to another state.",
    fields={
        "outcome": "the state: one of docs/journal.md",
        "transaction": _TRANSACTION,
        "profile": _PROFILE,
        "reference": "what the CA calls the request",
        "serial": "of the certificate, hex",
        "reason": "why not, a name of docs/troubleshooting.md or of the connector's contract",
        "detail": _DETAIL,
        "latency_seconds": "since the decision",
        "certificate": "DER in hex, where it is not what was asked for and is quarantined",
        "who": _WHO,
        "revocation": "why it is to be revoked",
    },
    example={
        "outcome": "released",
        "transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11",
        "profile": "default",
        "reference": "1a2b3c",
        "serial": "1a2b3c",
        "reason": None,
        "detail": None,
        "latency_seconds": 0.042,
    },
)
_OPERATOR = {"transaction": _TRANSACTION, "profile": _PROFILE, "who": _WHO, "detail": "what was given as the reason"}
_LETTER = {
    "letter": "its id in the outbox",
    "validator": "the challenge validator whose service is told",
    "transaction": f"{_TRANSACTION}, where there is one",
}
_SECRET = {"method": "the challenge validator it is for", "label": "what it is called", "who": _WHO}
_RA_KEY = {"identity": "its name in the configuration", "key": "the key's id in the journal"}
_RA_KEY_EXAMPLE = {"identity": "ra", "key": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11"}

EVENTS: Mapping[str, Kind] = {
    OPENED: Kind(
        meaning="A chain begins: a process has something to audit, or the chain before has become old or long.",
        fields={"version": "of scep-ra"},
        example={"version": "0.1.0"},
    ),
    CLOSED: Kind(
        meaning="A chain has ended in order. Where it is missing, the process was killed or had lost its database.",
        fields={},
        example={},
    ),
    "decision": _DECISION,
    "outcome": _OUTCOME,
    "approved": Kind(
        meaning="A person has let a waiting transaction pass.",
        fields=_OPERATOR,
        example={"transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11", "profile": "default", "who": "ada"},
    ),
    "denied": Kind(
        meaning="A person has said no to a waiting transaction; a one-time secret stays spent.",
        fields=_OPERATOR,
        example={"transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11", "profile": "default", "who": "ada"},
    ),
    "settled": Kind(
        meaning="A person has said what becomes of a certificate in quarantine, or of a request whose answer was lost.",
        fields={
            "outcome": "`accept`: look at it again; `reject`: it is over; `retry`: ask the CA anew",
            "connector": "the CA",
            **_OPERATOR,
        },
        example={
            "outcome": "retry",
            "transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11",
            "profile": "default",
            "connector": "lab",
            "who": "ada",
            "detail": "the role is corrected",
        },
    ),
    "connector-stopped": Kind(
        meaning="A CA has sent a certificate that nobody decided on, and is asked for nothing new.",
        fields={"connector": "the CA", "transaction": _TRANSACTION, "profile": _PROFILE, "detail": _DETAIL},
        example={
            "connector": "lab",
            "transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11",
            "profile": "default",
            "detail": "it is a CA certificate",
        },
    ),
    "connector-resumed": Kind(
        meaning="A person has a stopped connector asked again.",
        fields={"connector": "the CA", "who": _WHO},
        example={"connector": "lab", "who": "ada"},
    ),
    "stray-revoked": Kind(
        meaning="The CA has revoked a certificate that nobody may have.",
        fields={
            "transaction": f"{_TRANSACTION}: what it came for",
            "profile": _PROFILE,
            "connector": "the CA",
            "serial": "of the certificate, hex",
            "detail": "why nobody may have it",
        },
        example={
            "transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11",
            "profile": "default",
            "connector": "lab",
            "serial": "1a2b3c",
            "detail": "it is a CA certificate",
        },
    ),
    "orphan": Kind(
        meaning="The CA may hold a certificate that no device will get; one that has come is revoked from here.",
        fields={
            "transaction": _TRANSACTION,
            "profile": _PROFILE,
            "connector": "the CA",
            "reference": "what the CA calls the request, where it is known",
            "serial": "of the certificate, hex, where it is known",
            "detail": _DETAIL,
        },
        example={
            "transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11",
            "profile": "default",
            "reference": "1a2b3c",
            "serial": "1a2b3c",
            "detail": "the answer came when the transaction was expired",
        },
    ),
    "notified": Kind(
        meaning="The service of a challenge validator was told of an outcome, or could not be.",
        fields={
            "outcome": "`accepted`, `refused`, or `dead`: given up, until somebody has it tried again",
            **_LETTER,
            "attempts": "how often it was tried",
            "detail": "what the service said",
        },
        example={
            "outcome": "accepted",
            "letter": "b5a4d1f6-93f4-4a55-8c9d-2d61f5ce8f0a",
            "validator": "intune",
            "transaction": "0f8c2a4e-5a0b-4e0f-9d1c-6f0a4b1f7c11",
            "attempts": 1,
            "detail": None,
        },
    ),
    "outbox-retried": Kind(
        meaning="A person has a dead letter tried again.",
        fields={**_LETTER, "who": _WHO},
        example={
            "letter": "b5a4d1f6-93f4-4a55-8c9d-2d61f5ce8f0a",
            "validator": "intune",
            "transaction": None,
            "who": "ada",
        },
    ),
    "secret-minted": Kind(
        meaning="A one-time secret was made.",
        fields={
            **_SECRET,
            "profile": "the only one it is good for",
            "names": "what a request must ask for and no more, where it is bound to names",
            "expires_at": "until when",
        },
        example={"method": "otp", "label": "printer-17", "who": "ada", "profile": "default", "names": "CN=printer-17"},
    ),
    "secret-revoked": Kind(
        meaning="A one-time secret was withdrawn.",
        fields=_SECRET,
        example={"method": "otp", "label": "printer-17", "who": "ada"},
    ),
    "ra-key-made": Kind(
        meaning="The RA made a key for itself; its certificate is to be obtained.",
        fields={**_RA_KEY, "who": f"{_WHO}; nobody where it was due"},
        example={**_RA_KEY_EXAMPLE, "who": "ada"},
    ),
    "ra-certificate": Kind(
        meaning="The RA obtained a certificate for a key of its own.",
        fields={
            **_RA_KEY,
            "serial": "of the certificate, hex",
            "shown_at": "from when on GetCACert shows it",
            "forget_at": "until when requests sealed to it are opened, unless another one follows",
        },
        example={
            **_RA_KEY_EXAMPLE,
            "serial": "1a2b3c",
            "shown_at": "2026-11-23T12:00:00.000000Z",
            "forget_at": "2028-11-22T12:00:00.000000Z",
        },
    ),
    "ra-key-forgotten": Kind(
        meaning="A key of the RA was removed: what is sealed to it cannot be opened any more.",
        fields={**_RA_KEY, "who": f"{_WHO}; nobody where it was due"},
        example={**_RA_KEY_EXAMPLE, "who": None},
    ),
    "summary": Kind(
        meaning="What one process did for strangers in about a minute; anybody can cause it, so it is counted only.",
        fields={
            "since": "the first of them; RFC 3339",
            "refusals": "how many requests were refused, by profile and reason; where the sender was known there is a decision too",
            "reads": "how many GetCACaps and GetCACert were answered, by profile and operation",
        },
        example={
            "since": "2026-11-23T12:00:00.000000Z",
            "refusals": {"default": {"CHALLENGE_REFUSED": 12}},
            "reads": {"default": {"GetCACaps": 40, "GetCACert": 41}},
        },
    ),
}
"""By the value of `event`. A field that has nothing to say is null or left out."""


def undocumented(event: Mapping[str, Value]) -> list[str]:
    """What of an event is not said above: its kind, or fields of it."""
    kind = EVENTS.get(str(event.get("event")))
    if kind is None:
        return [f"event {event.get('event')}"]
    return [name for name in event if name != "event" and name not in kind.fields]
