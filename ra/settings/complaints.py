"""What pydantic finds wrong with a table, as sentences: the key's path, what is wrong, and what to write instead.

What stands there is never repeated: it may be a secret in the wrong place, and these sentences are logged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ra.settings.sources import Origins, Text

_KINDS = {
    "model_type": "a table",
    "dict_type": "a table",
    "model_attributes_type": "a table",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
}

_SENTENCES = {
    "bool_parsing": "it should be true or false",
    "bool_type": "it should be true or false",
    "int_from_float": "it should be a valid integer",
    "int_parsing": "it should be a valid integer",
    "float_parsing": "it should be a valid number",
    "timezone_aware": "it should be a time with a UTC offset, such as 2030-01-31T00:00:00Z",
}
"""Where pydantic's own words are for programmers."""


def complaints(
    error: ValidationError, model: type[BaseModel], *, table: str = "", origins: Origins | None = None
) -> list[str]:
    """One sentence for each thing that is wrong; `table` is the path of the table that was read."""
    found = error.errors(include_url=False)
    return [_sentence(each, model, table, origins or {}) for each in found if not _follows(each, found)]


_TYPES = {bool: "true or false", int: "a whole number", float: "a number"}
_MAY_BE_WRITTEN: dict[type, set[type]] = {bool: {bool, Text}, int: {int, Text}, float: {int, float, Text}}


def mistyped(written: object, read: object, path: str = "") -> Iterator[str]:
    """One sentence for each truth or number that was written as something else, which pydantic would let pass.

    A variable or a secret file has nothing but text to write one.

    Args:
        written: the table as it stands in the file.
        read: what pydantic has made of it.
        path: of the table.
    """
    if isinstance(read, bool | int | float):
        if type(written) not in _MAY_BE_WRITTEN[type(read)]:
            quotes = ", without quotes" if isinstance(written, str) else ""
            yield f"{path}: it should be {_TYPES[type(read)]}{quotes}"
        return
    for key, each, made in _members(written, read):
        yield from mistyped(each, made, f"{path}.{key}".removeprefix("."))


def _members(written: object, read: object) -> Iterator[tuple[object, object, object]]:
    """What a table or a list holds: its key, how it is written, what was made of it."""
    if isinstance(written, Mapping):
        made = {name: getattr(read, name) for name in type(read).model_fields} if isinstance(read, BaseModel) else read
        if isinstance(made, Mapping):
            yield from ((key, written[key], made[key]) for key in written if key in made)
    elif isinstance(written, list) and isinstance(read, list | tuple):
        yield from ((number, *each) for number, each in enumerate(zip(written, read, strict=False)))
    elif isinstance(written, list) and isinstance(read, set | frozenset) and read:
        # All are of one type, and in no order.
        yield from ((number, each, next(iter(read))) for number, each in enumerate(written))


def _follows(details: ErrorDetails, found: Sequence[ErrorDetails]) -> bool:
    """Whether a list is only too short because what is in it is wrong."""
    loc = details["loc"]
    return details["type"] == "too_short" and any(
        len(each["loc"]) > len(loc) and each["loc"][: len(loc)] == loc for each in found
    )


def _sentence(details: ErrorDetails, model: type[BaseModel], table: str, origins: Origins) -> str:
    within, keys = _resolve(model, tuple(str(each) for each in details["loc"] if each != "[key]"))
    path = ".".join(filter(None, (table, *keys)))
    origin = origins.get(keys)
    place = f"{path} (from {origin})" if origin else path
    match details["type"]:
        case "extra_forbidden":
            return f"{place} is not a known key{_instead(keys[-1], within)}"
        case "missing":
            description = _description(within, keys)
            return f"{place} is missing" + (f": {description}" if description else "")
        case kind if kind in _KINDS:
            return f"{place} should be {_KINDS[kind]}"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"{place}.{_union(details, within, keys)}"
        case _:
            return f"{place}: {_words(details, within, keys)}".removeprefix(": ")


def _words(details: ErrorDetails, within: type[BaseModel], keys: Sequence[str]) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "value_error":
            return str(context["error"])
        case "too_short":
            return f"it should name at least {context['min_length']}"
        case "string_pattern_mismatch":
            description = _description(within, keys)
            return "it has a character or a form that is not allowed there" + (
                f": {description}" if description else ""
            )
        case kind:
            return _SENTENCES.get(kind) or details["msg"].replace("Input", "it", 1)


def _union(details: ErrorDetails, within: type[BaseModel], keys: Sequence[str]) -> str:
    """About the key whose word says which form a table has."""
    context = details["ctx"]
    key = _plain(context["discriminator"])
    if details["type"] == "union_tag_invalid":
        return f"{key} should be one of {_plain(context['expected_tags'])}"
    return f"{key} is missing: {_description(within, keys)}"


def _plain(quoted: str) -> str:
    return quoted.replace("'", "")


def _description(within: type[BaseModel], keys: Sequence[str]) -> str:
    """What is documented about a key, or about the list that it counts in."""
    named = next((each for each in reversed(keys) if not each.isdecimal()), "")
    field = within.model_fields.get(named)
    return " ".join(((field.description if field else None) or "").split())


def _instead(key: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"


def _resolve(model: type[BaseModel], loc: tuple[str, ...]) -> tuple[type[BaseModel], tuple[str, ...]]:
    """The table that holds the last key, and the keys as somebody has written them.

    The names that users give to their tables lead no deeper. Which of several forms of a table was tried, pydantic says
    as if it were a key.
    """
    keys, forms, within = list[str](), [model], model
    for key in loc:
        # A form is told by its discriminating word, or by its class, in brackets where it has validators.
        named = {key, key.rstrip("]").rpartition(" ")[2]}
        if len(forms) > 1 and (chosen := [each for each in forms if named & _form_names(each)]):
            forms = chosen[:1]
            continue
        keys.append(key)
        within = next((each for each in forms if key in each.model_fields), forms[0])
        if key in within.model_fields:
            forms = list(_models(within.model_fields[key].annotation)) or [within]
    return within, tuple(keys)


def _form_names(form: type[BaseModel]) -> set[str]:
    words = (get_args(each.annotation) for each in form.model_fields.values())
    return {form.__name__, *(each for some in words for each in some if isinstance(each, str))}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
