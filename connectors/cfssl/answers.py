"""What CFSSL answers: the parts of its JSON that are read, and what its one status and its codes mean."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Generic, TypeVar

from pydantic import ValidationError

from connectors.api import Rejected, Rejection
from connectors.transport import Answer, AnswerModel, Meaning, Meanings, shown

R = TypeVar("R")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|ns|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class Reply(AnswerModel, Generic[R]):
    result: R


class Certificate(AnswerModel):
    """PEM."""

    certificate: str


class Info(AnswerModel):
    """PEM; `usages` in CFSSL's own words; `expiry` as Go writes a duration."""

    certificate: str
    usages: tuple[str, ...] | None = None
    expiry: str = ""


class Fault(AnswerModel):
    code: int = 0
    message: str = ""


class Faults(AnswerModel):
    errors: tuple[Fault, ...] = ()


def explain(answer: Answer) -> str:
    """The sentences of a refusal, with their codes; the first line of what is no refusal of CFSSL's."""
    faults = _faults(answer)
    if not faults:
        return answer.first_line()
    return shown("; ".join(f"{each.message} ({each.code})" for each in faults))


def _faults(answer: Answer) -> tuple[Fault, ...]:
    try:
        return Faults.model_validate_json(answer.body).errors
    except ValidationError:
        return ()


_REJECTIONS: tuple[tuple[range, Rejection], ...] = (
    (range(5300, 5400), Rejection.POLICY),
    (range(5500, 5600), Rejection.NAME),
    (range(9000, 10000), Rejection.CSR),
)
"""By the code of a fault: a CSR that the policy forbids, a name that its whitelist forbids, a CSR that is none."""
_OF_STORE = range(11000, 12000)
"""Signed, not written to the database, and not handed out: nobody has it."""
_NOT_FOUND = 11200


def _rejection(answer: Answer) -> Rejection | None:
    codes = [each.code for each in _faults(answer)]
    return next((rejection for known, rejection in _REJECTIONS for code in codes if code in known), None)


def _of_400(answer: Answer) -> Meaning:
    """CFSSL says 400 to everything that it does not do."""
    faults = _faults(answer)
    if any(each.message in {"invalid token", "authentication required"} for each in faults):
        return Meaning.NOT_ALLOWED
    if any(each.code in _OF_STORE for each in faults):
        return Meaning.DOWN
    return Meaning.MISCONFIGURED


def _of_refusal(answer: Answer) -> Meaning:
    return Meaning.ANSWER if _rejection(answer) else _of_400(answer)


def _of_unrevoked(answer: Answer) -> Meaning:
    return Meaning.ANSWER if any(each.code == _NOT_FOUND for each in _faults(answer)) else _of_400(answer)


STATUSES: Meanings = {400: _of_400}
SIGN_STATUSES: Meanings = {400: _of_refusal}
REVOKE_STATUSES: Meanings = {400: _of_unrevoked}


def refusal(answer: Answer) -> Rejected:
    """What a 400 says about a request for a certificate."""
    return Rejected(rejection=_rejection(answer) or Rejection.OTHER, detail=explain(answer))


def duration(text: str) -> timedelta | None:
    """What Go's time.Duration says, like `2160h0m0s`; None where it says nothing."""
    if not text or _DURATION.sub("", text):
        return None
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)))
