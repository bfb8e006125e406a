"""What ACME servers answer: the parts of their JSON that are read, and what their problem documents mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pydantic import Field, ValidationError

from connectors.api import (
    AuthFailed,
    BackendUnavailable,
    ConnectorError,
    Misconfigured,
    ProtocolViolation,
    Rejection,
)
from connectors.transport import Answer, AnswerModel, Meaning, Meanings, shown

_ACME = "urn:ietf:params:acme:error:"


class Meta(AnswerModel):
    terms_of_service: str | None = Field(default=None, alias="termsOfService")


class Directory(AnswerModel):
    """RFC 8555 §7.1.1."""

    new_nonce: str = Field(alias="newNonce")
    new_account: str = Field(alias="newAccount")
    new_order: str = Field(alias="newOrder")
    revoke_cert: str = Field(alias="revokeCert")
    meta: Meta = Meta()


class Subproblem(AnswerModel):
    type: str = "about:blank"
    detail: str = ""

    @property
    def kind(self) -> str:
        """The type without the prefix that all of ACME's have."""
        return self.type.removeprefix(_ACME)

    def __str__(self) -> str:
        return shown(f"{self.kind}: {self.detail}")


class Problem(Subproblem):
    """RFC 8555 §6.7."""

    subproblems: tuple[Subproblem, ...] = ()


class OrderStatus(StrEnum):
    """RFC 8555 §7.1.6."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


class _OrderBody(AnswerModel):
    status: OrderStatus
    authorizations: tuple[str, ...] = ()
    finalize: str
    certificate: str | None = None
    error: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as it was when it was looked at."""

    url: str
    status: OrderStatus
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None
    problem: Problem | None
    retry_after_seconds: int | None

    @property
    def is_settled(self) -> bool:
        """Nothing will become of it any more."""
        return self.status in {OrderStatus.VALID, OrderStatus.INVALID}


class Identifier(AnswerModel):
    type: str
    value: str


class Challenge(AnswerModel):
    """`token` is missing in kinds of challenges that are not ours."""

    type: str
    url: str
    status: str
    token: str = ""
    error: Problem | None = None


class _AuthorizationBody(AnswerModel):
    identifier: Identifier
    status: str
    challenges: tuple[Challenge, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """An authorization as it was when it was looked at; a wildcard's identifier comes without its `*.`."""

    url: str
    identifier: Identifier
    status: str
    challenges: tuple[Challenge, ...]
    retry_after_seconds: int | None

    @property
    def is_settled(self) -> bool:
        return self.status != "pending"

    @property
    def dns01(self) -> Challenge | None:
        return next((each for each in self.challenges if each.type == "dns-01" and each.token), None)

    @property
    def problem(self) -> Problem:
        """Why it failed, where a challenge says so."""
        return next((each.error for each in self.challenges if each.error), Problem(detail=f"it is {self.status}"))


def order(answer: Answer, url: str) -> Order:
    """The order in an answer.

    Raises:
        ProtocolViolation: there is none.
    """
    body = answer.parse(_OrderBody)
    return Order(
        url=url,
        status=body.status,
        authorizations=body.authorizations,
        finalize=body.finalize,
        certificate=body.certificate,
        problem=body.error,
        retry_after_seconds=answer.retry_after_seconds,
    )


def authorization(answer: Answer, url: str) -> Authorization:
    """The authorization in an answer.

    Raises:
        ProtocolViolation: there is none.
    """
    body = answer.parse(_AuthorizationBody)
    return Authorization(
        url=url,
        identifier=body.identifier,
        status=body.status,
        challenges=body.challenges,
        retry_after_seconds=answer.retry_after_seconds,
    )


# ---------------------------------------------------------------- certificates
Chain = tuple[x509.Certificate, ...]

_LINK = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?alternate\b')


def chain(answer: Answer) -> Chain:
    """The certificate first, then what is above it (RFC 8555 §9.1).

    Raises:
        ProtocolViolation: the body is something else.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(answer.body))
    except ValueError as error:
        raise ProtocolViolation(f"{answer.url} answered with no PEM certificates") from error


def alternates(answer: Answer) -> tuple[str, ...]:
    """Where other chains of the same certificate are (RFC 8555 §7.4.2)."""
    return tuple(_LINK.findall(answer.headers.get("link", "")))


def leads_to(found: Chain, issuer_common_name: str) -> bool:
    """Whether the topmost certificate of a chain was issued by that name."""
    names = found[-1].issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return issuer_common_name in {each.value for each in names}


def der(found: Chain) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in found)


# ---------------------------------------------------------------- problems
class NotIssuable(Exception):
    """A final no to a request, the server's or our own."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(detail)
        self.rejection = rejection


_REFUSALS = {
    "badCSR": Rejection.CSR,
    "badPublicKey": Rejection.KEY,
    "badSignatureAlgorithm": Rejection.KEY,
    "rejectedIdentifier": Rejection.NAME,
    "unsupportedIdentifier": Rejection.NAME,
    "caa": Rejection.NAME,
}
"""Problems that are a request's own, whichever call they answer."""

_REFUSALS_OF_FINALIZE = {
    **_REFUSALS,
    # Pebble says so when CSR and order name different identifiers; what we may order, newOrder has already decided.
    "unauthorized": Rejection.CSR,
    "malformed": Rejection.CSR,
}

_HINTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "externalAccountRequired": ("set eab_key_id and eab_hmac_key", ("eab_key_id", "eab_hmac_key")),
    "userActionRequired": ("the CA wants something done: look at the page that it names", ("terms_of_service_agreed",)),
    "invalidContact": ("mend contact", ("contact",)),
    "unsupportedContact": ("mend contact", ("contact",)),
    "invalidProfile": ("mend profile", ("profile",)),
}
"""What to do, and the options that it is done with."""


def problem_of(answer: Answer) -> Problem | None:
    """The problem document of a refusal, if it is one of ACME's."""
    try:
        problem = Problem.model_validate_json(answer.body)
    except ValidationError:
        return None
    return problem if problem.type.startswith(_ACME) else None


def explain(answer: Answer) -> str:
    """What a refusal says; the first line of what is no problem document."""
    problem = problem_of(answer)
    return str(problem) if problem else answer.first_line()


def _read_or(otherwise: Meaning) -> Callable[[Answer], Meaning]:
    def meaning(answer: Answer) -> Meaning:
        problem = problem_of(answer)
        if problem is None:
            return otherwise
        return Meaning.WAIT if problem.kind == "rateLimited" else Meaning.ANSWER

    return meaning


PROBLEMS: Meanings = {
    400: _read_or(Meaning.MISCONFIGURED),
    401: _read_or(Meaning.NOT_ALLOWED),
    403: _read_or(Meaning.NOT_ALLOWED),
    404: _read_or(Meaning.MISCONFIGURED),
    409: _read_or(Meaning.MISCONFIGURED),
    415: _read_or(Meaning.MISCONFIGURED),
}
"""The statuses of signed requests whose problem document is read; a 5xx says nothing certain, whatever is in it."""


def error_of(problem: Problem, where: str) -> ConnectorError:
    """The contract's error for a problem that is not the request's own."""
    detail = f"{where}: {problem}"
    match problem.kind:
        case "unauthorized" | "accountDoesNotExist":
            return AuthFailed(detail, settings=("account_key", "eab_key_id", "eab_hmac_key"))
        case "serverInternal" | "orderNotReady" | "badNonce":
            return BackendUnavailable(detail, maybe_issued=False)
        case kind:
            hint, settings = _HINTS.get(kind, ("", ("url",)))
            return Misconfigured(f"{detail}; {hint}" if hint else detail, settings=settings)


def refusal(problem: Problem, where: str, *, of_finalize: bool = False) -> NotIssuable | ConnectorError:
    """What a problem says to a request for a certificate; of several problems, the first that is the request's own."""
    table = _REFUSALS_OF_FINALIZE if of_finalize else _REFUSALS
    inner = problem.subproblems if problem.kind == "compound" else ()
    for each in (problem, *inner):
        rejection = table.get(each.kind)
        if rejection is not None:
            return NotIssuable(rejection, str(each))
    return error_of(problem, where)
