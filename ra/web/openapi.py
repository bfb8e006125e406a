"""The protocol's part of the OpenAPI description, by hand: its routes are not FastAPI's."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from ra.scep.names import MediaType, Operation

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

_CA_ID = {
    "name": "ca_id",
    "in": "query",
    "description": "Selects the profile; where it is absent, the default answers.",
    "schema": {"type": "integer", "minimum": 0},
}
_PROFILE = {"name": "profile", "in": "path", "required": True, "schema": {"type": "string"}}
_OPERATION = {
    "name": "operation",
    "in": "query",
    "description": "A POST without it is a PKIOperation.",
    "schema": {"type": "string", "enum": [each.value for each in Operation]},
}
_MESSAGE = {
    "name": "message",
    "in": "query",
    "description": "The pkiMessage of a PKIOperation, base64; ignored by the other operations.",
    "schema": {"type": "string"},
}

_RESPONSES = {
    "200": {
        "description": "The answer to the operation. A refusal is a CertRep as well, and is answered 200.",
        "content": {
            MediaType.CAPABILITIES.value: _TEXT["text/plain"],
            MediaType.CA_RA_CERT.value: _BINARY,
            MediaType.CA_CERT_CHAIN.value: _BINARY,
            MediaType.PKCS_CERTIFICATES.value: _BINARY,
            MediaType.PKI_MESSAGE.value: _BINARY,
        },
    },
    "400": {"description": "Not SCEP", "content": _TEXT},
    "404": {"description": "No such profile, or an operation that is not offered", "content": _TEXT},
    "405": {"description": "Neither GET nor POST", "content": _TEXT},
    "413": {"description": "The message is too large", "content": _TEXT},
    "415": {"description": "The body is compressed", "content": _TEXT},
    "503": {"description": "Cannot be answered now; Retry-After says when", "content": _TEXT},
}


def describe_protocol(app: FastAPI) -> None:
    """Adds the protocol's paths to what `app.openapi()` says."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        schema["paths"] |= {
            "/api/v1/scep": _path(_CA_ID),
            "/scep/{profile}": _path(_PROFILE),
        }
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the description


def _path(selector: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {MediaType.PKI_MESSAGE.value: _BINARY}}
    common = {"tags": ["SCEP"], "responses": _RESPONSES}
    return {
        "get": {"summary": "SCEP by GET", "parameters": [selector, _OPERATION, _MESSAGE], **common},
        "post": {"summary": "PKIOperation", "parameters": [selector, _OPERATION], "requestBody": body, **common},
    }
