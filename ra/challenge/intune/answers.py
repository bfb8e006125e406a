"""What is read of the answers of Entra, Graph and Intune, and how their errors read in a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SecretStr

from connectors.transport import Answer, AnswerModel, shown


class TokenAnswer(AnswerModel):
    """RFC 6749 §5.1."""

    access_token: SecretStr
    expires_in: float


class EndpointAnswer(AnswerModel):
    """One service; which of the two names it goes by depends on who was asked."""

    provider_name: str | None = Field(default=None, alias="providerName")
    service_name: str | None = Field(default=None, alias="serviceName")
    uri: str | None = None

    @property
    def name(self) -> str:
        return (self.provider_name or self.service_name or "").lower()


class EndpointsAnswer(AnswerModel):
    """Where Intune's services are."""

    value: tuple[EndpointAnswer, ...]


class CodeAnswer(AnswerModel):
    """What all three ScepActions answer. HTTP 200 alone says nothing."""

    code: str
    error_description: str | None = Field(default=None, alias="errorDescription")


class RevocationAnswer(AnswerModel):
    """One certificate that is to be revoked."""

    request_context: str = Field(alias="requestContext")
    serial_number: str = Field(alias="serialNumber")
    issuer_name: str | None = Field(default=None, alias="issuerName")


class RevocationsAnswer(AnswerModel):
    """Certificates that are to be revoked."""

    value: tuple[RevocationAnswer, ...]


class RecordedAnswer(AnswerModel):
    """Whether results were recorded: true, or the word."""

    value: bool | str

    @property
    def is_recorded(self) -> bool:
        return str(self.value).lower() == "true"


_SYMPTOMS = {
    7000215: "the client secret is wrong: write its value, not its id",
    7000222: "the client secret has expired: make a new one in the app registration",
    700016: "the tenant has no such application: look at `client_id` and `tenant`",
    700027: "the certificate is none of the app registration's, or has expired: upload it there",
    700213: "no federated credential of the app registration matches the token",
    90002: "there is no such tenant: look at `tenant`, and at `cloud`",
}
"""By the number of Entra's error (AADSTS…)."""

_UNKNOWN = frozenset({700016, 90002})


def is_unknown_to_entra(answer: Answer) -> bool:
    """Whether Entra has no such tenant, or no such application."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return False
    numbers = said.get("error_codes") if isinstance(said, dict) else None
    return isinstance(numbers, list) and any(each in _UNKNOWN for each in numbers)


def explain(answer: Answer) -> str:
    """The error of an answer as far as it is one of Microsoft's forms; else its first line."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return answer.first_line()
    match said:
        case {"error": str(error), "error_description": str(description), **rest}:
            return f"{_symptom(rest)}{shown(description)} ({error})"
        case {"error": {"code": str(code), "message": str(message)}}:
            return f"{code}: {shown(_message(message))}"
        case _:
            return answer.first_line()


def _symptom(rest: Mapping[Any, Any]) -> str:
    numbers = rest.get("error_codes")
    known = [_SYMPTOMS[each] for each in numbers if each in _SYMPTOMS] if isinstance(numbers, list) else []
    return "".join(f"{each}; " for each in known)


def _message(message: str) -> str:
    """Intune puts JSON into the message."""
    try:
        inner = json.loads(message)
    except ValueError:
        return message
    return str(inner.get("Message", message)) if isinstance(inner, dict) else message
