"""What pydantic finds wrong with a table, as sentences: the key's path, what is wrong, and what to write instead.

What stands there is never repeated: it may be a secret in the wrong place, and these sentences are logged.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ra.settings.sources import Origins


def complaints(
    error: ValidationError, model: type[BaseModel], *, table: str = "", origins: Origins | None = None
) -> list[str]:
    """One sentence for each thing that is wrong; `table` is the path of the table that was read."""
    return [_sentence(each, model, table, origins or {}) for each in error.errors(include_url=False)]


def _sentence(details: ErrorDetails, model: type[BaseModel], table: str, origins: Origins) -> str:
    keys = tuple(str(each) for each in details["loc"] if each != "[key]")
    path = ".".join(filter(None, (table, *keys)))
    origin = origins.get(keys)
    place = f"{path} (from {origin})" if origin else path
    match details["type"]:
        case "extra_forbidden":
            return f"{place} is not a known key{_instead(keys[-1], _table(model, keys[:-1]))}"
        case "missing":
            description = _table(model, keys[:-1]).model_fields[keys[-1]].description
            return f"{place} is missing" + (f": {description}" if description else "")
        case "value_error":
            return f"{place}: {details['ctx']['error']}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{place} should be a table"
        case "list_type" | "tuple_type" | "set_type" | "frozen_set_type":
            return f"{place} should be a list"
        case _:
            return f"{place}: {details['msg'].replace('Input', 'it', 1)}"


def _instead(key: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"


def _table(model: type[BaseModel], keys: tuple[str, ...]) -> type[BaseModel]:
    """The table that a path of keys leads to; the names that users give to their tables lead no deeper."""
    for key in keys:
        if key in model.model_fields:
            model = next(_models(model.model_fields[key].annotation), model)
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
