"""What step-ca answers: the parts of its JSON that are read, and what its statuses and sentences mean."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from connectors.api import Rejected, Rejection
from connectors.transport import Answer, AnswerModel, Meaning, Meanings, shown


class Refusal(AnswerModel):
    message: str


class Signed(AnswerModel):
    """PEM; `chain` begins with the certificate."""

    chain: tuple[str, ...] = Field(alias="certChain", min_length=2)


class Certificates(AnswerModel):
    """PEM."""

    certificates: tuple[str, ...] = Field(alias="crts", min_length=1)


class Health(AnswerModel):
    status: str


class Provisioner(AnswerModel):
    """`options` is absent where there are none."""

    type: str
    name: str
    key: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] | None = None

    @property
    def has_template(self) -> bool:
        of_x509 = (self.options or {}).get("x509") or {}
        return bool(of_x509.get("template") or of_x509.get("templateFile"))


class Provisioners(AnswerModel):
    provisioners: tuple[Provisioner, ...] | None = None
    next_cursor: str = Field(default="", alias="nextCursor")


def explain(answer: Answer) -> str:
    """The sentence of a refusal; the first line of what is no refusal of step-ca's."""
    try:
        return shown(Refusal.model_validate_json(answer.body).message)
    except ValidationError:
        return answer.first_line()


def _of_500(answer: Answer) -> Meaning:
    return Meaning.MISCONFIGURED if "error applying certificate template" in explain(answer) else Meaning.LOST


STATUSES: Meanings = {500: _of_500}

_REFUSALS: tuple[tuple[str, Rejection], ...] = (
    ("invalid csr", Rejection.CSR),
    ("invalid certificate request", Rejection.CSR),
    ("certificate request key of type", Rejection.KEY),
    ("RSA key must be at least", Rejection.KEY),
    ("does not contain the valid", Rejection.NAME),
    ("not allowed", Rejection.NAME),
    ("webhook server did not allow", Rejection.POLICY),
)
"""Out of the sentences of a 400 or 403, the first that is found; a duration that step-ca does not grant is not here,
because the profile asks for it, and not the device."""


def _rejection(answer: Answer) -> Rejection | None:
    text = explain(answer)
    return next((rejection for part, rejection in _REFUSALS if part in text), None)


def _of_refusal(answer: Answer) -> Meaning:
    """What is not known to be about the request is not: the device is not to blame."""
    return Meaning.ANSWER if _rejection(answer) else Meaning.MISCONFIGURED


def _of_revocation(answer: Answer) -> Meaning:
    return Meaning.ANSWER if "is already revoked" in explain(answer) else Meaning.MISCONFIGURED


SIGN_STATUSES: Meanings = {400: _of_refusal, 403: _of_refusal}
REVOKE_STATUSES: Meanings = {400: _of_revocation}


def refusal(answer: Answer) -> Rejected:
    """What a 400 or 403 says about a request for a certificate."""
    return Rejected(rejection=_rejection(answer) or Rejection.OTHER, detail=explain(answer))
