"""The JSON schema of the configuration, for editors and for the documentation."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import Any

from ra.policy.profile import Profile
from ra.settings.model import Address, Settings


def json_schema() -> dict[str, Any]:
    """The same on every run: what is a set by nature is sorted."""
    schema = Settings.model_json_schema()
    schema["title"] = "scep-ra"
    properties: dict[str, dict[str, Any]] = schema["$defs"]["ProfileSettings"]["properties"]
    for name, sentence in _sentences(Profile).items():
        properties[name]["description"] = sentence
    addresses = schema["$defs"]["Server"]["properties"]
    for name in ("listen", "admin_listen"):
        addresses[name]["default"] = str(Address(*addresses[name]["default"]))
    for each in properties.values():
        if each.get("uniqueItems") and "default" in each:
            each["default"] = sorted(each["default"])
    return schema


def _sentences(kind: type) -> dict[str, str]:
    """The sentence below each field of a class, which Python itself does not keep."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    statements = body.body if isinstance(body, ast.ClassDef) else []
    found = {}
    for field, sentence in pairwise(statements):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(sentence, ast.Expr):
            text = ast.literal_eval(sentence.value)
            found[field.target.id] = inspect.cleandoc(text).replace("\n", " ")
    return found
