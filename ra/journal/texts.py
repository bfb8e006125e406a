"""What others have said, made fit for every database: PostgreSQL stores neither NUL nor half a surrogate pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_DETAIL = 500
"""Characters of what somebody else has said that are worth keeping."""

MAX_REFERENCE_BYTES = 4096
"""Of a CA's own name for an order, in UTF-8."""


def fit_detail(text: str) -> str:
    return _storable(text[:MAX_DETAIL])


def fit_reference(text: str) -> str:
    return _storable(text).encode()[:MAX_REFERENCE_BYTES].decode("utf-8", "ignore")


def fitted(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The same columns, those among them that a connector's words may stand in made fit."""
    return {name: _FITS[name](value) if name in _FITS and value else value for name, value in columns.items()}


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


_FITS = {"detail": fit_detail, "reason": fit_detail, "reference": fit_reference}
