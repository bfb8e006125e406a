"""How Entra, Graph and Intune write what they answer."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

from starlette.responses import Response


class EntraRefused(Exception):
    """No token: the number of Entra's error, and what it says."""

    def __init__(self, status: int, error: str, number: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.error = error
        self.number = number


class GraphRefused(Exception):
    """No answer from Graph or Intune: the code of the error, and what it says."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


def to_json(status: int, body: Any) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), status, media_type="application/json; charset=utf-8")


def entra_error(refused: EntraRefused, now: datetime) -> Response:
    """RFC 6749 §5.2, with what Entra adds."""
    trace, correlation = str(uuid4()), str(uuid4())
    at = f"{now:%Y-%m-%d %H:%M:%S}Z"
    body = {
        "error": refused.error,
        "error_description": f"AADSTS{refused.number}: {refused} Trace ID: {trace} Correlation ID: {correlation} "
        f"Timestamp: {at}",
        "error_codes": [refused.number],
        "timestamp": at,
        "trace_id": trace,
        "correlation_id": correlation,
    }
    return to_json(refused.status, body)


def graph_error(refused: GraphRefused) -> Response:
    return to_json(refused.status, {"error": {"code": refused.code, "message": str(refused)}})


def internal_error(request_id: str) -> Response:
    """What Intune says when it is out of order: JSON inside of JSON, with its line ends."""
    message = {
        "_version": 3,
        "Message": "An internal server error has occurred - Operation ID (for customer support): "
        f"{uuid4()} - Activity ID: {request_id} - Url: https://fef.simulated.example/RACerts",
        "CustomApiErrorPhrase": "",
        "RetryAfter": None,
    }
    text = json.dumps(message, indent=2).replace("\n", "\r\n")
    return to_json(500, {"error": {"code": "InternalError", "message": text}})


def action_answer(base: str, action: str, code: str) -> Response:
    """What the ScepActions answer, an acceptance and a refusal alike."""
    context = (
        f"{base}RACerts/StatelessScepRequestValidationService/$metadata#microsoft.management.services.api.{action}"
    )
    return to_json(200, {"@odata.context": context, "code": code, "errorDescription": ""})
