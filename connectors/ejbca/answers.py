"""What EJBCA answers: the parts of its JSON that are read, and what its statuses and sentences mean."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from datetime import datetime

from pydantic import Field, SecretStr, ValidationError

from connectors.api import Misconfigured, ProtocolViolation, Rejected, Rejection
from connectors.certificates import from_pem, load
from connectors.transport import Answer, AnswerModel, Meaning, Meanings, pointing, shown

ACTIVE = "CERT_ACTIVE"
_LAYERS = 2
_CONFLICT = 409


class Error(AnswerModel):
    """The body of every refusal that EJBCA itself has written."""

    error_code: int
    error_message: str | None = None


class Enrolled(AnswerModel):
    """`certificate_chain` is absent where it was not asked for; issuer first."""

    certificate: str
    certificate_chain: tuple[str, ...] | None = None


class Accepted(AnswerModel):
    """A 202. Its `link` is not read: it lacks a part of the path, and is cut at the first "/v", wherever that is."""

    request_id: int


class Authority(AnswerModel):
    name: str
    subject_dn: str
    expiration_date: datetime


class Authorities(AnswerModel):
    certificate_authorities: tuple[Authority, ...]


class Crl(AnswerModel):
    crl: str | None = None


class RevocationStatus(AnswerModel):
    revoked: bool
    revocation_date: datetime | None = None


class Found(AnswerModel):
    """One certificate of a search."""

    username: str | None = None
    certificate: str | None = Field(default=None, alias="base64Cert")


class FoundPage(AnswerModel):
    certificates: tuple[Found, ...] = ()


class Status(AnswerModel):
    status: str
    revision: str = "of unknown version"


class Token(AnswerModel):
    """RFC 6749 §5.1."""

    access_token: SecretStr
    expires_in: float | None = None


def explain(answer: Answer) -> str:
    """The sentence of a refusal; the first line of what is no refusal of EJBCA's."""
    error = _error(answer)
    return shown(error.error_message or "nothing") if error is not None else answer.first_line()


def _error(answer: Answer) -> Error | None:
    try:
        return Error.model_validate_json(answer.body)
    except ValidationError:
        return None


_DOWN = ("offline", "CryptoToken", "crypto token", "not active", "unavailable")
"""In the sentences for a CA, or the device with its key, that cannot work for the moment: nothing was signed."""


def _of_503(answer: Answer) -> Meaning:
    # "Device was unavailable.", or the CA is offline; in any other form it comes from what stands before EJBCA.
    return Meaning.DOWN if _error(answer) is not None else Meaning.LOST


def of_400(answer: Answer) -> Meaning:
    """EJBCA's enrolment turns most of its faults into a 400, a CA that is offline among them."""
    text = explain(answer)
    return Meaning.DOWN if any(each in text for each in _DOWN) else Meaning.ANSWER


def of_revocation_400(answer: Answer) -> Meaning:
    # Asked again while the first request waits for its approval.
    return Meaning.DOWN if "approv" in explain(answer).lower() else of_400(answer)


def of_500(answer: Answer) -> Meaning:
    """Of `finalize`, for an end entity that was made without a CSR: EJBCA calls that a general failure."""
    return Meaning.ANSWER if _error(answer) is not None else Meaning.LOST


STATUSES: Meanings = {503: _of_503}

ENROLMENT_STATUSES: Meanings = {400: of_400, 409: Meaning.ANSWER, 422: Meaning.ANSWER}

NOT_FOUND = "was not found"
"""In the 404 of a certificate that is not there; the 404 of a CA that is not there says that it does not exist."""
_NOT_NEW = "NEW, FAILED or INPROCESS required"
"""The end entity has its certificate already."""
_FINALIZED = "has already been finalized"

_NOT_APPROVED = re.compile(r"Request with Id '\d+' (has been rejected|has expired)")

_REFUSALS: tuple[tuple[str, Rejection | None], ...] = (
    ("Single transaction enrollment request rejected", None),
    ("not exist", None),
    ("doesn't exist", None),
    ("unknown", None),
    ("same key as another user", Rejection.KEY),
    ("certificate for this key", Rejection.KEY),
    ("same subject DN as", Rejection.NAME),
    ("conflicting with an existing one", Rejection.OTHER),
    ("key length", Rejection.KEY),
    ("key size", Rejection.KEY),
    ("key specification", Rejection.KEY),
    ("key algorithm", Rejection.KEY),
    ("incorrect certificate key", Rejection.KEY),
    ("incorrect certificate request", Rejection.CSR),
    ("malformed certificate", Rejection.CSR),
    ("popo", Rejection.CSR),
    ("proof of possession", Rejection.CSR),
    ("subject dn", Rejection.NAME),
    ("subject alternative name", Rejection.NAME),
    ("subject alt", Rejection.NAME),
    ("altname", Rejection.NAME),
    ("illegal name", Rejection.NAME),
    ("match requirement of end entity profile", Rejection.NAME),
)
"""Out of the sentences that refuse a certificate, in any case of letters, the first that is found.

None where not the request is wrong, but the CA, a profile or our own settings.
"""

_APPROVALS = 'approvals are enabled there: set enrolment = "end-entity"'


def exists(answer: Answer) -> bool:
    """Whether an end entity was not made because there is one of that name. It is another thing to say so of a request."""
    text = explain(answer).lower()
    return answer.status == _CONFLICT or (not answer.is_success and "already exists" in text and "approv" not in text)


def is_done(answer: Answer) -> bool:
    """Whether a refusal says that the certificate has been issued before."""
    text = explain(answer)
    return not answer.is_success and (_FINALIZED in text or _NOT_NEW in text)


def refusal(answer: Answer, where: str) -> Rejected:
    """What a 400, 409 or 422 says about a request for a certificate.

    Raises:
        Misconfigured: it is not about the request, or says nothing that is known: the device is not to blame.
    """
    text = explain(answer)
    lower = text.lower()
    if _NOT_APPROVED.match(text):
        return Rejected(rejection=Rejection.POLICY, detail=text)
    rejection = next((each for part, each in _REFUSALS if part.lower() in lower), None)
    if rejection is None:
        hint, settings = "", _settings_in(lower)
        if "since approvals are enabled" in lower:
            hint, settings = f"; {_APPROVALS}", ("enrolment",)
        raise Misconfigured(pointing(f"{where} answered {answer.status}: {text}{hint}", settings), settings=settings)
    return Rejected(rejection=rejection, detail=text)


def _settings_in(sentence: str) -> tuple[str, ...]:
    """Which options a sentence of EJBCA's, in small letters, is about; where it does not say, all it may be about."""
    words = (
        ("end entity profile", "end_entity_profile"),
        ("certificate profile", "certificate_profile"),
        ("ca with name", "certificate_authority"),
    )
    found = tuple(setting for part, setting in words if part in sentence)
    return found or ("certificate_profile", "end_entity_profile", "certificate_authority")


def binary(text: str) -> bytes:
    """DER out of what EJBCA writes into JSON: base64 of DER, of PEM, or (in a search) of base64 again.

    Raises:
        ProtocolViolation: it is none of these.
    """
    content = text.encode()
    try:
        for _ in range(_LAYERS):
            content = b64decode(b"".join(content.split()), validate=True)
            if content.startswith(b"-----BEGIN"):
                return from_pem(content.decode("ascii"))[0]
            if content.startswith(b"\x30"):
                return content
    except (binascii.Error, ValueError) as error:
        raise ProtocolViolation("a field of the answer is no base64") from error
    raise ProtocolViolation("a field of the answer holds neither DER nor PEM")


def certificate(text: str) -> bytes:
    """A certificate (DER) out of a field.

    Raises:
        ProtocolViolation: there is none in it.
    """
    found = binary(text)
    load(found)
    return found
